//! How long the freed allocations of each site lived: a histogram per site on a logarithmic scale.

use crate::replay::prefetch::prefetch;

/// Bins: two for each doubling from a microsecond to two months; the first and the last are open.
pub const LIFETIME_BINS: usize = 84;
const FIRST_BITS: u32 = 10;

/// The bin of a lifetime or an age in nanoseconds; negative ones (timestamps of two threads may be
/// swapped) count as 0.
#[inline]
pub fn lifetime_bin(ns: i64) -> usize {
    let ns = ns.max(0) as u64;
    if ns < 1 << FIRST_BITS {
        return 0;
    }
    let bits = ns.ilog2();
    let upper_half = ns >> (bits - 1) & 1;
    (1 + 2 * (bits - FIRST_BITS) as usize + upper_half as usize).min(LIFETIME_BINS - 1)
}

/// Where a bin begins, in nanoseconds; it ends where the next one begins.
pub fn lifetime_bound(bin: usize) -> i64 {
    match bin.checked_sub(1) {
        None => 0,
        Some(step) => {
            let base = 1i64 << (FIRST_BITS as usize + step / 2);
            base + (step % 2) as i64 * (base / 2)
        }
    }
}

/// Lifetimes of the freed allocations of one site. Only the bins between the shortest and the
/// longest lifetime take memory: there can be a million sites, most of them rarely used.
#[derive(Clone, Debug, Default)]
pub struct Lifetimes {
    first: usize,
    counts: Vec<u32>,
}

impl Lifetimes {
    /// An allocation whose lifetime belongs to a bin was freed.
    #[inline]
    pub(super) fn add(&mut self, bin: usize) {
        match bin
            .checked_sub(self.first)
            .and_then(|at| self.counts.get_mut(at))
        {
            Some(count) => *count = count.saturating_add(1),
            None => self.widen(bin),
        }
    }

    /// Asks the processor to load the count of a bin.
    #[inline]
    pub(super) fn prefetch(&self, bin: usize) {
        let at = bin.checked_sub(self.first);
        if let Some(count) = at.and_then(|at| self.counts.get(at)) {
            prefetch(count);
        }
    }

    /// What [`Lifetimes::add`] counted did not happen.
    pub(super) fn take_back(&mut self, bin: usize) {
        let at = bin.checked_sub(self.first);
        if let Some(count) = at.and_then(|at| self.counts.get_mut(at)) {
            *count = count.saturating_sub(1);
        }
    }

    #[cold]
    fn widen(&mut self, bin: usize) {
        let (from, to) = match self.counts.len() {
            0 => (bin, bin),
            len => (bin.min(self.first), bin.max(self.first + len - 1)),
        };
        let mut counts = vec![0; to - from + 1];
        for (at, count) in self.counts.iter().enumerate() {
            counts[self.first + at - from] = *count;
        }
        counts[bin - from] += 1;
        (self.first, self.counts) = (from, counts);
    }

    /// How many lived how long, by bin.
    pub fn bins(&self) -> [u64; LIFETIME_BINS] {
        let mut bins = [0; LIFETIME_BINS];
        for (at, count) in self.counts.iter().enumerate() {
            bins[self.first + at] = u64::from(*count);
        }
        bins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bound is the first value of its bin, and the value before it belongs to the bin below.
    #[test]
    fn bins_and_bounds_agree() {
        for bin in 1..LIFETIME_BINS {
            let bound = lifetime_bound(bin);
            assert_eq!(
                (lifetime_bin(bound - 1), lifetime_bin(bound)),
                (bin - 1, bin)
            );
        }
        assert_eq!(lifetime_bin(-5), 0);
        assert_eq!(lifetime_bin(i64::MAX), LIFETIME_BINS - 1);
    }

    /// Whatever the order, each lifetime is counted in its bin, and taken back from there.
    #[test]
    fn lifetimes_are_counted() {
        let lived = [5_000, 1 << 40, 7, 5_100, 1 << 20, 1 << 40];
        let mut lifetimes = Lifetimes::default();
        let mut expected = [0u64; LIFETIME_BINS];
        for ns in lived {
            lifetimes.add(lifetime_bin(ns));
            expected[lifetime_bin(ns)] += 1;
        }
        lifetimes.take_back(lifetime_bin(1 << 20));
        expected[lifetime_bin(1 << 20)] -= 1;
        assert_eq!(lifetimes.bins(), expected);
    }
}
