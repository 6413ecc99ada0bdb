//! `ages`, `sizes` and `lifetimes`: histograms on a log scale, per domain or per stack.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::io::Write;

use super::scaled::{Amount, Cells, Scale};
use super::stacks::{Stacks, WITH_FRAMES, domain_of};
use super::table::{Column, Estimated, TableWriter, Unit, Value};
use super::totals::Totals;
use super::{Replayed, Request, replay};
use crate::filter::lifetime;
use crate::replay::{Allocation, Death, Observer, Site, Sites};
use crate::tables::{age_bin, age_bounds};

/// Which histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// Ages of what is outstanding.
    Ages,
    /// Sizes, of what is outstanding and of what was allocated in all.
    Sizes,
    /// Lifetimes of what was freed.
    Lifetimes,
}

/// Classes of sizes and durations.
pub struct Classes;

/// Lower bounds of the classes of lifetimes in nanoseconds: 1-2-5 decades from 1 µs, then those of
/// ages.
const SHORT_BOUNDS: [u64; 9] = [
    1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000,
];

impl Classes {
    /// The class of a size: 0 is the size 0, n the sizes from 2^(n−1) to below 2^n.
    pub fn of_size(bytes: u64) -> usize {
        (u64::BITS - bytes.leading_zeros()) as usize
    }

    /// Bytes: the least of a class, and one past the largest (none for the last class).
    pub fn size_bounds(class: usize) -> (u64, Option<u64>) {
        match class {
            0 => (0, Some(1)),
            64.. => (1 << 63, None),
            _ => (1 << (class - 1), Some(1 << class)),
        }
    }

    fn of_lifetime(ns: u64) -> usize {
        let short = SHORT_BOUNDS
            .iter()
            .take_while(|bound| **bound <= ns)
            .count();
        short + age_bin(ns)
    }

    fn lifetime_bounds(class: usize) -> (u64, Option<u64>) {
        let bound = |index: usize| match index.checked_sub(SHORT_BOUNDS.len() + 1) {
            _ if index == 0 => Some(0),
            None => Some(SHORT_BOUNDS[index - 1]),
            Some(above) => age_bounds(above).1,
        };
        (bound(class).unwrap_or_default(), bound(class + 1))
    }
}

/// Totals by site and class of size.
#[derive(Debug, Default)]
pub struct SizeTotals {
    scale: Scale,
    groups: Groups,
}

/// Totals by site and class.
type Groups = HashMap<(u32, usize), Totals>;

impl SizeTotals {
    pub fn new(scale: Scale) -> SizeTotals {
        let groups = Groups::new();
        SizeTotals { scale, groups }
    }

    fn of(&mut self, allocation: &Allocation) -> &mut Totals {
        let class = Classes::of_size(allocation.size);
        self.groups.entry((allocation.site, class)).or_default()
    }

    /// Counts what is outstanding.
    pub fn outstanding(&mut self, allocation: &Allocation, sites: &Sites) {
        let amount = self.scale.amount(allocation, sites);
        self.of(allocation).outstanding(&amount);
    }

    /// Sites and classes with something in them, and their totals.
    pub fn iter(&self) -> impl Iterator<Item = (u32, usize, &Totals)> {
        let all = self.groups.iter().filter(|(_, totals)| !totals.is_empty());
        all.map(|((site, class), totals)| (*site, *class, totals))
    }
}

impl Observer for SizeTotals {
    fn died(&mut self, allocation: &Allocation, _: Death, sites: &Sites) {
        let amount = self.scale.amount(allocation, sites);
        self.of(allocation).all.add(&amount);
    }

    fn revived(&mut self, allocation: &Allocation, _: Death, sites: &Sites) {
        let amount = self.scale.amount(allocation, sites);
        self.of(allocation).all.remove(&amount);
    }
}

/// Freed allocations by site and class of lifetime.
#[derive(Debug, Default)]
struct LifetimeTotals {
    scale: Scale,
    groups: Groups,
}

impl LifetimeTotals {
    fn of(&mut self, allocation: &Allocation, death: Death) -> &mut Totals {
        let class = Classes::of_lifetime(lifetime(allocation, death));
        self.groups.entry((allocation.site, class)).or_default()
    }
}

impl Observer for LifetimeTotals {
    fn died(&mut self, allocation: &Allocation, death: Death, sites: &Sites) {
        let amount = self.scale.amount(allocation, sites);
        self.of(allocation, death).all.add(&amount);
    }

    fn revived(&mut self, allocation: &Allocation, death: Death, sites: &Sites) {
        let amount = self.scale.amount(allocation, sites);
        self.of(allocation, death).all.remove(&amount);
    }
}

/// Outstanding allocations by site and class of age at a moment.
fn ages(scale: &Scale, outstanding: &[Allocation], at: i64, sites: &Sites) -> Groups {
    let mut ages = Groups::new();
    for allocation in outstanding {
        let class = age_bin(allocation.age(at));
        let group = ages.entry((allocation.site, class)).or_default();
        group.outstanding(&scale.amount(allocation, sites));
    }
    ages
}

/// Runs one of the views.
pub fn run(request: &Request, of: Of, per_stack: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    let scale = Scale::of(&request.trace);
    let mut histogram = Histogram {
        request,
        per_stack,
        out,
    };
    match of {
        Of::Ages => {
            let replayed = replay(request, (), false)?;
            let (outstanding, analysis) = (replayed.outstanding(), &replayed.analysis);
            let ages = ages(&scale, &outstanding, analysis.at, analysis.replay.sites());
            histogram.write(&replayed, &AGES, &ages)
        }
        Of::Sizes => {
            let mut replayed = replay(request, SizeTotals::new(scale), false)?;
            replayed.tell_outstanding(SizeTotals::outstanding);
            histogram.write(&replayed, &SIZES, &replayed.observer.groups)
        }
        Of::Lifetimes => {
            let groups = Groups::new();
            let replayed = replay(request, LifetimeTotals { scale, groups }, false)?;
            histogram.write(&replayed, &LIFETIMES, &replayed.observer.groups)
        }
    }
}

/// How one of the histograms is shown.
struct Shape {
    view: &'static str,
    title: &'static str,
    columns: &'static [Column],
    estimated: &'static [&'static str],
    bounds: fn(usize) -> (u64, Option<u64>),
    amounts: fn(&Totals) -> Vec<&Amount>,
}

const AGES: Shape = Shape {
    view: "ages",
    title: "outstanding allocations by age",
    columns: &[
        ("from_ns", Unit::Nanoseconds),
        ("to_ns", Unit::Nanoseconds),
        ("bytes", Unit::Bytes),
        ("count", Unit::Count),
    ],
    estimated: &["bytes", "count"],
    bounds: age_bounds,
    amounts: |totals| vec![&totals.held],
};

const SIZES: Shape = Shape {
    view: "sizes",
    title: "allocations by size: outstanding, and in all",
    columns: &[
        ("from_bytes", Unit::Bytes),
        ("to_bytes", Unit::Bytes),
        ("bytes", Unit::Bytes),
        ("count", Unit::Count),
        ("total_bytes", Unit::Bytes),
        ("total_count", Unit::Count),
    ],
    estimated: &["bytes", "count", "total_bytes", "total_count"],
    bounds: Classes::size_bounds,
    amounts: |totals| vec![&totals.held, &totals.all],
};

const LIFETIMES: Shape = Shape {
    view: "lifetimes",
    title: "freed allocations by how long they lived",
    columns: &[
        ("from_ns", Unit::Nanoseconds),
        ("to_ns", Unit::Nanoseconds),
        ("freed_bytes", Unit::Bytes),
        ("freed_count", Unit::Count),
    ],
    estimated: &["freed_bytes", "freed_count"],
    bounds: Classes::lifetime_bounds,
    amounts: |totals| vec![&totals.all],
};

/// Where a histogram is written, and in which rows.
struct Histogram<'a> {
    request: &'a Request,
    per_stack: bool,
    out: &'a mut dyn Write,
}

impl Histogram<'_> {
    fn write<O>(
        &mut self,
        replayed: &Replayed<O>,
        shape: &Shape,
        groups: &Groups,
    ) -> anyhow::Result<()> {
        let replay = &replayed.analysis.replay;
        let sites = replay.sites().as_slice();
        let mut stacks = Stacks::new(&replayed.analysis);
        let rows = self.rows(shape, sites, groups);
        let mut columns = shape.columns.to_vec();
        if self.per_stack {
            columns.extend(WITH_FRAMES);
        } else {
            columns.push(("domain", Unit::Word));
        }
        let mut head = replayed.head(self.request, shape.view, shape.title.to_owned());
        head.estimated = Estimated::of(replay, shape.estimated, 2);
        let mut table = TableWriter::begin(self.request.format, &head, &columns, self.out)?;
        for ((domain, site), classes) in &rows {
            let all = sum(classes).all.sizes;
            for (class, totals) in classes {
                let (from, to) = (shape.bounds)(*class);
                let mut row: Vec<Value> = vec![from.into(), to.into()];
                // A block that is missing in a class of sizes is of that class.
                let cells = match shape.view {
                    "sizes" => Cells::of_class(replay, totals.all.sizes, from),
                    _ => Cells::new(replay, all),
                };
                let amounts = (shape.amounts)(totals).into_iter();
                row.extend(amounts.flat_map(|amount| cells.pair(amount)));
                if self.per_stack {
                    let last = classes.keys().next_back() == Some(class);
                    let site = &sites[*site as usize];
                    row.extend(stacks.cells_of_several(site, last, self.request.format));
                } else {
                    row.push((*domain).into());
                }
                table.row(&row)?;
            }
        }
        table.finish()
    }

    /// The classes of each row. Per stack: by site; else by domain, with the site 0.
    fn rows<'s>(&self, shape: &Shape, sites: &'s [Site], groups: &Groups) -> Vec<Row<'s>> {
        let mut by_row: BTreeMap<(&str, u32), BTreeMap<usize, Totals>> = BTreeMap::new();
        for ((site, class), totals) in groups.iter().filter(|(_, totals)| !totals.is_empty()) {
            let key = (
                domain_of(&sites[*site as usize]),
                if self.per_stack { *site } else { 0 },
            );
            let classes = by_row.entry(key).or_default();
            classes.entry(*class).or_default().add(totals);
        }
        let mut rows: Vec<_> = by_row.into_iter().collect();
        // What the view is about first: what is outstanding, or (lifetimes) was freed.
        let bytes = |totals: &Totals| {
            let shown = (shape.amounts)(totals);
            let first = shown.first().map_or(0, |amount| amount.bytes.rounded());
            (first, totals.all.bytes.rounded())
        };
        rows.retain(|(_, classes)| self.request.large_enough(bytes(&sum(classes)).0));
        if self.per_stack {
            rows.sort_by_key(|((_, site), classes)| (Reverse(bytes(&sum(classes))), *site));
            rows.truncate(self.request.limit());
        }
        rows
    }
}

/// Domain and site, and the totals of each class.
type Row<'s> = ((&'s str, u32), BTreeMap<usize, Totals>);

fn sum(classes: &BTreeMap<usize, Totals>) -> Totals {
    let mut sum = Totals::default();
    classes.values().for_each(|totals| sum.add(totals));
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every value lies within the bounds of its class, also at the bounds themselves.
    #[test]
    fn classes_hold_their_values() {
        type Check = (fn(u64) -> usize, fn(usize) -> (u64, Option<u64>));
        let checks: [Check; 3] = [
            (Classes::of_size, Classes::size_bounds),
            (age_bin, age_bounds),
            (Classes::of_lifetime, Classes::lifetime_bounds),
        ];
        let around = (0..64).flat_map(|bit| {
            let power = 1u64 << bit;
            [
                power - 1,
                power,
                power + 1,
                power * 5 / 4,
                10u64.pow(bit % 20),
            ]
        });
        let values: Vec<u64> = around
            .chain([0, 500_000, 999_999, 1_000_000, u64::MAX])
            .collect();
        for (class, bounds) in checks {
            for value in &values {
                let (from, to) = bounds(class(*value));
                assert!(from <= *value, "{value}: {from}");
                assert!(to.is_none_or(|to| *value < to), "{value}: {to:?}");
            }
        }
    }
}
