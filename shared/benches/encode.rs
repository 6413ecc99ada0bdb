//! Prints what encoding and decoding cost: CPU time per event, bytes per event.
//!
//! `cargo bench --workspace --bench encode [EVENTS]`. The trace is synthetic but has what decides
//! the figures of a real one: addresses are reused, sizes are skewed, few of many stacks are hot.

use std::path::Path;
use std::process::Command;

use memleak_trace::header::{Clock, Machine, VERSION};
use memleak_trace::writer::WriterOptions;
use memleak_trace::{
    Event, FileId, FrameId, Header, Op, SpaceId, Stack, StackEnd, StackId, TraceReader, TraceWriter,
};

const EVENTS: usize = 8_000_000;
const STACKS: u64 = 2000;

/// SplitMix64: deterministic and cheap.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    /// Small numbers are much more likely than large ones.
    fn skewed(&mut self, limit: u64) -> u64 {
        let part = self.below(1 << 20) as f64 / f64::from(1 << 20);
        (part * part * part * part * limit as f64) as u64
    }
}

/// An allocator with a free list for each size class, and a program that frees mostly young blocks.
struct Program {
    numbers: Numbers,
    free: Vec<Vec<u64>>,
    live: Vec<(u64, usize)>,
    brk: u64,
    ts: i64,
    told: Vec<bool>,
}

impl Program {
    fn new() -> Self {
        Program {
            numbers: Numbers(1),
            free: vec![Vec::new(); 64],
            live: Vec::new(),
            brk: 0x55d0_0000_0000,
            ts: 1_000_000_000_000,
            told: vec![false; STACKS as usize],
        }
    }

    fn step(&mut self) -> (Event, Option<Stack>) {
        self.ts += 200 + self.numbers.skewed(3000) as i64;
        let tid = 100 + self.numbers.skewed(4) as i32;
        let mut event = Event {
            ts: self.ts,
            pid: 100,
            tid,
            op: Op::Free,
            space: SpaceId(1),
            addr: 0,
            size: 0,
            stack: None,
        };
        let frees = self.live.len() > 1000 && self.numbers.below(1000) < 490;
        if frees {
            let age = self.numbers.skewed(self.live.len() as u64) as usize;
            let (addr, class) = self.live.swap_remove(self.live.len() - 1 - age);
            self.free[class].push(addr);
            event.addr = addr;
            return (event, None);
        }
        let stack = self.numbers.skewed(STACKS);
        // A call site mostly asks for the same size.
        let class = if self.numbers.below(4) > 0 {
            stack % 13
        } else {
            self.numbers.skewed(64)
        };
        let room = class * 16 + 32;
        event.size = room
            - 8
            - if self.numbers.below(4) == 0 {
                self.numbers.below(16)
            } else {
                0
            };
        event.addr = self.free[class as usize].pop().unwrap_or_else(|| {
            self.brk += room;
            self.brk
        });
        self.live.push((event.addr, class as usize));
        event.op = Op::Malloc;
        event.stack = Some(StackId(stack as i32));
        let told = std::mem::replace(&mut self.told[stack as usize], true);
        let tell = (!told).then(|| self.stack(stack));
        (event, tell)
    }

    fn stack(&mut self, id: u64) -> Stack {
        let depth = 4 + self.numbers.below(20);
        let frame = |numbers: &mut Numbers| {
            let file = FileId(1 + numbers.skewed(8) as u32);
            FrameId::in_file(file, 0x1000 + 16 * numbers.skewed(5000)).unwrap_or_default()
        };
        Stack {
            id: StackId(id as i32),
            frames: (0..depth).map(|_| frame(&mut self.numbers)).collect(),
            end: StackEnd::Complete,
        }
    }
}

fn header() -> Header {
    Header {
        version: VERSION,
        requires: Vec::new(),
        recorder: "bench".to_owned(),
        machine: Machine {
            kernel: String::new(),
            architecture: String::new(),
            page_size: 4096,
            cpus: 1,
        },
        clock: Clock {
            monotonic_ns: 0,
            realtime_ns: 0,
        },
        targets: Vec::new(),
        probes: Vec::new(),
        ring_bytes: 0,
        on_overflow: "drop".to_owned(),
        selection: Default::default(),
        part: None,
        kernel: None,
    }
}

/// CPU time of this process in nanoseconds.
fn cpu_ns() -> f64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid place for the result.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

fn encode(path: &Path, rows: &[(Event, Option<Stack>)]) -> u64 {
    let options = WriterOptions { overwrite: true };
    let mut writer = TraceWriter::create(path, &header(), &options).expect("create");
    for chunk in rows.chunks(4096) {
        for (event, stack) in chunk {
            writer.event(event, stack.as_ref()).expect("event");
        }
        writer.checkpoint_if_due().expect("checkpoint");
    }
    writer.finish().expect("finish")
}

fn decode(path: &Path) -> (u64, u64) {
    let mut reader = TraceReader::open(path).expect("open");
    let (mut rows, mut bytes) = (0, 0);
    while let Some(batch) = reader.next_batch().expect("batch") {
        rows += batch.len() as u64;
        bytes += batch.sizes.iter().sum::<u64>();
    }
    (rows, bytes)
}

/// Compressed bytes of each column for each event.
fn print_columns(path: &Path, events: f64) {
    let file = std::fs::File::open(path).expect("open");
    let reader = parquet::file::reader::SerializedFileReader::new(file).expect("footer");
    let metadata = parquet::file::reader::FileReader::metadata(&reader).clone();
    let columns = metadata.file_metadata().schema_descr().num_columns();
    for index in 0..columns {
        let bytes: i64 = metadata
            .row_groups()
            .iter()
            .map(|group| group.column(index).compressed_size())
            .sum();
        let name = metadata
            .file_metadata()
            .schema_descr()
            .column(index)
            .path()
            .string();
        println!("{name:30} {:8.3} bytes/event", bytes as f64 / events);
    }
}

fn main() {
    let count = std::env::args()
        .skip(1)
        .find_map(|arg| arg.parse().ok())
        .unwrap_or(EVENTS);
    let mut program = Program::new();
    let rows: Vec<_> = (0..count).map(|_| program.step()).collect();
    let events = count as f64;
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("bench.parquet");
    for _ in 0..2 {
        let start = cpu_ns();
        let bytes = encode(&path, &rows);
        let encoded = cpu_ns();
        println!(
            "encode {:7.1} ns CPU/event, {:6.3} bytes/event",
            (encoded - start) / events,
            bytes as f64 / events
        );
        let sum = decode(&path);
        println!(
            "decode {:7.1} ns CPU/event {sum:?}",
            (cpu_ns() - encoded) / events
        );
    }
    print_columns(&path, events);
    let kernel = Command::new("uname")
        .arg("-r")
        .output()
        .map(|output| output.stdout);
    println!(
        "kernel {}",
        String::from_utf8_lossy(&kernel.unwrap_or_default()).trim()
    );
}
