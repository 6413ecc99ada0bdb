//! The books of the sites: their figures, lifetimes and timelines, from entries that many events make
//! together. One entry at a time, each would wait for memory.

use super::lifetimes::{Lifetimes, lifetime_bin};
use super::timeline::Timeline;
use super::{Figures, Site};
use crate::replay::prefetch::prefetch;

/// Entries that are booked together: what they touch fits into the first cache.
const TOGETHER: usize = 128;

/// An allocation of less than 4 GiB.
#[derive(Clone, Copy, Debug)]
pub struct Allocated {
    pub site: u32,
    pub bytes: u32,
}

/// The end of such an allocation, which lived so long: nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Freed {
    pub site: u32,
    pub bytes: u32,
    pub ns: i64,
}

/// Any other change of a site's figures.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    pub site: u32,
    /// How many more allocations are outstanding.
    pub count: i16,
    /// 1 if they were allocated, and count in all; else 0.
    pub allocated: u16,
    /// How many more bytes are outstanding, modulo 2⁶⁴.
    pub bytes: u64,
}

/// Any other end of an allocation, by the bin of its lifetime.
#[derive(Clone, Copy, Debug)]
pub struct End {
    pub site: u32,
    pub bin: u8,
    /// It did not happen, though it was told.
    pub is_revoked: bool,
}

/// What events change in the books. In which order entries of one kind stand does not matter.
#[derive(Debug, Default)]
pub struct Entries {
    /// The sites met first, in order of their numbers.
    pub sites: Vec<Site>,
    pub allocated: Vec<Allocated>,
    pub freed: Vec<Freed>,
    pub changes: Vec<Change>,
    pub ends: Vec<End>,
    /// The trace's clock is here then, behind the timeline's present bucket.
    pub advance: Option<i64>,
}

/// What is known of each site, by number.
#[derive(Debug, Default)]
pub struct Books {
    pub sites: Vec<Site>,
    pub lifetimes: Vec<Lifetimes>,
    pub timeline: Timeline,
}

impl Books {
    /// Books entries, and leaves none.
    pub fn book(&mut self, entries: &mut Entries) {
        self.sites.append(&mut entries.sites);
        self.lifetimes
            .resize_with(self.sites.len(), Lifetimes::default);
        take_together(&mut entries.allocated, |some| self.allocate(some));
        take_together(&mut entries.freed, |some| self.free(some));
        take_together(&mut entries.changes, |some| self.change(some));
        take_together(&mut entries.ends, |some| self.end(some));
        if let Some(now) = entries.advance.take() {
            self.timeline.advance(now, &mut self.sites);
        }
    }

    fn allocate(&mut self, allocated: &[Allocated]) {
        for one in allocated {
            self.prefetch(one.site);
        }
        for one in allocated {
            let (site, bytes) = (self.touch(one.site), u64::from(one.bytes));
            site.bytes = site.bytes.wrapping_add(bytes);
            site.count = site.count.wrapping_add(1);
            site.total_bytes = site.total_bytes.wrapping_add(bytes);
            site.total_count += 1;
        }
    }

    fn free(&mut self, freed: &[Freed]) {
        for one in freed {
            self.prefetch(one.site);
            prefetch(&self.lifetimes[one.site as usize]);
        }
        for one in freed {
            self.lifetimes[one.site as usize].prefetch(lifetime_bin(one.ns));
        }
        for one in freed {
            let site = self.touch(one.site);
            site.bytes = site.bytes.wrapping_sub(u64::from(one.bytes));
            site.count = site.count.wrapping_sub(1);
            self.lifetimes[one.site as usize].add(lifetime_bin(one.ns));
        }
    }

    #[inline]
    fn prefetch(&self, site: u32) {
        if let Some(site) = self.sites.get(site as usize) {
            prefetch(site);
        }
    }

    /// A site whose figures change.
    #[inline]
    fn touch(&mut self, number: u32) -> &mut Site {
        let site = &mut self.sites[number as usize];
        if !site.touched {
            site.touched = true;
            self.timeline.touch(number);
        }
        site
    }

    fn change(&mut self, changes: &[Change]) {
        for change in changes {
            self.prefetch(change.site);
        }
        for change in changes {
            let site = self.touch(change.site);
            // Without a branch: which of them it is, no processor could guess.
            let allocated = u64::from(change.allocated);
            site.bytes = site.bytes.wrapping_add(change.bytes);
            site.count = site.count.wrapping_add_signed(i64::from(change.count));
            site.total_bytes = site.total_bytes.wrapping_add(allocated * change.bytes);
            site.total_count += allocated;
        }
    }

    fn end(&mut self, ends: &[End]) {
        for end in ends {
            prefetch(&self.lifetimes[end.site as usize]);
        }
        for end in ends {
            self.lifetimes[end.site as usize].prefetch(usize::from(end.bin));
        }
        for end in ends {
            let lifetimes = &mut self.lifetimes[end.site as usize];
            match end.is_revoked {
                false => lifetimes.add(usize::from(end.bin)),
                true => lifetimes.take_back(usize::from(end.bin)),
            }
        }
    }

    /// A site's figures are these estimates now.
    pub fn set(&mut self, number: u32, estimated: Figures) {
        let site = self.touch(number);
        site.bytes = estimated.bytes;
        site.count = estimated.count;
        site.total_bytes = estimated.total_bytes;
        site.total_count = estimated.total_count;
    }

    /// Ends the timelines at `now` (nanoseconds of the trace's clock).
    pub fn finish(&mut self, now: i64) {
        self.timeline.finish(now, &mut self.sites);
    }
}

/// Books entries of one kind, some together, and leaves none.
fn take_together<T>(entries: &mut Vec<T>, book: impl FnMut(&[T])) {
    entries.chunks(TOGETHER).for_each(book);
    entries.clear();
}
