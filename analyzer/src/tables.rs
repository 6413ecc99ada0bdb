//! Per-stack and lifetime tables: polars frames, and every filter, sum, join and order over them.
//!
//! Only numbers pass through here; names are joined when a report is made. Polars is named in no
//! other file.

use polars::prelude::*;

use memleak_trace::Domain;

use crate::estimate::{Sampled, Sum};
use crate::filter::Filter;
use crate::replay::{Allocation, Estimate, Estimates, Replay};

/// The figures of a stack: a row per allocation site. What is outstanding is what the filter let
/// through; the totals are not filtered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
}

/// What a stack holds of one age.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AgeRow {
    pub site: u32,
    /// Index into [`AGE_BOUNDS`] of the bin's lower bound.
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

const MS: i64 = 1_000_000;
const S: i64 = 1_000 * MS;

/// Lower bounds of the age histogram's bins in nanoseconds: 1-2-5 decades from 1 ms to about a day;
/// the last bin is open.
pub const AGE_BOUNDS: [i64; 26] = [
    0,
    MS,
    2 * MS,
    5 * MS,
    10 * MS,
    20 * MS,
    50 * MS,
    100 * MS,
    200 * MS,
    500 * MS,
    S,
    2 * S,
    5 * S,
    10 * S,
    20 * S,
    50 * S,
    100 * S,
    200 * S,
    500 * S,
    1_000 * S,
    2_000 * S,
    5_000 * S,
    10_000 * S,
    20_000 * S,
    50_000 * S,
    100_000 * S,
];

/// The lifetimes that are outstanding at a moment, and the sites they come from.
pub struct Tables {
    /// site, addr, size, age, counts: a row per outstanding allocation that passes the filter.
    outstanding: LazyFrame,
    /// site, stack, op, pid, total_bytes: a row per site.
    sites: LazyFrame,
    /// The heap's rows are a sample: `outstanding` has sums too, see [`weighted`].
    is_sampled: bool,
}

impl Tables {
    /// The tables of a replay at moment `at` (nanoseconds of the trace's clock). Sites that do not
    /// pass the filter are left out.
    pub fn new(replay: &Replay, at: i64, filter: &Filter) -> PolarsResult<Tables> {
        let outstanding = outstanding(replay, at, filter)?
            .lazy()
            .with_column((lit(at) - col("born")).alias("age"))
            // An allocation that another thread stamped a little later than the moment has age 0.
            .with_column(
                when(col("age").lt(lit(0i64)))
                    .then(lit(0i64))
                    .otherwise(col("age"))
                    .alias("age"),
            );
        // Made once: every table below starts from these rows.
        let outstanding = outstanding.collect()?.lazy();
        Ok(Tables {
            outstanding,
            sites: sites(replay, filter)?.lazy(),
            is_sampled: replay.estimates().is_some(),
        })
    }

    /// Sum of sizes as `bytes`: of a sample, the estimate.
    fn bytes(&self) -> Expr {
        self.sum("size", "missed_bytes").alias("bytes")
    }

    /// Number of allocations as `count`: of a sample, the estimate.
    fn count(&self) -> Expr {
        self.sum("counts", "missed_count").alias("count")
    }

    fn sum(&self, seen: &str, missed: &str) -> Expr {
        match self.is_sampled {
            false => col(seen).sum(),
            true => {
                let missed = (col(missed).sum() + lit(0.5)).cast(DataType::UInt64);
                col(seen).sum() + missed
            }
        }
    }

    /// What the estimates of some stacks are made of; nothing if the trace is no sample.
    pub fn estimates(&self, stacks: &[StackRow]) -> PolarsResult<Vec<(u32, Estimate)>> {
        if !self.is_sampled {
            return Ok(Vec::new());
        }
        let table = self
            .of(stacks)?
            .group_by([col("site")])
            .agg(estimate_sums().collect::<Vec<_>>())
            .collect()?;
        let sites = table.column("site")?.u32()?.into_no_null_iter();
        Ok(sites.zip(estimates_in(&table)?).collect())
    }

    /// The stacks by outstanding bytes, largest first; ties by what they allocated in all, then in
    /// order of first use. `top` cuts the list, and `idle` keeps stacks with nothing outstanding.
    pub fn stacks(&self, top: Option<u32>, idle: bool) -> PolarsResult<Vec<StackRow>> {
        let figures = self.outstanding.clone().group_by([col("site")]).agg([
            self.bytes(),
            self.count(),
            col("taken").sum().alias("taken"),
            col("age").max().alias("oldest"),
            col("age").min().alias("youngest"),
        ]);
        let mut stacks = self
            .sites
            .clone()
            .left_join(figures, col("site"), col("site"))
            .with_columns([
                col("bytes").fill_null(lit(0u64)),
                col("count").fill_null(lit(0u64)),
                col("taken").fill_null(lit(0u64)),
            ]);
        if !idle {
            stacks = stacks.filter(col("oldest").is_not_null());
        }
        let largest_first = SortMultipleOptions::default()
            .with_order_descending_multi([true, true, false])
            .with_maintain_order(true);
        stacks = stacks.sort(["bytes", "total_bytes", "site"], largest_first);
        if let Some(top) = top {
            stacks = stacks.limit(top);
        }
        let columns = ["site", "bytes", "count", "taken", "oldest", "youngest"].map(col);
        let table = stacks.select(columns).collect()?;
        let (oldest, youngest) = (
            table.column("oldest")?.i64()?,
            table.column("youngest")?.i64()?,
        );
        let age = |age: Option<i64>| age.map(i64::unsigned_abs);
        let taken = table.column("taken")?.u64()?.into_no_null_iter();
        let rows = numbers(&table, "site", "bytes", "count")?
            .zip(taken)
            .zip(oldest.iter().zip(youngest.iter()));
        Ok(rows
            .map(
                |(((site, bytes, count), taken), (oldest, youngest))| StackRow {
                    site,
                    bytes,
                    count,
                    taken,
                    oldest_age: age(oldest),
                    youngest_age: age(youngest),
                },
            )
            .collect())
    }

    /// Stacks (allocation sites) with something outstanding that passes the filter.
    pub fn outstanding_stacks(&self) -> PolarsResult<usize> {
        let sites = self.outstanding.clone().group_by([col("site")]).agg([]);
        Ok(sites.collect()?.height())
    }

    /// The age histogram of some stacks: rows by site and bin, empty bins left out.
    pub fn ages(&self, stacks: &[StackRow]) -> PolarsResult<Vec<AgeRow>> {
        let bin = AGE_BOUNDS[1..]
            .iter()
            .map(|bound| col("age").gt_eq(lit(*bound)).cast(DataType::UInt32))
            .fold(lit(0u32), |sum, above| sum + above);
        let mut sums = vec![self.bytes(), self.count()];
        if self.is_sampled {
            sums.extend(estimate_sums());
        }
        let table = self
            .of(stacks)?
            .with_column(bin.alias("bin"))
            .group_by([col("site"), col("bin")])
            .agg(sums)
            .sort(["site", "bin"], SortMultipleOptions::default())
            .collect()?;
        let mut estimates = match self.is_sampled {
            true => estimates_in(&table)?.into_iter(),
            false => Vec::new().into_iter(),
        };
        let bins = table.column("bin")?.u32()?;
        let rows = numbers(&table, "site", "bytes", "count")?.zip(bins.into_no_null_iter());
        Ok(rows
            .map(|((site, bytes, count), bin)| AgeRow {
                site,
                bin: bin as usize,
                bytes,
                count,
                estimate: estimates.next(),
            })
            .collect())
    }

    /// What some stacks hold of allocations born at `until` (nanoseconds of the trace's clock) or
    /// before: site, bytes, count; stacks that hold none are left out.
    pub fn born_until(
        &self,
        stacks: &[StackRow],
        until: i64,
    ) -> PolarsResult<Vec<(u32, u64, u64)>> {
        let table = self
            .of(stacks)?
            .filter(col("born").lt_eq(lit(until)))
            .group_by([col("site")])
            .agg([self.bytes(), self.count()])
            .collect()?;
        Ok(numbers(&table, "site", "bytes", "count")?.collect())
    }

    /// Each outstanding allocation of some stacks, by site, largest first.
    pub fn allocations(&self, stacks: &[StackRow]) -> PolarsResult<Vec<AllocationRow>> {
        let order =
            SortMultipleOptions::default().with_order_descending_multi([false, true, false]);
        let table = self
            .of(stacks)?
            .sort(["site", "size", "addr"], order)
            .collect()?;
        let ages = table.column("age")?.i64()?;
        let rows = numbers(&table, "site", "addr", "size")?.zip(ages.into_no_null_iter());
        Ok(rows
            .map(|((site, addr, size), age)| AllocationRow {
                site,
                addr,
                size,
                age: age.unsigned_abs(),
            })
            .collect())
    }

    /// The outstanding allocations of some stacks only.
    fn of(&self, stacks: &[StackRow]) -> PolarsResult<LazyFrame> {
        let sites: Vec<u32> = stacks.iter().map(|row| row.site).collect();
        let chosen = DataFrame::new_infer_height(vec![Column::new("site".into(), sites)])?.lazy();
        Ok(self
            .outstanding
            .clone()
            .inner_join(chosen, col("site"), col("site")))
    }
}

/// A row per outstanding allocation that passes the filter.
fn outstanding(replay: &Replay, at: i64, filter: &Filter) -> PolarsResult<DataFrame> {
    let passing = filter.outstanding_of(replay, at);
    let (mut sites, mut addrs, mut sizes) = (Vec::new(), Vec::new(), Vec::new());
    let (mut borns, mut counts, mut taken) = (Vec::new(), Vec::new(), Vec::new());
    for allocation in &passing {
        sites.push(allocation.site);
        addrs.push(allocation.addr);
        sizes.push(allocation.size);
        taken.push(allocation.taken);
        borns.push(allocation.born);
        counts.push(u64::from(allocation.count));
    }
    let mut columns = vec![
        Column::new("site".into(), sites),
        Column::new("addr".into(), addrs),
        Column::new("size".into(), sizes),
        Column::new("taken".into(), taken),
        Column::new("born".into(), borns),
        Column::new("counts".into(), counts),
    ];
    if let Some(sampled) = replay.estimates().map(Estimates::sampled) {
        columns.extend(weighted(replay, &passing, sampled));
    }
    DataFrame::new_infer_height(columns)
}

/// Columns that [`weighted`] makes, of bytes and of counts.
const MISSED: [&str; 4] = [
    "missed_bytes",
    "bytes_variance",
    "missed_count",
    "count_variance",
];

/// Sums over groups of outstanding allocations that [`estimates_in`] reads.
fn estimate_sums() -> impl Iterator<Item = Expr> {
    let seen = [("size", "seen_bytes"), ("counts", "seen_count")];
    let seen = seen.map(|(column, sum)| col(column).sum().alias(sum));
    seen.into_iter().chain(MISSED.map(|name| col(name).sum()))
}

/// The estimate of each row of a table with [`estimate_sums`].
fn estimates_in(table: &DataFrame) -> PolarsResult<Vec<Estimate>> {
    let seen =
        |name: &str| -> PolarsResult<_> { Ok(table.column(name)?.u64()?.into_no_null_iter()) };
    let column =
        |name: &str| -> PolarsResult<_> { Ok(table.column(name)?.f64()?.into_no_null_iter()) };
    let [missed_bytes, bytes_variance, missed_count, count_variance] = MISSED.map(column);
    let missed = missed_bytes?.zip(bytes_variance?);
    let missed = missed.zip(missed_count?.zip(count_variance?));
    let rows = seen("seen_bytes")?.zip(seen("seen_count")?).zip(missed);
    let sum = |seen: u64, (missed, variance): (f64, f64)| Sum {
        seen: seen as f64,
        missed,
        variance,
    };
    Ok(rows
        .map(|((bytes, count), missed)| Estimate {
            sampled: count,
            bytes: sum(bytes, missed.0),
            count: sum(count, missed.1),
        })
        .collect())
}

/// For each outstanding allocation, what it adds to the estimates of bytes and count beside itself,
/// and to their variances. Mappings are no sample, and add nothing.
fn weighted(replay: &Replay, passing: &[Allocation], sampled: &Sampled) -> Vec<Column> {
    let sites = replay.sites().as_slice();
    let sums = |x: fn(&Allocation) -> f64| -> (Vec<f64>, Vec<f64>) {
        let allocations = passing.iter().map(|allocation| {
            let domain = sites[allocation.site as usize].op.domain();
            let weight = match domain {
                Some(Domain::Heap) => sampled.weight(allocation.size),
                _ => 1.0,
            };
            let sum = Sum::of(x(allocation), weight);
            (sum.missed, sum.variance)
        });
        allocations.unzip()
    };
    let bytes = sums(|allocation| allocation.size as f64);
    let counts = sums(|allocation| f64::from(allocation.count));
    let values = [bytes.0, bytes.1, counts.0, counts.1];
    let columns = MISSED.into_iter().zip(values);
    columns
        .map(|(name, values)| Column::new(name.into(), values))
        .collect()
}

fn sites(replay: &Replay, filter: &Filter) -> PolarsResult<DataFrame> {
    let sites = replay.sites().as_slice().iter().enumerate();
    let sites: Vec<_> = sites.filter(|(_, site)| filter.site(site)).collect();
    let numbers: Vec<u32> = sites.iter().map(|(index, _)| *index as u32).collect();
    let totals: Vec<u64> = sites.iter().map(|(_, site)| site.total_bytes).collect();
    DataFrame::new_infer_height(vec![
        Column::new("site".into(), numbers),
        Column::new("total_bytes".into(), totals),
    ])
}

/// A u32 column and two u64 columns without nulls, as rows.
fn numbers<'a>(
    table: &'a DataFrame,
    first: &str,
    second: &str,
    third: &str,
) -> PolarsResult<impl Iterator<Item = (u32, u64, u64)> + 'a> {
    let first = table.column(first)?.u32()?.into_no_null_iter();
    let second = table.column(second)?.u64()?.into_no_null_iter();
    let third = table.column(third)?.u64()?.into_no_null_iter();
    Ok(first
        .zip(second)
        .zip(third)
        .map(|((first, second), third)| (first, second, third)))
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
        let tables = Tables::new(&replay, 10, &Filter::default()).expect("tables");
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
        assert_eq!(tables.outstanding_stacks().expect("count"), 3);
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
            let tables = Tables::new(&replay, 500, filter).expect("tables");
            let rows = tables.stacks(None, false).expect("stacks");
            assert_eq!(sites(&rows), *expected, "{filter:?}");
        }
        let tables = Tables::new(&replay, 500, &none).expect("tables");
        let rows = tables.stacks(Some(1), false).expect("stacks");
        assert_eq!(
            (rows[0].oldest_age, rows[0].youngest_age),
            (Some(400), Some(200))
        );
    }

    /// An age on a bound belongs to the bin above it; what lies in the future has age 0.
    #[test]
    fn ages_fall_into_bins() {
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
        let tables = Tables::new(&replay, at, &Filter::default()).expect("tables");
        let stacks = tables.stacks(None, false).expect("stacks");
        let bins: Vec<_> = tables
            .ages(&stacks)
            .expect("ages")
            .iter()
            .map(|r| (r.bin, r.count))
            .collect();
        assert_eq!(bins, [(0, 3), (1, 1), (2, 1), (25, 1)]);
    }

    /// Allocations are listed for the chosen stacks only, largest first.
    #[test]
    fn allocations_of_chosen_stacks() {
        let replay = replay(&[(0, 10, 1), (1, 5, 2), (0, 30, 3)]);
        let tables = Tables::new(&replay, 10, &Filter::default()).expect("tables");
        let top = tables.stacks(Some(1), false).expect("stacks");
        let rows = tables.allocations(&top).expect("allocations");
        let rows: Vec<_> = rows
            .iter()
            .map(|row| (row.site, row.addr, row.size, row.age))
            .collect();
        assert_eq!(rows, [(0, 0x30, 30, 7), (0, 0x10, 10, 9)]);
    }
}
