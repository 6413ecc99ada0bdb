//! Makes traces of any size for benchmarks, through the real writer: the same events for the same numbers.
//!
//! `cargo run --release -p memleak-trace --example generate -- OUTPUT [NAME=NUMBER…]`
//!
//! | name | default | meaning |
//! |---|---|---|
//! | `events` | 20,000,000 | events, at least |
//! | `live` | 500,000 | live blocks, once the program has started up |
//! | `stacks` | 20,000 | distinct stacks of 7 to 32 frames, each named |
//! | `threads` | 8 | threads, in pairs that share an arena |
//! | `seed` | 1 | of the pseudo-random numbers |
//!
//! The program is a model: few stacks are hot, most blocks die young and a tenth at any age, each
//! call site mostly asks for one size, one call in forty reallocates, one in four thousand maps or
//! unmaps. Row groups are cut by their rows alone, so that the file's bytes do not depend on the
//! machine. Its allocator has size classes and gives out first what was freed last.

mod allocator;
mod numbers;
mod program;

use std::path::Path;

use memleak_trace::describe::{Module, Symbol};
use memleak_trace::header::{Clock, Machine, Target, VERSION};
use memleak_trace::writer::WriterOptions;
use memleak_trace::{Description, FileId, Header, Note, TraceError, TraceWriter};

use program::{FILES, FUNCTIONS, PID, Program, SPACE, Shape, function_frame};

const START: i64 = 1_000_000_000_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench");
    let output = arguments
        .next()
        .ok_or("usage: generate OUTPUT [events=N] [live=N] [stacks=N] [threads=N] [seed=N]")?;
    let mut shape = Shape {
        events: 20_000_000,
        live: 500_000,
        stacks: 20_000,
        threads: 8,
        seed: 1,
    };
    for argument in arguments {
        let (name, number) = argument
            .split_once('=')
            .ok_or("arguments are NAME=NUMBER")?;
        let field = match name {
            "events" => &mut shape.events,
            "live" => &mut shape.live,
            "stacks" => &mut shape.stacks,
            "threads" => &mut shape.threads,
            "seed" => &mut shape.seed,
            other => return Err(format!("unknown argument {other}").into()),
        };
        *field = number.parse()?;
    }
    let bytes = generate(Path::new(&output), shape)?;
    println!(
        "{output}: {} events, {:.2} bytes each",
        shape.events,
        bytes as f64 / shape.events as f64
    );
    Ok(())
}

fn generate(path: &Path, shape: Shape) -> Result<u64, TraceError> {
    let options = WriterOptions { overwrite: true };
    let mut writer = TraceWriter::create(path, &header(), &options)?;
    note(&mut writer, START, Description::Open)?;
    let process = Description::Process {
        pid: PID,
        ppid: 1,
        space: SPACE,
        command: "generated".to_owned(),
    };
    note(&mut writer, START, process)?;
    for file in 1..=FILES {
        note(&mut writer, START, Description::Module(module(file)))?;
    }
    let mut program = Program::new(shape, START);
    let (mut told, mut last) = (0, START);
    while told < shape.events {
        program.step(&mut |event, stack| {
            told += 1;
            last = last.max(event.ts);
            writer.event(event, stack)
        })?;
    }
    for number in 0..FUNCTIONS + shape.stacks {
        note(&mut writer, last, Description::Symbol(symbol(number)))?;
    }
    let reason = "generated".to_owned();
    note(&mut writer, last + 1, Description::Close { reason })?;
    writer.finish()
}

fn note(writer: &mut TraceWriter, ts: i64, what: Description) -> Result<(), TraceError> {
    writer.note(&Note { ts, what })
}

fn header() -> Header {
    Header {
        version: VERSION,
        requires: Vec::new(),
        recorder: concat!("generate ", env!("CARGO_PKG_VERSION")).to_owned(),
        machine: Machine {
            kernel: "none".to_owned(),
            architecture: "x86_64".to_owned(),
            page_size: 4096,
            cpus: 1,
        },
        clock: Clock {
            monotonic_ns: START,
            realtime_ns: 1_700_000_000_000_000_000,
        },
        targets: vec![Target {
            pid: PID,
            ppid: 1,
            command: vec!["generated".to_owned()],
            executable: "/opt/generated/module1".to_owned(),
        }],
        probes: Vec::new(),
        ring_bytes: 0,
        on_overflow: "drop".to_owned(),
        selection: Default::default(),
        part: None,
        kernel: None,
    }
}

fn module(file: u32) -> Module {
    Module {
        pid: PID,
        space: SPACE,
        start: 0x5000_0000_0000 + (u64::from(file) << 32),
        length: 1 << 28,
        file_offset: 0,
        file: Some(FileId(file)),
        path: format!("/opt/generated/module{file}"),
        build_id: Some(format!("{file:040x}")),
    }
}

fn symbol(number: u64) -> Symbol {
    let file = 1 + number % u64::from(FILES);
    Symbol {
        frame: function_frame(number),
        address: 0x5000_0000_0000 + (file << 32) + 0x1000 + number * 0x40 + 0x1b,
        module: Some(format!("/opt/generated/module{file}")),
        build_id: Some(format!("{file:040x}")),
        function: Some(format!("function_{number}")),
        function_offset: Some(0x1b),
        file: Some(format!("module{file}.c")),
        line: Some(1 + (number % 5000) as u32),
        inlined: Vec::new(),
    }
}
