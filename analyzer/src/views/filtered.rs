//! Between replay and view: only what the filter lets through is heard of.

use crate::filter::Filter;
use crate::replay::{Allocation, Death, Observer, Sites};

/// Passes on what the filter lets through.
pub struct Filtered<O> {
    filter: Filter,
    /// Whether each site counts, as far as sites are known.
    sites: Vec<bool>,
    observer: O,
}

impl<O: Observer> Filtered<O> {
    pub fn new(filter: Filter, observer: O) -> Self {
        Filtered {
            filter,
            sites: Vec::new(),
            observer,
        }
    }

    pub fn into_parts(self) -> (Filter, O) {
        (self.filter, self.observer)
    }

    #[inline]
    fn passes(&mut self, allocation: &Allocation, sites: &Sites) -> bool {
        let known = self.sites.len();
        let all = sites.as_slice();
        if known < all.len() {
            let filter = &self.filter;
            self.sites
                .extend(all[known..].iter().map(|site| filter.site(site)));
        }
        self.sites[allocation.site as usize] && self.filter.born(allocation)
    }
}

impl<O: Observer> Observer for Filtered<O> {
    #[inline]
    fn born(&mut self, allocation: &Allocation, sites: &Sites) {
        if self.passes(allocation, sites) {
            self.observer.born(allocation, sites);
        }
    }

    #[inline]
    fn died(&mut self, allocation: &Allocation, death: Death, sites: &Sites) {
        if self.passes(allocation, sites) && self.filter.freed(allocation, death) {
            self.observer.died(allocation, death, sites);
        }
    }

    fn revived(&mut self, allocation: &Allocation, death: Death, sites: &Sites) {
        if self.passes(allocation, sites) && self.filter.freed(allocation, death) {
            self.observer.revived(allocation, death, sites);
        }
    }
}
