//! A verdict per stack, with the evidence it rests on. `docs/verdicts.md` describes the method, its
//! formulas and where they come from; the names of constants are the names used there.
//!
//! - [`activity`]: until when a process was busy
//! - [`trend`]: the course of what was held, robust slopes; [`steps`]: growth that a slope does not see
//! - [`survival`]: live allocations beside their freed siblings

mod activity;
mod evidence;
mod rules;
mod steps;
mod survival;
#[cfg(test)]
mod tests;
mod trend;

use serde::Serialize;

use crate::replay::{Point, Replay};

pub use evidence::{Evidence, Reason};
pub use trend::slope;

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

/// A verdict, or none where too little was seen, and why.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judgement {
    pub verdict: Option<Verdict>,
    pub evidence: Evidence,
}

/// Judges some sites at the moment `at` (nanoseconds of the trace's clock), in their order.
pub fn judge(replay: &Replay, at: i64, sites: &[u32]) -> Vec<Judgement> {
    let all = replay.sites();
    let busy = activity::busy_until(all, at);
    let timelines = sites.iter().map(|site| {
        let pid = all.as_slice()[*site as usize].pid;
        without_idle_end(all.points(*site), busy.get(&pid).copied())
    });
    let timelines: Vec<_> = timelines.collect();
    let firsts = sites.iter().zip(&timelines);
    let firsts: Vec<(u32, i64)> = firsts
        .map(|(site, points)| (*site, points.first().map_or(at, |point| point.at)))
        .collect();
    let live = survival::live(replay, at, &firsts);
    let judged = sites.iter().zip(&timelines).zip(live);
    let judged = judged.map(|((site, points), live)| {
        let seen = rules::Seen {
            points,
            bucket: all.bucket_ns(),
            lifetimes: all.lifetimes(*site).bins(),
            live,
        };
        rules::judge(&seen)
    });
    judged.collect()
}

/// A timeline that ends when its process was busy last, unless the site itself changed after that.
fn without_idle_end(mut points: Vec<Point>, busy_until: Option<i64>) -> Vec<Point> {
    if let (Some(end), [.., before, last]) = (busy_until, points.as_mut_slice()) {
        let unchanged = (before.bytes, before.count) == (last.bytes, last.count);
        if unchanged && before.at <= end && end < last.at {
            last.at = end;
        }
    }
    points
}
