//! The rules, in the order of [`Reason`]: the first that fits decides.

use super::evidence::{Evidence, Reason};
use super::steps::{quarters_rise, rises_in_steps};
use super::survival::{Live, Survival};
use super::trend::{Course, Slope, maximum, median, minimum, slope};
use super::{Judgement, Verdict};
use crate::replay::{LIFETIME_BINS, Point};

/// Buckets of the timeline that a verdict needs.
const SHORTEST: i64 = 8;
/// What is unchanged for so large a share of its span is not in use any more.
const UNCHANGED: f64 = 0.5;
/// What was allocated within this share of its span was allocated at once.
const AT_ONCE: f64 = 0.15;
/// A fall to this share of what was held before is a fall to nothing.
const NOTHING: f64 = 0.15;
/// A gain below this share of the level is none.
const SMALL_GAIN: f64 = 0.05;
/// Share of the span that counts as late, where a level may begin to rise.
const LATE: f64 = 0.3;
/// What the last quarter gains, as a share of the second, if growth stopped.
const STOPPED: f64 = 0.1;
/// Growth that slows by this factor from quarter to quarter, and will add less than this share of
/// the level in all, approaches a ceiling.
const SLOWING: f64 = 0.75;
const LEFT_TO_GROW: f64 = 0.35;
/// Share of what is left of an earlier quarter that the last one leaves, if growth slows.
const FEWER: f64 = 0.6;
/// What is freed within this share of the span is young, and an allocation that is larger by this
/// factor on average is larger.
const YOUNG: f64 = 0.1;
const LARGER: f64 = 1.25;
/// Survivors needed, and how many there must be for each freed allocation that was as old.
const SURVIVORS: u64 = 8;
const SURVIVORS_PER_FREED: u64 = 4;
/// An allocation lives shortly if it is freed within this share of the span.
const SOON: f64 = 0.001;

/// What was seen of a site.
pub struct Seen<'a> {
    /// Its timeline, and the least distance of two points in nanoseconds.
    pub points: &'a [Point],
    pub bucket: i64,
    /// Freed allocations by lifetime.
    pub lifetimes: [u64; LIFETIME_BINS],
    pub live: Live,
}

/// The verdict on a site.
pub fn judge(seen: &Seen) -> Judgement {
    let mut evidence = Evidence::default();
    let survival = Survival::new(&seen.lifetimes, &seen.live);
    describe_survival(&mut evidence, survival.as_ref());
    let reason = reason(seen, survival.as_ref(), &mut evidence);
    evidence.reason = reason;
    let verdict = match reason {
        Reason::TooShort => None,
        Reason::AllFreed | Reason::FallsToZero | Reason::FreedSoon => Some(Verdict::Churn),
        Reason::UnchangedSinceStart => Some(Verdict::Static),
        Reason::StoppedChanging | Reason::StoppedRising | Reason::Slows | Reason::Level => {
            Some(Verdict::Plateau)
        }
        Reason::Rises
        | Reason::BeganToRise
        | Reason::SurvivorsAccumulate
        | Reason::RisesInSteps
        | Reason::QuartersRise => Some(Verdict::Growing),
    };
    Judgement { verdict, evidence }
}

fn reason(seen: &Seen, survival: Option<&Survival>, evidence: &mut Evidence) -> Reason {
    let (Some(first), Some(last)) = (seen.points.first(), seen.points.last()) else {
        return Reason::TooShort;
    };
    let span = (last.at - first.at) as f64;
    let changed = last_change(seen.points);
    evidence.span_ns = (last.at - first.at).unsigned_abs();
    evidence.unchanged_ns = (last.at - changed).unsigned_abs();
    if last.bytes == 0 {
        return Reason::AllFreed;
    }
    let Some(course) = Course::new(seen.points, seen.bucket, SHORTEST) else {
        return Reason::TooShort;
    };
    if evidence.unchanged_ns as f64 >= UNCHANGED * span {
        // A timeline sees its first allocation at the end of a bucket, hence the bucket of grace.
        let at_once = (AT_ONCE * span).max(seen.bucket as f64);
        return match ((changed - first.at) as f64) <= at_once {
            true => Reason::UnchangedSinceStart,
            false => Reason::StoppedChanging,
        };
    }
    let trend = Trend::new(&course);
    describe_trend(evidence, &course, &trend);
    evidence.born_bytes = Some(seen.live.birth_quarters(span, 0.0));
    let accumulate = survival.is_some_and(|survival| survivors_accumulate(seen, survival, span));
    let turned_over = survival.is_some_and(|survival| turned_over(seen, survival, span));
    let rises = (trend.rises(&course) && !turned_over)
        .then(|| trend.ends(&course, seen, span).unwrap_or(Reason::Rises));
    if begins_to_rise(&course) && !turned_over {
        let steadily = rises.filter(|reason| *reason == Reason::Rises);
        steadily.unwrap_or(Reason::BeganToRise)
    } else if falls_to_nothing(&course) {
        Reason::FallsToZero
    } else if rises == Some(Reason::Rises) {
        Reason::Rises
    } else if accumulate {
        Reason::SurvivorsAccumulate
    } else if rises_in_steps(&course) {
        Reason::RisesInSteps
    } else if quarters_rise(&course) && !turned_over {
        Reason::QuartersRise
    } else if let Some(ended) = rises {
        ended
    } else if survival.is_some_and(|survival| freed_soon(seen, survival, span)) {
        Reason::FreedSoon
    } else {
        Reason::Level
    }
}

/// When the site last changed. The end is a point of its own, whether something changed or not.
fn last_change(points: &[Point]) -> i64 {
    let [.., before, last] = points else {
        return points.first().map_or(0, |point| point.at);
    };
    if before.bytes == last.bytes && before.count == last.count {
        before.at
    } else {
        last.at
    }
}

/// Slope, floors and gains of a course.
struct Trend {
    /// Over the last three quarters: the first is warming up.
    line: Slope,
    floors: [f64; 4],
    gains: [f64; 3],
    /// The median of the last half.
    level: f64,
}

impl Trend {
    fn new(course: &Course) -> Trend {
        Trend {
            line: slope(course.tail(0.75)),
            floors: course.floors(),
            gains: course.gains(),
            level: median(course.tail(0.5).to_vec()),
        }
    }

    /// The slope is above zero and the floors agree, or the floors rise by more than noise can.
    fn rises(&self, course: &Course) -> bool {
        let steps = course.held.len() as f64 * 0.75;
        let gain = self.line.slope * steps;
        let [_, second, third, fourth] = self.floors;
        let rise = fourth - second;
        let by_line = self.line.low > 0.0
            && gain >= SMALL_GAIN * self.level
            // Half of the span lies between the two quarters.
            && rise >= 0.3 * gain * (2.0 / 3.0);
        let by_floors = second < third
            && third < fourth
            && rise >= 2.0 * SMALL_GAIN * fourth
            && rise >= 3.0 * self.line.noise;
        by_line || by_floors
    }

    /// Why a level that rose will not go on: it stopped, or it approaches a ceiling.
    fn ends(&self, course: &Course, seen: &Seen, span: f64) -> Option<Reason> {
        let [second, third, last] = self.gains;
        if last <= STOPPED * second.max(third) {
            return (!is_between_steps(course)).then_some(Reason::StoppedRising);
        }
        // The fastest quarter lies two quarters back, or one.
        let slowing = match third < second {
            true => (last / second).sqrt(),
            false => last / third,
        };
        // A geometric series: each further quarter adds so much less.
        let left = last * slowing / (1.0 - slowing);
        let ends = slowing <= SLOWING
            && left <= LEFT_TO_GROW * self.level
            && second.max(third) - last > 2.0 * self.line.noise
            && fewer_are_born(seen, span)
            && !is_between_steps(course);
        ends.then_some(Reason::Slows)
    }
}

/// Whether less is left of the last quarter than of an earlier one, or nothing of the first: a level
/// that slows down by chance, in churn, goes on to leave something of each quarter.
fn fewer_are_born(seen: &Seen, span: f64) -> bool {
    let [first, second, third, last] = seen.live.birth_quarters(span, 0.0);
    first == 0 || last as f64 <= FEWER * first.max(second).max(third) as f64
}

/// Whether all that lives is young and will be freed soon, by what became of its siblings: such a level
/// follows the load. Where it rises because allocations become larger (buffers that are reallocated),
/// it does not.
fn turned_over(seen: &Seen, survival: &Survival, span: f64) -> bool {
    let [first, second, third, _] = seen.live.birth_quarters(span, 0.0);
    let mean = |point: &Point| point.bytes as f64 / point.count.max(1) as f64;
    let sizes = seen
        .points
        .get(seen.points.len() / 2)
        .zip(seen.points.last());
    let larger = sizes.is_some_and(|(middle, last)| mean(last) > LARGER * mean(middle));
    (first, second, third) == (0, 0, 0) && survival.lifetime_p99 as f64 <= YOUNG * span && !larger
}

/// Whether a level that stands still does so for no longer than it did before between two steps up.
fn is_between_steps(course: &Course) -> bool {
    let retained = course.retained();
    let (first, end) = (retained[0], minimum(course.tail(0.1)));
    let gain = end - first;
    let mut longest: usize = 0;
    let mut previous: Option<usize> = None;
    for (at, pair) in retained.windows(2).enumerate() {
        if pair[1] - pair[0] > SMALL_GAIN * gain && pair[0] < end {
            longest = longest.max(previous.map_or(0, |before| at - before));
            previous = Some(at);
        }
    }
    let standing = previous.map_or(usize::MAX, |last| retained.len() - 2 - last);
    longest > 0 && standing as f64 <= 1.5 * longest as f64
}

/// Whether nearly all is freed again and again: in the last quarter, or at least twice before, and
/// since the last time no more than one and a half times the longest pause before has passed.
fn falls_to_nothing(course: &Course) -> bool {
    let mut highest: f64 = 0.0;
    let mut falls = Vec::new();
    for (at, held) in course.held.iter().enumerate() {
        if *held <= NOTHING * highest {
            falls.push(at);
            highest = *held;
        }
        highest = highest.max(*held);
    }
    if minimum(course.tail(0.25)) <= NOTHING * maximum(course.tail(0.5)) {
        return !falls.is_empty();
    }
    let longest = falls.windows(2).map(|pair| pair[1] - pair[0]).max();
    match (falls.last(), longest) {
        (Some(last), Some(longest)) => {
            let since = course.held.len() - 1 - last;
            since as f64 <= 1.5 * longest as f64
        }
        _ => false,
    }
}

/// Whether the last part rises steadily above everything that was before.
fn begins_to_rise(course: &Course) -> bool {
    let late = course.tail(LATE);
    let before = &course.held[..course.held.len() - late.len()];
    if late.len() < SHORTEST as usize || before.is_empty() {
        return false;
    }
    let line = slope(late);
    let gain = line.slope * late.len() as f64;
    line.low > 0.0
        && gain >= 2.0 * SMALL_GAIN * late[late.len() - 1]
        && minimum(course.tail(LATE / 2.0)) > maximum(before)
}

/// Whether allocations born at all times are live that are older than freed ones ever get.
fn survivors_accumulate(seen: &Seen, survival: &Survival, span: f64) -> bool {
    let age = survival.survivor_age as f64;
    if age > UNCHANGED * span || survival.survivors < SURVIVORS {
        return false;
    }
    let born = seen.live.birth_quarters(span, age);
    let mean = born.iter().sum::<u64>() as f64 / 4.0;
    survival.survivors >= SURVIVORS_PER_FREED * (survival.freed_as_old + 1)
        && born.iter().all(|bytes| *bytes as f64 >= mean / 4.0)
}

fn freed_soon(seen: &Seen, survival: &Survival, span: f64) -> bool {
    (survival.lifetime_p99 as f64) < SOON * span && (seen.live.oldest as f64) < 10.0 * SOON * span
}

fn describe_trend(evidence: &mut Evidence, course: &Course, trend: &Trend) {
    let per_second = |per_step: f64| per_step / course.step * 1e9;
    evidence.slope_bytes_per_second = Some(per_second(trend.line.slope));
    evidence.slope_low = Some(per_second(trend.line.low));
    evidence.slope_high = Some(per_second(trend.line.high));
    evidence.noise_bytes = Some(trend.line.noise);
    evidence.floor_bytes = Some(trend.floors.map(|floor| floor as u64));
    evidence.gain_bytes = Some(trend.gains);
}

fn describe_survival(evidence: &mut Evidence, survival: Option<&Survival>) {
    let Some(survival) = survival else {
        return;
    };
    evidence.freed = survival.freed;
    evidence.lifetime_p50_ns = Some(survival.lifetime_p50.unsigned_abs());
    evidence.lifetime_p99_ns = Some(survival.lifetime_p99.unsigned_abs());
    evidence.older_than_p99 = Some(survival.older);
    evidence.survivors = Some(survival.survivors);
    evidence.freed_as_old = Some(survival.freed_as_old);
    evidence.never_freed_share = Some(survival.never_freed);
}
