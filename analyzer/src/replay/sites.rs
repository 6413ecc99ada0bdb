//! Allocation sites: what each stack, with its operation and process, has allocated and still holds.

mod bookkeeper;
mod books;
mod buckets;
mod index;
mod lifetimes;
mod timeline;

use memleak_trace::{Event, Op, StackId};

use bookkeeper::{Bookkeeper, HANDED_OVER};
use books::{Allocated, Books, Change, End, Entries, Freed};
use buckets::Buckets;
use index::SiteIndex;

pub use buckets::MAX_BUCKETS;
pub use lifetimes::{LIFETIME_BINS, Lifetimes, lifetime_bin, lifetime_bound};
pub use timeline::Point;

/// Where allocations come from, and their figures. Bytes and counts of what is outstanding include
/// blocks whose reallocation is under way.
///
/// One cache line: every event touches one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(64))]
pub struct Site {
    /// `None` where the stack is missing from the trace.
    pub stack: Option<StackId>,
    pub op: Op,
    pub pid: i32,
    /// The thread that allocates; 0 where threads are not told apart.
    pub tid: i32,
    /// Bytes outstanding.
    pub bytes: u64,
    pub count: u64,
    /// Bytes allocated in all; a reallocation counts with its whole new size.
    pub total_bytes: u64,
    pub total_count: u64,
    /// Changed in the timeline's present bucket.
    pub(super) touched: bool,
}

impl Site {
    /// The site that an event belongs to, apart by thread and without figures.
    pub fn of(event: &Event) -> Site {
        Site::new(event.stack, event.op, event.pid, event.tid)
    }

    fn new(stack: Option<StackId>, op: Op, pid: i32, tid: i32) -> Site {
        Site {
            stack,
            op,
            pid,
            tid,
            bytes: 0,
            count: 0,
            total_bytes: 0,
            total_count: 0,
            touched: false,
        }
    }
}

/// Changes that are booked together where no other thread books them.
const TOGETHER: usize = 128;

/// Estimated figures, see [`Site`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    pub bytes: u64,
    pub count: u64,
    pub total_bytes: u64,
    pub total_count: u64,
}

/// All sites of a trace, numbered in order of first use.
#[derive(Debug)]
pub struct Sites {
    index: SiteIndex,
    /// What is not booked yet.
    entries: Entries,
    /// Where the timeline's present bucket ends.
    buckets: Buckets,
    /// So many entries of a kind are booked together.
    together: usize,
    books: Books,
    /// Has the books, until [`Sites::finish`].
    keeper: Option<Bookkeeper>,
}

impl Default for Sites {
    fn default() -> Sites {
        Sites::new(false)
    }
}

impl Sites {
    /// No sites; `is_prompt`: figures are up to date at any time, not only after [`Sites::settle`].
    pub fn new(is_prompt: bool) -> Sites {
        Sites {
            index: SiteIndex::default(),
            entries: Entries::default(),
            buckets: Buckets::default(),
            together: if is_prompt { 1 } else { TOGETHER },
            books: Books::default(),
            keeper: None,
        }
    }

    /// No sites, whose books another thread keeps: figures are up to date after [`Sites::finish`] only.
    pub fn kept_apart() -> Sites {
        Sites {
            keeper: Bookkeeper::start(),
            together: HANDED_OVER,
            ..Sites::default()
        }
    }

    /// The site of an allocation; a new one if it is the first.
    #[inline]
    pub fn find(&mut self, stack: Option<StackId>, op: Op, pid: i32, tid: i32) -> u32 {
        let (site, is_new) = self.index.find(stack, op, pid, tid);
        if is_new {
            self.entries.sites.push(Site::new(stack, op, pid, tid));
        }
        site
    }

    /// Asks the processor to load what finds the sites of stacks (their numbers as the batch has them).
    #[inline]
    pub fn prefetch(&self, stacks: &[i32]) {
        self.index.prefetch(stacks);
    }

    /// The trace's clock moves on; at a boundary of the timeline the touched sites are noted.
    #[inline]
    pub fn advance(&mut self, now: i64) {
        if self.buckets.is_due(now) {
            self.buckets.advance(now);
            self.entries.advance = Some(now);
            self.hand_over();
        }
    }

    /// `bytes` were allocated.
    #[inline]
    pub fn allocate(&mut self, site: u32, bytes: u64) {
        let Ok(bytes) = u32::try_from(bytes) else {
            return self.note(Change {
                site,
                count: 1,
                allocated: 1,
                bytes,
            });
        };
        self.entries.allocated.push(Allocated { site, bytes });
        self.hand_over_many(self.entries.allocated.len());
    }

    /// An allocation of `bytes` that lived so long (in nanoseconds) is freed.
    #[inline(always)]
    pub fn end(&mut self, site: u32, bytes: u64, ns: i64) {
        let Ok(bytes) = u32::try_from(bytes) else {
            self.lived(site, ns);
            return self.free(site, bytes, 1);
        };
        self.entries.freed.push(Freed { site, bytes, ns });
        self.hand_over_many(self.entries.freed.len());
    }

    /// `bytes` were freed; `count` is 0 if a part of the allocation is left.
    #[inline]
    pub fn free(&mut self, site: u32, bytes: u64, count: u64) {
        self.note(Change {
            site,
            count: -i16::from(count != 0),
            allocated: 0,
            bytes: bytes.wrapping_neg(),
        });
    }

    /// What `free` took is live again.
    pub fn restore(&mut self, site: u32, bytes: u64, count: u64) {
        self.note(Change {
            site,
            count: i16::from(count != 0),
            allocated: 0,
            bytes,
        });
    }

    #[inline]
    fn note(&mut self, change: Change) {
        self.entries.changes.push(change);
        self.hand_over_many(self.entries.changes.len());
    }

    /// Hands over if so many entries of one kind are enough.
    #[inline]
    fn hand_over_many(&mut self, waiting: usize) {
        if waiting >= self.together {
            self.hand_over();
        }
    }

    /// An allocation that lived so long (in nanoseconds) is freed, the last of its bytes too.
    #[inline]
    pub fn lived(&mut self, site: u32, ns: i64) {
        self.entries.ends.push(End {
            site,
            bin: lifetime_bin(ns) as u8,
            is_revoked: false,
        });
    }

    /// What [`Sites::lived`] noted did not happen.
    pub fn revive(&mut self, site: u32, ns: i64) {
        self.entries.ends.push(End {
            site,
            bin: lifetime_bin(ns) as u8,
            is_revoked: true,
        });
    }

    fn hand_over(&mut self) {
        match &self.keeper {
            None => self.books.book(&mut self.entries),
            Some(keeper) => keeper.hand_over(&mut self.entries),
        }
    }

    /// Books what waits: the figures are up to date then, unless another thread keeps them.
    pub fn settle(&mut self) {
        if self.keeper.is_none() {
            self.hand_over();
        }
    }

    /// Books what waits, here from now on.
    fn settle_here(&mut self) {
        self.hand_over();
        if let Some(keeper) = self.keeper.take() {
            self.books = keeper.finish();
        }
    }

    /// The site's figures changed to these estimates.
    pub(super) fn set(&mut self, site: u32, estimated: Figures) {
        self.settle_here();
        self.books.set(site, estimated);
    }

    /// Ends the timelines at `now` (nanoseconds of the trace's clock), and books what waits.
    pub fn finish(&mut self, now: i64) {
        self.settle_here();
        self.books.finish(now);
    }

    /// How long the freed allocations of a site lived.
    pub fn lifetimes(&self, site: u32) -> &Lifetimes {
        &self.books.lifetimes[site as usize]
    }

    pub fn as_slice(&self) -> &[Site] {
        &self.books.sites
    }

    /// Width of the timeline's buckets in nanoseconds.
    pub fn bucket_ns(&self) -> i64 {
        self.buckets.width()
    }

    /// The buckets of the timeline in which a site changed.
    pub fn changed_in(&self, site: u32) -> impl Iterator<Item = u32> {
        self.books.timeline.changed_in(site)
    }

    /// When a bucket of the timeline ends: nanoseconds of the trace's clock.
    pub fn bucket_end(&self, bucket: u32) -> i64 {
        self.buckets.end_of(bucket)
    }

    /// The timeline of a site, see [`Timeline::points`](timeline::Timeline::points).
    pub fn points(&self, site: u32) -> Vec<Point> {
        self.books.timeline.points(site)
    }
}
