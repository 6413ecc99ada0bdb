//! What a stack holds, summed allocation by allocation.

use crate::estimate::Sum;
use crate::replay::{Allocation, Estimate};

/// Bytes and count of some allocations. Small: with tens of thousands of stacks, millions of allocations are summed
/// in no order.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    bytes: u64,
    count: u64,
    /// Bytes that these take.
    pub taken: u64,
    /// Whether there is one.
    pub any: bool,
    /// What they stand for, if the trace is a sample.
    estimate: Option<Box<Estimate>>,
}

impl Tally {
    /// Adds an allocation; `weight` is how many it stands for, if the trace is a sample.
    pub fn add(&mut self, allocation: &Allocation, weight: Option<f64>) {
        self.bytes += allocation.size;
        self.count += u64::from(allocation.count);
        self.taken += allocation.taken;
        self.any = true;
        if let Some(weight) = weight {
            let estimate = self.estimate.get_or_insert_default();
            estimate.sampled += u64::from(allocation.count);
            estimate.bytes.add(Sum::of(allocation.size, weight));
            let count = Sum::of(u64::from(allocation.count), weight);
            estimate.count.add(count);
        }
    }

    /// Adds what was added to another one.
    pub fn merge(&mut self, other: Tally) {
        self.bytes += other.bytes;
        self.count += other.count;
        self.taken += other.taken;
        self.any |= other.any;
        if let Some(other) = other.estimate {
            self.estimate.get_or_insert_default().add(&other);
        }
    }

    /// The bytes: of a sample, the estimate.
    pub fn bytes(&self) -> u64 {
        let missed = self.estimate.as_ref().map_or(0.0, |of| of.bytes.missed);
        self.bytes + missed.round() as u64
    }

    /// The number: of a sample, the estimate.
    pub fn count(&self) -> u64 {
        let missed = self.estimate.as_ref().map_or(0.0, |of| of.count.missed);
        self.count + missed.round() as u64
    }

    /// What a sample's allocations stand for; none if the trace is no sample.
    pub fn estimate(&self) -> Option<Estimate> {
        self.estimate.as_deref().copied()
    }
}

/// What a site holds of the allocations that the filter lets through. Ages in nanoseconds.
#[derive(Clone, Debug, Default)]
pub struct Held {
    pub tally: Tally,
    pub oldest: u64,
    pub youngest: u64,
}

impl Held {
    /// Adds an allocation of an age; `weight` as in [`Tally::add`].
    pub fn add(&mut self, allocation: &Allocation, age: u64, weight: Option<f64>) {
        self.note_ages(age, age);
        self.tally.add(allocation, weight);
    }

    /// Adds what was added to another one.
    pub fn merge(&mut self, other: Held) {
        if other.tally.any {
            self.note_ages(other.oldest, other.youngest);
            self.tally.merge(other.tally);
        }
    }

    fn note_ages(&mut self, oldest: u64, youngest: u64) {
        if !self.tally.any {
            (self.oldest, self.youngest) = (oldest, youngest);
        }
        self.oldest = self.oldest.max(oldest);
        self.youngest = self.youngest.min(youngest);
    }
}
