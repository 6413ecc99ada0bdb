//! `peak`: who held memory at the highest point, per domain.
//!
//! One pass: whenever a domain holds more than ever before, the sites that changed since its last
//! peak are noted. An event changes one site, so this costs a constant per event.
//!
//! In a sample the highest point is the one where the estimate is highest. What was held then is
//! estimated for each stack, but has no interval: the moment was chosen by the same blocks that the
//! estimate is made of, and an interval holds for a moment chosen without looking. The peak of the domain
//! has one (`estimate::peak_interval`).

use std::cmp::Reverse;
use std::io::Write;

use memleak_trace::Domain;

use super::scaled::{Amount, Cells, Scale};
use super::stacks::{Stacks, WITH_FRAMES};
use super::table::{Estimated, Unit, Value};
use super::{Request, replay, since, write_ranking};
use crate::replay::{Allocation, Death, Observer, Sites};
use crate::units::{show_count, show_duration};

/// What a site holds, and held at the peak of its domain.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    now: Amount,
    peak: Amount,
    /// Changed since the peak was noted.
    changed: bool,
}

/// The peak of a domain.
#[derive(Debug, Default)]
struct Highest {
    now: Amount,
    peak: Amount,
    peak_bytes: u64,
    /// Timestamp of the event that brought it.
    at: i64,
    changed: Vec<u32>,
}

/// Follows what sites hold.
#[derive(Debug, Default)]
struct Peaks {
    scale: Scale,
    held: Vec<Held>,
    domains: [Highest; Domain::ALL.len()],
}

impl Peaks {
    fn of(&mut self, site: u32, sites: &Sites) -> (&mut Held, &mut Highest) {
        let index = site as usize;
        if index >= self.held.len() {
            self.held.resize(index + 1, Held::default());
        }
        let domain = sites.as_slice()[index].op.domain().unwrap_or(Domain::Heap);
        let (held, highest) = (&mut self.held[index], &mut self.domains[domain as usize]);
        if !held.changed {
            held.changed = true;
            highest.changed.push(site);
        }
        (held, highest)
    }

    fn add(&mut self, allocation: &Allocation, at: i64, sites: &Sites) {
        let amount = self.scale.amount(allocation, sites);
        let (held, highest) = self.of(allocation.site, sites);
        held.now.add(&amount);
        highest.now.add(&amount);
        let bytes = highest.now.bytes.rounded();
        if bytes > highest.peak_bytes {
            highest.peak = highest.now;
            highest.peak_bytes = bytes;
            highest.at = at;
            for site in std::mem::take(&mut highest.changed) {
                let held = &mut self.held[site as usize];
                held.peak = held.now;
                held.changed = false;
            }
        }
    }
}

impl Observer for Peaks {
    fn born(&mut self, allocation: &Allocation, sites: &Sites) {
        self.add(allocation, allocation.born, sites);
    }

    fn died(&mut self, allocation: &Allocation, _: Death, sites: &Sites) {
        let amount = self.scale.amount(allocation, sites);
        let (held, highest) = self.of(allocation.site, sites);
        held.now.remove(&amount);
        highest.now.remove(&amount);
    }

    fn revived(&mut self, allocation: &Allocation, death: Death, sites: &Sites) {
        self.add(allocation, death.at, sites);
    }
}

/// Runs the view.
pub fn run(request: &Request, out: &mut dyn Write) -> anyhow::Result<()> {
    let peaks = Peaks {
        scale: Scale::of(&request.trace),
        ..Peaks::default()
    };
    let replayed = replay(request, peaks, false)?;
    let (analysis, peaks) = (&replayed.analysis, &replayed.observer);
    let start = analysis.recording.start();
    let sites = analysis.replay.sites().as_slice();
    let told = Domain::ALL.into_iter().filter_map(|domain| {
        let highest = &peaks.domains[domain as usize];
        (highest.peak_bytes > 0).then(|| {
            let cells = Cells::new(&analysis.replay, highest.now.sizes);
            let within = match cells.peak_interval(&highest.peak, &highest.now) {
                Some((low, high)) => {
                    format!(" ({} to {} at 99.9 %)", show_count(low), show_count(high))
                }
                None => String::new(),
            };
            format!(
                "{}: {} bytes{within} {} after the start",
                domain.name(),
                show_count(highest.peak_bytes),
                show_duration(since(start, highest.at))
            )
        })
    });
    let mut told: Vec<String> = told.collect();
    told.sort();
    let mut title = format!("who held memory at the highest point ({})", told.join("; "));
    if analysis.replay.estimates().is_some() {
        title +=
            "; of the heap it is where the estimate is highest: what stacks held then has no ±";
    }

    let mut ranked: Vec<(usize, &Held)> = peaks
        .held
        .iter()
        .enumerate()
        .filter(|(_, held)| !held.peak.is_empty())
        .filter(|(_, held)| request.large_enough(held.peak.bytes.rounded()))
        .collect();
    ranked.sort_by_key(|(site, held)| (Reverse(held.peak.bytes.rounded()), *site));
    let mut columns = vec![
        ("peak_at_ns", Unit::Nanoseconds),
        ("peak_bytes", Unit::Bytes),
        ("peak_count", Unit::Count),
        ("share", Unit::Share),
        ("bytes", Unit::Bytes),
        ("count", Unit::Count),
    ];
    columns.extend(WITH_FRAMES);
    let mut stacks = Stacks::new(analysis);
    let rows = ranked.into_iter().map(|(site, held)| {
        let site = &sites[site];
        let domain = site.op.domain().unwrap_or(Domain::Heap);
        let highest = &peaks.domains[domain as usize];
        let bytes = held.peak.bytes.rounded();
        let mut row: Vec<Value> = vec![
            since(start, highest.at).into(),
            bytes.into(),
            held.peak.count.rounded().into(),
            (bytes as f64 / highest.peak_bytes.max(1) as f64).into(),
        ];
        row.extend(Cells::new(&analysis.replay, held.now.sizes).pair(&held.now));
        row.extend(stacks.cells_with_frames(site));
        row
    });
    let rows = rows.collect();
    let mut head = replayed.head(request, "peak", title);
    head.estimated = Estimated::of(&analysis.replay, &["bytes", "count"], 1);
    write_ranking(request, &head, &columns, rows, out)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::model::{replayed, steps};
    use super::*;

    proptest! {
        /// What each stack held at the highest moment, found by looking at every moment.
        #[test]
        fn peak_is_the_highest_of_all_moments(steps in steps()) {
            let (replay, peaks, lives, _) = replayed(&steps, Peaks::default());
            // Moments in order; of those with one timestamp, the steps themselves.
            let (mut held, mut best) = (BTreeMap::new(), (0, BTreeMap::new()));
            let mut changes: Vec<(usize, i32, i64)> = Vec::new();
            let mut slots: BTreeMap<u64, usize> = BTreeMap::new();
            let mut born = 0;
            for (index, (slot, ..)) in steps.iter().enumerate() {
                let (life, sign) = match slots.remove(slot) {
                    Some(life) => (life, -1),
                    None => {
                        slots.insert(*slot, born);
                        born += 1;
                        (born - 1, 1)
                    }
                };
                changes.push((index, lives[life].0, sign * lives[life].1 as i64));
            }
            for (_, stack, change) in changes {
                *held.entry(stack).or_insert(0) += change;
                let sum: i64 = held.values().sum();
                if change > 0 && sum > best.0 {
                    best = (sum, held.clone());
                }
            }
            let sites = replay.sites().as_slice();
            for (site, own) in sites.iter().zip(&peaks.held) {
                let stack = site.stack.map_or(-1, |id| id.0);
                let expected = best.1.get(&stack).copied().unwrap_or(0);
                prop_assert_eq!(own.peak.bytes.seen as i64, expected, "stack {}", stack);
            }
            prop_assert_eq!(peaks.domains[Domain::Heap as usize].peak_bytes as i64, best.0);
        }
    }
}
