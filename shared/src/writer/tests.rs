//! What only the writer's own steps show.

use super::*;
use crate::event::SpaceId;
use crate::header::{Clock, Machine, VERSION};
use crate::op::Op;
use crate::reader::TraceReader;

pub(crate) fn header() -> Header {
    let machine = Machine {
        kernel: String::new(),
        architecture: String::new(),
        page_size: 4096,
        cpus: 1,
    };
    Header {
        version: VERSION,
        requires: Vec::new(),
        recorder: String::new(),
        machine,
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

fn event(ts: i64) -> Event {
    Event {
        ts,
        pid: 1,
        tid: 1,
        op: Op::Free,
        space: SpaceId(1),
        addr: ts as u64 * 16,
        size: 0,
        stack: None,
    }
}

/// The times of all rows, which must be 0, 1, 2 …
fn rows(path: &Path) -> usize {
    let mut reader = TraceReader::open(path).unwrap();
    let mut times = Vec::new();
    while let Some(batch) = reader.next_batch().unwrap() {
        times.extend(batch.ts);
    }
    assert!(times.iter().copied().eq(0..times.len() as i64), "{times:?}");
    times.len()
}

fn five_groups(path: &Path) -> TraceWriter {
    let mut writer =
        TraceWriter::create(path, &header(), &WriterOptions { overwrite: false }).unwrap();
    for ts in 0..50 {
        writer.event(&event(ts), None).unwrap();
        if ts % 10 == 9 {
            writer.checkpoint().unwrap();
        }
    }
    assert_eq!(writer.groups.len(), 5);
    writer
}

/// Killed at any byte of either step of a merge, the trace still has every row.
#[test]
fn killed_while_merging() {
    let dir = tempfile::tempdir().unwrap();
    let (path, copy) = (
        dir.path().join("t.parquet"),
        dir.path().join("copy.parquet"),
    );
    let mut writer = five_groups(&path);
    let run = std::mem::take(&mut writer.run);
    writer.encoder.write(&run.rows).unwrap();
    let group = writer.encoder.finish().unwrap();
    let before = writer.file.end();
    let room = before - run.before.0;
    writer.append_merged(&run, &group).unwrap();
    let appended = std::fs::read(&path).unwrap();
    for length in (before as usize..=appended.len()).rev().step_by(97) {
        std::fs::write(&copy, &appended[..length]).unwrap();
        assert_eq!(rows(&copy), 50, "cut at {length}");
    }
    writer.move_merged(&run, group, room).unwrap();
    let moved = std::fs::read(&path).unwrap();
    assert!(
        moved.len() < appended.len() / 2,
        "{} {}",
        moved.len(),
        appended.len()
    );
    for length in (run.before.0 as usize..moved.len()).step_by(97) {
        let mut bytes = appended.clone();
        bytes[..length].copy_from_slice(&moved[..length]);
        std::fs::write(&copy, &bytes).unwrap();
        assert_eq!(rows(&copy), 50, "moved up to {length}");
    }
    assert_eq!(rows(&path), 50);
}

/// A trace in which little happens has one row group a minute, not 120; and goes on behind it.
#[test]
fn small_groups_are_merged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    let mut writer =
        TraceWriter::create(&path, &header(), &WriterOptions { overwrite: false }).unwrap();
    let mut largest = 0;
    for ts in 0..500 {
        writer.event(&event(ts), None).unwrap();
        writer.checkpoint().unwrap();
        writer.checkpoint().unwrap();
        assert_eq!(writer.groups.len() as i64, (ts + 1) / 120 + (ts + 1) % 120);
        largest = largest.max(writer.bytes());
    }
    assert_eq!(rows(&path), 500);
    let bytes = writer.finish().unwrap();
    assert_eq!(rows(&path), 500);
    assert!(bytes < largest / 10, "{bytes} {largest}");
    let reader = TraceReader::open(&path).unwrap();
    assert!(reader.condition().complete, "{:?}", reader.condition());
}

/// Large row groups stay as they are, and small ones before and behind them are merged apart.
#[test]
fn large_groups_are_not_merged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    let mut writer = five_groups(&path);
    for ts in 50..300_000 {
        writer.event(&event(ts), None).unwrap();
        if ts % 100_000 == 99_999 {
            writer.checkpoint().unwrap();
        }
    }
    for ts in 300_000..300_010 {
        writer.event(&event(ts), None).unwrap();
        writer.checkpoint().unwrap();
    }
    writer.finish().unwrap();
    assert_eq!(rows(&path), 300_010);
    let file = std::fs::File::open(&path).unwrap();
    let reader = parquet::file::reader::SerializedFileReader::new(file).unwrap();
    let metadata = parquet::file::reader::FileReader::metadata(&reader);
    let groups: Vec<i64> = metadata
        .row_groups()
        .iter()
        .map(|group| group.num_rows())
        .collect();
    assert_eq!(groups, [50, 99_950, 100_000, 100_000, 10]);
}
