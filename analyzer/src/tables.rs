//! Per-stack and lifetime tables: every filter and sum over the lifetimes, and the order of stacks.
//!
//! Only numbers pass through here; names are joined when a report is made. Polars is named in no
//! other file: it orders the stacks.

mod ages;
mod held;

use std::collections::BTreeMap;

use polars::prelude::*;

pub use ages::{age_bin, age_bounds};
use held::{Held, Tally};

use crate::estimate::Sampled;
use crate::filter::Filter;
use crate::replay::{Allocation, Estimate, Estimates, Replay};

/// The figures of a stack: a row per allocation site. What is outstanding is what the filter let
/// through; the totals are not filtered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StackRow {
    /// Index of the allocation site.
    pub site: u32,
    pub bytes: u64,
    pub count: u64,
    /// Bytes that these take; in the kernel more than was asked for.
    pub taken: u64,
    /// Ages of the oldest and the youngest outstanding allocation, in nanoseconds.
    pub oldest_age: Option<u64>,
    pub youngest_age: Option<u64>,
    /// What the figures are made of, if the trace is a sample and something is outstanding.
    pub estimate: Option<Estimate>,
}

/// What a stack holds of one age.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AgeRow {
    pub site: u32,
    /// See [`age_bounds`].
    pub bin: usize,
    pub bytes: u64,
    pub count: u64,
    /// What the figures are made of, if the trace is a sample.
    pub estimate: Option<Estimate>,
}

/// An outstanding allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocationRow {
    pub site: u32,
    pub addr: u64,
    pub size: u64,
    /// Nanoseconds.
    pub age: u64,
}

/// The lifetimes that are outstanding at a moment, and the sites they come from.
///
/// There can be millions of lifetimes: each table is a pass over them that sums as it goes, and only
/// sums become frames.
#[derive(Debug)]
pub struct Tables<'a> {
    replay: &'a Replay,
    at: i64,
    filter: &'a Filter,
    /// By site: whether the filter lets it through, and what it holds.
    passing: Vec<bool>,
    held: Vec<Held>,
}

impl<'a> Tables<'a> {
    /// The tables of a replay at moment `at` (nanoseconds of the trace's clock).
    pub fn new(replay: &'a Replay, at: i64, filter: &'a Filter) -> Tables<'a> {
        let mut tables = Tables {
            replay,
            at,
            filter,
            passing: filter.sites(replay),
            held: Vec::new(),
        };
        let sites = replay.sites().as_slice().len();
        tables.held = replay.sum_outstanding(
            sites,
            |held, allocation| {
                if filter.passes(allocation, at, &tables.passing) {
                    let held = &mut held[allocation.site as usize];
                    held.add(allocation, allocation.age(at), tables.weight(allocation));
                }
            },
            Held::merge,
        );
        tables
    }

    /// The stacks by outstanding bytes, largest first; ties by what they allocated in all, then in
    /// order of first use. `top` cuts the list, and `idle` keeps stacks with nothing outstanding.
    pub fn stacks(&self, top: Option<u32>, idle: bool) -> PolarsResult<Vec<StackRow>> {
        let sites = self.replay.sites().as_slice();
        let shown = |site: &usize| self.passing[*site] && (idle || self.held[*site].tally.any);
        let rows = || (0..sites.len()).filter(shown);
        let numbers: Vec<u32> = rows().map(|site| site as u32).collect();
        let bytes: Vec<u64> = rows().map(|site| self.held[site].tally.bytes()).collect();
        let totals: Vec<u64> = rows().map(|site| sites[site].total_bytes).collect();
        let table = DataFrame::new_infer_height(vec![
            Column::new("site".into(), numbers),
            Column::new("bytes".into(), bytes),
            Column::new("total_bytes".into(), totals),
        ])?;
        let largest_first = SortMultipleOptions::default()
            .with_order_descending_multi([true, true, false])
            .with_maintain_order(true);
        let mut stacks = table
            .lazy()
            .sort(["bytes", "total_bytes", "site"], largest_first);
        if let Some(top) = top {
            stacks = stacks.limit(top);
        }
        let table = stacks.select([col("site")]).collect()?;
        let row = |site: u32| {
            let held = &self.held[site as usize];
            let age = |age: u64| held.tally.any.then_some(age);
            StackRow {
                site,
                bytes: held.tally.bytes(),
                count: held.tally.count(),
                taken: held.tally.taken,
                oldest_age: age(held.oldest),
                youngest_age: age(held.youngest),
                estimate: held.tally.estimate(),
            }
        };
        let chosen = table.column("site")?.u32()?.into_no_null_iter();
        Ok(chosen.map(row).collect())
    }

    /// Stacks (allocation sites) with something outstanding that passes the filter.
    pub fn outstanding_stacks(&self) -> usize {
        self.held.iter().filter(|held| held.tally.any).count()
    }

    /// The age histogram of some stacks: rows by site and bin, empty bins left out.
    pub fn ages(&self, stacks: &[StackRow]) -> Vec<AgeRow> {
        let mut bins = vec![BTreeMap::<usize, Tally>::new(); stacks.len()];
        self.of(stacks).for_each(|(row, allocation, age)| {
            let tally = bins[row].entry(age_bin(age)).or_default();
            tally.add(&allocation, self.weight(&allocation));
        });
        let rows = stacks.iter().zip(bins).flat_map(|(stack, bins)| {
            bins.into_iter().map(move |(bin, tally)| AgeRow {
                site: stack.site,
                bin,
                bytes: tally.bytes(),
                count: tally.count(),
                estimate: tally.estimate(),
            })
        });
        rows.collect()
    }

    /// What some stacks hold of allocations born at `until` (nanoseconds of the trace's clock) or
    /// before: site, bytes, count; stacks that hold none are left out.
    pub fn born_until(&self, stacks: &[StackRow], until: i64) -> Vec<(u32, u64, u64)> {
        let mut tallies = vec![Tally::default(); stacks.len()];
        self.of(stacks).for_each(|(row, allocation, _)| {
            if allocation.born <= until {
                tallies[row].add(&allocation, self.weight(&allocation));
            }
        });
        let rows = stacks.iter().zip(tallies).filter(|(_, tally)| tally.any);
        rows.map(|(stack, tally)| (stack.site, tally.bytes(), tally.count()))
            .collect()
    }

    fn sampled(&self) -> Option<&'a Sampled> {
        self.replay.estimates().map(Estimates::sampled)
    }

    /// How many allocations this one stands for, if the trace is a sample; mappings are none.
    fn weight(&self, allocation: &Allocation) -> Option<f64> {
        let sampled = self.sampled()?;
        let site = self.replay.sites().as_slice()[allocation.site as usize];
        Some(sampled.weight_in(site.op.domain(), allocation.size))
    }

    /// Each outstanding allocation of some stacks, by site, largest first.
    pub fn allocations(&self, stacks: &[StackRow]) -> Vec<AllocationRow> {
        let row = |(_, allocation, age): (usize, Allocation, u64)| AllocationRow {
            site: allocation.site,
            addr: allocation.addr,
            size: allocation.size,
            age,
        };
        let mut rows: Vec<AllocationRow> = self.of(stacks).map(row).collect();
        rows.sort_unstable_by_key(|row| (row.site, std::cmp::Reverse(row.size), row.addr));
        rows
    }

    /// The outstanding allocations that pass the filter, with their ages in nanoseconds.
    fn outstanding(&self) -> impl Iterator<Item = (Allocation, u64)> {
        let at = self.at;
        let aged = move |allocation: Allocation| (allocation, allocation.age(at));
        let passing = self.filter.outstanding_of(self.replay, at, &self.passing);
        passing.map(aged)
    }

    /// The outstanding allocations of some stacks only, each with its stack's place in the list.
    fn of(&self, stacks: &[StackRow]) -> impl Iterator<Item = (usize, Allocation, u64)> {
        let mut places = vec![u32::MAX; self.held.len()];
        for (place, stack) in stacks.iter().enumerate() {
            places[stack.site as usize] = place as u32;
        }
        self.outstanding().filter_map(move |(allocation, age)| {
            let place = places[allocation.site as usize];
            (place != u32::MAX).then_some((place as usize, allocation, age))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use memleak_trace::{Event, Op, SpaceId, StackId};

    /// Allocates (stack, bytes, when in ns) at addresses 0x10, 0x20, …
    fn replay(allocations: &[(i32, u64, i64)]) -> Replay {
        let mut replay = Replay::default();
        for (index, (stack, size, ts)) in allocations.iter().enumerate() {
            let (space, stack) = (SpaceId(1), Some(StackId(*stack)));
            let addr = (index as u64 + 1) * 16;
            let op = Op::Malloc;
            replay.event(&Event {
                ts: *ts,
                pid: 1,
                tid: 1,
                op,
                space,
                addr,
                size: *size,
                stack,
            });
        }
        replay
    }

    fn sites(rows: &[StackRow]) -> Vec<(u32, u64, u64)> {
        rows.iter()
            .map(|row| (row.site, row.bytes, row.count))
            .collect()
    }

    /// Where several threads sum, each stack has what one pass in order finds.
    #[test]
    fn many_are_summed_in_parts() {
        let made: Vec<_> = (0..300_000_i64)
            .map(|number| ((number % 7) as i32, number as u64 % 1000, number))
            .collect();
        let (replay, at, all) = (replay(&made), 300_100, Filter::default());
        let tables = Tables::new(&replay, at, &all);
        let mut stacks = tables.stacks(None, false).unwrap();
        stacks.sort_by_key(|row| row.site);
        for (row, stack) in stacks.iter().zip(0..7) {
            let own = made.iter().filter(|(of, ..)| *of == stack);
            let ages = own.clone().map(|(.., born)| (at - born) as u64);
            assert_eq!(row.bytes, own.clone().map(|(_, size, _)| size).sum::<u64>());
            assert_eq!(row.count, own.count() as u64);
            assert_eq!(row.oldest_age, ages.clone().max());
            assert_eq!(row.youngest_age, ages.min());
        }
        assert_eq!(stacks.len(), 7);
    }

    /// Largest first; ties by totals and first use; idle stacks and the cut as asked.
    #[test]
    fn stacks_are_in_order() {
        let mut replay = replay(&[(7, 10, 0), (5, 30, 0), (6, 10, 0), (9, 99, 0), (5, 1, 0)]);
        for (addr, op) in [(0x40, Op::Free), (0x60, Op::Free)] {
            let (space, stack) = (SpaceId(1), None);
            replay.event(&Event {
                ts: 1,
                pid: 1,
                tid: 1,
                op,
                space,
                addr,
                size: 0,
                stack,
            });
        }
        let all = Filter::default();
        let tables = Tables::new(&replay, 10, &all);
        let all = tables.stacks(None, true).expect("stacks");
        assert_eq!(sites(&all), [(1, 31, 2), (0, 10, 1), (2, 10, 1), (3, 0, 0)]);
        assert_eq!((all[3].oldest_age, all[3].youngest_age), (None, None));
        assert_eq!(
            sites(&tables.stacks(None, false).expect("stacks")),
            sites(&all[..3])
        );
        assert_eq!(
            sites(&tables.stacks(Some(2), false).expect("stacks")),
            sites(&all[..2])
        );
        assert_eq!(tables.outstanding_stacks(), 3);
    }

    /// Bounds of size and age are inclusive, and ages count from birth to the moment.
    #[test]
    fn filters_are_inclusive() {
        let replay = replay(&[(0, 10, 100), (0, 20, 200), (0, 30, 300), (1, 40, 400)]);
        type Row = (Filter, &'static [(u32, u64, u64)]);
        let none = Filter::default();
        let cases: &[Row] = &[
            (none.clone(), &[(0, 60, 3), (1, 40, 1)]),
            (
                Filter {
                    min_size: Some(20),
                    ..none.clone()
                },
                &[(0, 50, 2), (1, 40, 1)],
            ),
            (
                Filter {
                    max_size: Some(20),
                    ..none.clone()
                },
                &[(0, 30, 2)],
            ),
            (
                Filter {
                    min_age: Some(300),
                    ..none.clone()
                },
                &[(0, 30, 2)],
            ),
            (
                Filter {
                    min_size: Some(11),
                    max_size: Some(29),
                    min_age: Some(1),
                    ..none.clone()
                },
                &[(0, 20, 1)],
            ),
            (
                Filter {
                    min_size: Some(41),
                    ..none.clone()
                },
                &[],
            ),
        ];
        for (filter, expected) in cases {
            let tables = Tables::new(&replay, 500, filter);
            let rows = tables.stacks(None, false).expect("stacks");
            assert_eq!(sites(&rows), *expected, "{filter:?}");
        }
        let tables = Tables::new(&replay, 500, &none);
        let rows = tables.stacks(Some(1), false).expect("stacks");
        assert_eq!(
            (rows[0].oldest_age, rows[0].youngest_age),
            (Some(400), Some(200))
        );
    }

    /// An age on a bound belongs to the bin above it; what lies in the future has age 0.
    #[test]
    fn ages_fall_into_bins() {
        const MS: i64 = 1_000_000;
        const S: i64 = 1_000 * MS;
        let at = 1_000_000 * S;
        let born = [
            at + 5,
            at,
            at - MS + 1,
            at - MS,
            at - 2 * MS,
            at - 150_000 * S,
        ];
        let replay = replay(&born.map(|born| (0, 1, born)));
        let all = Filter::default();
        let tables = Tables::new(&replay, at, &all);
        let stacks = tables.stacks(None, false).expect("stacks");
        let bins: Vec<_> = tables
            .ages(&stacks)
            .iter()
            .map(|r| (r.bin, r.count))
            .collect();
        assert_eq!(bins, [(0, 3), (1, 1), (2, 1), (25, 1)]);
    }

    /// Allocations are listed for the chosen stacks only, largest first.
    #[test]
    fn allocations_of_chosen_stacks() {
        let replay = replay(&[(0, 10, 1), (1, 5, 2), (0, 30, 3)]);
        let all = Filter::default();
        let tables = Tables::new(&replay, 10, &all);
        let top = tables.stacks(Some(1), false).expect("stacks");
        let rows = tables.allocations(&top);
        let rows: Vec<_> = rows
            .iter()
            .map(|row| (row.site, row.addr, row.size, row.age))
            .collect();
        assert_eq!(rows, [(0, 0x30, 30, 7), (0, 0x10, 10, 9)]);
    }
}
