//! `--fail-on`: conditions that a pipeline must not meet, over the stacks of a report that are not
//! suppressed, per domain.
//!
//! - `outstanding>10MiB`: bytes outstanding at the moment of the report
//! - `count>1000`: allocations outstanding
//! - `growth>1MiB/min`: how fast the outstanding bytes of the second half of the recording grow, as the
//!   Theil–Sen estimate (the median of the slopes between all pairs of 33 moments), so that neither
//!   what is allocated at the start nor a spike counts as growth

mod suppressions;

use std::collections::BTreeMap;

use memleak_trace::quantity::{parse_duration, parse_size};

use crate::report::{Report, StackReport, TimelinePoint};
use crate::units::{show_count, show_duration, show_size};
use crate::verdict::slope;

pub use suppressions::Suppressions;

/// Growth is not judged on less.
const MIN_DURATION_NS: u64 = 1_000_000_000;
/// Intervals of the half in which growth is looked for.
const INTERVALS: u64 = 32;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Figure {
    Outstanding,
    Count,
    /// Within so many nanoseconds.
    Growth {
        per: u64,
    },
}

/// A condition that trips the gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    figure: Figure,
    /// Bytes or allocations; more than that trips.
    limit: u64,
    text: String,
}

/// The gate is tripped: the sentences that say by what.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct Tripped(pub Vec<String>);

/// Growth cannot be judged.
#[derive(Debug, thiserror::Error)]
#[error(
    "--fail-on {condition}: the recording lasted only {duration}, which is too short to judge growth; record for longer"
)]
pub struct TooShort {
    condition: String,
    duration: String,
}

impl std::str::FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            "expected outstanding>SIZE, count>NUMBER or growth>SIZE/TIME, such as outstanding>10MiB or growth>1MiB/min"
                .to_owned()
        };
        let (figure, limit) = text.split_once('>').ok_or_else(wrong)?;
        let limit = limit.trim();
        let (figure, limit) = match figure.trim() {
            "outstanding" => (
                Figure::Outstanding,
                parse_size(limit).map_err(|error| error.to_string())?,
            ),
            "count" => (Figure::Count, limit.parse().map_err(|_| wrong())?),
            "growth" => {
                let (size, unit) = limit.split_once('/').ok_or_else(wrong)?;
                let unit = unit.trim();
                // `min` as well as `5min`.
                let time = parse_duration(unit).or_else(|_| parse_duration(&format!("1{unit}")));
                let per = time.map_err(|_| wrong())?.as_nanos();
                let per = u64::try_from(per)
                    .ok()
                    .filter(|per| *per > 0)
                    .ok_or_else(wrong)?;
                (
                    Figure::Growth { per },
                    parse_size(size).map_err(|error| error.to_string())?,
                )
            }
            _ => return Err(wrong()),
        };
        Ok(Condition {
            figure,
            limit,
            text: text.to_owned(),
        })
    }
}

/// Checks a report that has all its stacks: a sentence for each condition that is met.
pub fn check(report: &Report, conditions: &[Condition]) -> Result<Vec<String>, TooShort> {
    let mut domains: BTreeMap<&str, Vec<&StackReport>> = BTreeMap::new();
    for stack in report
        .stacks
        .iter()
        .filter(|stack| stack.suppressed.is_none())
    {
        domains.entry(stack.domain).or_default().push(stack);
    }
    let mut tripped = Vec::new();
    for condition in conditions {
        let is_growth = matches!(condition.figure, Figure::Growth { .. });
        if is_growth && report.at_ns < MIN_DURATION_NS {
            let (condition, duration) = (condition.text.clone(), show_duration(report.at_ns));
            return Err(TooShort {
                condition,
                duration,
            });
        }
        for (domain, stacks) in &domains {
            tripped.extend(condition.sentence(domain, stacks, report.at_ns));
        }
    }
    Ok(tripped)
}

impl Condition {
    /// What trips the gate in a domain, if anything does.
    fn sentence(&self, domain: &str, stacks: &[&StackReport], at_ns: u64) -> Option<String> {
        let sum = |of: fn(&StackReport) -> u64| stacks.iter().map(|stack| of(stack)).sum::<u64>();
        let (found, limit) = match self.figure {
            Figure::Outstanding => {
                let bytes = sum(|stack| stack.bytes);
                let found = format!("{} bytes are outstanding", show_count(bytes));
                (bytes > self.limit).then_some((found, show_size(self.limit)))?
            }
            Figure::Count => {
                let count = sum(|stack| stack.count);
                let found = format!("{} allocations are outstanding", show_count(count));
                (count > self.limit).then_some((found, show_count(self.limit)))?
            }
            Figure::Growth { per } => {
                let growth = growth(stacks, at_ns) * per as f64;
                let (found, limit) = (show_size(growth.max(0.0) as u64), show_size(self.limit));
                let time = show_duration(per);
                let found = format!("outstanding bytes grow by {found} in {time}");
                (growth > self.limit as f64).then_some((found, limit))?
            }
        };
        Some(format!(
            "--fail-on {}: {domain}: {found}, which is more than {limit}",
            self.text
        ))
    }
}

/// Bytes per nanosecond in the second half.
fn growth(stacks: &[&StackReport], at_ns: u64) -> f64 {
    let half = at_ns / 2;
    let moments = (0..=INTERVALS).map(|index| half + (at_ns - half) * index / INTERVALS);
    let held = moments.map(|at| {
        let stacks = stacks.iter();
        let bytes: u64 = stacks.map(|stack| held_at(&stack.timeline, at)).sum();
        bytes as f64
    });
    let interval = (at_ns - half) as f64 / INTERVALS as f64;
    slope(&held.collect::<Vec<_>>()).slope / interval
}

/// What a stack held at a moment: as its last point before says.
fn held_at(points: &[TimelinePoint], at: u64) -> u64 {
    let before = points.iter().take_while(|point| point.at_ns <= at);
    before.last().map_or(0, |point| point.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every form of a condition, and what is none.
    #[test]
    fn conditions() {
        let cases = [
            ("outstanding>10MiB", Some((Figure::Outstanding, 10 << 20))),
            ("count > 1000", Some((Figure::Count, 1000))),
            (
                "growth>1MiB/min",
                Some((
                    Figure::Growth {
                        per: 60_000_000_000,
                    },
                    1 << 20,
                )),
            ),
            (
                "growth>0/5s",
                Some((Figure::Growth { per: 5_000_000_000 }, 0)),
            ),
            ("growth>1MiB", None),
            ("growth>1MiB/0s", None),
            ("growth>1MiB/soon", None),
            ("outstanding<5", None),
            ("leaks>5", None),
            ("count>many", None),
            ("", None),
        ];
        for (text, expected) in cases {
            let parsed = text.parse::<Condition>().ok();
            assert_eq!(
                parsed.map(|condition| (condition.figure, condition.limit)),
                expected,
                "{text:?}"
            );
        }
    }
}
