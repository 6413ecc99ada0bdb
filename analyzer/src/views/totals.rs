//! What groups of allocations hold and had in all.

use crate::replay::{Allocation, Death, Observer, Sites};

/// The figures of a group, of the allocations that pass the filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Outstanding at the moment.
    pub bytes: u64,
    pub count: u64,
    /// Outstanding or freed.
    pub total_bytes: u64,
    pub total_count: u64,
}

impl Totals {
    pub fn outstanding(&mut self, allocation: &Allocation) {
        self.bytes += allocation.size;
        self.count += u64::from(allocation.count);
        self.total_bytes += allocation.size;
        self.total_count += u64::from(allocation.count);
    }

    pub fn freed(&mut self, allocation: &Allocation) {
        self.total_bytes += allocation.size;
        self.total_count += u64::from(allocation.count);
    }

    pub fn not_freed(&mut self, allocation: &Allocation) {
        self.total_bytes -= allocation.size;
        self.total_count -= u64::from(allocation.count);
    }

    pub fn add(&mut self, other: &Totals) {
        self.bytes += other.bytes;
        self.count += other.count;
        self.total_bytes += other.total_bytes;
        self.total_count += other.total_count;
    }

    pub fn is_empty(&self) -> bool {
        *self == Totals::default()
    }
}

/// Totals per site; what is outstanding is added after the replay.
#[derive(Debug, Default)]
pub struct SiteTotals(pub Vec<Totals>);

impl SiteTotals {
    pub fn of(&mut self, site: u32) -> &mut Totals {
        let index = site as usize;
        if index >= self.0.len() {
            self.0.resize(index + 1, Totals::default());
        }
        &mut self.0[index]
    }

    pub fn add_outstanding(&mut self, outstanding: &[Allocation]) {
        for allocation in outstanding {
            self.of(allocation.site).outstanding(allocation);
        }
    }

    /// The sites with something in them, and their totals.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Totals)> {
        let all = self.0.iter().enumerate();
        all.filter(|(_, totals)| !totals.is_empty())
            .map(|(site, totals)| (site as u32, totals))
    }
}

impl Observer for SiteTotals {
    fn died(&mut self, allocation: &Allocation, _: Death, _: &Sites) {
        self.of(allocation.site).freed(allocation);
    }

    fn revived(&mut self, allocation: &Allocation, _: Death, _: &Sites) {
        self.of(allocation.site).not_freed(allocation);
    }
}
