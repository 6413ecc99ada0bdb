//! A sampled trace: each allocation of the heap has its weight, in every reader's file.

use std::fs::File;

use arrow::array::{Array, AsArray};
use arrow::datatypes::Float64Type;
use memleak_trace::selection::{SAMPLING, Sampling, Weights};
use memleak_trace::writer::WriterOptions;
use memleak_trace::{Event, Op, Selection, SpaceId, TraceReader, TraceWriter};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

mod common;

fn event(op: Op, addr: u64, size: u64) -> Event {
    Event {
        ts: 1,
        pid: 7,
        tid: 7,
        op,
        space: SpaceId(1),
        addr,
        size,
        stack: None,
    }
}

fn weights(path: &std::path::Path) -> Vec<Option<f64>> {
    let file = File::open(path).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let mut weights = Vec::new();
    for batch in reader.build().unwrap() {
        let batch = batch.unwrap();
        let column = batch.column_by_name("weight").unwrap();
        let column = column.as_primitive::<Float64Type>();
        weights
            .extend((0..column.len()).map(|row| column.is_valid(row).then(|| column.value(row))));
    }
    weights
}

/// Allocations of the heap have the inverse of their probability, other rows none; over several
/// row groups that are merged, and in a repaired copy.
#[test]
fn weights_stand_beside_allocations() {
    let sampling = Sampling::Bytes(65_536);
    let selection = Selection {
        sampling: Some(sampling),
        ..Selection::default()
    };
    let header = memleak_trace::Header {
        requires: selection.requires(),
        selection,
        ..common::header()
    };
    assert_eq!(header.requires, [SAMPLING]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    let mut writer =
        TraceWriter::create(&path, &header, &WriterOptions { overwrite: false }).unwrap();
    let of = |size| Some(Weights::new(sampling).weight(size));
    let rows = [
        (event(Op::Malloc, 16, 100), of(100)),
        (event(Op::ReallocRelease, 16, 0), None),
        (event(Op::Realloc, 32, 200_000), of(200_000)),
        (event(Op::Realloc, 0, 0), None),
        (event(Op::Mmap, 4096, 4096), None),
        (event(Op::Free, 32, 0), None),
        (event(Op::Calloc, 64, 0), of(1)),
    ];
    let mut expected = Vec::new();
    for _ in 0..3 {
        for (event, weight) in &rows {
            writer.event(event, None).unwrap();
            expected.push(*weight);
        }
        writer.checkpoint().unwrap();
    }
    writer.finish().unwrap();
    assert_eq!(weights(&path), expected);
    assert!(of(100) > Some(650.0) && of(200_000) < Some(1.1));

    let read = TraceReader::open(&path).unwrap();
    assert_eq!(read.header().selection, selection);
    let copy = dir.path().join("copy.parquet");
    memleak_trace::repair(&path, &copy).unwrap();
    assert_eq!(weights(&copy), expected);
}
