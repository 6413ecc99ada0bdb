//! Allocation sites: what each stack, with its operation and process, has allocated and still holds.

use memleak_trace::{Event, Op, StackId};

use super::lifetimes::{Lifetimes, lifetime_bin};
use super::prefetch::prefetch;
use super::timeline::{Point, Timeline};

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
    /// The next site with the same stack.
    next: u32,
    /// Changed in the timeline's present bucket.
    pub(super) touched: bool,
}

impl Site {
    /// The site that an event belongs to, apart by thread and without figures.
    pub fn of(event: &Event) -> Site {
        Site {
            stack: event.stack,
            op: event.op,
            pid: event.pid,
            tid: event.tid,
            bytes: 0,
            count: 0,
            total_bytes: 0,
            total_count: 0,
            next: NONE,
            touched: false,
        }
    }
}

const NONE: u32 = u32::MAX;
/// Changes that are booked together, and lifetimes that are counted together.
const TOGETHER: usize = 128;

/// A change of a site's figures that is not booked yet.
#[derive(Clone, Copy, Debug)]
struct Change {
    site: u32,
    /// 1: allocated, -1: freed, 0: a part was freed, the allocation still counts.
    count: i32,
    bytes: u64,
}

/// The first site of a stack, with what tells it from others: finding it touches one cache line.
#[derive(Clone, Copy, Debug)]
struct Head {
    site: u32,
    pid: i32,
    tid: i32,
    op: Op,
}

const NO_HEAD: Head = Head {
    site: NONE,
    pid: 0,
    tid: 0,
    op: Op::Process,
};

/// Estimated figures, see [`Site`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    pub bytes: u64,
    pub count: u64,
    pub total_bytes: u64,
    pub total_count: u64,
}

/// All sites of a trace, numbered in order of first use.
#[derive(Debug, Default)]
pub struct Sites {
    sites: Vec<Site>,
    /// First site of each stack, at stack id + 1 (0: without stack). Nearly every stack has one
    /// site, so finding it needs no hashing.
    heads: Vec<Head>,
    /// Changes that wait to be booked: one at a time, each would wait for memory.
    changes: Vec<Change>,
    /// Every change is booked at once.
    is_prompt: bool,
    /// By site.
    lifetimes: Vec<Lifetimes>,
    /// Sites and bins of lifetimes that are not counted yet.
    ended: Vec<(u32, u8)>,
    timeline: Timeline,
}

impl Sites {
    /// No sites; `is_prompt`: figures are up to date at any time, not only after [`Sites::settle`].
    pub fn new(is_prompt: bool) -> Sites {
        Sites {
            is_prompt,
            ..Sites::default()
        }
    }

    /// The site of an allocation; a new one if it is the first.
    #[inline]
    pub fn find(&mut self, stack: Option<StackId>, op: Op, pid: i32, tid: i32) -> u32 {
        let head = head_of(stack);
        match self.heads.get(head) {
            Some(first) if first.op == op && first.pid == pid && first.tid == tid => first.site,
            _ => self.find_further(head, stack, op, pid, tid),
        }
    }

    /// A site that is not the first of its stack.
    #[cold]
    fn find_further(
        &mut self,
        head: usize,
        stack: Option<StackId>,
        op: Op,
        pid: i32,
        tid: i32,
    ) -> u32 {
        if head >= self.heads.len() {
            self.heads.resize(head + 1, NO_HEAD);
        }
        let first = self.heads[head].site;
        let mut index = first;
        while let Some(site) = self.sites.get(index as usize) {
            if site.op == op && site.pid == pid && site.tid == tid {
                return index;
            }
            index = site.next;
        }
        let new = self.sites.len() as u32;
        self.sites.push(Site {
            stack,
            op,
            pid,
            tid,
            bytes: 0,
            count: 0,
            total_bytes: 0,
            total_count: 0,
            next: first,
            touched: false,
        });
        self.lifetimes.push(Lifetimes::default());
        self.heads[head] = Head {
            site: new,
            pid,
            tid,
            op,
        };
        new
    }

    /// Asks the processor to load what finds the site of a stack (its number as the batch has it).
    #[inline]
    pub fn prefetch(&self, stack: i32) {
        if let Some(head) = self.heads.get(stack.wrapping_add(1) as usize) {
            prefetch(head);
        }
    }

    /// The trace's clock moves on; at a boundary of the timeline the touched sites are noted.
    #[inline]
    pub fn advance(&mut self, now: i64) {
        if self.timeline.is_due(now) {
            self.settle();
            self.timeline.advance(now, &mut self.sites);
        }
    }

    /// `bytes` were allocated.
    #[inline]
    pub fn allocate(&mut self, site: u32, bytes: u64) {
        self.note(site, 1, bytes);
    }

    /// `bytes` were freed; `count` is 0 if a part of the allocation is left.
    #[inline]
    pub fn free(&mut self, site: u32, bytes: u64, count: u64) {
        self.note(site, -i32::from(count != 0), bytes);
    }

    #[inline]
    fn note(&mut self, site: u32, count: i32, bytes: u64) {
        self.changes.push(Change { site, count, bytes });
        if self.changes.len() >= TOGETHER || self.is_prompt {
            self.settle();
        }
    }

    /// Books the changes that wait, in their order: the figures are up to date then.
    pub fn settle(&mut self) {
        for change in &self.changes {
            if let Some(site) = self.sites.get(change.site as usize) {
                prefetch(site);
            }
        }
        for change in self.changes.drain(..) {
            let figures = &mut self.sites[change.site as usize];
            // Without a branch: which of them it is, no processor could guess.
            let is_new = change.count > 0;
            let added = if is_new { change.bytes } else { 0 };
            let removed = change.bytes - added;
            figures.bytes = figures.bytes + added - removed;
            figures.count = figures.count.wrapping_add_signed(i64::from(change.count));
            figures.total_bytes += added;
            figures.total_count += u64::from(is_new);
            if !figures.touched {
                figures.touched = true;
                self.timeline.touch(change.site);
            }
        }
    }

    /// The site's figures changed to these estimates.
    pub(super) fn set(&mut self, site: u32, estimated: Figures) {
        self.settle();
        let figures = &mut self.sites[site as usize];
        figures.bytes = estimated.bytes;
        figures.count = estimated.count;
        figures.total_bytes = estimated.total_bytes;
        figures.total_count = estimated.total_count;
        if !figures.touched {
            figures.touched = true;
            self.timeline.touch(site);
        }
    }

    /// An allocation that lived so long (in nanoseconds) is freed, the last of its bytes too.
    #[inline]
    pub fn lived(&mut self, site: u32, ns: i64) {
        self.ended.push((site, lifetime_bin(ns) as u8));
        if self.ended.len() >= TOGETHER {
            self.count_lifetimes();
        }
    }

    /// What [`Sites::lived`] noted did not happen.
    pub fn revive(&mut self, site: u32, ns: i64) {
        self.count_lifetimes();
        self.lifetimes[site as usize].take_back(lifetime_bin(ns));
    }

    /// Counts the lifetimes that wait. One at a time, each would wait for memory twice; so the
    /// processor is asked for all of them first.
    fn count_lifetimes(&mut self) {
        for (site, _) in &self.ended {
            prefetch(&self.lifetimes[*site as usize]);
        }
        for (site, bin) in &self.ended {
            self.lifetimes[*site as usize].prefetch(usize::from(*bin));
        }
        for (site, bin) in self.ended.drain(..) {
            self.lifetimes[site as usize].add(usize::from(bin));
        }
    }

    /// How long the freed allocations of a site lived; whole after [`Sites::finish`].
    pub fn lifetimes(&self, site: u32) -> &Lifetimes {
        &self.lifetimes[site as usize]
    }

    /// What `free` took is live again.
    pub fn restore(&mut self, site: u32, bytes: u64, count: u64) {
        self.settle();
        let figures = &mut self.sites[site as usize];
        figures.bytes += bytes;
        figures.count += count;
        if !figures.touched {
            figures.touched = true;
            self.timeline.touch(site);
        }
    }

    /// Ends the timelines at `now`, and counts what waits to be counted.
    pub fn finish(&mut self, now: i64) {
        self.settle();
        self.count_lifetimes();
        self.timeline.finish(now, &mut self.sites);
    }

    pub fn as_slice(&self) -> &[Site] {
        &self.sites
    }

    /// Width of the timeline's buckets in nanoseconds.
    pub fn bucket_ns(&self) -> i64 {
        self.timeline.bucket_ns()
    }

    /// The buckets of the timeline in which a site changed.
    pub fn changed_in(&self, site: u32) -> impl Iterator<Item = u32> {
        self.timeline.changed_in(site)
    }

    /// When a bucket of the timeline ends: nanoseconds of the trace's clock.
    pub fn bucket_end(&self, bucket: u32) -> i64 {
        self.timeline.bucket_end(bucket)
    }

    /// The timeline of a site, see [`Timeline::points`].
    pub fn points(&self, site: u32) -> Vec<Point> {
        self.timeline.points(site)
    }
}

/// Where the first site of a stack stands.
#[inline]
fn head_of(stack: Option<StackId>) -> usize {
    stack.map_or(0, |id| usize::try_from(id.0).map_or(0, |id| id + 1))
}
