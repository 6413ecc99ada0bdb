//! Sums over allocations, and what they say of the whole where the trace is a sample: there each
//! recorded heap block counts as those it stands for, and an interval says how sure that is
//! (`estimate.rs`). Mappings are never sampled, so their figures are exact.

use memleak_trace::Domain;
use memleak_trace::selection::Sampling;

use super::table::Value;
use crate::estimate::{Interval, Sampled, Sizes, Sum, difference, peak_interval};
use crate::replay::{Allocation, Estimates, Replay, Site, Sites};
use crate::series::Series;

/// How many allocations each one in a trace stands for.
#[derive(Clone, Debug, Default)]
pub struct Scale(Option<Sampled>);

impl Scale {
    /// The scale of a trace.
    pub fn of(trace: &Series) -> Scale {
        Scale::new(trace.sampling)
    }

    pub fn new(sampling: Option<Sampling>) -> Scale {
        Scale(sampling.map(Sampled::new))
    }

    /// How many blocks an allocation of a site stands for; 1 where none were left out.
    pub fn weight(&self, site: &Site, allocation: &Allocation) -> f64 {
        let weight = |sampled: &Sampled| sampled.weight_in(site.op.domain(), allocation.size);
        self.0.as_ref().map_or(1.0, weight)
    }

    /// What an allocation adds to a sum.
    #[inline]
    pub fn amount(&self, allocation: &Allocation, sites: &Sites) -> Amount {
        let count = u64::from(allocation.count);
        let Some(sampled) = self.0.as_ref().filter(|_| is_heap(allocation, sites)) else {
            return Amount {
                bytes: Sum::of(allocation.size, 1.0),
                count: Sum::of(count, 1.0),
                sizes: Sizes::NONE,
            };
        };
        let weight = sampled.weight(allocation.size);
        let mut sizes = Sizes::NONE;
        sizes.include(allocation.size);
        Amount {
            bytes: Sum::of(allocation.size, weight),
            count: Sum::of(count, weight),
            sizes,
        }
    }
}

fn is_heap(allocation: &Allocation, sites: &Sites) -> bool {
    let site = sites.as_slice().get(allocation.site as usize);
    site.is_some_and(|site| site.op.domain() == Some(Domain::Heap))
}

/// Bytes and number of some allocations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Amount {
    pub bytes: Sum,
    pub count: Sum,
    /// Of the sampled blocks among them, also of those taken back.
    pub sizes: Sizes,
}

impl Default for Amount {
    fn default() -> Self {
        Amount {
            bytes: Sum::default(),
            count: Sum::default(),
            sizes: Sizes::NONE,
        }
    }
}

impl Amount {
    #[inline]
    pub fn add(&mut self, other: &Amount) {
        self.bytes.add(other.bytes);
        self.count.add(other.count);
        self.sizes.merge(other.sizes);
    }

    /// Takes back what was added before.
    #[inline]
    pub fn remove(&mut self, other: &Amount) {
        self.bytes.remove(other.bytes);
        self.count.remove(other.count);
        if self.count.seen == 0 {
            // What rounding has left.
            for sum in [&mut self.bytes, &mut self.count] {
                (sum.missed, sum.variance) = (0.0, 0.0);
            }
        }
    }

    /// What is left of this after `other`, which was a part of it.
    pub fn without(mut self, other: &Amount) -> Amount {
        self.remove(other);
        self
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.seen == 0 && self.count.seen == 0
    }
}

/// Makes cells of the amounts in a row: figures, with intervals where they are estimates.
#[derive(Clone, Copy)]
pub struct Cells<'a> {
    estimates: Option<&'a Estimates>,
    /// Of all sampled blocks that the row is about: one that a figure lacks may be as large. None: no
    /// sampled blocks, so figures are exact.
    sizes: Sizes,
    /// The least size that a block of the row can have.
    least: u64,
}

impl<'a> Cells<'a> {
    pub fn new(replay: &'a Replay, sizes: Sizes) -> Cells<'a> {
        Cells::of_class(replay, sizes, 0)
    }

    /// Of a row about blocks of at least so many bytes.
    pub fn of_class(replay: &'a Replay, sizes: Sizes, least: u64) -> Cells<'a> {
        Cells {
            estimates: replay.estimates(),
            sizes,
            least,
        }
    }

    fn sampled(&self) -> Option<&'a Estimates> {
        self.estimates.filter(|_| self.sizes != Sizes::NONE)
    }

    /// 99.9 % interval of the bytes.
    pub fn bytes_interval(&self, amount: &Amount) -> Interval {
        match self.sampled() {
            Some(estimates) => amount
                .bytes
                .interval(&estimates.sampled().bytes(self.sizes)),
            None => (amount.bytes.seen, amount.bytes.seen),
        }
    }

    /// 99.9 % interval of the count.
    pub fn count_interval(&self, amount: &Amount) -> Interval {
        match self.sampled() {
            Some(estimates) => {
                let mut sizes = estimates.heap().sizes;
                sizes.smallest = sizes.smallest.max(self.least);
                let range = estimates.sampled().count(sizes);
                amount.count.interval(&range)
            }
            None => (amount.count.seen, amount.count.seen),
        }
    }

    /// 99.9 % interval of the most bytes held, from what was held where the estimate was highest, and
    /// what is now.
    pub fn peak_interval(&self, peak: &Amount, now: &Amount) -> Option<Interval> {
        let range = self.sampled()?.sampled().bytes(self.sizes);
        Some(peak_interval(&peak.bytes, &now.bytes, &range))
    }

    pub fn bytes(&self, amount: &Amount) -> Value {
        Value::Estimate(amount.bytes.rounded(), self.bytes_interval(amount))
    }

    pub fn count(&self, amount: &Amount) -> Value {
        Value::Estimate(amount.count.rounded(), self.count_interval(amount))
    }

    /// Bytes and count.
    pub fn pair(&self, amount: &Amount) -> [Value; 2] {
        [self.bytes(amount), self.count(amount)]
    }
}

/// Intervals of the differences of two amounts of different blocks, in bytes and in count; each amount
/// with the cells of its row.
pub fn differences(amount: (&Amount, Cells), less: (&Amount, Cells)) -> [(i64, i64); 2] {
    let bytes =
        |(amount, cells): (&Amount, Cells)| (amount.bytes.rounded(), cells.bytes_interval(amount));
    let count =
        |(amount, cells): (&Amount, Cells)| (amount.count.rounded(), cells.count_interval(amount));
    [
        difference(bytes(amount), bytes(less)),
        difference(count(amount), count(less)),
    ]
}
