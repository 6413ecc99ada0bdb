//! `timeline`: what was held over time, in any number of buckets, per domain or per stack.
//!
//! A bucket's bytes are those held at its end: born at or before it and not dead by it, by the
//! timestamps of the events. `--from` and `--to` cut the axis; what is older than `--from` counts.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::Write;

use super::scaled::{Amount, Cells, Scale};
use super::stacks::{Stacks, WITH_FRAMES, domain_of};
use super::table::{Column, Estimated, TableWriter, Unit, Value};
use super::{Request, head, replay_with, since};
use crate::filter;
use crate::replay::{Allocation, Death, Observer, Sites};
use crate::span::Span;
use crate::units::{show_count, show_duration};

/// What changed in a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Change {
    allocated: Amount,
    freed: Amount,
}

impl Change {
    fn add(&mut self, other: &Change) {
        self.allocated.add(&other.allocated);
        self.freed.add(&other.freed);
    }

    /// What is left of what was allocated.
    fn held(&self) -> Amount {
        self.allocated.without(&self.freed)
    }
}

/// Changes by site and bucket; bucket 0 is what was before the axis begins.
#[derive(Debug)]
pub struct Buckets {
    /// The axis begins at the first edge; bucket n ends at edge n, inclusive.
    edges: Vec<i64>,
    scale: Scale,
    changes: BTreeMap<(u32, usize), Change>,
}

impl Buckets {
    /// `count` buckets of equal width (to the nanosecond) between two moments.
    pub fn new(from: i64, to: i64, count: u32, scale: Scale) -> Buckets {
        let span = i128::from(to - from);
        let edge = |index: u32| from + (span * i128::from(index) / i128::from(count)) as i64;
        Buckets {
            edges: (0..=count).map(edge).collect(),
            scale,
            changes: BTreeMap::new(),
        }
    }

    fn of(&mut self, site: u32, ts: i64) -> &mut Change {
        let bucket = self.edges.partition_point(|edge| *edge < ts);
        // An event may be stamped a little after the recording closed.
        let bucket = bucket.min(self.edges.len() - 1);
        self.changes.entry((site, bucket)).or_default()
    }

    fn allocated(&mut self, allocation: &Allocation, sites: &Sites) -> Amount {
        let amount = self.scale.amount(allocation, sites);
        let change = self.of(allocation.site, allocation.born);
        change.allocated.add(&amount);
        amount
    }
}

impl Observer for Buckets {
    fn died(&mut self, allocation: &Allocation, death: Death, sites: &Sites) {
        let amount = self.allocated(allocation, sites);
        // Where clocks differ, a block must not die before it is born.
        let change = self.of(allocation.site, death.at.max(allocation.born));
        change.freed.add(&amount);
    }

    fn revived(&mut self, allocation: &Allocation, death: Death, sites: &Sites) {
        let amount = self.scale.amount(allocation, sites);
        let change = self.of(allocation.site, allocation.born);
        change.allocated.remove(&amount);
        let change = self.of(allocation.site, death.at.max(allocation.born));
        change.freed.remove(&amount);
    }
}

const TIMES: [Column; 8] = [
    ("from_ns", Unit::Nanoseconds),
    ("to_ns", Unit::Nanoseconds),
    ("bytes", Unit::Bytes),
    ("count", Unit::Count),
    ("allocated_bytes", Unit::Bytes),
    ("allocated_count", Unit::Count),
    ("freed_bytes", Unit::Bytes),
    ("freed_count", Unit::Count),
];

const ESTIMATED: &[&str] = &[
    "bytes",
    "count",
    "allocated_bytes",
    "allocated_count",
    "freed_bytes",
    "freed_count",
];

/// Runs the view.
pub fn run(
    request: &Request,
    count: u32,
    per_stack: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let mut filter = filter::resolve(&request.trace, &request.filters)?;
    let span = Span::of(&request.trace)?;
    let start = span.start;
    let from = filter.from.take().unwrap_or(start);
    let to = span.at(request.filters.to.unwrap_or_default())?;
    let buckets = Buckets::new(from, to, count, Scale::of(&request.trace));
    let mut replayed = replay_with(&request.trace, request, filter, buckets, false)?;
    replayed.tell_outstanding(|buckets, allocation, sites| {
        buckets.allocated(allocation, sites);
    });
    let (analysis, buckets) = (&replayed.analysis, &replayed.observer);

    let sites = analysis.replay.sites().as_slice();
    // Per stack: by site; else by domain.
    let mut rows: BTreeMap<(&str, u32), Vec<Change>> = BTreeMap::new();
    for ((site, bucket), change) in &buckets.changes {
        let key = (
            domain_of(&sites[*site as usize]),
            if per_stack { *site } else { 0 },
        );
        let row = rows
            .entry(key)
            .or_insert_with(|| vec![Change::default(); buckets.edges.len()]);
        row[*bucket].add(change);
    }
    let mut rows: Vec<_> = rows.into_iter().collect();
    let bytes = |changes: &[Change]| sum(changes).held().bytes.rounded();
    rows.retain(|(_, changes)| request.large_enough(bytes(changes)));
    if per_stack {
        rows.sort_by_key(|((_, site), changes)| (Reverse(bytes(changes)), *site));
        rows.truncate(request.limit());
    }

    let mut columns = TIMES.to_vec();
    if per_stack {
        columns.extend(WITH_FRAMES);
    } else {
        columns.push(("domain", Unit::Word));
    }
    let title = format!(
        "held at the end of each of {} intervals between {} and {} after the start",
        show_count(count.into()),
        show_duration(since(start, from)),
        show_duration(since(start, to)),
    );
    let mut stacks = Stacks::new(analysis);
    let mut head = head(request, analysis, &replayed.filter, "timeline", title);
    head.filters.from_is_range = true;
    head.filters.from_ns = request.filters.from.map(|_| since(start, from));
    head.estimated = Estimated::of(&analysis.replay, ESTIMATED, 1);
    let mut table = TableWriter::begin(request.format, &head, &columns, out)?;
    for ((domain, site), changes) in &rows {
        let cells = Cells::new(&analysis.replay, sum(changes).allocated.sizes);
        let mut so_far = changes[0];
        for bucket in 1..changes.len() {
            let change = changes[bucket];
            so_far.add(&change);
            let mut row: Vec<Value> = vec![
                since(start, buckets.edges[bucket - 1]).into(),
                since(start, buckets.edges[bucket]).into(),
            ];
            for amount in [&so_far.held(), &change.allocated, &change.freed] {
                row.extend(cells.pair(amount));
            }
            if per_stack {
                let last = bucket + 1 == changes.len();
                let site = &sites[*site as usize];
                row.extend(stacks.cells_of_several(site, last, request.format));
            } else {
                row.push((*domain).into());
            }
            table.row(&row)?;
        }
    }
    table.finish()
}

fn sum(changes: &[Change]) -> Change {
    let mut sum = Change::default();
    changes.iter().for_each(|change| sum.add(change));
    sum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::model::{replayed, steps};
    use super::*;

    proptest! {
        /// At the end of every bucket, each stack holds what was born by then and is not dead.
        #[test]
        fn buckets_hold_what_lives(steps in steps(), count in 1..50_u32) {
            let end: i64 = steps.iter().map(|step| step.3).sum();
            let (replay, mut buckets, lives, _) = replayed(&steps, Buckets::new(0, end, count, Scale::default()));
            for allocation in replay.outstanding() {
                buckets.allocated(&allocation, replay.sites());
            }
            for (index, site) in replay.sites().as_slice().iter().enumerate() {
                let stack = site.stack.map_or(-1, |id| id.0);
                let mut changes = vec![Change::default(); count as usize + 1];
                for ((own, bucket), change) in &buckets.changes {
                    if *own == index as u32 {
                        changes[*bucket] = *change;
                    }
                }
                for bucket in 1..=count as usize {
                    let edge = buckets.edges[bucket];
                    let live = lives.iter().filter(|(of, _, born, died)| {
                        *of == stack && *born <= edge && died.is_none_or(|died| died > edge)
                    });
                    let expected = live.fold((0, 0), |(bytes, count), life| (bytes + life.1, count + 1));
                    let held = sum(&changes[..=bucket]).held();
                    prop_assert_eq!((held.bytes.seen, held.count.seen), expected);
                }
            }
        }
    }
}
