//! A trace is an ordinary Parquet file, and an ordinary Parquet file can be a trace.

mod common;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, new_null_array,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use common::{Row, create, put, random_rows, read_rows, write};
use memleak_trace::{TraceError, TraceReader};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Encoding, PageType};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

/// All rows as the Parquet library alone reads them, and the metadata beside them.
fn stock(path: &Path) -> (RecordBatch, Vec<KeyValue>) {
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let pairs = builder
        .metadata()
        .file_metadata()
        .key_value_metadata()
        .unwrap()
        .clone();
    let schema = builder.schema().clone();
    let batches: Vec<_> = builder.build().unwrap().map(Result::unwrap).collect();
    (concat_batches(&schema, &batches).unwrap(), pairs)
}

/// Writes `rows` with the Parquet library alone: no trailers.
fn rewrite(path: &Path, rows: &RecordBatch, pairs: Vec<KeyValue>) {
    let properties = WriterProperties::builder()
        .set_key_value_metadata(Some(pairs))
        .build();
    let file = File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, rows.schema(), Some(properties)).unwrap();
    writer.write(rows).unwrap();
    writer.close().unwrap();
}

fn with_column(rows: &RecordBatch, name: &str, column: ArrayRef) -> RecordBatch {
    let mut fields: Vec<_> = rows.schema().fields().iter().cloned().collect();
    let mut columns = rows.columns().to_vec();
    let field = Arc::new(Field::new(name, column.data_type().clone(), true));
    match rows.schema().index_of(name) {
        Ok(index) => {
            fields[index] = field;
            columns[index] = column;
        }
        Err(_) => {
            fields.push(field);
            columns.push(column);
        }
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

/// After every checkpoint another reader sees every row, with names and plain numbers.
#[test]
fn open_while_recording() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    let rows = random_rows(1, 3000);
    let mut writer = create(&path);
    assert_eq!(stock(&path).0.num_rows(), 0);
    for (index, row) in rows.iter().enumerate() {
        put(&mut writer, row).unwrap();
        if index % 300 == 299 {
            writer.checkpoint().unwrap();
            assert_eq!(stock(&path).0.num_rows(), index + 1);
        }
    }
    writer.finish().unwrap();
    let (all, pairs) = stock(&path);
    assert_eq!(all.num_rows(), rows.len());
    let ops = all.column_by_name("op").unwrap().as_string::<i32>();
    let domains = all.column_by_name("domain").unwrap().as_string::<i32>();
    let sizes = all
        .column_by_name("size")
        .unwrap()
        .as_primitive::<Int64Type>();
    let frames = all.column_by_name("frames").unwrap();
    let ends = all.column_by_name("stack_end").unwrap();
    for (index, row) in rows.iter().enumerate() {
        let op = match row {
            Row::Event(event, stack) => {
                assert_eq!(sizes.value(index), event.size as i64);
                assert_eq!(frames.is_valid(index), stack.is_some());
                assert_eq!(ends.is_valid(index), stack.is_some());
                event.op
            }
            Row::Note(note) => note.what.op(),
        };
        assert_eq!(ops.value(index), op.name());
        let domain = domains.is_valid(index).then(|| domains.value(index));
        assert_eq!(domain, op.domain().map(|domain| domain.name()));
    }
    assert!(pairs.iter().any(|pair| pair.key == "memleak"));
}

/// Another program may rewrite a trace: it is read, and called unverified.
#[test]
fn rewritten() {
    let dir = tempfile::tempdir().unwrap();
    let (path, copy) = (
        dir.path().join("t.parquet"),
        dir.path().join("copy.parquet"),
    );
    let rows = random_rows(2, 40_000);
    write(&path, &rows, 9000);
    let (all, pairs) = stock(&path);
    rewrite(&copy, &all, pairs);
    let mut reader = TraceReader::open(&copy).unwrap();
    assert!(read_rows(&mut reader).unwrap() == rows);
    let condition = reader.condition();
    assert!(!condition.verified && !condition.complete && condition.remarks.len() == 1);
    assert_eq!(reader.totals().map(|totals| totals.rows()), Some(40_000));
}

/// A Parquet file without our header is foreign.
#[test]
fn without_header() {
    let dir = tempfile::tempdir().unwrap();
    let (path, copy) = (
        dir.path().join("t.parquet"),
        dir.path().join("copy.parquet"),
    );
    write(&path, &random_rows(3, 10), 10);
    rewrite(&copy, &stock(&path).0, Vec::new());
    assert!(matches!(
        TraceReader::open(&copy),
        Err(TraceError::Foreign { .. })
    ));
}

/// A later minor version may add a nullable column: it is ignored.
#[test]
fn unknown_column() {
    let dir = tempfile::tempdir().unwrap();
    let (path, copy) = (
        dir.path().join("t.parquet"),
        dir.path().join("copy.parquet"),
    );
    let rows = random_rows(4, 1000);
    write(&path, &rows, 1000);
    let (all, pairs) = stock(&path);
    let extra = Arc::new(Int64Array::from_iter(
        (0..1000).map(|row| (row % 3 == 0).then_some(row)),
    ));
    rewrite(&copy, &with_column(&all, "mood", extra), pairs);
    let mut reader = TraceReader::open(&copy).unwrap();
    assert!(read_rows(&mut reader).unwrap() == rows);
}

/// An operation that this version does not know is refused by name: its effect is not known.
#[test]
fn unknown_op() {
    let dir = tempfile::tempdir().unwrap();
    let (path, copy) = (
        dir.path().join("t.parquet"),
        dir.path().join("copy.parquet"),
    );
    write(&path, &random_rows(5, 1000), 1000);
    let (all, pairs) = stock(&path);
    let ops = all.column_by_name("op").unwrap().as_string::<i32>();
    let ops = ops
        .iter()
        .enumerate()
        .map(|(row, op)| if row == 700 { Some("teleport") } else { op });
    rewrite(
        &copy,
        &with_column(&all, "op", Arc::new(StringArray::from_iter(ops))),
        pairs,
    );
    let mut reader = TraceReader::open(&copy).unwrap();
    let message = read_rows(&mut reader).unwrap_err().to_string();
    assert!(
        message.contains("teleport") && message.contains("1.1"),
        "{message}"
    );
}

/// A column that is missing or holds something else is a sentence, not a panic.
#[test]
fn wrong_columns() {
    let dir = tempfile::tempdir().unwrap();
    let (path, copy) = (
        dir.path().join("t.parquet"),
        dir.path().join("copy.parquet"),
    );
    write(&path, &random_rows(6, 100), 100);
    let (all, pairs) = stock(&path);
    let texts = || Arc::new(StringArray::from_iter_values((0..100).map(|_| "no number")));
    for name in ["addr", "frames", "stack_id", "size2", "inlined"] {
        rewrite(&copy, &with_column(&all, name, texts()), pairs.clone());
        let mut reader = TraceReader::open(&copy).unwrap();
        assert!(read_rows(&mut reader).unwrap().is_empty(), "{name}");
        let remarks = reader.condition().remarks.join(" ");
        assert!(remarks.contains(name), "{name}: {remarks}");
        if !all.schema().field_with_name(name).unwrap().is_nullable() {
            let none = new_null_array(&DataType::Int64, 100);
            rewrite(&copy, &with_column(&all, name, none), pairs.clone());
            let mut reader = TraceReader::open(&copy).unwrap();
            assert!(read_rows(&mut reader).unwrap().is_empty(), "{name}");
        }
        let mut fewer = all.clone();
        fewer.remove_column(all.schema().index_of(name).unwrap());
        rewrite(&copy, &fewer, pairs.clone());
        let mut reader = TraceReader::open(&copy).unwrap();
        assert!(read_rows(&mut reader).unwrap().is_empty(), "{name}");
        let remarks = reader.condition().remarks.join(" ");
        assert!(
            remarks.contains(name) && remarks.contains("missing"),
            "{name}: {remarks}"
        );
    }
}

/// The encodings are those of `schemas/trace-v1.md`, one row group holds all rows of a checkpoint.
#[test]
fn encodings() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    write(&path, &random_rows(7, 150_000), usize::MAX);
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(&path).unwrap()).unwrap();
    assert_eq!(builder.metadata().num_row_groups(), 1);
    for column in memleak_trace::columns::COLUMNS {
        let group = builder.metadata().row_group(0);
        let chunk = group
            .columns()
            .iter()
            .find(|chunk| chunk.column_path().parts()[0] == column.name)
            .unwrap();
        let expected = match column.layout {
            memleak_trace::columns::Layout::Delta => Encoding::DELTA_BINARY_PACKED,
            memleak_trace::columns::Layout::ByteStreamSplit => Encoding::BYTE_STREAM_SPLIT,
            // Nothing but nulls has no dictionary.
            memleak_trace::columns::Layout::Dictionary
                if ["weight", "cache", "gfp", "comm"].contains(&column.name) =>
            {
                Encoding::PLAIN
            }
            memleak_trace::columns::Layout::Dictionary => Encoding::RLE_DICTIONARY,
        };
        assert!(
            chunk.encodings().any(|found| found == expected),
            "{}",
            column.name
        );
        let dictionary = chunk.dictionary_page_offset().is_some();
        assert_eq!(
            dictionary,
            expected == Encoding::RLE_DICTIONARY,
            "{}",
            column.name
        );
        assert_eq!(chunk.statistics().is_some(), column.name == "ts");
        if let Some(stats) = chunk.page_encoding_stats() {
            let pages = stats
                .iter()
                .filter(|page| page.page_type == PageType::DATA_PAGE);
            assert!(
                pages.map(|page| page.count).sum::<i32>() <= 3,
                "{}",
                column.name
            );
        }
        let kind = builder.schema().field_with_name(column.name).unwrap();
        assert_eq!(kind.is_nullable(), column.nullable, "{}", column.name);
        if !matches!(column.data_type(), DataType::List(_)) {
            assert_eq!(kind.data_type(), &column.data_type());
        }
    }
}
