//! Prints how fast a trace is analyzed, beside decoding alone in the same run: by our reader, and by the parquet
//! crate's, which is the floor that does not depend on us.
//!
//! `cargo bench -p memleak-analyze --bench analyze -- TRACE…`; `testdata/bench_analysis.py` makes
//! traces and compares with other programs too.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use memleak_analyze::analysis::{Moment, analyze};
use memleak_analyze::report::{self, Selection};
use memleak_analyze::series::Series;
use memleak_trace::TraceReader;
use memleak_trace::columns::EVENT_COLUMNS;
use memleak_trace::reader::BATCH_ROWS;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// Turns; the best of each counts, because others use the machine too.
const TURNS: usize = 3;

fn main() -> anyhow::Result<()> {
    let traces = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"));
    for trace in traces {
        let trace = Path::new(&trace);
        let mut events = 0;
        let [mut by_crate, mut decoding, mut reporting] = [Duration::MAX; 3];
        for _ in 0..TURNS {
            let begun = Instant::now();
            decode_by_crate(trace)?;
            by_crate = by_crate.min(begun.elapsed());
            let begun = Instant::now();
            events = decode(trace)?;
            decoding = decoding.min(begun.elapsed());
            let begun = Instant::now();
            report(trace)?;
            reporting = reporting.min(begun.elapsed());
        }
        let rate = |time: Duration| events as f64 / time.as_secs_f64() / 1e6;
        println!(
            "{}: decoding alone {:.1} M events/s by the parquet crate and {:.1} by ours, the whole report {:.1} M events/s, ratios {:.2} and {:.2}",
            trace.display(),
            rate(by_crate),
            rate(decoding),
            rate(reporting),
            rate(reporting) / rate(by_crate),
            rate(reporting) / rate(decoding),
        );
    }
    Ok(())
}

/// Decodes the columns of events of every row, as the parquet crate does it.
fn decode_by_crate(trace: &Path) -> anyhow::Result<()> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(trace)?)?;
    let columns = ProjectionMask::columns(reader.parquet_schema(), EVENT_COLUMNS.iter().copied());
    for batch in reader
        .with_projection(columns)
        .with_batch_size(BATCH_ROWS)
        .build()?
    {
        std::hint::black_box(batch?);
    }
    Ok(())
}

/// Decodes every row; as many as there are.
fn decode(trace: &Path) -> anyhow::Result<u64> {
    let mut reader = TraceReader::open(trace)?;
    let mut rows = 0;
    while let Some(batch) = reader.next_batch()? {
        rows += std::hint::black_box(&batch).len() as u64;
    }
    Ok(rows)
}

/// The default report, as text, into nothing.
fn report(trace: &Path) -> anyhow::Result<()> {
    let analysis = analyze(&Series::one(trace)?, Moment::End)?;
    let selection = Selection {
        top: Some(10),
        ..Selection::default()
    };
    let report = report::build(trace, &analysis, selection)?;
    report::text::write(
        &report,
        report::text::Style::default(),
        &mut std::io::sink(),
    )
}
