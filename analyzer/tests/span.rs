//! When a recording began and ended is told without decoding it where the trace is whole, and is the same
//! as reading it would tell, whatever state it is in.

#[allow(dead_code, reason = "the other tests need more of it")]
mod sample;

use std::path::{Path, PathBuf};

use memleak_analyze::analysis::survey;
use memleak_analyze::series::{Series, recordings};
use memleak_analyze::span::Span;
use memleak_trace::times::times;
use memleak_trace::{Description, Op};
use sample::{S, Sample, header};

fn committed() -> Vec<PathBuf> {
    let versions = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/traces");
    let listed = |directory: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(directory).expect("a directory");
        entries
            .map(|entry| entry.expect("an entry").path())
            .collect()
    };
    let mut traces: Vec<PathBuf> = listed(&versions)
        .iter()
        .flat_map(|path| listed(path))
        .collect();
    traces.sort();
    assert!(traces.len() > 5, "there are committed traces");
    traces
}

fn agree(series: &Series, what: &str) {
    let Ok(read) = survey(series) else {
        return;
    };
    let told = Span::of(series).expect("a span");
    assert_eq!(told, Span::read(&read.recording), "{what}");
}

/// Every committed trace, of each format version, and parts of one recording: together, without the first and
/// without the last.
#[test]
fn committed_traces() {
    let traces = committed();
    for path in &traces {
        assert!(
            times(path).expect("a trace").is_some(),
            "{}",
            path.display()
        );
        agree(
            &Series::one(path).expect("a trace"),
            &path.display().to_string(),
        );
    }
    let is_part = |path: &&PathBuf| path.to_string_lossy().contains("-parts.");
    let parts: Vec<PathBuf> = traces.iter().filter(is_part).cloned().collect();
    for some in [&parts[..], &parts[1..], &parts[..parts.len() - 1]] {
        let [series] = &recordings(some).expect("parts")[..] else {
            panic!("one recording");
        };
        agree(series, "parts");
    }
}

/// Traces cut off anywhere, or with a wrong byte anywhere: the span is that of what can be read.
#[test]
fn damaged_traces() {
    let directory = sample::directory("span_damaged");
    let path = directory.join("trace.parquet");
    let mut trace = Sample::create(&path, &header());
    trace.describe(-S, 0);
    for index in 0..6 {
        trace.event(
            index * S,
            Op::Malloc,
            0x1000 * (index as u64 + 1),
            8,
            Some(1),
        );
        trace.checkpoint();
    }
    let reason = "stopped".to_owned();
    trace.note(7 * S, Description::Close { reason });
    trace.finish();
    assert!(times(&path).expect("a trace").is_some());
    let whole = std::fs::read(&path).expect("the trace");
    let damaged = directory.join("damaged.parquet");
    let mut told = 0;
    for at in (0..whole.len()).step_by(97) {
        std::fs::write(&damaged, &whole[..at]).expect("a file");
        if let Ok(series) = Series::one(&damaged) {
            told += 1;
            agree(&series, &format!("cut off at {at}"));
        }
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        std::fs::write(&damaged, bytes).expect("a file");
        if let Ok(series) = Series::one(&damaged) {
            told += 1;
            agree(&series, &format!("wrong at {at}"));
        }
    }
    assert!(told > 50, "{told} damaged traces can be read");
}

/// Times out of order, an event behind the close, names behind it in row groups of their own, a recording that
/// was never closed, one that opened late, and one that does not say when.
#[test]
fn unusual_traces() {
    let directory = sample::directory("span_unusual");
    let (opened, closed) = (
        |trace: &mut Sample, at| trace.note(at, Description::Open),
        |trace: &mut Sample, at| {
            let reason = "stopped".to_owned();
            trace.note(at, Description::Close { reason });
        },
    );
    let event =
        |trace: &mut Sample, at| trace.event(at, Op::Malloc, 0x1000 + at as u64, 8, Some(1));
    // What happens, whether that is told without decoding, and start and end.
    type Case<'a> = (&'a str, Box<dyn Fn(&mut Sample) + 'a>, bool, (i64, i64));
    let cases: Vec<Case> = vec![
        (
            "out of order",
            Box::new(|t| {
                opened(t, 10);
                [500, 20, 900, 300].iter().for_each(|at| event(t, *at));
            }),
            true,
            (10, 900),
        ),
        (
            "behind the close",
            Box::new(|t| {
                opened(t, 10);
                event(t, 20);
                closed(t, 50);
                t.checkpoint();
                event(t, 60);
                t.checkpoint();
            }),
            true,
            (10, 50),
        ),
        (
            "closed long before",
            Box::new(|t| {
                opened(t, 10);
                closed(t, 50);
                (0..6).for_each(|at| {
                    t.checkpoint();
                    event(t, at);
                });
            }),
            true,
            (10, 50),
        ),
        (
            "never opened",
            Box::new(|t| {
                [500, 20].iter().for_each(|at| event(t, *at));
                closed(t, 700);
            }),
            false,
            (500, 700),
        ),
        (
            "opened again",
            Box::new(|t| {
                opened(t, 10);
                closed(t, 50);
                opened(t, 60);
                event(t, 70);
            }),
            true,
            (10, 70),
        ),
        (
            "empty",
            Box::new(|_| ()),
            false,
            (-sample::START, -sample::START),
        ),
    ];
    for (index, (what, write, is_told, (start, end))) in cases.iter().enumerate() {
        let path = directory.join(format!("{index}.parquet"));
        let mut trace = Sample::create(&path, &header());
        write(&mut trace);
        trace.finish();
        let expected = Span {
            start: sample::START + start,
            end: sample::START + end,
        };
        let series = Series::one(&path).expect("a trace");
        agree(&series, what);
        assert_eq!(Span::of(&series).expect("a span"), expected, "{what}");
        assert_eq!(times(&path).expect("a trace").is_some(), *is_told, "{what}");
    }
}
