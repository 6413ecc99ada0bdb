//! A program that was compiled and run, and a trace with a frame of it, as the recorder writes it.

use std::path::{Path, PathBuf};
use std::process::Command;

use memleak_names::Image;
use memleak_trace::describe::{Module, Symbol};
use memleak_trace::reader::TraceReader;
use memleak_trace::writer::WriterOptions;
use memleak_trace::{
    Description, Event, FileId, FrameId, Note, Op, SpaceId, Stack, StackEnd, StackId, TraceWriter,
};

use crate::sample;

/// Where the program was when it ran, and what the trace says about it.
pub struct Recorded {
    pub directory: PathBuf,
    pub build_id: String,
    pub frame: FrameId,
    pub address: u64,
    path: String,
    /// First address, bytes, and offset in the file of what was mapped executable.
    mapped: (u64, u64, u64),
}

pub fn run(command: &str, directory: &Path) -> String {
    let output = Command::new("sh")
        .args(["-ec", command])
        .current_dir(directory)
        .output()
        .expect("a shell");
    assert!(output.status.success(), "{command}: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

impl Recorded {
    /// Compiles `target/program`, runs it, splits it into `target/program` and `whole.debug`, and
    /// writes trace.parquet.
    pub fn new(test: &str, flags: &str) -> Recorded {
        let directory = sample::directory(test);
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/symbolize/program.c");
        let compile = format!(
            "mkdir target && cd target && cc -O2 -g {flags} {source} -o program && \
             objcopy --only-keep-debug program ../whole.debug"
        );
        run(&compile, &directory);
        let said = run("./program", &directory.join("target"));
        run(
            "cp program ../unstripped && strip program",
            &directory.join("target"),
        );
        let program = directory.join("target/program");
        let path = program.display().to_string();
        let hex = |text: &str| u64::from_str_radix(text, 16).expect("hexadecimal");
        let address = said
            .lines()
            .find_map(|line| line.strip_prefix("in_leaf 0x"));
        let address = hex(address.expect("an address"));
        let line = said
            .lines()
            .find(|line| line.ends_with("/target/program") && line.contains(" r-xp "));
        let fields: Vec<&str> = line.expect("a mapping").split_whitespace().collect();
        let (start, end) = fields[0].split_once('-').expect("a range");
        let mapped = (hex(start), hex(end) - hex(start), hex(fields[2]));
        let file = std::fs::File::open(&program).expect("the program");
        let frame = FrameId::in_file(FileId(1), address - mapped.0 + mapped.2);
        let recorded = Recorded {
            build_id: Image::read(&file)
                .and_then(|image| image.build_id)
                .unwrap_or_default(),
            frame: frame.expect("a small offset"),
            directory,
            address,
            path,
            mapped,
        };
        recorded.write("trace.parquet", Some(recorded.build_id.clone()));
        recorded
    }

    /// Writes a trace of the program with events, descriptions and an unnamed frame.
    pub fn write(&self, name: &str, build_id: Option<String>) {
        let path = self.directory.join(name);
        let options = WriterOptions { overwrite: true };
        let mut writer = TraceWriter::create(&path, &sample::header(), &options).expect("create");
        let module = Module {
            pid: sample::PID,
            space: SpaceId(1),
            start: self.mapped.0,
            length: self.mapped.1,
            file_offset: self.mapped.2,
            file: Some(FileId(1)),
            path: self.path.clone(),
            build_id,
        };
        let unnamed = Symbol {
            frame: self.frame,
            address: self.address,
            module: Some(self.path.clone()),
            ..Symbol::default()
        };
        let stack = Stack {
            id: StackId(0),
            frames: vec![self.frame],
            end: StackEnd::Complete,
        };
        let note = |what| Note {
            ts: sample::START,
            what,
        };
        writer.note(&note(Description::Open)).expect("open");
        writer
            .note(&note(Description::Module(module)))
            .expect("module");
        for index in 0..40_000 {
            let event = Event {
                ts: sample::START + index,
                pid: sample::PID,
                tid: sample::PID,
                op: if index % 2 == 0 { Op::Malloc } else { Op::Free },
                space: SpaceId(1),
                addr: 0x1000,
                size: if index % 2 == 0 { 24 } else { 0 },
                stack: (index % 2 == 0).then_some(StackId(0)),
            };
            writer
                .event(&event, (index == 0).then_some(&stack))
                .expect("event");
        }
        writer
            .note(&note(Description::Symbol(unnamed)))
            .expect("symbol");
        let reason = "the test is over".to_owned();
        writer
            .note(&note(Description::Close { reason }))
            .expect("close");
        writer.finish().expect("finish");
    }
}

/// All rows of a trace as they were read, its symbols apart.
pub fn rows(path: &Path) -> (Vec<String>, Vec<Symbol>) {
    let mut reader = TraceReader::open(path).expect("a trace");
    let (mut rows, mut symbols) = (Vec::new(), Vec::new());
    while let Some(batch) = reader.next_batch().expect("rows") {
        let mut notes = batch.notes.iter().peekable();
        for row in 0..batch.len() {
            match notes.next_if(|(at, _)| *at == row) {
                Some((_, note)) => match &note.what {
                    Description::Symbol(symbol) => symbols.push(symbol.clone()),
                    _ => rows.push(format!("{note:?}")),
                },
                None => rows.push(format!("{:?}", batch.event(row))),
            }
        }
        rows.extend(batch.stacks.iter().map(|stack| format!("{stack:?}")));
    }
    assert!(reader.condition().complete, "{:?}", reader.condition());
    (rows, symbols)
}
