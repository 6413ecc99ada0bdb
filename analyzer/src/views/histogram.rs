//! `ages`, `sizes` and `lifetimes`: histograms on a log scale, per domain or per stack.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::io::Write;

use super::stacks::{COLUMNS, Stacks, domain_of};
use super::table::{Column, TableWriter, Unit, Value};
use super::totals::Totals;
use super::{Replayed, Request, replay};
use crate::filter::{age, lifetime};
use crate::replay::{Allocation, Death, Observer, Sites};
use crate::tables::AGE_BOUNDS;

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

    fn of_age(ns: u64) -> usize {
        let above = |bound: &&i64| bound.unsigned_abs() <= ns;
        AGE_BOUNDS.iter().take_while(above).count() - 1
    }

    fn age_bounds(class: usize) -> (u64, Option<u64>) {
        let bound = |index: usize| AGE_BOUNDS.get(index).map(|bound| bound.unsigned_abs());
        (bound(class).unwrap_or_default(), bound(class + 1))
    }

    fn of_lifetime(ns: u64) -> usize {
        let short = SHORT_BOUNDS
            .iter()
            .take_while(|bound| **bound <= ns)
            .count();
        short + Classes::of_age(ns)
    }

    fn lifetime_bounds(class: usize) -> (u64, Option<u64>) {
        let bound = |index: usize| match index.checked_sub(SHORT_BOUNDS.len() + 1) {
            _ if index == 0 => Some(0),
            None => Some(SHORT_BOUNDS[index - 1]),
            Some(above) => AGE_BOUNDS.get(above + 1).map(|bound| bound.unsigned_abs()),
        };
        (bound(class).unwrap_or_default(), bound(class + 1))
    }
}

/// Totals by site and class of size.
#[derive(Debug, Default)]
pub struct SizeTotals(HashMap<(u32, usize), Totals>);

impl SizeTotals {
    fn of(&mut self, allocation: &Allocation) -> &mut Totals {
        let class = Classes::of_size(allocation.size);
        self.0.entry((allocation.site, class)).or_default()
    }

    pub fn add_outstanding(&mut self, outstanding: &[Allocation]) {
        for allocation in outstanding {
            self.of(allocation).outstanding(allocation);
        }
    }

    /// Sites and classes with something in them, and their totals.
    pub fn iter(&self) -> impl Iterator<Item = (u32, usize, &Totals)> {
        let all = self.0.iter().filter(|(_, totals)| !totals.is_empty());
        all.map(|((site, class), totals)| (*site, *class, totals))
    }
}

impl Observer for SizeTotals {
    fn died(&mut self, allocation: &Allocation, _: Death, _: &Sites) {
        self.of(allocation).freed(allocation);
    }

    fn revived(&mut self, allocation: &Allocation, _: Death, _: &Sites) {
        self.of(allocation).not_freed(allocation);
    }
}

/// Freed allocations by site and class of lifetime.
#[derive(Debug, Default)]
struct LifetimeTotals(HashMap<(u32, usize), Totals>);

impl LifetimeTotals {
    fn of(&mut self, allocation: &Allocation, death: Death) -> &mut Totals {
        let class = Classes::of_lifetime(lifetime(allocation, death));
        self.0.entry((allocation.site, class)).or_default()
    }
}

impl Observer for LifetimeTotals {
    fn died(&mut self, allocation: &Allocation, death: Death, _: &Sites) {
        self.of(allocation, death).freed(allocation);
    }

    fn revived(&mut self, allocation: &Allocation, death: Death, _: &Sites) {
        self.of(allocation, death).not_freed(allocation);
    }
}

/// Runs one of the views.
pub fn run(request: &Request, of: Of, per_stack: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    match of {
        Of::Ages => {
            let replayed = replay(request, (), false)?;
            let mut ages: HashMap<(u32, usize), Totals> = HashMap::new();
            for allocation in replayed.outstanding() {
                let class = Classes::of_age(age(&allocation, replayed.analysis.at));
                let group = ages.entry((allocation.site, class)).or_default();
                group.outstanding(&allocation);
            }
            write(request, &replayed, &AGES, &ages, per_stack, out)
        }
        Of::Sizes => {
            let mut replayed = replay(request, SizeTotals::default(), false)?;
            let outstanding = replayed.outstanding();
            replayed.observer.add_outstanding(&outstanding);
            write(
                request,
                &replayed,
                &SIZES,
                &replayed.observer.0,
                per_stack,
                out,
            )
        }
        Of::Lifetimes => {
            let replayed = replay(request, LifetimeTotals::default(), false)?;
            write(
                request,
                &replayed,
                &LIFETIMES,
                &replayed.observer.0,
                per_stack,
                out,
            )
        }
    }
}

/// How one of the histograms is shown.
struct Shape {
    view: &'static str,
    title: &'static str,
    columns: &'static [Column],
    bounds: fn(usize) -> (u64, Option<u64>),
    figures: fn(&Totals) -> Vec<u64>,
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
    bounds: Classes::age_bounds,
    figures: |totals| vec![totals.bytes, totals.count],
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
    bounds: Classes::size_bounds,
    figures: |totals| {
        vec![
            totals.bytes,
            totals.count,
            totals.total_bytes,
            totals.total_count,
        ]
    },
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
    bounds: Classes::lifetime_bounds,
    figures: |totals| vec![totals.total_bytes, totals.total_count],
};

fn write<O>(
    request: &Request,
    replayed: &Replayed<O>,
    shape: &Shape,
    groups: &HashMap<(u32, usize), Totals>,
    per_stack: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let sites = replayed.analysis.replay.sites().as_slice();
    let mut stacks = Stacks::new(&replayed.analysis);
    // Per stack: by site; else by domain, told by a site of each.
    let mut by_row: BTreeMap<(&str, u32), BTreeMap<usize, Totals>> = BTreeMap::new();
    for ((site, class), totals) in groups.iter().filter(|(_, totals)| !totals.is_empty()) {
        let key = (
            domain_of(&sites[*site as usize]),
            if per_stack { *site } else { 0 },
        );
        let classes = by_row.entry(key).or_default();
        classes.entry(*class).or_default().add(totals);
    }
    let mut rows: Vec<_> = by_row.into_iter().collect();
    let size = |classes: &BTreeMap<usize, Totals>| {
        let mut sum = Totals::default();
        classes.values().for_each(|totals| sum.add(totals));
        sum
    };
    if per_stack {
        rows.sort_by_key(|((_, site), classes)| {
            let sum = size(classes);
            (Reverse((sum.bytes, sum.total_bytes)), *site)
        });
        rows.retain(|(_, classes)| request.large_enough(size(classes).bytes));
        rows.truncate(request.limit());
    }
    let mut columns = shape.columns.to_vec();
    if per_stack {
        columns.extend(COLUMNS);
        columns.push(("frames", Unit::Frames));
    } else {
        columns.push(("domain", Unit::Word));
    }
    let head = replayed.head(request, shape.view, shape.title.to_owned());
    let mut table = TableWriter::begin(request.format, &head, &columns, out)?;
    for ((domain, site), classes) in &rows {
        for (class, totals) in classes {
            let (from, to) = (shape.bounds)(*class);
            let mut row: Vec<Value> = vec![from.into(), to.into()];
            row.extend((shape.figures)(totals).into_iter().map(Value::from));
            if per_stack {
                let site = &sites[*site as usize];
                row.extend(stacks.cells(site));
                row.push(Value::Frames(stacks.frames(site.stack)));
            } else {
                row.push((*domain).into());
            }
            table.row(&row)?;
        }
    }
    table.finish()
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
            (Classes::of_age, Classes::age_bounds),
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
