//! Prints how fast a trace is analyzed, beside decoding alone in the same run.
//!
//! `cargo bench -p memleak-analyze --bench analyze -- TRACE…`; `testdata/bench_analysis.py` makes
//! traces and compares with other programs too.

use std::path::Path;
use std::time::{Duration, Instant};

use memleak_analyze::analysis::{Moment, analyze};
use memleak_analyze::report::{self, Selection};
use memleak_analyze::series::Series;
use memleak_trace::TraceReader;

/// Turns; the best of each counts, because others use the machine too.
const TURNS: usize = 3;

fn main() -> anyhow::Result<()> {
    let traces = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"));
    for trace in traces {
        let trace = Path::new(&trace);
        let mut events = 0;
        let (mut decoding, mut reporting) = (Duration::MAX, Duration::MAX);
        for _ in 0..TURNS {
            let begun = Instant::now();
            events = decode(trace)?;
            decoding = decoding.min(begun.elapsed());
            let begun = Instant::now();
            report(trace)?;
            reporting = reporting.min(begun.elapsed());
        }
        let rate = |time: Duration| events as f64 / time.as_secs_f64() / 1e6;
        println!(
            "{}: decoding alone {:.1} M events/s, the whole report {:.1} M events/s, ratio {:.2}",
            trace.display(),
            rate(decoding),
            rate(reporting),
            rate(reporting) / rate(decoding),
        );
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
