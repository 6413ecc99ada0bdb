//! Figures of groups, also where the trace is a sample: there each recorded heap block counts as those it
//! stands for, and an interval says how sure that is (`estimate.rs`).

use std::collections::HashMap;

use memleak_trace::{Domain, TraceReader};

use super::totals::Totals;
use crate::estimate::{Interval, Sizes, Sum};
use crate::replay::{Allocation, Death, Estimates, Observer, Sites};
use crate::series::Series;

/// Whether heap blocks of a trace were drawn by chance.
pub fn is_sampled(trace: &Series) -> anyhow::Result<bool> {
    let reader = TraceReader::open(&trace.first.path)?;
    Ok(reader.header().selection.sampling.is_some())
}

/// How many recorded heap blocks of each size a site has: outstanding, and outstanding or freed. A
/// block's weight follows from its size, so all sums do.
#[derive(Debug, Default)]
pub struct BlockCounts(HashMap<(u32, u64), (u64, u64)>);

impl BlockCounts {
    fn of(&mut self, allocation: &Allocation, sites: &Sites) -> Option<&mut (u64, u64)> {
        let site = sites.as_slice().get(allocation.site as usize)?;
        let key = (allocation.site, allocation.size);
        (site.op.domain() == Some(Domain::Heap)).then(|| self.0.entry(key).or_default())
    }

    pub fn add_outstanding(&mut self, outstanding: &[Allocation], sites: &Sites) {
        for allocation in outstanding {
            if let Some((live, all)) = self.of(allocation, sites) {
                *live += 1;
                *all += 1;
            }
        }
    }

    /// Site, size, and the figures of its blocks of that size.
    pub fn figures<'a>(
        &'a self,
        estimates: &'a Estimates,
    ) -> impl Iterator<Item = (u32, u64, Figures)> + 'a {
        let counts = self.0.iter().filter(|(_, (_, all))| *all > 0);
        counts.map(|((site, size), (live, all))| {
            let weight = estimates.sampled().weight(*size);
            let (bytes, count) = (Sum::of(*size as f64, weight), Sum::of(1.0, weight));
            let mut sizes = Sizes::NONE;
            sizes.include(*size);
            let figures = Figures {
                bytes: times(bytes, *live),
                count: times(count, *live),
                total_bytes: times(bytes, *all),
                total_count: times(count, *all),
                sampled: Some(sizes),
            };
            (*site, *size, figures)
        })
    }
}

impl Observer for BlockCounts {
    fn died(&mut self, allocation: &Allocation, _: Death, sites: &Sites) {
        if let Some((_, all)) = self.of(allocation, sites) {
            *all += 1;
        }
    }

    fn revived(&mut self, allocation: &Allocation, _: Death, sites: &Sites) {
        if let Some((_, all)) = self.of(allocation, sites) {
            *all -= 1;
        }
    }
}

fn times(sum: Sum, count: u64) -> Sum {
    let count = count as f64;
    Sum {
        seen: sum.seen * count,
        missed: sum.missed * count,
        variance: sum.variance * count,
    }
}

/// The figures of a group, estimated where its blocks are a sample.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    bytes: Sum,
    count: Sum,
    total_bytes: Sum,
    total_count: Sum,
    /// Of the recorded blocks; `None`: the figures are exact.
    sampled: Option<Sizes>,
}

impl From<&Totals> for Figures {
    fn from(totals: &Totals) -> Self {
        let exact = |figure: u64| Sum::of(figure as f64, 1.0);
        Figures {
            bytes: exact(totals.bytes),
            count: exact(totals.count),
            total_bytes: exact(totals.total_bytes),
            total_count: exact(totals.total_count),
            sampled: None,
        }
    }
}

impl Figures {
    pub fn add(&mut self, other: &Figures) {
        self.bytes.add(other.bytes);
        self.count.add(other.count);
        self.total_bytes.add(other.total_bytes);
        self.total_count.add(other.total_count);
        if let Some(sizes) = other.sampled {
            let own = self.sampled.get_or_insert(Sizes::NONE);
            own.include(sizes.smallest);
            own.include(sizes.largest);
        }
    }

    /// The figures as whole numbers.
    pub fn totals(&self) -> Totals {
        Totals {
            bytes: self.bytes.rounded(),
            count: self.count.rounded(),
            total_bytes: self.total_bytes.rounded(),
            total_count: self.total_count.rounded(),
        }
    }

    /// Intervals of bytes, count, total bytes and total count that hold at 99.9 %; of exact figures they
    /// have no width.
    pub fn intervals(&self, estimates: Option<&Estimates>) -> [Interval; 4] {
        let totals = self.totals();
        let Some((sizes, estimates)) = self.sampled.zip(estimates) else {
            let figures = [
                totals.bytes,
                totals.count,
                totals.total_bytes,
                totals.total_count,
            ];
            return figures.map(|figure| (figure, figure));
        };
        let bytes = estimates.sampled().bytes(sizes);
        let count = estimates.sampled().count(estimates.heap().sizes);
        [
            self.bytes.interval(&bytes),
            self.count.interval(&count),
            self.total_bytes.interval(&bytes),
            self.total_count.interval(&count),
        ]
    }
}
