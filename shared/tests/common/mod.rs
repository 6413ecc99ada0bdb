//! Rows for tests: a header, descriptions of every kind, and random ones.
#![allow(dead_code)] // Each test file uses its part of this one.

use std::path::Path;

use memleak_trace::describe::{InlinedFunction, Module, RssKind, Symbol};
use memleak_trace::header::{Clock, Machine, Probe, Target, VERSION};
use memleak_trace::writer::WriterOptions;
use memleak_trace::{
    Description, Event, FileId, FrameId, Header, Note, Op, SpaceId, Stack, StackEnd, StackId,
    TraceError, TraceReader, TraceWriter,
};

/// A row as it goes in and as it must come out.
#[derive(Clone, Debug, PartialEq)]
pub enum Row {
    Event(Event, Option<Stack>),
    Note(Note),
}

pub fn header() -> Header {
    Header {
        version: VERSION,
        requires: Vec::new(),
        recorder: "test 1".to_owned(),
        machine: Machine {
            kernel: "6.18".to_owned(),
            architecture: "x86_64".to_owned(),
            page_size: 4096,
            cpus: 2,
        },
        clock: Clock {
            monotonic_ns: 1,
            realtime_ns: 2,
        },
        targets: vec![Target {
            pid: 7,
            ppid: 1,
            command: vec!["a".to_owned(), "-b".to_owned()],
            executable: "/bin/a".to_owned(),
        }],
        probes: vec![Probe {
            pid: 7,
            object: "/lib/libc.so.6".to_owned(),
            function: "malloc".to_owned(),
            file_offset: 4711,
            displacement: 3,
            returns: true,
        }],
        ring_bytes: 1 << 26,
        on_overflow: "pause".to_owned(),
        selection: Default::default(),
        part: None,
        kernel: None,
    }
}

/// A deterministic source of numbers (SplitMix64).
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn maybe<T>(&mut self, value: T) -> Option<T> {
        (self.below(3) > 0).then_some(value)
    }

    fn text(&mut self) -> String {
        ["", "main", "naïve::<T>()", "/a/b.c", "x y\n\"z\""][self.below(5) as usize].to_owned()
    }
}

/// One description of every kind, with optional parts present and absent.
pub fn descriptions() -> Vec<Description> {
    let module = Module {
        pid: 7,
        space: SpaceId(2),
        start: 0x7f00_0000_0000,
        length: 8192,
        file_offset: 4096,
        file: Some(FileId(3)),
        path: "/lib/libc.so.6".to_owned(),
        build_id: Some("c0ffee".to_owned()),
    };
    let symbol = Symbol {
        frame: FrameId(i64::MIN + 5),
        address: u64::MAX - 4,
        module: Some("/bin/a".to_owned()),
        build_id: Some("ab".to_owned()),
        function: Some("f".to_owned()),
        function_offset: Some(18),
        file: Some("a.c".to_owned()),
        line: Some(11),
        inlined: vec![
            InlinedFunction {
                function: "g".to_owned(),
                file: Some("a.h".to_owned()),
                line: Some(3),
            },
            InlinedFunction {
                function: "h".to_owned(),
                file: None,
                line: None,
            },
        ],
    };
    let cause = || "ring_full".to_owned();
    let mut all = vec![
        Description::Open,
        Description::Close {
            reason: "interrupted".to_owned(),
        },
        Description::Process {
            pid: 7,
            ppid: 1,
            space: SpaceId(2),
            command: "a -b".to_owned(),
        },
        Description::Fork {
            pid: 8,
            ppid: 7,
            space: SpaceId(3),
            parent_space: SpaceId(2),
        },
        Description::Exit {
            pid: 7,
            status: Some(-256),
            out_of_memory: true,
        },
        Description::Exit {
            pid: 7,
            status: None,
            out_of_memory: false,
        },
        Description::Module(module.clone()),
        Description::Module(Module {
            file: None,
            build_id: None,
            ..module
        }),
        Description::Symbol(symbol),
        Description::Symbol(Symbol {
            frame: FrameId(9),
            ..Symbol::default()
        }),
        Description::Loss {
            cause: cause(),
            count: 3,
            window_ns: 5,
        },
        Description::Defect {
            cause: cause(),
            count: u64::MAX,
            window_ns: 0,
        },
    ];
    all.extend(RssKind::ALL.map(|kind| Description::Rss {
        pid: 7,
        kind,
        bytes: 1 << 40,
    }));
    all
}

/// Random rows; stacks are told with the first event that uses them.
pub fn random_rows(seed: u64, count: usize) -> Vec<Row> {
    let mut numbers = Numbers(seed);
    let events: Vec<Op> = Op::all().filter(|op| op.is_event()).collect();
    let mut stacks = 0;
    let mut ts = 1_000_000_000_i64;
    (0..count)
        .map(|_| {
            ts += numbers.below(2000) as i64 - 50;
            if numbers.below(12) == 0 {
                let known = descriptions();
                let what = if numbers.below(2) == 0 {
                    random_symbol(&mut numbers)
                } else {
                    known[numbers.below(known.len() as u64) as usize].clone()
                };
                return Row::Note(Note { ts, what });
            }
            let (id, stack) = match numbers.below(4) {
                0 => (None, None),
                1 => {
                    stacks += 1;
                    let stack = random_stack(&mut numbers, stacks - 1);
                    (Some(stack.id), Some(stack))
                }
                _ if stacks == 0 => (None, None),
                _ => (Some(StackId(numbers.below(stacks as u64) as i32)), None),
            };
            let event = Event {
                ts,
                pid: 7 + numbers.below(2) as i32,
                tid: numbers.below(9) as i32,
                op: events[numbers.below(events.len() as u64) as usize],
                space: SpaceId(numbers.below(3) as i32),
                addr: numbers.next(),
                size: numbers.next() >> numbers.below(64),
                stack: id,
            };
            Row::Event(event, stack)
        })
        .collect()
}

fn random_stack(numbers: &mut Numbers, id: i32) -> Stack {
    let depth = numbers.below(6);
    Stack {
        id: StackId(id),
        frames: (0..depth).map(|_| FrameId(numbers.next() as i64)).collect(),
        end: StackEnd::ALL[numbers.below(StackEnd::ALL.len() as u64) as usize],
    }
}

fn random_symbol(numbers: &mut Numbers) -> Description {
    let inlined = (0..numbers.below(4))
        .map(|_| {
            let (file, line) = (numbers.text(), numbers.next() as u32);
            InlinedFunction {
                function: numbers.text(),
                file: numbers.maybe(file),
                line: numbers.maybe(line),
            }
        })
        .collect();
    let texts: Vec<String> = (0..4).map(|_| numbers.text()).collect();
    let (offset, line) = (numbers.next(), numbers.next() as u32);
    Description::Symbol(Symbol {
        frame: FrameId(numbers.next() as i64),
        address: numbers.next(),
        module: numbers.maybe(texts[0].clone()),
        build_id: numbers.maybe(texts[1].clone()),
        function: numbers.maybe(texts[2].clone()),
        function_offset: numbers.maybe(offset),
        file: numbers.maybe(texts[3].clone()),
        line: numbers.maybe(line),
        inlined,
    })
}

pub fn create(path: &Path) -> TraceWriter {
    TraceWriter::create(path, &header(), &WriterOptions { overwrite: false }).unwrap()
}

pub fn put(writer: &mut TraceWriter, row: &Row) -> Result<(), TraceError> {
    match row {
        Row::Event(event, stack) => writer.event(event, stack.as_ref()),
        Row::Note(note) => writer.note(note),
    }
}

/// Writes a closed trace with a checkpoint after every `group` rows.
pub fn write(path: &Path, rows: &[Row], group: usize) {
    let mut writer = create(path);
    for rows in rows.chunks(group) {
        rows.iter().for_each(|row| put(&mut writer, row).unwrap());
        writer.checkpoint().unwrap();
    }
    let bytes = writer.finish().unwrap();
    assert_eq!(bytes, std::fs::metadata(path).unwrap().len());
}

/// The bytes of a trace, with a checkpoint after every `group` rows, while it is being recorded.
pub fn unclosed(path: &Path, rows: &[Row], group: usize) -> Vec<u8> {
    let mut writer = create(path);
    for rows in rows.chunks(group) {
        rows.iter().for_each(|row| put(&mut writer, row).unwrap());
        writer.checkpoint().unwrap();
    }
    std::fs::read(path).unwrap()
}

/// Every row that the reader still hands out.
pub fn read_rows(reader: &mut TraceReader) -> Result<Vec<Row>, TraceError> {
    let mut rows = Vec::new();
    while let Some(batch) = reader.next_batch()? {
        assert!(batch.len() <= 1 << 16);
        let mut stacks = batch.stacks.iter().peekable();
        let mut notes = batch.notes.iter().peekable();
        for row in 0..batch.len() {
            rows.push(match batch.event(row) {
                Some(event) => {
                    let told = stacks.next_if(|stack| Some(stack.id) == event.stack);
                    Row::Event(event, told.cloned())
                }
                None => {
                    let (at, note) = notes.next().unwrap();
                    assert_eq!((*at, note.what.op()), (row, batch.ops[row]));
                    assert_eq!(
                        (batch.pids[row], batch.addrs[row], batch.sizes[row]),
                        (0, 0, 0)
                    );
                    Row::Note(note.clone())
                }
            });
        }
        assert!(stacks.next().is_none() && notes.next().is_none());
    }
    Ok(rows)
}
