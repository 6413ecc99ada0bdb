//! A verdict per stack, from its timeline alone.
//!
//! The rule, over the time from the stack's first allocation to the moment of the report:
//!
//! 1. *churn*: nothing is outstanding, or everything was freed at least once in the last half.
//! 2. *static*: in the last half nothing was allocated or freed.
//! 3. *growing*: the least that was held rises from the second quarter to the third and on to the
//!    fourth, by a tenth or more in all.
//! 4. *plateau*: the rest; it comes and goes, and the floor does not rise.
//!
//! Time is seen in buckets of the timeline, so what happens within one bucket is not seen. A stack
//! that is younger than eight points in time of its own has no verdict.

use serde::Serialize;

use crate::replay::Point;

/// How a stack's outstanding bytes behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Growing,
    Plateau,
    Churn,
    Static,
}

impl Verdict {
    /// The name used in reports.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Growing => "growing",
            Verdict::Plateau => "plateau",
            Verdict::Churn => "churn",
            Verdict::Static => "static",
        }
    }
}

/// The verdict on a timeline (points where something changed, and the end), where `bucket` is the
/// shortest time between two points, in nanoseconds. `None` if too little time was seen.
pub fn verdict(points: &[Point], bucket: i64) -> Option<Verdict> {
    let (first, last) = (points.first()?, points.last()?);
    let span = last.at - first.at;
    if last.bytes == 0 {
        return Some(Verdict::Churn);
    }
    if span < 8 * bucket {
        return None;
    }
    let quarter = |index: i64| first.at + span * index / 4;
    let floor = |from: i64, to: i64| floor(points, from, to);
    let half = quarter(2);
    if floor(half, last.at) == 0 {
        return Some(Verdict::Churn);
    }
    // The end is a point of its own, whether something changed or not.
    let changed = points
        .iter()
        .any(|point| point.at > half && point.at < last.at);
    let before_end = points
        .len()
        .checked_sub(2)
        .and_then(|index| points.get(index));
    if !changed && before_end.is_none_or(|before| before.bytes == last.bytes) {
        return Some(Verdict::Static);
    }
    let (second, third) = (floor(quarter(1), half), floor(half, quarter(3)));
    let fourth = floor(quarter(3), last.at);
    let rises = second < third && third < fourth && (fourth - second) * 10 >= fourth;
    Some(if rises {
        Verdict::Growing
    } else {
        Verdict::Plateau
    })
}

/// The least that was held in `[from, to]`.
fn floor(points: &[Point], from: i64, to: i64) -> u64 {
    let at_begin = points.iter().take_while(|point| point.at <= from).last();
    let inside = points
        .iter()
        .filter(|point| point.at > from && point.at <= to);
    at_begin
        .into_iter()
        .chain(inside)
        .map(|point| point.bytes)
        .min()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(held: &[(i64, u64)]) -> Vec<Point> {
        held.iter()
            .map(|(at, bytes)| Point {
                at: *at,
                bytes: *bytes,
                count: *bytes,
            })
            .collect()
    }

    /// One timeline per behaviour.
    #[test]
    fn verdicts() {
        let line = |f: fn(i64) -> u64| points(&(1..=32).map(|at| (at, f(at))).collect::<Vec<_>>());
        let cases: &[(&str, Vec<Point>, Option<Verdict>)] = &[
            (
                "a leak by the clock",
                line(|at| at as u64 * 10),
                Some(Verdict::Growing),
            ),
            (
                "a leak under churn",
                line(|at| (at + at % 3) as u64 * 10),
                Some(Verdict::Growing),
            ),
            (
                "a cache that is full",
                line(|at| at.min(8) as u64 * 10 + at as u64 % 2),
                Some(Verdict::Plateau),
            ),
            (
                "comes and goes",
                line(|at| at as u64 % 4),
                Some(Verdict::Churn),
            ),
            ("all freed", points(&[(1, 5), (2, 0)]), Some(Verdict::Churn)),
            (
                "made at the start",
                points(&[(1, 5), (3, 9), (32, 9)]),
                Some(Verdict::Static),
            ),
            (
                "made once",
                points(&[(1, 5), (32, 5)]),
                Some(Verdict::Static),
            ),
            ("made in the last moment", points(&[(30, 5), (32, 5)]), None),
            ("never", points(&[]), None),
        ];
        for (name, points, expected) in cases {
            assert_eq!(verdict(points, 1), *expected, "{name}");
        }
    }
}
