//! Traces written by the tests themselves, and the program run on them.

pub mod random;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use memleak_trace::describe::{InlinedFunction, Module, RssKind, Symbol};
use memleak_trace::header::{Clock, Machine, Target, VERSION};
use memleak_trace::writer::WriterOptions;
use memleak_trace::{
    Description, Event, FileId, FrameId, Header, Note, Op, SpaceId, Stack, StackEnd, StackId,
    TraceWriter,
};

pub const PID: i32 = 4242;
/// When recording opens: nanoseconds of the trace's clock.
pub const START: i64 = 5_000_000_000_000;
pub const S: i64 = 1_000_000_000;
const PAGE: u64 = 4096;

pub fn header() -> Header {
    Header {
        version: VERSION,
        requires: Vec::new(),
        recorder: "memleak-record 0.1.0".into(),
        machine: Machine {
            kernel: "6.18.0".into(),
            architecture: "x86_64".into(),
            page_size: PAGE,
            cpus: 2,
        },
        // Recording opens at 2026-01-01 00:00:00 UTC.
        clock: Clock {
            monotonic_ns: START - S,
            realtime_ns: 1_767_225_599 * S,
        },
        targets: vec![Target {
            pid: PID,
            ppid: 1,
            command: vec!["./test_memleak".into(), "30".into()],
            executable: "/tmp/test_memleak".into(),
        }],
        probes: Vec::new(),
        ring_bytes: 64 << 20,
        on_overflow: "drop".into(),
        selection: Default::default(),
        part: None,
        kernel: None,
    }
}

/// A fresh directory for one test.
pub fn directory(test: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    // It is not there on a first run.
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).expect("a directory for the test");
    path
}

/// Runs memleak-analyze in a directory, in UTC.
pub fn analyze(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_memleak-analyze"))
        .args(arguments)
        .current_dir(directory)
        .env("TZ", "UTC")
        .output()
        .expect("memleak-analyze runs")
}

/// A trace in the making.
pub struct Sample {
    writer: TraceWriter,
    known: Vec<i32>,
}

impl Sample {
    pub fn create(path: &Path, header: &Header) -> Sample {
        let options = WriterOptions { overwrite: false };
        let writer = TraceWriter::create(path, header, &options).expect("a new trace");
        Sample {
            writer,
            known: Vec::new(),
        }
    }

    /// An event `after` nanoseconds after the start, with the stack of that number.
    pub fn event(&mut self, after: i64, op: Op, addr: u64, size: u64, stack: Option<i32>) {
        let event = Event {
            ts: START + after,
            pid: PID,
            tid: PID,
            op,
            space: SpaceId(1),
            addr,
            size,
            stack: stack.map(StackId),
        };
        let first = stack.filter(|id| !self.known.contains(id)).map(|id| {
            self.known.push(id);
            self::stack(id)
        });
        self.writer.event(&event, first.as_ref()).expect("an event");
    }

    pub fn note(&mut self, after: i64, what: Description) {
        self.writer
            .note(&Note {
                ts: START + after,
                what,
            })
            .expect("a note");
    }

    /// Tells process and files, then opens the recording: nanoseconds after the start.
    pub fn describe(&mut self, told: i64, opened: i64) {
        self.note(
            told,
            Description::Process {
                pid: PID,
                ppid: 1,
                space: SpaceId(1),
                command: "./test_memleak 30".to_owned(),
            },
        );
        for (file, start, path) in [
            (1, 0x5f43_f8a3_6000, "/tmp/test_memleak"),
            (2, 0x7f00_0000_0000, "/lib/libz.so.1"),
        ] {
            let module = Module {
                pid: PID,
                space: SpaceId(1),
                start,
                length: 0x10000,
                file_offset: 0,
                file: Some(FileId(file)),
                path: path.into(),
                build_id: None,
            };
            self.note(told, Description::Module(module));
        }
        self.note(opened, Description::Open);
    }

    /// Ends the row group here.
    pub fn checkpoint(&mut self) {
        self.writer.checkpoint().expect("a row group");
    }

    pub fn finish(self) {
        self.writer.finish().expect("the end of the trace");
    }
}

/// Stack N has the leaf `function_N` (file offset 0x1000 + 0x100 × N), then main; stack 4 ends early in
/// a library without names.
fn stack(id: i32) -> Stack {
    let program = |offset| FrameId::in_file(FileId(1), offset).expect("a frame");
    let library = FrameId::in_file(FileId(2), 0x2468).expect("a frame");
    let (frames, end) = match id {
        4 => (vec![library], StackEnd::NoMapping),
        _ => (
            vec![program(0x1000 + 0x100 * id as u64), program(0x1f00)],
            StackEnd::Complete,
        ),
    };
    Stack {
        id: StackId(id),
        frames,
        end,
    }
}

fn symbol(offset: u64, function: &str, line: u32, inlined: &[&str]) -> Description {
    let inlined = inlined.iter().map(|function| InlinedFunction {
        function: (*function).into(),
        file: Some("inline.h".into()),
        line: Some(7),
    });
    Description::Symbol(Symbol {
        frame: FrameId::in_file(FileId(1), offset).expect("a frame"),
        address: 0x5f43_f8a3_6000 + offset,
        module: Some("/tmp/test_memleak".into()),
        build_id: Some("abcdef".into()),
        function: Some(function.into()),
        function_offset: Some(0x1f),
        file: Some("test_memleak.c".into()),
        line: Some(line),
        inlined: inlined.collect(),
    })
}

/// Ten seconds of a small program with something of everything.
pub fn write(path: &Path) {
    use Description::{Close, Defect, Exit, Loss, Rss};
    let mut trace = Sample::create(path, &header());
    trace.describe(-S, 0);
    for (kind, bytes) in [
        (RssKind::Anonymous, 1 << 20),
        (RssKind::File, 2 << 20),
        (RssKind::Shared, 0),
    ] {
        trace.note(
            1,
            Rss {
                pid: PID,
                kind,
                bytes,
            },
        );
    }
    // Stack 0: leak_small, 1: leak_large, 2: leak_with_loop, in the first second.
    trace.event(S / 10, Op::Malloc, 0x1000, 1024, Some(0));
    trace.event(S / 5, Op::Malloc, 0x2000, 8192, Some(1));
    for index in 0..5 {
        trace.event(
            S / 2 + index,
            Op::Malloc,
            0x10000 + index as u64 * 0x800,
            2048,
            Some(2),
        );
    }
    // Stack 3: a buffer that comes and goes, and is moved once while it grows.
    for index in 0..40 {
        let after = S + index * S / 5;
        trace.event(after, Op::Malloc, 0x30000, 100, Some(3));
        trace.event(after + 1, Op::Free, 0x30000, 0, None);
    }
    trace.event(9 * S, Op::Malloc, 0x40000, 500, Some(3));
    trace.event(9 * S + 1, Op::ReallocRelease, 0x40000, 0, None);
    trace.event(9 * S + 2, Op::Realloc, 0x41000, 700, Some(3));
    trace.event(9 * S + 3, Op::Free, 0x41000, 0, None);
    // Stack 4: cut short. No stack: lost. Stack 5: a mapping with a hole.
    trace.event(9 * S + 4, Op::Calloc, 0x50000, 16, Some(4));
    trace.event(9 * S + 5, Op::Malloc, 0x51000, 8, None);
    trace.event(9 * S + 6, Op::Mmap, 0x7f11_0000_0000, 16 * PAGE, Some(5));
    trace.event(9 * S + 7, Op::Munmap, 0x7f11_0000_4000, 4 * PAGE, None);
    // Older than the recording; freed twice.
    trace.event(9 * S + 8, Op::Free, 0x60000, 0, None);
    trace.event(9 * S + 9, Op::Free, 0x41000, 0, None);
    trace.note(
        9 * S + 10,
        Loss {
            cause: "ring full".into(),
            count: 3,
            window_ns: S as u64,
        },
    );
    trace.note(
        9 * S + 10,
        Defect {
            cause: "stack cut short".into(),
            count: 1,
            window_ns: S as u64,
        },
    );
    for (kind, bytes) in [(RssKind::Anonymous, 3 << 20), (RssKind::File, 2 << 20)] {
        trace.note(
            9 * S + 11,
            Rss {
                pid: PID,
                kind,
                bytes,
            },
        );
    }
    for (offset, function, line, inlined) in [
        (0x1000, "leak_small", 11, &[][..]),
        (0x1100, "leak_large", 22, &[]),
        (0x1200, "leak_with_loop", 33, &["grow", "push"]),
        (0x1300, "churn", 44, &[]),
        (0x1500, "map_pages", 55, &[]),
        (0x1f00, "main", 66, &[]),
    ] {
        trace.note(9 * S + 12, symbol(offset, function, line, inlined));
    }
    trace.note(
        10 * S,
        Exit {
            out_of_memory: false,
            pid: PID,
            status: Some(15),
        },
    );
    trace.note(
        10 * S,
        Close {
            reason: "the target ended".into(),
        },
    );
    trace.finish();
}

/// A directory of a test's own, with [`write`]'s `trace.parquet`.
pub fn with_trace(test: &str) -> PathBuf {
    let directory = directory(test);
    write(&directory.join("trace.parquet"));
    directory
}

/// What the program prints there; it must succeed.
pub fn run(directory: &Path, arguments: &[&str]) -> String {
    let output = analyze(directory, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Compares with a file below `tests/golden`; with `UPDATE_GOLDEN=1` writes it before.
pub fn golden(name: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, actual).expect("the golden file");
    }
    let expected = std::fs::read_to_string(&path).expect("the golden file");
    assert_eq!(actual, expected, "{name}");
}
