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
/// Lifetimes that are counted together.
const ENDED: usize = 128;

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
    heads: Vec<u32>,
    /// By site.
    lifetimes: Vec<Lifetimes>,
    /// Sites and bins of lifetimes that are not counted yet.
    ended: Vec<(u32, u8)>,
    timeline: Timeline,
}

impl Sites {
    /// The site of an allocation; a new one if it is the first.
    pub fn find(&mut self, stack: Option<StackId>, op: Op, pid: i32, tid: i32) -> u32 {
        let head = stack.map_or(0, |id| usize::try_from(id.0).map_or(0, |id| id + 1));
        if head >= self.heads.len() {
            self.heads.resize(head + 1, NONE);
        }
        let first = self.heads[head];
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
        self.heads[head] = new;
        new
    }

    /// Asks the processor to load the site of a stack (its number as the batch has it).
    #[inline]
    pub fn prefetch(&self, stack: i32) {
        let head = usize::try_from(stack)
            .ok()
            .and_then(|stack| self.heads.get(stack + 1));
        if let Some(site) = head.and_then(|head| self.sites.get(*head as usize)) {
            prefetch(site);
        }
    }

    /// Asks the processor to load a site.
    #[inline]
    pub fn prefetch_site(&self, site: u32) {
        if let Some(site) = self.sites.get(site as usize) {
            prefetch(site);
        }
    }

    /// The trace's clock moves on; at a boundary of the timeline the touched sites are noted.
    #[inline]
    pub fn advance(&mut self, now: i64) {
        if self.timeline.is_due(now) {
            self.timeline.advance(now, &mut self.sites);
        }
    }

    /// `bytes` were allocated.
    #[inline]
    pub fn allocate(&mut self, site: u32, bytes: u64) {
        let figures = &mut self.sites[site as usize];
        figures.bytes += bytes;
        figures.count += 1;
        figures.total_bytes += bytes;
        figures.total_count += 1;
        if !figures.touched {
            figures.touched = true;
            self.timeline.touch(site);
        }
    }

    /// `bytes` were freed; `count` is 0 if a part of the allocation is left.
    #[inline]
    pub fn free(&mut self, site: u32, bytes: u64, count: u64) {
        let figures = &mut self.sites[site as usize];
        figures.bytes -= bytes;
        figures.count -= count;
        if !figures.touched {
            figures.touched = true;
            self.timeline.touch(site);
        }
    }

    /// The site's figures changed to these estimates.
    pub(super) fn set(&mut self, site: u32, estimated: Figures) {
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
        if self.ended.len() >= ENDED {
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
