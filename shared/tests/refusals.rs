//! Files that are no trace, or one of a later version, are refused in words.

mod common;

use std::path::Path;

use common::{create, header, random_rows, write};
use memleak_trace::header::Version;
use memleak_trace::writer::WriterOptions;
use memleak_trace::{Header, TraceError, TraceReader, TraceWriter};

fn error_of(path: &Path) -> TraceError {
    TraceReader::open(path).unwrap_err()
}

fn with_header(path: &Path, header: &Header) {
    let writer = TraceWriter::create(path, header, &WriterOptions { overwrite: true }).unwrap();
    writer.finish().unwrap();
}

/// Each foreign file is told by what it is.
#[test]
fn foreign_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    std::fs::write(&path, "").unwrap();
    assert!(matches!(error_of(&path), TraceError::Empty { .. }));
    for (bytes, word) in [
        (&b"hello, I am text\n"[..], "text"),
        (&b"\x7fELF\x02\x01\x01\0"[..], "ELF"),
        (&b"\x28\xb5\x2f\xfd abc"[..], "compressed"),
        (&b"\xff\x00\x01"[..], "Parquet"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let error = error_of(&path);
        assert!(matches!(error, TraceError::Foreign { .. }), "{error:?}");
        assert!(error.to_string().contains(word), "{error}");
    }
    assert!(matches!(error_of(dir.path()), TraceError::Foreign { .. }));
    let missing = error_of(&dir.path().join("missing"));
    assert!(
        missing.to_string().contains("missing: cannot open"),
        "{missing}"
    );
}

/// A pipe is refused without waiting for its other end.
#[test]
fn pipe() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pipe");
    let made = std::process::Command::new("mkfifo")
        .arg(&path)
        .status()
        .unwrap();
    assert!(made.success());
    assert!(matches!(error_of(&path), TraceError::Foreign { .. }));
}

/// A newer major is refused naming both versions; a newer minor is read.
#[test]
fn newer_versions() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    with_header(
        &path,
        &Header {
            version: Version { major: 2, minor: 3 },
            ..header()
        },
    );
    let message = error_of(&path).to_string();
    assert!(
        message.contains("2.3") && message.contains("1.1"),
        "{message}"
    );
    with_header(
        &path,
        &Header {
            version: Version { major: 1, minor: 9 },
            ..header()
        },
    );
    assert!(TraceReader::open(&path).unwrap().condition().complete);
}

/// A feature that this version does not know is refused by name.
#[test]
fn unknown_requirement() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    with_header(
        &path,
        &Header {
            requires: vec!["time-travel".to_owned()],
            ..header()
        },
    );
    let message = error_of(&path).to_string();
    assert!(
        message.contains("time-travel") && message.contains("1.1"),
        "{message}"
    );
}

/// An existing file is kept unless told otherwise.
#[test]
fn existing_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    write(&path, &random_rows(1, 10), 10);
    let kept = TraceWriter::create(&path, &header(), &WriterOptions { overwrite: false });
    assert!(kept.unwrap_err().to_string().contains("cannot create"));
    assert_eq!(TraceReader::open(&path).unwrap().rows(), 10);
    with_header(&path, &header());
    assert_eq!(TraceReader::open(&path).unwrap().rows(), 0);
    let nowhere = dir.path().join("no/such/dir");
    let error = TraceWriter::create(&nowhere, &header(), &WriterOptions { overwrite: false });
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("no/such/dir: cannot create")
    );
    drop(create(&dir.path().join("new")));
}
