//! What groups of allocations hold and had in all.

use super::scaled::{Amount, Scale};
use super::{Replayed, Request, replay_with};
use crate::filter;
use crate::replay::{Allocation, Death, Observer, Sites};
use crate::series::Series;

/// The figures of a group, of the allocations that pass the filter.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Outstanding at the moment.
    pub held: Amount,
    /// Outstanding or freed.
    pub all: Amount,
}

impl Totals {
    /// Of allocations that are outstanding.
    pub fn outstanding(&mut self, amount: &Amount) {
        self.held.add(amount);
        self.all.add(amount);
    }

    pub fn add(&mut self, other: &Totals) {
        self.held.add(&other.held);
        self.all.add(&other.all);
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

/// Totals per site; what is outstanding is added after the replay.
#[derive(Debug, Default)]
pub struct SiteTotals {
    scale: Scale,
    sites: Vec<Totals>,
}

impl SiteTotals {
    pub fn new(scale: Scale) -> SiteTotals {
        let sites = Vec::new();
        SiteTotals { scale, sites }
    }

    pub fn scale(&self) -> &Scale {
        &self.scale
    }

    fn of(&mut self, site: u32) -> &mut Totals {
        let index = site as usize;
        if index >= self.sites.len() {
            self.sites.resize(index + 1, Totals::default());
        }
        &mut self.sites[index]
    }

    /// Counts what is outstanding.
    pub fn outstanding(&mut self, allocation: &Allocation, sites: &Sites) {
        let amount = self.scale.amount(allocation, sites);
        self.of(allocation.site).outstanding(&amount);
    }

    /// The sites with something in them, and their totals.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Totals)> {
        let all = self.sites.iter().enumerate();
        all.filter(|(_, totals)| !totals.is_empty())
            .map(|(site, totals)| (site as u32, totals))
    }
}

/// The totals of every stack of a trace.
pub fn replay_totals(request: &Request, trace: &Series) -> anyhow::Result<Replayed<SiteTotals>> {
    let filter = filter::resolve(trace, &request.filters)?;
    let totals = SiteTotals::new(Scale::of(trace));
    let mut replayed = replay_with(trace, request, filter, totals, false)?;
    replayed.tell_outstanding(SiteTotals::outstanding);
    Ok(replayed)
}

impl Observer for SiteTotals {
    fn died(&mut self, allocation: &Allocation, _: Death, sites: &Sites) {
        let amount = self.scale.amount(allocation, sites);
        self.of(allocation.site).all.add(&amount);
    }

    fn revived(&mut self, allocation: &Allocation, _: Death, sites: &Sites) {
        let amount = self.scale.amount(allocation, sites);
        self.of(allocation.site).all.remove(&amount);
    }
}
