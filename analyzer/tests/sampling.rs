//! Samples of streams whose truth is known: estimates are right on average, and intervals hold as
//! often as they say. Each run draws anew; the generator's seeds are fixed.

#[allow(dead_code, reason = "the other tests need more of it")]
mod sample;

use memleak_analyze::estimate::{CONFIDENCE, Interval, Sampled};
use memleak_analyze::replay::Replay;
use memleak_trace::selection::{CERTAIN, Sampling, Weights};
use memleak_trace::{Event, Op, SpaceId, StackId};
use sample::random::Random;

const RUNS: u32 = 3000;

/// What a program does at one place: blocks of these sizes, of which every `kept`-th stays.
struct Place {
    name: &'static str,
    sizes: Vec<u64>,
    kept: usize,
}

fn place(name: &'static str, sizes: impl Iterator<Item = u64>, kept: usize) -> Place {
    Place {
        name,
        sizes: sizes.collect(),
        kept,
    }
}

/// Bytes and count.
type Figures = (u64, u64);

fn sum<'a>(sizes: impl Iterator<Item = &'a u64>) -> Figures {
    sizes.fold((0, 0), |(bytes, count), size| (bytes + size, count + 1))
}

impl Place {
    /// What is outstanding at the end, and what was allocated in all.
    fn truth(&self) -> (Figures, Figures) {
        (
            sum(self.sizes.iter().step_by(self.kept)),
            sum(self.sizes.iter()),
        )
    }
}

fn event(op: Op, addr: u64, size: u64, stack: Option<i32>) -> Event {
    Event {
        ts: 0,
        pid: 1,
        tid: 1,
        op,
        space: SpaceId(1),
        addr,
        size,
        stack: stack.map(StackId),
    }
}

/// Replays what the probes would have recorded of all places.
fn record(places: &[Place], sampling: Sampling, random: &mut Random) -> Replay {
    let weights = Weights::new(sampling);
    let mut replay = Replay::default();
    replay.set_sampling(Some(sampling));
    let mut addr = 0;
    for (stack, place) in (0..).zip(places) {
        for (index, size) in place.sizes.iter().enumerate() {
            addr += 16;
            if random.next() % CERTAIN >= weights.threshold(*size) {
                continue;
            }
            replay.event(&event(Op::Malloc, addr, *size, Some(stack)));
            if index % place.kept != 0 {
                replay.event(&event(Op::Free, addr, 0, None));
            }
        }
    }
    replay
}

/// How the estimates of one figure did over all runs.
#[derive(Default)]
struct Record {
    missed: u32,
    sum: f64,
    squares: f64,
}

impl Record {
    fn add(&mut self, truth: u64, estimate: f64, (low, high): Interval) {
        self.missed += u32::from(truth < low || truth > high);
        let error = estimate - truth as f64;
        self.sum += error;
        self.squares += error * error;
    }

    /// Panics unless the estimates are right on average, and the intervals hold often enough.
    fn judge(&self, what: &str) {
        let runs = f64::from(RUNS);
        let mean = self.sum / runs;
        let deviation = (self.squares / runs / runs).sqrt();
        assert!(
            mean.abs() <= 5.0 * deviation + 0.5,
            "{what}: off by {mean} on average, {deviation} would be usual"
        );
        // Five standard deviations more than promised.
        let usual = runs * (1.0 - CONFIDENCE);
        let most = usual + 5.0 * usual.sqrt();
        assert!(
            f64::from(self.missed) <= most,
            "{what}: {} of {RUNS} intervals miss the truth",
            self.missed
        );
    }
}

fn check(sampling: Sampling, places: &[Place], seed: u64) {
    let mut random = Random(seed);
    let mut records: Vec<[Record; 4]> = Vec::new();
    records.resize_with(places.len(), Default::default);
    let sampled = Sampled::new(sampling);
    for _ in 0..RUNS {
        let replay = record(places, sampling, &mut random);
        let estimates = replay.estimates().expect("a sample");
        for (index, place) in places.iter().enumerate() {
            let sites = replay.sites().as_slice();
            let site = sites
                .iter()
                .position(|site| site.stack == Some(StackId(index as i32)));
            // A place of which nothing was recorded has no figures: none are wrong.
            let estimated = site.map_or_else(Default::default, |site| estimates.site(site as u32));
            let bytes = sampled.bytes(estimated.sizes);
            let count = sampled.count(estimates.heap().sizes);
            let (outstanding, total) = place.truth();
            let figures = [
                (outstanding.0, estimated.outstanding.bytes, bytes),
                (outstanding.1, estimated.outstanding.count, count),
                (total.0, estimated.total.bytes, bytes),
                (total.1, estimated.total.count, count),
            ];
            for (record, (truth, sum, range)) in records[index].iter_mut().zip(figures) {
                let interval = match site {
                    Some(_) => sum.interval(&range),
                    None => (0, u64::MAX),
                };
                record.add(truth, sum.estimate(), interval);
            }
        }
    }
    let names = ["bytes", "count", "total bytes", "total count"];
    for (place, records) in places.iter().zip(&records) {
        for (name, record) in names.iter().zip(records) {
            record.judge(&format!("{sampling:?}, {}, {name}", place.name));
        }
    }
}

/// Places of all kinds: sizes below, about and above the distance of points, few blocks and many.
fn places(of_one_size_each: bool) -> Vec<Place> {
    let mut places = vec![
        place("many small", (0..400).map(|_| 64), 4),
        place("few small", (0..3).map(|_| 64), 1),
        place("one about the distance", (0..1).map(|_| 5000), 1),
        place("some about the distance", (0..40).map(|_| 4000), 3),
        place("many about the distance", (0..300).map(|_| 4000), 3),
        place("some large", (0..12).map(|_| 20_000), 2),
        place("a range of sizes", (0..300).map(|index| 1000 + index), 2),
    ];
    if !of_one_size_each {
        let mixed = |index: u64| if index.is_multiple_of(3) { 6000 } else { 48 };
        places.push(place("small and large", (0..200).map(mixed), 5));
        // Smaller blocks than these are recorded in each run.
        places.push(place("the smallest", (0..3000).map(|_| 48), 7));
    }
    places
}

/// By bytes: every place, also where one stack has blocks of very different sizes.
#[test]
fn by_bytes() {
    check(Sampling::Bytes(4096), &places(false), 1);
}

/// One in so many: a stack whose blocks are of about one size.
#[test]
fn one_in_two() {
    check(Sampling::OneIn(2), &places(true), 2);
}

#[test]
fn one_in_twenty() {
    check(Sampling::OneIn(20), &places(true), 3);
}

/// What is freed leaves nothing behind, and what is certain has no interval.
#[test]
fn certain_blocks_are_exact() {
    let mut replay = Replay::default();
    replay.set_sampling(Some(Sampling::Bytes(10)));
    for addr in 1..=3 {
        replay.event(&event(Op::Malloc, addr * 4096, 1000 + addr, Some(0)));
    }
    replay.event(&event(Op::Free, 4096, 0, None));
    let heap = *replay.estimates().expect("a sample").heap();
    assert_eq!(heap.outstanding.bytes.estimate(), 2005.0);
    assert_eq!(heap.total.count.estimate(), 3.0);
    assert_eq!(heap.total.bytes.variance, 0.0);
    let account = replay.account(memleak_trace::Domain::Heap).expect("heap");
    assert_eq!((account.bytes, account.total_bytes), (2005, 3006));
    assert_eq!(account.freed_bytes, 1001);
    for addr in 2..=3 {
        replay.event(&event(Op::Free, addr * 4096, 0, None));
    }
    let heap = *replay.estimates().expect("a sample").heap();
    assert_eq!(heap.outstanding, Default::default());
}
