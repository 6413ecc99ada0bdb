//! Any bytes at all: mutated traces, with and without their checksums mended, through the report,
//! `verify`, `repair` and `symbolize`. Never a panic, a hang or a memory bomb, and never a changed
//! trace that is called complete with other figures.
//!
//! `MEMLEAK_FUZZ_SECONDS` says for how long (default 15), `MEMLEAK_FUZZ_SEED` where it begins: a
//! failure names the seed of its case. `make fuzz` runs it for ten minutes from a new seed.

mod limits;
mod mutate;
mod reseal;
#[allow(dead_code, reason = "the other tests need more of it")]
#[path = "../sample/mod.rs"]
mod sample;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use memleak_analyze::analysis::{Moment, analyze};
use memleak_analyze::report::{self, Selection};
use memleak_analyze::series::Series;
use memleak_analyze::{symbolize, verify};
use memleak_trace::{Description, Op, TraceReader};

use limits::Watchdog;
use mutate::Random;

/// A number from the environment.
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// The committed traces of every version, the tests' sample, and a trace of many row groups.
fn corpus(directory: &Path) -> Vec<Vec<u8>> {
    let sample = directory.join("sample.parquet");
    sample::write(&sample);
    let many = directory.join("many.parquet");
    let mut writer = sample::Sample::create(&many, &sample::header());
    writer.note(0, Description::Open);
    for round in 0..40_000u64 {
        let stack = Some((round % 4) as i32);
        let addr = 0x10000 + 32 * (round % 300);
        writer.event(round as i64, Op::Malloc, addr, round % 777, stack);
        writer.event(round as i64, Op::Free, addr, 0, None);
        if round % 8_000 == 0 {
            writer.checkpoint();
        }
    }
    let reason = "stopped by a signal".to_owned();
    writer.note(50_000, Description::Close { reason });
    writer.finish();
    let versions = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/traces");
    let mut traces = vec![sample, many];
    for version in fs::read_dir(versions).expect("committed traces").flatten() {
        let files = fs::read_dir(version.path()).expect("a version").flatten();
        traces.extend(files.map(|file| file.path()).filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "parquet")
        }));
    }
    traces
        .iter()
        .map(|path| fs::read(path).expect("a trace"))
        .collect()
}

/// The figures that a report stands or falls with; `None` where there is no report.
fn figures(trace: &Path) -> Option<(bool, String)> {
    let analysis = analyze(&Series::one(trace).ok()?, Moment::End).ok()?;
    let selection = Selection {
        idle: true,
        allocations: true,
        ages: true,
        ..Selection::default()
    };
    let report = report::build(trace, &analysis, selection).ok()?;
    let mut text = Vec::new();
    report::text::write(&report, Default::default(), &mut text).ok()?;
    report::json::write(&report, &mut std::io::sink()).ok()?;
    let figures = serde_json::to_string(&(&report.trace.events, &report.domains, &report.stacks));
    Some((
        report.trace.complete && report.trace.verified,
        figures.ok()?,
    ))
}

/// Everything that reads a trace. Returns the figures of the report.
fn read_every_way(trace: &Path, scratch: &Path, symbolized: bool) -> Option<(bool, String)> {
    let figures = figures(trace);
    // Errors are answers; what must not happen is told by the limits.
    let _ = verify::verify(trace);
    let repaired = scratch.join("repaired.parquet");
    let _ = fs::remove_file(&repaired);
    if memleak_trace::repair(trace, &repaired).is_ok() {
        let _ = verify::verify(&repaired);
    }
    if symbolized {
        let _ = symbolize::symbolize(&symbolize::Options {
            trace: trace.to_owned(),
            output: Some(scratch.join("named.parquet")),
            force: true,
            debug_directories: Vec::new(),
        });
    }
    figures
}

fn is_part(trace: &Path) -> bool {
    let reader = TraceReader::open(trace).expect("a trace of the corpus");
    reader.header().part.is_some()
}

#[test]
fn any_bytes() {
    let directory = sample::directory("fuzz");
    let corpus = corpus(&directory);
    let trace: PathBuf = directory.join("case.parquet");
    let truths: Vec<Option<(bool, String)>> = corpus
        .iter()
        .map(|bytes| {
            fs::write(&trace, bytes).expect("a case");
            let truth = figures(&trace);
            // Read alone, a part of a recording lacks the others.
            assert_eq!(
                truth.as_ref().map(|(complete, _)| *complete),
                Some(!is_part(&trace))
            );
            truth
        })
        .collect();

    limits::limit_memory(3 << 30);
    let watchdog = Watchdog::start(Duration::from_secs(60));
    let seconds = Duration::from_secs(setting("MEMLEAK_FUZZ_SECONDS", 15));
    let began = Instant::now();
    let mut seed = setting("MEMLEAK_FUZZ_SEED", 1);
    let mut cases = 0u64;
    let mut reports = 0u64;
    // At least some, however slow the machine is.
    while began.elapsed() < seconds || cases < 50 {
        watchdog.begins(seed);
        let mut random = Random::new(seed);
        let chosen = random.below(corpus.len());
        let mut bytes = mutate::mutate(&corpus[chosen], &mut random);
        let mended = random.below(4) > 0;
        if mended {
            reseal::reseal(&mut bytes);
        }
        fs::write(&trace, &bytes).expect("a case");
        // It reads rows as `repair` does, and talks.
        let symbolized = random.below(32) == 0;
        let found = catch_unwind(AssertUnwindSafe(|| {
            read_every_way(&trace, &directory, symbolized)
        }))
        .unwrap_or_else(|_| panic!("seed {seed} panics: MEMLEAK_FUZZ_SEED={seed} repeats it"));
        reports += u64::from(found.is_some());
        if let (Some((true, found)), false) = (&found, mended) {
            let truth = truths[chosen].as_ref().map(|(_, figures)| figures);
            assert_eq!(
                Some(found),
                truth,
                "seed {seed}: a changed trace is called complete"
            );
        }
        seed += 1;
        cases += 1;
    }
    watchdog.end();
    println!("{cases} cases, {reports} of them with a report; next seed {seed}");
    assert!(reports > 0, "no mutated trace could be read at all");
}
