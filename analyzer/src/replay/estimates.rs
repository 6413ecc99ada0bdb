//! The figures of a sampled heap: each recorded block counts as those it stands for.

use super::accounts::Account;
use super::sites::Figures;
use crate::estimate::{Sampled, Sizes, Sum};

/// Bytes and count of some blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    /// Blocks that were recorded.
    pub sampled: u64,
    pub bytes: Sum,
    pub count: Sum,
}

impl Estimate {
    fn of(size: u64, weight: f64) -> Estimate {
        Estimate {
            sampled: 1,
            bytes: Sum::of(size, weight),
            count: Sum::of(1, weight),
        }
    }

    /// Adds what another one is made of.
    pub fn add(&mut self, other: &Estimate) {
        self.sampled += other.sampled;
        self.bytes.add(other.bytes);
        self.count.add(other.count);
    }

    fn remove(&mut self, other: &Estimate) {
        self.sampled -= other.sampled;
        if self.sampled == 0 {
            // What rounding has left.
            *self = Estimate::default();
            return;
        }
        self.bytes.remove(other.bytes);
        self.count.remove(other.count);
    }
}

/// What is outstanding, and what was allocated in all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimated {
    pub outstanding: Estimate,
    pub total: Estimate,
    /// Of all blocks recorded here.
    pub sizes: Sizes,
}

impl Default for Estimated {
    fn default() -> Self {
        Estimated {
            outstanding: Estimate::default(),
            total: Estimate::default(),
            sizes: Sizes::NONE,
        }
    }
}

impl Estimated {
    fn allocate(&mut self, size: u64, block: &Estimate) {
        self.outstanding.add(block);
        self.total.add(block);
        self.sizes.include(size);
    }

    fn figures(&self) -> Figures {
        Figures {
            bytes: self.outstanding.bytes.rounded(),
            count: self.outstanding.count.rounded(),
            total_bytes: self.total.bytes.rounded(),
            total_count: self.total.count.rounded(),
        }
    }
}

/// The estimates of all sites, and of the heap.
#[derive(Debug)]
pub struct Estimates {
    sampled: Sampled,
    sites: Vec<Estimated>,
    heap: Estimated,
    /// The heap's bytes where they were estimated to be most.
    peak: Sum,
}

impl Estimates {
    pub fn new(sampled: Sampled) -> Estimates {
        Estimates {
            sampled,
            sites: Vec::new(),
            heap: Estimated::default(),
            peak: Sum::default(),
        }
    }

    /// Inverse probabilities, and what intervals need.
    pub fn sampled(&self) -> &Sampled {
        &self.sampled
    }

    pub fn site(&self, site: u32) -> Estimated {
        self.sites.get(site as usize).copied().unwrap_or_default()
    }

    pub fn heap(&self) -> &Estimated {
        &self.heap
    }

    pub fn peak(&self) -> &Sum {
        &self.peak
    }

    /// A recorded block was allocated; the site's figures then.
    pub(super) fn allocate(
        &mut self,
        site: u32,
        size: u64,
        account: &mut Account,
        now: i64,
    ) -> Figures {
        let block = Estimate::of(size, self.sampled.weight(size));
        self.heap.allocate(size, &block);
        self.settle(account, now);
        let index = site as usize;
        if index >= self.sites.len() {
            self.sites.resize(index + 1, Estimated::default());
        }
        self.sites[index].allocate(size, &block);
        self.sites[index].figures()
    }

    /// A recorded block was freed; the site's figures then.
    pub(super) fn free(
        &mut self,
        site: u32,
        size: u64,
        account: &mut Account,
        now: i64,
    ) -> Figures {
        let block = Estimate::of(size, self.sampled.weight(size));
        self.heap.outstanding.remove(&block);
        self.settle(account, now);
        let Some(estimated) = self.sites.get_mut(site as usize) else {
            return Figures::default();
        };
        estimated.outstanding.remove(&block);
        estimated.figures()
    }

    fn settle(&mut self, account: &mut Account, now: i64) {
        if account.set(self.heap.figures(), now) {
            self.peak = self.heap.outstanding.bytes;
        }
    }
}
