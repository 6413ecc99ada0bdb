//! Views of samples against the same views of the whole: a program's blocks are drawn again and again as
//! the probes would draw them, and the figures of the whole lie in the intervals as often as promised.
//! That the views of the whole are right is what `notebooks/tests/test_views.py` is for.

#[allow(dead_code, reason = "the other tests need more of it")]
mod sample;

use std::collections::BTreeMap;
use std::path::Path;

use memleak_analyze::analysis::{Moment, analyze};
use memleak_analyze::cli::Format;
use memleak_analyze::estimate::{CONFIDENCE, peak_interval};
use memleak_analyze::filter::Options;
use memleak_analyze::series::Series;
use memleak_analyze::views::{
    Request, diff, histogram, series, temporary, timeline, top, tree, window,
};
use memleak_trace::selection::{CERTAIN, SAMPLING, Sampling, Selection, Weights};
use memleak_trace::{Description, Op};
use sample::random::Random;
use sample::{S, Sample, header};
use serde_json::{Map, Value};

const RUNS: u32 = 300;

/// A block from birth to death, nanoseconds after the start.
struct Life {
    stack: i32,
    size: u64,
    born: i64,
    died: Option<i64>,
}

/// What a program of ten seconds does: stacks that keep, that come and go, of small and of large blocks, and
/// of sizes that differ much (which one in so many does not suit).
fn program(mixed: bool) -> Vec<Life> {
    let mut random = Random(7);
    let mut lives = Vec::new();
    let mut place = |stack, blocks: i64, sizes: &[u64], lifetimes: &[Option<i64>]| {
        for index in 0..blocks {
            let born = (10 * S - 100) * index / blocks + (random.next() % 1000) as i64;
            let lifetime = lifetimes[random.next() as usize % lifetimes.len()];
            lives.push(Life {
                stack,
                size: sizes[random.next() as usize % sizes.len()],
                born,
                died: lifetime
                    .map(|lifetime| born + lifetime)
                    .filter(|at| *at < 10 * S),
            });
        }
    };
    place(0, 500, &[64], &[None]);
    place(1, 300, &[4000, 4400], &[Some(2 * S), Some(300), None]);
    place(2, 40, &[20_000], &[Some(S), None]);
    place(
        3,
        400,
        &[200, 210, 220],
        &[Some(500), Some(S / 50), Some(S / 2)],
    );
    place(5, 3, &[64], &[None]);
    if mixed {
        place(6, 200, &[48, 48, 6000], &[Some(3 * S), None]);
    }
    lives
}

/// Writes the recording of these blocks.
fn record<'a>(path: &Path, sampling: Option<Sampling>, lives: impl Iterator<Item = &'a Life>) {
    let _ = std::fs::remove_file(path);
    let mut head = header();
    head.selection = Selection {
        sampling,
        ..Selection::default()
    };
    if sampling.is_some() {
        head.requires = vec![SAMPLING.to_owned()];
    }
    let mut trace = Sample::create(path, &head);
    trace.describe(-S, 0);
    let mut events: Vec<(i64, Op, u64, u64, Option<i32>)> = Vec::new();
    for (index, life) in lives.enumerate() {
        let addr = (index as u64 + 1) << 20;
        events.push((life.born, Op::Malloc, addr, life.size, Some(life.stack)));
        if let Some(died) = life.died {
            events.push((died, Op::Free, addr, 0, None));
        }
    }
    events.sort_by_key(|event| event.0);
    for (after, op, addr, size, stack) in events {
        trace.event(after, op, addr, size, stack);
    }
    // Mappings are never left out.
    trace.event(9 * S, Op::Mmap, 0x7f11_0000_0000, 1 << 16, Some(7));
    let reason = "stopped".to_owned();
    trace.note(10 * S, Description::Close { reason });
    trace.finish();
}

/// The views, by name.
fn views(path: &Path) -> Vec<(&'static str, Vec<Map<String, Value>>)> {
    let request = Request {
        trace: Series::one(path).expect("a trace"),
        filters: Options::default(),
        top: None,
        format: Format::Json,
    };
    let windowed = Request {
        filters: Options {
            from: Some(Moment::After(3 * S)),
            to: Some(Moment::After(8 * S)),
            ..Options::default()
        },
        ..request.clone()
    };
    let rows = |run: &dyn Fn(&mut Vec<u8>) -> anyhow::Result<()>| {
        let mut out = Vec::new();
        run(&mut out).expect("a view");
        let mut document: Value = serde_json::from_slice(&out).expect("JSON");
        let rows = document["rows"].take();
        serde_json::from_value(rows).expect("rows")
    };
    let shape = tree::Shape {
        inverted: false,
        depth: None,
        min_share: 0.0,
        rank: top::Rank::Bytes,
    };
    let every = series::Every {
        interval: 4 * S,
        count: None,
    };
    let since = diff::Compared::Since(Moment::After(4 * S));
    vec![
        (
            "top",
            rows(&|out| top::run(&request, top::Key::Stack, top::Rank::Bytes, out)),
        ),
        ("tree", rows(&|out| tree::run(&request, shape, out))),
        (
            "timeline",
            rows(&|out| timeline::run(&request, 4, true, out)),
        ),
        (
            "timeline of the heap",
            rows(&|out| timeline::run(&request, 4, false, out)),
        ),
        (
            "ages",
            rows(&|out| histogram::run(&request, histogram::Of::Ages, true, out)),
        ),
        (
            "sizes",
            rows(&|out| histogram::run(&request, histogram::Of::Sizes, true, out)),
        ),
        (
            "lifetimes",
            rows(&|out| histogram::run(&request, histogram::Of::Lifetimes, true, out)),
        ),
        (
            "temporary",
            rows(&|out| temporary::run(&request, temporary::Within::Time(1000), out)),
        ),
        ("window", rows(&|out| window::run(&windowed, false, out))),
        (
            "window per stack",
            rows(&|out| window::run(&windowed, true, out)),
        ),
        (
            "diff",
            rows(&|out| diff::run(&request, since, diff::Match::Offsets, out)),
        ),
        ("series", rows(&|out| series::run(&request, every, out))),
    ]
}

/// What a row is about.
const KEYS: [&str; 12] = [
    "domain",
    "op",
    "stack_id",
    "from_ns",
    "to_ns",
    "from_bytes",
    "to_bytes",
    "class",
    "at_ns",
    "depth",
    "function",
    "frames",
];
/// Figures that are shown only where others are not 0: rows that are not there hide them.
const CONDITIONAL: [(&str, &str); 6] = [
    ("temporary", "total_bytes"),
    ("temporary", "total_count"),
    ("diff", "a_bytes"),
    ("diff", "a_count"),
    ("diff", "b_bytes"),
    ("diff", "b_count"),
];

/// View, row and figure.
type Key = (&'static str, String, String);

/// Every figure of every view that has an interval, or could have one: figure and interval.
fn figures(path: &Path) -> BTreeMap<Key, (f64, Option<(f64, f64)>)> {
    let mut figures = BTreeMap::new();
    for (view, rows) in views(path) {
        // The tree has a node per domain, and what belongs to it below.
        let mut domain = String::new();
        for row in rows {
            if row.get("depth").is_some_and(|depth| depth == 0) {
                domain = row["function"].to_string();
            }
            let about = KEYS.map(|key| match (key, row.get(key)) {
                // Elsewhere the number of the stack says it, and frames are not told in every row.
                ("frames", _) if view != "diff" => String::new(),
                (_, value) => value.map(Value::to_string).unwrap_or_default(),
            });
            let about = format!("{domain} {}", about.join(" "));
            for (name, value) in &row {
                let is_figure = name.ends_with("bytes") || name.ends_with("count");
                if !is_figure || KEYS.contains(&name.as_str()) {
                    continue;
                }
                let end = |end: &str| row.get(&format!("{name}{end}")).and_then(Value::as_f64);
                let figure = value.as_f64().expect("a number");
                let known = figures.insert(
                    (view, about.clone(), name.clone()),
                    (figure, end("_low").zip(end("_high"))),
                );
                assert!(known.is_none(), "two rows {view} {about}");
            }
        }
    }
    figures
}

/// How the estimates of a figure did.
#[derive(Default)]
struct Record {
    missed: u32,
    sum: f64,
    squares: f64,
    /// In how many runs there was a row.
    seen: u32,
}

/// The blocks that the probes would have recorded.
fn draw<'a>(lives: &'a [Life], sampling: Sampling, random: &mut Random) -> Vec<&'a Life> {
    let weights = Weights::new(sampling);
    let chance = |life: &&Life| random.next() % CERTAIN < weights.threshold(life.size);
    lives.iter().filter(chance).collect()
}

fn check(sampling: Sampling, seed: u64) {
    let directory = sample::directory(&format!("sampled_views_{seed}"));
    let (whole, part) = (
        directory.join("whole.parquet"),
        directory.join("sample.parquet"),
    );
    let lives = program(matches!(sampling, Sampling::Bytes(_)));
    record(&whole, None, lives.iter());
    let truth = figures(&whole);
    assert!(
        truth.values().all(|(_, interval)| interval.is_none()),
        "nothing to estimate"
    );
    let mut random = Random(seed);
    let mut records: BTreeMap<&Key, Record> =
        truth.keys().map(|key| (key, Record::default())).collect();
    for _ in 0..RUNS {
        record(
            &part,
            Some(sampling),
            draw(&lives, sampling, &mut random).into_iter(),
        );
        let found = figures(&part);
        for (key, (truth, _)) in &truth {
            let Some(record) = records.get_mut(key) else {
                continue;
            };
            let estimate = found.get(key).map_or(0.0, |(estimate, _)| *estimate);
            record.sum += estimate - truth;
            record.squares += (estimate - truth).powi(2);
            if let Some((_, interval)) = found.get(key) {
                let (low, high) = interval.expect("an interval");
                record.missed += u32::from(*truth < low || *truth > high);
                record.seen += 1;
            }
        }
        for key in found.keys() {
            assert!(truth.contains_key(key), "{key:?} is not in the whole");
        }
    }
    judge(&records);
}

/// The interval of the heap's peak.
fn peak(path: &Path) -> (u64, u64) {
    let analysis = analyze(&Series::one(path).expect("a trace"), Moment::End).expect("an analysis");
    match analysis.replay.estimates() {
        Some(estimates) => {
            let range = estimates.sampled().bytes(estimates.heap().sizes);
            let now = &estimates.heap().outstanding.bytes;
            peak_interval(estimates.peak(), now, &range)
        }
        None => {
            let heap = analysis
                .replay
                .account(memleak_trace::Domain::Heap)
                .expect("a heap");
            (heap.peak_bytes, heap.peak_bytes)
        }
    }
}

/// At most so many intervals of `runs` may miss: five standard deviations more than promised.
fn most(runs: u32) -> f64 {
    let usual = f64::from(runs) * (1.0 - CONFIDENCE);
    usual + 5.0 * usual.sqrt()
}

/// Panics unless the estimates are right on average, and the intervals hold often enough, each and all.
fn judge(records: &BTreeMap<&Key, Record>) {
    let runs = f64::from(RUNS);
    let (mut missed, mut seen) = (0, 0);
    for (key, record) in records {
        let mean = record.sum / runs;
        let deviation = (record.squares / runs / runs).sqrt();
        assert!(
            CONDITIONAL.contains(&(key.0, &key.2)) || mean.abs() <= 5.0 * deviation + 0.5,
            "{key:?}: off by {mean} on average, {deviation} would be usual"
        );
        let failed = f64::from(record.missed) > most(RUNS);
        assert!(
            !failed,
            "{key:?}: {} of {RUNS} intervals miss",
            record.missed
        );
        missed += record.missed;
        seen += record.seen;
    }
    // Many figures of one sample are made of the same blocks, so that no tighter bound can be held.
    let promised = f64::from(seen) * (1.0 - CONFIDENCE);
    assert!(
        f64::from(missed) <= promised,
        "{missed} of {seen} intervals miss"
    );
}

/// A block per so many bytes, by chance.
#[test]
fn by_bytes() {
    check(Sampling::Bytes(4096), 1);
}

/// One block in ten.
#[test]
fn one_in_ten() {
    check(Sampling::OneIn(10), 2);
}

/// The peak of a heap in which blocks come and go, that of one that grows, and that of one that has shrunk:
/// wherever the sample has its highest moment, the true peak lies in the interval.
#[test]
fn peaks() {
    let block = |born, lifetime: Option<i64>| Life {
        stack: 0,
        size: 1000,
        born,
        died: lifetime.map(|lifetime| born + lifetime),
    };
    let moments = || (0..2000).map(|index| index * (S / 250));
    let programs = [
        moments()
            .map(|born| block(born, Some(S / 5)))
            .collect::<Vec<_>>(),
        moments().map(|born| block(born, None)).collect(),
        moments()
            .map(|born| block(born, Some(9 * S - born)))
            .collect(),
    ];
    let directory = sample::directory("sampled_peaks");
    let path = directory.join("trace.parquet");
    let mut random = Random(3);
    for (index, lives) in programs.iter().enumerate() {
        record(&path, None, lives.iter());
        let (truth, _) = peak(&path);
        for sampling in [Sampling::Bytes(4096), Sampling::OneIn(10)] {
            let mut missed = 0;
            for _ in 0..RUNS {
                record(
                    &path,
                    Some(sampling),
                    draw(lives, sampling, &mut random).into_iter(),
                );
                let (low, high) = peak(&path);
                missed += u32::from(truth < low || truth > high);
            }
            let failed = f64::from(missed) > most(RUNS);
            assert!(
                !failed,
                "{sampling:?}, program {index}: {missed} of {RUNS} miss"
            );
        }
    }
}
