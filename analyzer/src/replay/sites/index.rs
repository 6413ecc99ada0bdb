//! Which site an allocation belongs to: by its stack, operation, process and perhaps thread.

use memleak_trace::{Op, StackId};

use crate::replay::prefetch::prefetch;

/// So many bytes are in the cache without being asked for.
const CACHED: usize = 256 << 10;

const NONE: u32 = u32::MAX;

/// What tells a site from the others of its stack: finding it touches one cache line.
#[derive(Clone, Copy, Debug)]
struct Known {
    site: u32,
    pid: i32,
    tid: i32,
    op: Op,
}

const NOT_KNOWN: Known = Known {
    site: NONE,
    pid: 0,
    tid: 0,
    op: Op::Process,
};

/// The sites of all stacks, numbered in order of first use.
#[derive(Debug, Default)]
pub struct SiteIndex {
    /// Newest site of each stack, at stack id + 1 (0: without stack). Nearly every stack has one
    /// site, so finding it needs no hashing.
    newest: Vec<Known>,
    /// By site: the one that was its stack's newest before.
    before: Vec<Known>,
}

impl SiteIndex {
    /// The number of a site, and whether it is new.
    #[inline]
    pub fn find(&mut self, stack: Option<StackId>, op: Op, pid: i32, tid: i32) -> (u32, bool) {
        let place = stack.map_or(0, |id| usize::try_from(id.0).map_or(0, |id| id + 1));
        match self.newest.get(place) {
            Some(known) if known.op == op && known.pid == pid && known.tid == tid => {
                (known.site, false)
            }
            _ => self.find_further(place, op, pid, tid),
        }
    }

    /// A site that is not the newest of its stack.
    #[cold]
    fn find_further(&mut self, place: usize, op: Op, pid: i32, tid: i32) -> (u32, bool) {
        if place >= self.newest.len() {
            self.newest.resize(place + 1, NOT_KNOWN);
        }
        let mut known = self.newest[place];
        while let Some(before) = self.before.get(known.site as usize) {
            if known.op == op && known.pid == pid && known.tid == tid {
                return (known.site, false);
            }
            known = *before;
        }
        let site = self.before.len() as u32;
        let newest = Known { site, pid, tid, op };
        let before = std::mem::replace(&mut self.newest[place], newest);
        self.before.push(before);
        (site, true)
    }

    /// Asks the processor to load what finds the sites of stacks (their numbers as the batch has them).
    #[inline]
    pub fn prefetch(&self, stacks: &[i32]) {
        let newest = &self.newest[..];
        if size_of_val(newest) < CACHED {
            return;
        }
        for stack in stacks {
            if let Some(known) = newest.get(stack.wrapping_add(1) as usize) {
                prefetch(known);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stacks, operations, processes and threads have sites of their own, which keep their numbers.
    #[test]
    fn sites_are_told_apart() {
        let mut index = SiteIndex::default();
        let keys: Vec<_> = (0..48)
            .map(|key| {
                let stack = [None, Some(StackId(0)), Some(StackId(5))][key % 3];
                let op = [Op::Malloc, Op::Calloc][key / 3 % 2];
                (stack, op, (key / 6 % 2) as i32, (key / 12) as i32)
            })
            .collect();
        for is_new in [true, false] {
            for (number, (stack, op, pid, tid)) in keys.iter().enumerate() {
                let found = index.find(*stack, *op, *pid, *tid);
                assert_eq!(found, (number as u32, is_new));
            }
        }
    }
}
