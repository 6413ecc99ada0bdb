//! `memleak-analyze verify`: sound traces pass, and each rule notices when it is broken.

#[allow(dead_code, reason = "the other tests need more of it")]
mod sample;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use memleak_trace::writer::WriterOptions;
use memleak_trace::{
    Description, Event, FileId, FrameId, Note, Op, SpaceId, Stack, StackEnd, StackId, TraceWriter,
};
use sample::{PID, START};
use serde_json::Value;

/// A row of a trace in the making.
enum Row {
    Note(Description),
    Event(Event, Option<Stack>),
}

fn event(op: Op, addr: u64, size: u64) -> Row {
    Row::Event(
        Event {
            ts: START + 1,
            pid: PID,
            tid: PID,
            op,
            space: SpaceId(1),
            addr,
            size,
            stack: None,
        },
        None,
    )
}

fn with_stack(row: Row, told: Option<i32>, used: i32, file: u32) -> Row {
    let frame = FrameId::in_file(FileId(file), 0x1100).expect("a frame");
    let stack = told.map(|id| Stack {
        id: StackId(id),
        frames: vec![frame],
        end: StackEnd::Complete,
    });
    match row {
        Row::Event(event, _) => Row::Event(
            Event {
                stack: Some(StackId(used)),
                ..event
            },
            stack,
        ),
        note => note,
    }
}

fn process() -> Row {
    Row::Note(Description::Process {
        pid: PID,
        ppid: 1,
        space: SpaceId(1),
        command: "p".into(),
    })
}

fn close() -> Row {
    let reason = "stopped by a signal".to_owned();
    Row::Note(Description::Close { reason })
}

fn write(path: &Path, rows: Vec<Row>) {
    let options = WriterOptions { overwrite: false };
    let mut writer = TraceWriter::create(path, &sample::header(), &options).expect("a new trace");
    for row in rows {
        match row {
            Row::Note(what) => writer.note(&Note { ts: START, what }).expect("a note"),
            Row::Event(event, stack) => writer.event(&event, stack.as_ref()).expect("an event"),
        }
    }
    writer.finish().expect("the end of the trace");
}

fn verify(directory: &Path) -> Output {
    sample::analyze(directory, &["verify", "trace.parquet"])
}

/// Lines of checks that do not hold.
fn wrong(output: &Output) -> Vec<String> {
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|line| line.contains(": WRONG "))
        .map(str::to_owned)
        .collect()
}

/// A whole trace is sound in every check, and so are the committed ones.
#[test]
fn sound_traces() {
    let directory = sample::directory("verify_sound");
    sample::write(&directory.join("trace.parquet"));
    let output = verify(&directory);
    assert_eq!(wrong(&output), Vec::<String>::new());
    assert_eq!(output.status.code(), Some(0));

    let versions = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/traces");
    let entries = |path: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(path).expect("committed traces");
        entries
            .map(|entry| entry.expect("an entry").path())
            .collect()
    };
    let traces: Vec<PathBuf> = entries(&versions)
        .iter()
        .flat_map(|version| entries(version))
        .collect();
    assert!(traces.len() >= 3, "{traces:?}");
    for trace in traces {
        let path = trace.to_str().expect("a UTF-8 path");
        let output = sample::analyze(&directory, &["verify", "--quiet", path]);
        assert_eq!(output.status.code(), Some(0), "{path}");
        assert!(output.stdout.is_empty(), "{path}");
    }
}

/// Each broken rule is named, alone, with what broke it; the exit status is 1.
#[test]
fn broken_rules() {
    let malloc = || event(Op::Malloc, 0x5000, 24);
    let opened = || Row::Note(Description::Open);
    let cases: Vec<(&str, &str, Vec<Row>)> = vec![
        (
            "stacks",
            "stack 3 is used and never told",
            vec![
                process(),
                opened(),
                with_stack(malloc(), None, 3, 1),
                close(),
            ],
        ),
        (
            "frames",
            "file 77, first used in row 2, is never described",
            vec![
                process(),
                opened(),
                with_stack(malloc(), Some(0), 0, 77),
                close(),
            ],
        ),
        (
            "order",
            "malloc of thread 4242 before open",
            vec![process(), malloc(), opened(), close()],
        ),
        (
            "order",
            "malloc of thread 4242 after close",
            vec![process(), opened(), close(), malloc()],
        ),
        (
            "order",
            "address space 1 is used before it is described",
            vec![opened(), malloc(), process(), close()],
        ),
        (
            "threads",
            "realloc_failed of thread 4242 without its beginning",
            vec![
                process(),
                opened(),
                event(Op::ReallocFailed, 0x5000, 0),
                close(),
            ],
        ),
        (
            "values",
            "malloc at address 0",
            vec![process(), opened(), event(Op::Malloc, 0, 24), close()],
        ),
        (
            "values",
            "mmap of 100 bytes at 0x1000",
            vec![process(), opened(), event(Op::Mmap, 0x1000, 100), close()],
        ),
        (
            "pairing",
            "1 implicit frees",
            vec![process(), opened(), malloc(), malloc(), close()],
        ),
    ];
    for (number, (rule, words, rows)) in cases.into_iter().enumerate() {
        let directory = sample::directory(&format!("verify_rule_{number}"));
        write(&directory.join("trace.parquet"), rows);
        let output = verify(&directory);
        let wrong = wrong(&output);
        assert_eq!(wrong.len(), 1, "{rule}: {wrong:?}");
        assert!(
            wrong[0].contains(&format!(" {rule}: ")) && wrong[0].contains(words),
            "{rule}: {wrong:?}"
        );
        assert_eq!(output.status.code(), Some(1), "{rule}");
    }
}

/// A loss explains a block that was allocated over a live one.
#[test]
fn a_loss_explains_an_implicit_free() {
    let directory = sample::directory("verify_loss");
    let loss = Description::Loss {
        cause: "ring full, release".into(),
        count: 1,
        window_ns: 1,
    };
    let malloc = || event(Op::Malloc, 0x5000, 24);
    let open = Row::Note(Description::Open);
    let rows = vec![
        process(),
        open,
        malloc(),
        Row::Note(loss),
        malloc(),
        close(),
    ];
    write(&directory.join("trace.parquet"), rows);
    let output = verify(&directory);
    assert_eq!(wrong(&output), Vec::<String>::new());
    assert!(String::from_utf8_lossy(&output.stdout).contains("ledger: 1 events lost"));
}

/// A changed byte, a lost end, and a recording that was never closed are not sound, and it is said
/// why; what is no trace is an error.
#[test]
fn damage() {
    let directory = sample::directory("verify_damage");
    let path = directory.join("trace.parquet");
    sample::write(&path);
    let whole = fs::read(&path).expect("the trace");
    let mut changed = whole.clone();
    changed[whole.len() / 3] ^= 1;
    for (what, bytes) in [
        ("changed", &changed[..]),
        ("cut", &whole[..whole.len() - 9]),
    ] {
        fs::write(&path, bytes).expect("a damaged trace");
        let output = verify(&directory);
        assert_eq!(output.status.code(), Some(1), "{what}");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!stderr.contains("panicked"), "{what}: {stderr}");
        let told = wrong(&output);
        assert!(
            told.iter().any(|line| line.contains(" file: ")) || stderr.contains("damaged"),
            "{what}: {told:?} {stderr}"
        );
    }
    fs::write(&path, "text").expect("a file");
    let output = verify(&directory);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
}

/// The JSON form follows its schema: the checks' names are those it lists.
#[test]
fn json() {
    let directory = sample::directory("verify_json");
    sample::write(&directory.join("trace.parquet"));
    let output = sample::analyze(&directory, &["verify", "--format", "json", "trace.parquet"]);
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let schema: Value =
        serde_json::from_str(include_str!("../../schemas/verify-v1.json")).expect("JSON");
    assert_eq!(found["schema"], schema["properties"]["schema"]["const"]);
    let check = &schema["properties"]["traces"]["items"]["properties"]["checks"]["items"];
    let names = check["properties"]["name"]["enum"]
        .as_array()
        .expect("names");
    let checks = found["traces"][0]["checks"].as_array().expect("checks");
    assert!(checks.len() >= 10);
    for check in checks {
        assert!(names.contains(&check["name"]), "{check}");
        assert_eq!(check["sound"], true, "{check}");
    }
    assert_eq!(found["sound"], true);
}
