//! `peak`: who held memory at the highest point, per domain.
//!
//! One pass: whenever a domain holds more than ever before, the sites that changed since its last
//! peak are noted. An event changes one site, so this costs a constant per event.

use std::cmp::Reverse;
use std::io::Write;

use memleak_trace::Domain;

use super::stacks::{COLUMNS, Stacks};
use super::table::{Unit, Value};
use super::{Request, replay, since, write_ranking};
use crate::replay::{Allocation, Death, Observer, Sites};
use crate::units::{show_count, show_duration};

/// What a site holds, and held at the peak of its domain.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    bytes: u64,
    count: u64,
    peak_bytes: u64,
    peak_count: u64,
    /// Changed since the peak was noted.
    changed: bool,
}

/// The peak of a domain.
#[derive(Debug, Default)]
struct Highest {
    bytes: u64,
    peak_bytes: u64,
    /// Timestamp of the event that brought it.
    at: i64,
    changed: Vec<u32>,
}

/// Follows what sites hold.
#[derive(Debug, Default)]
struct Peaks {
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
        let (held, highest) = self.of(allocation.site, sites);
        held.bytes += allocation.size;
        held.count += u64::from(allocation.count);
        highest.bytes += allocation.size;
        if highest.bytes > highest.peak_bytes {
            highest.peak_bytes = highest.bytes;
            highest.at = at;
            for site in std::mem::take(&mut highest.changed) {
                let held = &mut self.held[site as usize];
                held.peak_bytes = held.bytes;
                held.peak_count = held.count;
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
        let (held, highest) = self.of(allocation.site, sites);
        held.bytes -= allocation.size;
        held.count -= u64::from(allocation.count);
        highest.bytes -= allocation.size;
    }

    fn revived(&mut self, allocation: &Allocation, death: Death, sites: &Sites) {
        self.add(allocation, death.at, sites);
    }
}

/// Runs the view.
pub fn run(request: &Request, out: &mut dyn Write) -> anyhow::Result<()> {
    let replayed = replay(request, Peaks::default(), false)?;
    let (analysis, peaks) = (&replayed.analysis, &replayed.observer);
    let start = analysis.recording.start();
    let sites = analysis.replay.sites().as_slice();
    let told = Domain::ALL.into_iter().filter_map(|domain| {
        let highest = &peaks.domains[domain as usize];
        (highest.peak_bytes > 0).then(|| {
            format!(
                "{}: {} bytes {} after the start",
                domain.name(),
                show_count(highest.peak_bytes),
                show_duration(since(start, highest.at))
            )
        })
    });
    let told: Vec<String> = told.collect();
    let title = format!("who held memory at the highest point ({})", told.join("; "));

    let mut ranked: Vec<(usize, &Held)> = peaks
        .held
        .iter()
        .enumerate()
        .filter(|(_, held)| held.peak_count > 0 || held.peak_bytes > 0)
        .filter(|(_, held)| request.large_enough(held.peak_bytes))
        .collect();
    ranked.sort_by_key(|(site, held)| (Reverse(held.peak_bytes), *site));
    let mut columns = vec![
        ("peak_at_ns", Unit::Nanoseconds),
        ("peak_bytes", Unit::Bytes),
        ("peak_count", Unit::Count),
        ("share", Unit::Share),
        ("bytes", Unit::Bytes),
        ("count", Unit::Count),
    ];
    columns.extend(COLUMNS);
    columns.push(("frames", Unit::Frames));
    let mut stacks = Stacks::new(analysis);
    let rows = ranked.into_iter().map(|(site, held)| {
        let site = &sites[site];
        let domain = site.op.domain().unwrap_or(Domain::Heap);
        let highest = &peaks.domains[domain as usize];
        let mut row: Vec<Value> = vec![
            since(start, highest.at).into(),
            held.peak_bytes.into(),
            held.peak_count.into(),
            (held.peak_bytes as f64 / highest.peak_bytes.max(1) as f64).into(),
            held.bytes.into(),
            held.count.into(),
        ];
        row.extend(stacks.cells(site));
        row.push(Value::Frames(stacks.frames(site.stack)));
        row
    });
    let rows = rows.collect();
    let head = replayed.head(request, "peak", title);
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
                prop_assert_eq!(own.peak_bytes as i64, expected, "stack {}", stack);
            }
            prop_assert_eq!(peaks.domains[Domain::Heap as usize].peak_bytes as i64, best.0);
        }
    }
}
