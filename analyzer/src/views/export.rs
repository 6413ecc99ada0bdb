//! `export`: every lifetime as a row, for notebooks and other programs, as Parquet or CSV.
//!
//! A row is written when an allocation ends, so rows stand in the order of deaths; what is
//! outstanding at the moment comes last, with nulls where the dead have a death. A mapping that was cut up
//! has a row per piece. Rows of mappings are kept in memory until the end, because an munmap that
//! fails takes its death back.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use anyhow::Context;
use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};
use memleak_trace::Domain;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::scaled::Scale;
use super::{Request, replay_with};
use crate::filter::{self, lifetime};
use crate::replay::{Allocation, Death, Observer, Site, Sites};
use crate::span::Span;

/// Forms of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Parquet,
    Csv,
}

/// Rows that are written at once.
const ROWS: usize = 1 << 17;

/// An allocation from birth to death.
#[derive(Clone, Copy, Debug)]
struct Lifetime {
    site: Site,
    allocation: Allocation,
    /// How many blocks it stands for.
    weight: f64,
    death: Option<Death>,
}

/// Collects rows and writes them in batches.
struct Export<S> {
    rows: Vec<Lifetime>,
    /// Dead mappings, by address, birth and death.
    mappings: HashMap<(u64, i64, i64), Lifetime>,
    scale: Scale,
    sink: S,
    /// The first error, told at the end.
    failed: Option<anyhow::Error>,
}

/// Takes rows.
trait Sink {
    fn write(&mut self, rows: &[Lifetime]) -> anyhow::Result<()>;
}

impl<S: Sink> Export<S> {
    fn lifetime(&self, allocation: &Allocation, death: Option<Death>, sites: &Sites) -> Lifetime {
        let site = sites.as_slice()[allocation.site as usize];
        Lifetime {
            site,
            allocation: *allocation,
            weight: self.scale.weight(&site, allocation),
            death,
        }
    }

    fn push(&mut self, row: Lifetime) {
        self.rows.push(row);
        if self.rows.len() >= ROWS {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.failed.is_none()
            && let Err(error) = self.sink.write(&self.rows)
        {
            self.failed = Some(error);
        }
        self.rows.clear();
    }
}

impl<S: Sink> Observer for Export<S> {
    fn died(&mut self, allocation: &Allocation, death: Death, sites: &Sites) {
        let row = self.lifetime(allocation, Some(death), sites);
        if row.site.op.domain() == Some(Domain::Mapping) {
            let key = (allocation.addr, allocation.born, death.at);
            self.mappings.insert(key, row);
        } else {
            self.push(row);
        }
    }

    fn revived(&mut self, allocation: &Allocation, death: Death, _: &Sites) {
        let key = (allocation.addr, allocation.born, death.at);
        self.mappings.remove(&key);
    }
}

/// Writes the lifetimes to a file that is new, or may be replaced.
pub fn run_parquet(request: &Request, file: File) -> anyhow::Result<()> {
    let start = Span::of(&request.trace)?.start;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .build();
    let schema = batch(&[], start)?.schema();
    let writer = ArrowWriter::try_new(file, schema, Some(properties))?;
    let sink = run(request, ParquetSink { writer, start })?;
    sink.writer.close()?;
    Ok(())
}

/// Writes the lifetimes as CSV.
pub fn run_csv(request: &Request, out: &mut dyn Write) -> anyhow::Result<()> {
    let start = Span::of(&request.trace)?.start;
    writeln!(
        out,
        "domain,op,pid,tid,stack_id,address,size,count,weight,born_ns,died_ns,lifetime_ns,freed_by"
    )?;
    run(request, CsvSink { out, start })?;
    Ok(())
}

fn run<S: Sink>(request: &Request, sink: S) -> anyhow::Result<S> {
    let filter = filter::resolve(&request.trace, &request.filters)?;
    let export = Export {
        rows: Vec::new(),
        mappings: HashMap::new(),
        scale: Scale::of(&request.trace),
        sink,
        failed: None,
    };
    let replayed = replay_with(&request.trace, request, filter, export, true)?;
    let sites = replayed.analysis.replay.sites();
    let mut live = replayed.outstanding();
    live.sort_by_key(|allocation| (allocation.born, allocation.addr));
    let mut export = replayed.observer;
    let mut mappings: Vec<Lifetime> = std::mem::take(&mut export.mappings).into_values().collect();
    mappings.sort_by_key(|row| {
        let died = row.death.map(|death| death.at);
        (died, row.allocation.born, row.allocation.addr)
    });
    for row in mappings {
        export.push(row);
    }
    for allocation in live {
        export.push(export.lifetime(&allocation, None, sites));
    }
    export.flush();
    match export.failed {
        Some(error) => Err(error).context("cannot write the lifetimes"),
        None => Ok(export.sink),
    }
}

struct ParquetSink {
    writer: ArrowWriter<File>,
    start: i64,
}

impl Sink for ParquetSink {
    fn write(&mut self, rows: &[Lifetime]) -> anyhow::Result<()> {
        Ok(self.writer.write(&batch(rows, self.start)?)?)
    }
}

/// Times are nanoseconds since the start; signed, because other readers know no unsigned ones.
fn batch(rows: &[Lifetime], start: i64) -> anyhow::Result<RecordBatch> {
    let texts = |text: fn(&Lifetime) -> Option<&'static str>| -> ArrayRef {
        Arc::new(rows.iter().map(text).collect::<StringArray>())
    };
    let small = |number: fn(&Lifetime) -> Option<i32>| -> ArrayRef {
        Arc::new(rows.iter().map(number).collect::<Int32Array>())
    };
    let large = |number: &dyn Fn(&Lifetime) -> Option<i64>| -> ArrayRef {
        Arc::new(rows.iter().map(number).collect::<Int64Array>())
    };
    let columns: Vec<(&str, ArrayRef, bool)> = vec![
        (
            "domain",
            texts(|row| row.site.op.domain().map(Domain::name)),
            false,
        ),
        ("op", texts(|row| Some(row.site.op.name())), false),
        ("pid", small(|row| Some(row.site.pid)), false),
        ("tid", small(|row| Some(row.site.tid)), false),
        ("stack_id", small(|row| row.site.stack.map(|id| id.0)), true),
        (
            "address",
            large(&|row| Some(row.allocation.addr as i64)),
            false,
        ),
        (
            "size",
            large(&|row| Some(row.allocation.size as i64)),
            false,
        ),
        (
            "count",
            small(|row| i32::try_from(row.allocation.count).ok()),
            false,
        ),
        (
            "weight",
            Arc::new(
                rows.iter()
                    .map(|row| Some(row.weight))
                    .collect::<Float64Array>(),
            ),
            false,
        ),
        (
            "born_ns",
            large(&|row| Some(row.allocation.born - start)),
            false,
        ),
        ("died_ns", large(&|row| Some(row.death?.at - start)), true),
        (
            "lifetime_ns",
            large(&|row| i64::try_from(lifetime(&row.allocation, row.death?)).ok()),
            true,
        ),
        ("freed_by", texts(|row| Some(row.death?.by.name())), true),
    ];
    Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
}

struct CsvSink<'a> {
    out: &'a mut dyn Write,
    start: i64,
}

impl Sink for CsvSink<'_> {
    fn write(&mut self, rows: &[Lifetime]) -> anyhow::Result<()> {
        let text = |number: Option<i64>| number.map(|n| n.to_string()).unwrap_or_default();
        for row in rows {
            let lived = row
                .death
                .and_then(|death| i64::try_from(lifetime(&row.allocation, death)).ok());
            writeln!(
                self.out,
                "{},{},{},{},{},{:#x},{},{},{},{},{},{},{}",
                row.site.op.domain().map_or("", Domain::name),
                row.site.op.name(),
                row.site.pid,
                row.site.tid,
                text(row.site.stack.map(|id| id.0.into())),
                row.allocation.addr,
                row.allocation.size,
                row.allocation.count,
                row.weight,
                row.allocation.born - self.start,
                text(row.death.map(|death| death.at - self.start)),
                text(lived),
                row.death.map_or("", |death| death.by.name()),
            )?;
        }
        Ok(())
    }
}
