//! What is written is what is read.

mod common;

use common::{Row, create, descriptions, header, put, random_rows, read_rows, write};
use memleak_trace::describe::Note;
use memleak_trace::{Totals, TraceReader};

/// Every kind of description comes back as it was.
#[test]
fn every_description() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    let rows: Vec<Row> = (0..)
        .zip(descriptions())
        .map(|(ts, what)| Row::Note(Note { ts, what }))
        .collect();
    write(&path, &rows, usize::MAX);
    let mut reader = TraceReader::open(&path).unwrap();
    assert_eq!(read_rows(&mut reader).unwrap(), rows);
    assert!(reader.condition().complete, "{:?}", reader.condition());
}

/// Random rows in random row groups, more than fit a batch, or a page, come back whole and verified.
#[test]
fn random_rows_in_many_groups() {
    let dir = tempfile::tempdir().unwrap();
    for (seed, count, group) in [
        (1, 0, 1),
        (2, 1, 1),
        (3, 500, 7),
        (4, 100_000, 30_000),
        (5, 400_000, 300_000),
    ] {
        let path = dir.path().join(format!("{seed}.parquet"));
        let rows = random_rows(seed, count);
        write(&path, &rows, group);
        let mut reader = TraceReader::open(&path).unwrap();
        assert_eq!(reader.header(), &header());
        assert_eq!(reader.rows(), count as u64);
        assert!(read_rows(&mut reader).unwrap() == rows, "seed {seed}");
        let condition = reader.condition();
        assert!(condition.complete && condition.verified, "{condition:?}");
        assert_eq!(condition.remarks, [""; 0]);
        assert!(condition.readable_bytes <= condition.file_bytes);
    }
}

/// The totals count what was written.
#[test]
fn totals_count_rows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    let rows = random_rows(5, 1000);
    let mut writer = create(&path);
    rows.iter().for_each(|row| put(&mut writer, row).unwrap());
    let counted = writer.totals().clone();
    writer.finish().unwrap();
    let mut expected = Totals {
        lost: counted.lost.clone(),
        defects: counted.defects.clone(),
        ..Totals::default()
    };
    for row in &rows {
        match row {
            Row::Event(event, stack) => {
                expected.events += 1;
                expected.stacks += u64::from(stack.is_some());
                expected.first_ts = Some(expected.first_ts.map_or(event.ts, |ts| ts.min(event.ts)));
                expected.last_ts = Some(expected.last_ts.map_or(event.ts, |ts| ts.max(event.ts)));
            }
            Row::Note(_) => expected.descriptions += 1,
        }
    }
    assert_eq!(counted, expected);
    assert!(counted.lost["ring_full"] >= 3);
    assert_eq!(TraceReader::open(&path).unwrap().totals(), Some(&counted));
}
