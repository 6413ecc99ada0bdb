//! What a sample says of the whole, and how sure that is.
//!
//! A block of probability p that was recorded stands for w = 1/p blocks (Horvitz and Thompson,
//! 1952). The sum over recorded blocks of w·x, where x is 1 or the size, is right on average; its
//! variance is estimated by the sum of w(w-1)·x², as each block was drawn independently.
//!
//! The interval splits the sum. Σ x over the recorded blocks is certain. What was not recorded is
//! at least 0, is estimated by Σ (w-1)·x with that same variance, and is skewed, above all where
//! few blocks were recorded; so a normal interval would be too short above. Blocks of one size and
//! probability that were missed are distributed as the failures before a number of successes:
//! that number gives the exact lower limit, one more the exact upper limit (Clopper and Pearson,
//! 1934). For blocks of different weights this takes a gamma distribution with the estimated mean
//! and variance, where one more block gives the upper limit, as Fay and Feuer (1997) do for
//! weighted sums of counts. The gamma's larger skew makes the upper limit safe, and would make the
//! lower one too high, by less than two blocks: these are taken off.

mod gamma;

use memleak_trace::Domain;
use memleak_trace::selection::{Sampling, Weights};

/// The share of intervals that hold.
pub const CONFIDENCE: f64 = 0.999;
/// Probability of each tail, and its normal quantile.
const TAIL: f64 = (1.0 - CONFIDENCE) / 2.0;
const TAIL_Z: f64 = 3.290_526_731_491_926;

/// An interval that holds the true figure with the probability [`CONFIDENCE`].
pub type Interval = (u64, u64);

/// Sums over recorded blocks, of which each stands for several. x is 1 or the block's size.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sum {
    /// Σ x: certain, and exact.
    pub seen: u64,
    /// Σ (w-1)·x.
    pub missed: f64,
    /// Σ w(w-1)·x².
    pub variance: f64,
}

impl Sum {
    /// A block alone.
    pub fn of(x: u64, weight: f64) -> Sum {
        let missed = (weight - 1.0) * x as f64;
        Sum {
            seen: x,
            missed,
            variance: missed * weight * x as f64,
        }
    }

    #[inline]
    pub fn add(&mut self, other: Sum) {
        self.seen += other.seen;
        self.missed += other.missed;
        self.variance += other.variance;
    }

    /// Takes back what was added before.
    #[inline]
    pub fn remove(&mut self, other: Sum) {
        self.seen -= other.seen;
        self.missed -= other.missed;
        self.variance -= other.variance;
    }

    /// Σ w·x: right on average.
    pub fn estimate(&self) -> f64 {
        self.seen as f64 + self.missed
    }

    /// The estimate as a whole number.
    #[inline]
    pub fn rounded(&self) -> u64 {
        self.seen + self.missed.round().max(0.0) as u64
    }

    /// The interval, where `range` tells of the blocks that this may be a sum over.
    pub fn interval(&self, range: &Range) -> Interval {
        let quantile = |mean: f64, variance: f64, p, z| {
            let is_certain = mean <= 0.0 || variance <= 0.0;
            if is_certain {
                return 0.0;
            }
            gamma::quantile(mean * mean / variance, p, z) * variance / mean
        };
        let below = quantile(self.missed, self.variance, TAIL, -TAIL_Z);
        let more = range.one_more;
        let above = quantile(
            self.missed + more.missed,
            self.variance + more.variance,
            1.0 - TAIL,
            TAIL_Z,
        );
        let below = (below - 2.0 * range.largest).max(0.0);
        (
            self.seen + below.floor() as u64,
            self.seen + above.ceil() as u64,
        )
    }
}

/// The interval of the highest sum over time, where the estimate was highest at `peak` and is `now` at the
/// moment of the report. The moment of the peak was chosen by the same blocks that its estimate is made of, so
/// that is too high on average, and its own lower limit would fail. Certain are the recorded blocks
/// of then; and a peak is at least what is outstanding now, a moment chosen without looking.
pub fn peak_interval(peak: &Sum, now: &Sum, range: &Range) -> Interval {
    let (_, high) = peak.interval(range);
    let (low, _) = now.interval(range);
    (low.max(peak.seen), high)
}

/// The interval of a difference of two estimates from different blocks, each a figure and its
/// interval: the distances of the two ends are added as the errors of independent figures are (Zou and
/// Donner, 2008).
pub fn difference(figure: (u64, Interval), less: (u64, Interval)) -> (i64, i64) {
    let distance = |one: u64, other: u64| one.abs_diff(other) as f64;
    let ((figure, (low, high)), (less, (less_low, less_high))) = (figure, less);
    let below = distance(figure, low).hypot(distance(less, less_high));
    let above = distance(figure, high).hypot(distance(less, less_low));
    let between = figure as i64 - less as i64;
    (between - below.ceil() as i64, between + above.ceil() as i64)
}

/// What is known of the blocks that a sum may be over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// The largest x among them.
    largest: f64,
    /// One block more, as the upper limit needs it.
    one_more: Sum,
}

/// Sizes of recorded blocks from one place, smallest and largest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    pub smallest: u64,
    pub largest: u64,
}

impl Sizes {
    pub const NONE: Sizes = Sizes {
        smallest: u64::MAX,
        largest: 0,
    };

    #[inline]
    pub fn include(&mut self, size: u64) {
        self.smallest = self.smallest.min(size);
        self.largest = self.largest.max(size);
    }

    #[inline]
    pub fn merge(&mut self, other: Sizes) {
        self.smallest = self.smallest.min(other.smallest);
        self.largest = self.largest.max(other.largest);
    }
}

/// How a trace was sampled, for estimates.
#[derive(Clone, Debug)]
pub struct Sampled {
    sampling: Sampling,
    weights: Weights,
}

impl Sampled {
    pub fn new(sampling: Sampling) -> Sampled {
        Sampled {
            sampling,
            weights: Weights::new(sampling),
        }
    }

    /// How many blocks of `size` bytes a recorded one stands for.
    #[inline]
    pub fn weight(&self, size: u64) -> f64 {
        self.weights.weight(size)
    }

    /// The same in any domain: only the heap's blocks are sampled.
    #[inline]
    pub fn weight_in(&self, domain: Option<Domain>, size: u64) -> f64 {
        match domain {
            Some(Domain::Heap) => self.weight(size),
            _ => 1.0,
        }
    }

    /// For sums of bytes. Bytes that were missed are never more than points on them allow, whatever
    /// the blocks; with one in N it is assumed that no larger blocks exist than were recorded.
    pub fn bytes(&self, sizes: Sizes) -> Range {
        self.bytes_from(0, sizes)
    }

    /// The same, where all blocks are known to have at least `least` bytes: less of them is missed.
    pub fn bytes_from(&self, least: u64, sizes: Sizes) -> Range {
        let one_more = match self.sampling {
            Sampling::Bytes(bytes) if least == 0 => {
                let bytes = f64::from(bytes);
                Sum {
                    seen: 0,
                    missed: bytes,
                    variance: bytes * bytes,
                }
            }
            Sampling::Bytes(_) => Sum::of(least, self.weight(least)),
            Sampling::OneIn(_) => Sum::of(sizes.largest, self.weight(sizes.largest)),
        };
        let largest = sizes.largest as f64;
        Range { largest, one_more }
    }

    /// For counts. By bytes it is assumed that no smaller blocks exist than were recorded.
    pub fn count(&self, sizes: Sizes) -> Range {
        Range {
            largest: 1.0,
            one_more: Sum::of(1, self.weight(sizes.smallest.min(sizes.largest))),
        }
    }
}
