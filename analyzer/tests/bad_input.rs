//! Bad input: one sentence on stderr, the right exit status, nothing on stdout, no panic.

#[allow(dead_code, reason = "the other tests need more of it")]
mod sample;

use std::fs;

use memleak_trace::header::Version;

fn refused(directory: &std::path::Path, file: &str, status: i32, words: &[&str]) {
    let output = sample::analyze(directory, &[file]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{file}: {stderr}");
    assert!(output.stdout.is_empty(), "{file}");
    assert_eq!(stderr.lines().count(), 1, "{file}: {stderr}");
    assert!(!stderr.contains("panicked"), "{file}: {stderr}");
    for word in words {
        assert!(
            stderr.contains(word),
            "{file}: {word:?} is not in {stderr:?}"
        );
    }
}

/// Files that are no traces.
#[test]
fn not_a_trace() {
    let directory = sample::directory("not_a_trace");
    fs::write(directory.join("empty"), "").expect("a file");
    fs::write(
        directory.join("text"),
        "PAR1, says this text, but it is none\n".repeat(50),
    )
    .expect("a file");
    fs::write(directory.join("short"), "PAR1").expect("a file");
    fs::create_dir(directory.join("directory")).expect("a directory");
    refused(
        &directory,
        "missing",
        1,
        &["missing: cannot open: No such file or directory (os error 2)\n"],
    );
    refused(&directory, "empty", 1, &["empty"]);
    refused(&directory, "text", 1, &["text"]);
    refused(&directory, "short", 1, &["short"]);
    refused(&directory, "directory", 1, &["directory"]);
}

/// A trace of a newer version is refused naming both versions.
#[test]
fn newer_version() {
    let directory = sample::directory("newer");
    let mut header = sample::header();
    header.version = Version { major: 2, minor: 0 };
    sample::Sample::create(&directory.join("newer.parquet"), &header).finish();
    refused(&directory, "newer.parquet", 1, &["2.0", "1.1"]);
}

/// Cut off anywhere, a trace is read as far as it goes, or refused; never a panic.
#[test]
fn truncated() {
    let directory = sample::directory("truncated");
    let whole = directory.join("whole.parquet");
    sample::write(&whole);
    let bytes = fs::read(&whole).expect("the trace");
    let mut readable = 0;
    for part in 0..40 {
        let cut = bytes.len() * part / 40;
        let file = format!("cut{part}.parquet");
        fs::write(directory.join(&file), &bytes[..cut]).expect("a file");
        let output = sample::analyze(&directory, &["--format", "json", &file]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(stderr.lines().count(), 1, "{file}: {stderr}");
        assert!(!stderr.contains("panicked"), "{file}: {stderr}");
        match output.status.code() {
            Some(0) => {
                readable += 1;
                let report: serde_json::Value =
                    serde_json::from_slice(&output.stdout).expect("JSON");
                assert_eq!(report["trace"]["complete"], false, "{file}");
                assert!(stderr.starts_with("warning: "), "{file}: {stderr}");
            }
            status => assert_eq!(status, Some(1), "{file}: {stderr}"),
        }
    }
    assert!(readable > 0, "no cut left anything readable");
}

/// Only the header, and nothing happened: a report of nothing.
#[test]
fn trace_without_events() {
    let directory = sample::directory("no_events");
    let mut trace = sample::Sample::create(&directory.join("trace.parquet"), &sample::header());
    trace.note(0, memleak_trace::Description::Open);
    trace.note(
        sample::S,
        memleak_trace::Description::Close {
            reason: "Ctrl-C".into(),
        },
    );
    trace.finish();
    let output = sample::analyze(&directory, &["trace.parquet"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        text.contains("Top 0 stacks with outstanding allocations:"),
        "{text}"
    );
    assert!(text.contains("0 events in 1.0 s (Ctrl-C)"), "{text}");
}

/// A repaired trace reports the same as the damaged one, reads without damage, and still says that
/// its recording was never closed.
#[test]
fn repair() {
    let directory = sample::directory("repair");
    sample::write(&directory.join("whole.parquet"));
    let bytes = fs::read(directory.join("whole.parquet")).expect("the trace");
    let cut = &bytes[..bytes.len() - 8];
    fs::write(directory.join("cut.parquet"), cut).expect("a file");
    let repaired = sample::analyze(&directory, &["repair", "cut.parquet"]);
    assert_eq!(
        repaired.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&repaired.stderr)
    );
    let report = |file: &str| -> serde_json::Value {
        let output = sample::analyze(&directory, &["--format", "json", file]);
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    let (damaged, repaired) = (report("cut.parquet"), report("cut.repaired.parquet"));
    assert_eq!(damaged["stacks"], repaired["stacks"]);
    assert_eq!(damaged["domains"], repaired["domains"]);
    assert_eq!(repaired["trace"]["verified"], true);
    assert_eq!(
        fs::read(directory.join("cut.parquet")).expect("the damaged trace"),
        cut
    );

    let again = sample::analyze(&directory, &["repair", "cut.parquet"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("--force"));
    let forced = sample::analyze(&directory, &["repair", "--force", "cut.parquet"]);
    assert_eq!(forced.status.code(), Some(0));
    let itself = sample::analyze(
        &directory,
        &["repair", "cut.parquet", "-o", "./cut.parquet", "--force"],
    );
    assert_eq!(itself.status.code(), Some(1));
}
