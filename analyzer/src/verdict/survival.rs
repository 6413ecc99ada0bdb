//! The live allocations of a stack beside their freed siblings.
//!
//! A live allocation is a lifetime that has not ended yet: it is *censored* at its age. How likely an
//! allocation is to outlive an age is estimated from both (Kaplan and Meier 1958, on bins).

use crate::replay::{Allocation, LIFETIME_BINS, Replay, lifetime_bin, lifetime_bound};

/// Parts into which the time since a stack's first allocation is cut, by birth.
pub const BIRTH_PARTS: usize = 16;

/// The live allocations of a site, summed.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// By bin of their age.
    ages: Vec<u32>,
    /// Nanoseconds.
    pub oldest: i64,
    /// Allocations and bytes by when they were born, see [`BIRTH_PARTS`].
    births: [(u32, u64); BIRTH_PARTS],
}

/// Sums the live allocations of some sites, in their order, each given with the moment of its first allocation.
/// `at` is the moment of the report; both in nanoseconds of the trace's clock.
pub fn live(replay: &Replay, at: i64, sites: &[(u32, i64)]) -> Vec<Live> {
    let mut places = vec![u32::MAX; replay.sites().as_slice().len()];
    for (place, (site, _)) in sites.iter().enumerate() {
        places[*site as usize] = place as u32;
    }
    replay.sum_outstanding(
        sites.len(),
        |sums, allocation| {
            let place = places[allocation.site as usize] as usize;
            if let (Some(live), Some((_, first))) = (sums.get_mut(place), sites.get(place)) {
                live.add(allocation, at, *first);
            }
        },
        Live::merge,
    )
}

impl Live {
    /// Adds an allocation of a site whose first was made at `first`; `at` is the moment of the report.
    fn add(&mut self, allocation: &Allocation, at: i64, first: i64) {
        let age = allocation.age(at) as i64;
        self.oldest = self.oldest.max(age);
        self.age(lifetime_bin(age), allocation.count);
        let span = (at - first).max(1) as f64;
        let part = ((allocation.born - first).max(0) as f64 / span * BIRTH_PARTS as f64) as usize;
        let (count, bytes) = &mut self.births[part.min(BIRTH_PARTS - 1)];
        *count += allocation.count;
        *bytes += allocation.size;
    }

    /// Adds to a bin of ages.
    fn age(&mut self, bin: usize, count: u32) {
        if self.ages.len() <= bin {
            self.ages.resize(bin + 1, 0);
        }
        self.ages[bin] += count;
    }

    /// Adds what was added to another one.
    fn merge(&mut self, other: Live) {
        self.oldest = self.oldest.max(other.oldest);
        for (bin, count) in other.ages.into_iter().enumerate() {
            self.age(bin, count);
        }
        for (own, other) in self.births.iter_mut().zip(other.births) {
            *own = (own.0 + other.0, own.1 + other.1);
        }
    }
}

/// What lifetimes and ages say together. Times in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Survival {
    /// Allocations that were freed, and the medians and 99th percentiles of their lifetimes (upper
    /// ends of the bins).
    pub freed: u64,
    pub lifetime_p50: i64,
    pub lifetime_p99: i64,
    /// Live allocations older than the 99th percentile.
    pub older: u64,
    /// The age from which on an allocation is a survivor: twice the 99th percentile.
    pub survivor_age: i64,
    pub survivors: u64,
    /// Freed siblings that had lived as long.
    pub freed_as_old: u64,
    /// Share of allocations that outlive every lifetime seen (Kaplan–Meier).
    pub never_freed: f64,
}

/// How many times the 99th percentile of its freed siblings an allocation must outlive. How many freed ones
/// did decides whether that says anything.
pub const SURVIVOR: i64 = 2;

impl Survival {
    /// `None` if nothing was freed.
    pub fn new(lifetimes: &[u64; LIFETIME_BINS], live: &Live) -> Option<Survival> {
        let freed: u64 = lifetimes.iter().sum();
        if freed == 0 {
            return None;
        }
        let (lifetime_p50, _) = quantile(lifetimes, freed, 50);
        let (lifetime_p99, p99_bin) = quantile(lifetimes, freed, 99);
        let survivor_age = lifetime_p99.saturating_mul(SURVIVOR);
        let survivor_bin = lifetime_bin(survivor_age);
        let count = |bin: usize| u64::from(live.ages.get(bin).copied().unwrap_or(0));
        let from = |bin: usize| (bin..LIFETIME_BINS).map(count).sum();
        Some(Survival {
            freed,
            lifetime_p50,
            lifetime_p99,
            older: from(p99_bin + 1),
            survivor_age,
            survivors: from(survivor_bin),
            freed_as_old: lifetimes[survivor_bin..].iter().sum(),
            never_freed: never_freed(lifetimes, count),
        })
    }
}

/// Kaplan–Meier on bins: after each bin the share that was left is multiplied by the share of those
/// at risk that survived it. Live allocations of the bin's age were at risk for half of it.
fn never_freed(lifetimes: &[u64; LIFETIME_BINS], live: impl Fn(usize) -> u64) -> f64 {
    let mut at_risk: u64 =
        lifetimes.iter().sum::<u64>() + (0..LIFETIME_BINS).map(&live).sum::<u64>();
    let mut share = 1.0;
    for (bin, deaths) in lifetimes.iter().enumerate() {
        let censored = live(bin);
        let exposed = at_risk as f64 - censored as f64 / 2.0;
        if *deaths > 0 && exposed > 0.0 {
            share *= (1.0 - *deaths as f64 / exposed).max(0.0);
        }
        at_risk -= deaths + censored;
    }
    share
}

/// The upper end of the bin in which a percentile lies, and the bin.
fn quantile(bins: &[u64; LIFETIME_BINS], all: u64, percent: u64) -> (i64, usize) {
    let rank = (all * percent).div_ceil(100);
    let mut below = 0;
    for (bin, count) in bins.iter().enumerate() {
        below += count;
        if below >= rank {
            return (lifetime_bound(bin + 1), bin);
        }
    }
    (i64::MAX, LIFETIME_BINS - 1)
}

impl Live {
    /// Bytes by quarter of birth, of allocations born `before_end` nanoseconds before the end or
    /// earlier, where the site's first was `span` nanoseconds before the end. The quarters cover the
    /// time up to there.
    pub fn birth_quarters(&self, span: f64, before_end: f64) -> [u64; 4] {
        let parts = ((1.0 - before_end / span) * BIRTH_PARTS as f64).floor();
        let parts = (parts.max(0.0) as usize).min(BIRTH_PARTS);
        std::array::from_fn(|quarter| {
            let part = &self.births[parts * quarter / 4..parts * (quarter + 1) / 4];
            part.iter().map(|(_, bytes)| bytes).sum()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bins(lived: &[(i64, u64)]) -> [u64; LIFETIME_BINS] {
        let mut bins = [0; LIFETIME_BINS];
        for (ns, count) in lived {
            bins[lifetime_bin(*ns)] += count;
        }
        bins
    }

    fn live(ages: &[(i64, u32)]) -> Live {
        let mut live = Live {
            ages: vec![0; LIFETIME_BINS],
            ..Live::default()
        };
        for (age, count) in ages {
            live.ages[lifetime_bin(*age)] += count;
        }
        live
    }

    /// Percentiles, survivors and the share that is never freed, worked by hand.
    #[test]
    fn survival_by_hand() {
        let freed = bins(&[(10_000, 90), (100_000, 10)]);
        let alive = live(&[(10_000, 20), (1_000_000_000, 30)]);
        let survival = Survival::new(&freed, &alive).expect("some are freed");
        assert_eq!(
            (survival.freed, survival.older, survival.survivors),
            (100, 30, 30)
        );
        assert_eq!(
            (survival.lifetime_p50, survival.lifetime_p99),
            (12_288, 131_072)
        );
        assert_eq!(survival.freed_as_old, 0);
        // 150 at risk, 20 of them for half of the first bin: 1 - 90/140. Then 40 are left: 1 - 10/40.
        let expected = (1.0 - 90.0 / 140.0) * (1.0 - 10.0 / 40.0);
        assert!((survival.never_freed - expected).abs() < 1e-12);
    }

    /// Where all that live are younger than the freed ones were, nothing is never freed.
    #[test]
    fn all_are_freed_in_time() {
        let freed = bins(&[(1_000_000, 1000)]);
        let survival = Survival::new(&freed, &live(&[(10_000, 5)])).expect("some are freed");
        assert_eq!((survival.older, survival.survivors), (0, 0));
        assert_eq!(survival.never_freed, 0.0);
    }
}
