//! Whatever happens to the bytes of a trace: an error, or a readable prefix that is not called
//! complete. Never a panic, never a wrong row.

mod common;

use std::path::Path;

use common::{Numbers, Row, create, put, random_rows, read_rows, unclosed, write};
use memleak_trace::{TraceError, TraceReader, repair};

/// Reads `bytes` as a file; checks that its rows are a prefix of `rows` and that it is not called
/// complete. Returns how many rows there were; `None` for an error.
fn readable_prefix(path: &Path, bytes: &[u8], rows: &[Row], what: &str) -> Option<usize> {
    std::fs::write(path, bytes).unwrap();
    let mut reader = TraceReader::open(path).ok()?;
    let found = read_rows(&mut reader).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(
        found.len() <= rows.len() && found == rows[..found.len()],
        "{what}: other rows"
    );
    let condition = reader.condition();
    assert!(!condition.complete, "{what}: called complete");
    assert!(!condition.remarks.is_empty(), "{what}: no remark");
    assert_eq!(reader.rows(), found.len() as u64, "{what}");
    Some(found.len())
}

/// A trace cut off anywhere is readable up to its last whole row group.
#[test]
fn cut_off_anywhere() {
    let dir = tempfile::tempdir().unwrap();
    let (path, cut) = (dir.path().join("t.parquet"), dir.path().join("cut.parquet"));
    let rows = random_rows(1, 6000);
    // How long the file was, and how many rows it held, at each checkpoint.
    let mut durable = Vec::new();
    let mut writer = create(&path);
    let mut written = 0;
    durable.push((writer.bytes(), 0));
    for rows in rows.chunks(500) {
        rows.iter().for_each(|row| put(&mut writer, row).unwrap());
        writer.checkpoint().unwrap();
        written += rows.len();
        durable.push((writer.bytes(), written));
    }
    let whole = std::fs::read(&path).unwrap();
    writer.finish().unwrap();
    let closed = std::fs::read(&path).unwrap();
    let mut numbers = Numbers(2);
    let mut lengths: Vec<usize> = (0..whole.len()).step_by(4096).collect();
    lengths.extend((0..300).map(|_| numbers.below(whole.len() as u64) as usize));
    lengths.extend(whole.len() - 40..whole.len());
    for length in lengths {
        let found = readable_prefix(&cut, &whole[..length], &rows, &format!("cut at {length}"));
        let expected = durable
            .iter()
            .rev()
            .find(|(bytes, _)| *bytes <= length as u64);
        if let Some((_, expected)) = expected {
            assert!(
                found.is_some_and(|found| found >= *expected),
                "cut at {length}: {found:?}"
            );
        }
    }
    // The footer of the closed trace has no rows.
    for length in closed.len() - 100..closed.len() {
        let found = readable_prefix(&cut, &closed[..length], &rows, "footer cut off");
        assert_eq!(found, Some(6000), "closed, cut at {length}");
    }
}

/// A copy of the file made at any checkpoint holds every row written until then.
#[test]
fn killed_while_recording() {
    let dir = tempfile::tempdir().unwrap();
    let (path, copy) = (
        dir.path().join("t.parquet"),
        dir.path().join("copy.parquet"),
    );
    // More row groups than are merged into one.
    let rows = random_rows(3, 3000);
    let mut writer = create(&path);
    let at_once = std::fs::read(&path).unwrap();
    assert_eq!(
        readable_prefix(&copy, &at_once, &rows, "killed at once"),
        Some(0)
    );
    for (index, row) in rows.iter().enumerate() {
        put(&mut writer, row).unwrap();
        if index % 11 == 10 {
            writer.checkpoint().unwrap();
            let bytes = std::fs::read(&path).unwrap();
            let found = readable_prefix(&copy, &bytes, &rows, "killed");
            assert_eq!(found, Some(index + 1));
        }
    }
}

/// Any single damaged byte is noticed; what stands before it is read.
#[test]
fn one_damaged_byte() {
    let dir = tempfile::tempdir().unwrap();
    let (path, damaged) = (
        dir.path().join("t.parquet"),
        dir.path().join("damaged.parquet"),
    );
    let rows = random_rows(4, 3000);
    let recording = unclosed(&path, &rows, 400);
    std::fs::remove_file(&path).unwrap();
    write(&path, &rows, 400);
    let closed = std::fs::read(&path).unwrap();
    let mut numbers = Numbers(5);
    for whole in [recording, closed] {
        let mut readable = 0;
        for _ in 0..1000 {
            let mut bytes = whole.clone();
            let at = numbers.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << numbers.below(8);
            let found = readable_prefix(&damaged, &bytes, &rows, &format!("byte {at}"));
            readable += usize::from(found.is_some());
        }
        // Only the magic and the first trailer are indispensable.
        assert!(readable > 900, "{readable} of 1000 readable");
    }
}

/// A damaged row group ends the trace there, and a remark says how much is missing.
#[test]
fn damaged_row_group_ends_the_trace() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    let rows = random_rows(6, 2000);
    let mut writer = create(&path);
    rows[..1000]
        .iter()
        .for_each(|row| put(&mut writer, row).unwrap());
    writer.checkpoint().unwrap();
    let second_group = TraceReader::open(&path).unwrap().condition().readable_bytes as usize;
    rows[1000..]
        .iter()
        .for_each(|row| put(&mut writer, row).unwrap());
    writer.checkpoint().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[second_group + 100] ^= 1;
    assert_eq!(readable_prefix(&path, &bytes, &rows, "group"), Some(1000));
    let mut reader = TraceReader::open(&path).unwrap();
    read_rows(&mut reader).unwrap();
    let remarks = reader.condition().remarks.join(" ");
    assert!(
        remarks.contains("after row 1000") && remarks.contains("1000 rows are missing"),
        "{remarks}"
    );
}

/// Random bytes, with and without the magic of Parquet and of a trailer, are an error.
#[test]
fn garbage() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    let mut numbers = Numbers(7);
    for round in 0..500 {
        let size = numbers.below(5000) as usize;
        let mut bytes: Vec<u8> = (0..size).map(|_| numbers.next() as u8).collect();
        if round % 2 == 0 && size > 200 {
            bytes[..4].copy_from_slice(b"PAR1");
            let end = if round % 4 == 0 { size } else { size / 2 };
            bytes[end - 8..end].copy_from_slice(b"MEMLEAK1");
        }
        if round % 6 == 0 && size > 200 {
            bytes[size - 8..].copy_from_slice(&[40, 0, 0, 0, b'P', b'A', b'R', b'1']);
        }
        std::fs::write(&path, &bytes).unwrap();
        let error = TraceReader::open(&path).err();
        match (size, error) {
            (0, Some(TraceError::Empty { .. })) => {}
            (1.., Some(TraceError::Foreign { .. } | TraceError::Damaged { .. })) => {}
            (_, other) => panic!("round {round}: {other:?}"),
        }
    }
}

/// A footer whose bytes are damaged, in a file without trailers, is an error or less rows.
#[test]
fn damage_without_checksums() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    write(&path, &random_rows(8, 2000), 1000);
    let whole = std::fs::read(&path).unwrap();
    let text = |bytes: &[u8]| bytes.windows(8).position(|window| window == b"MEMLEAK1");
    let mut bare = whole;
    while let Some(at) = text(&bare) {
        bare[at] = b'-';
    }
    let mut numbers = Numbers(9);
    for _ in 0..500 {
        let mut bytes = bare.clone();
        let at = numbers.below(bytes.len() as u64) as usize;
        bytes[at] ^= 1 << numbers.below(8);
        std::fs::write(&path, &bytes).unwrap();
        if let Ok(mut reader) = TraceReader::open(&path) {
            assert!(!reader.condition().verified && !reader.condition().complete);
            while let Ok(Some(_)) = reader.next_batch() {}
            assert!(!reader.condition().complete);
        }
    }
}

/// A repaired trace is complete and holds what was readable.
#[test]
fn repaired() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    let (cut, whole) = (
        dir.path().join("cut.parquet"),
        dir.path().join("whole.parquet"),
    );
    let rows = random_rows(10, 3000);
    let bytes = unclosed(&path, &rows, 500);
    let found = readable_prefix(&cut, &bytes[..bytes.len() / 2], &rows, "half").unwrap();
    assert!(found > 0);
    let condition = repair(&cut, &whole).unwrap();
    assert!(!condition.complete && !condition.remarks.is_empty());
    let mut reader = TraceReader::open(&whole).unwrap();
    assert!(read_rows(&mut reader).unwrap() == rows[..found]);
    assert!(reader.condition().complete);
    assert!(
        matches!(repair(&cut, &whole), Err(TraceError::Io { .. })),
        "must not overwrite"
    );
}
