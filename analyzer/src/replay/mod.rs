//! Replay: events become lifetimes, in one pass over the trace.
//!
//! Memory grows with what is live at once and with the number of stacks, not with the trace. The
//! order of the file is the order of events; timestamps of two threads may be swapped by some
//! microseconds, so the replay's clock is the largest timestamp seen so far.

mod accounts;
mod allocation;
mod blocks;
mod estimates;
mod freed;
mod in_flight;
mod kernel;
mod mappings;
mod observer;
mod part;
mod prefetch;
mod ranges;
mod reallocation;
mod rows;
mod sites;

use std::collections::HashSet;

use memleak_trace::selection::Sampling;
use memleak_trace::{Detail, Domain, Effect, Event, Op, SpaceId};

pub use accounts::{Account, Anomalies};
pub use allocation::Allocation;
pub use blocks::{Block, Blocks};
pub use estimates::{Estimate, Estimated, Estimates};
pub use kernel::{CacheFigures, KernelAnomalies, KernelMemory, KernelSite};
pub use observer::{Death, Observer};
pub use ranges::{Range, Ranges};
pub use sites::{
    Figures, LIFETIME_BINS, Lifetimes, MAX_BUCKETS, Point, Site, Sites, lifetime_bin,
    lifetime_bound,
};

use freed::FreedAddresses;
use in_flight::{InFlight, Unknown};
use part::Part;

use crate::estimate::Sampled;

/// Blocks of pools stand in the table of heap blocks, in a space of their own beside their process's:
/// an address may be a block of both. Spaces are numbered from 1. The sign, because it changes bits of the hashed
/// address that no address of a program has: another bit would make a heap address of a pool's.
const POOL_SPACE: i32 = i32::MIN;

/// The space in the table of blocks that an event is about.
fn block_space(event: &Event) -> i32 {
    match event.op.domain() {
        Some(Domain::Pool) => event.space.0 | POOL_SPACE,
        _ => event.space.0,
    }
}

/// The domain of a block by its space in the table.
fn block_domain(space: i32) -> Domain {
    match space & POOL_SPACE {
        0 => Domain::Heap,
        _ => Domain::Pool,
    }
}

/// The state of memory after the events seen so far.
#[derive(Debug)]
pub struct Replay<O = ()> {
    heap: Blocks,
    mappings: Ranges,
    kernel: KernelMemory,
    sites: Sites,
    accounts: [Account; Domain::ALL.len()],
    recorded: [bool; Domain::ALL.len()],
    anomalies: Anomalies,
    freed: FreedAddresses,
    /// Address spaces that began as a copy: what they hold besides their own blocks is another's.
    forked: HashSet<i32>,
    inherited_frees: u64,
    threads: InFlight,
    /// Where the heap's blocks are a sample: its figures are estimates then.
    estimates: Option<Box<Estimates>>,
    now: i64,
    /// Sites are told apart by thread too.
    by_thread: bool,
    /// The event being replayed: what a death that it causes is told with.
    present: Death,
    observer: O,
}

impl Default for Replay {
    fn default() -> Self {
        Replay::observed_by((), false)
    }
}

impl Replay {
    /// The estimates of a sampled heap, which the figures of sites and account are made of.
    pub fn estimates(&self) -> Option<&Estimates> {
        self.estimates.as_deref()
    }
}

impl<O: Observer> Replay<O> {
    /// An empty state whose changes are told to `observer`. `by_thread`: each thread that allocates
    /// has sites of its own (see [`Site::tid`]).
    pub fn observed_by(observer: O, by_thread: bool) -> Replay<O> {
        Replay {
            heap: Blocks::default(),
            mappings: Ranges::default(),
            kernel: KernelMemory::default(),
            sites: Sites::new(O::LISTENS),
            accounts: Default::default(),
            recorded: Default::default(),
            anomalies: Anomalies::default(),
            freed: FreedAddresses::default(),
            forked: HashSet::new(),
            inherited_frees: 0,
            threads: InFlight::default(),
            estimates: None,
            now: 0,
            by_thread,
            present: Death {
                at: 0,
                by: Op::Process,
            },
            observer,
        }
    }

    /// The blocks that follow are a sample; `None`: all that there were.
    pub fn set_sampling(&mut self, sampling: Option<Sampling>) {
        self.estimates = sampling.map(|sampling| Box::new(Estimates::new(Sampled::new(sampling))));
    }

    /// The state without its observer, and the observer.
    pub fn into_parts(self) -> (Replay, O) {
        let replay = Replay {
            heap: self.heap,
            mappings: self.mappings,
            kernel: self.kernel,
            sites: self.sites,
            accounts: self.accounts,
            recorded: self.recorded,
            anomalies: self.anomalies,
            freed: self.freed,
            forked: self.forked,
            inherited_frees: self.inherited_frees,
            threads: self.threads,
            estimates: self.estimates,
            now: self.now,
            by_thread: self.by_thread,
            present: self.present,
            observer: (),
        };
        (replay, self.observer)
    }

    /// Lets another thread keep the figures of the sites, which are known after [`Replay::finish`] only then. For
    /// an empty state; not where an observer wants them sooner, or where they are estimates.
    pub fn keep_books_apart(&mut self) {
        if !O::LISTENS && self.estimates.is_none() {
            self.sites = Sites::kept_apart();
        }
    }

    /// Replays one event.
    pub fn event(&mut self, event: &Event) {
        self.detailed_event(event, None);
    }

    /// Replays one event, with what an allocation in the kernel tells beside its size.
    pub fn detailed_event(&mut self, event: &Event, detail: Option<&Detail>) {
        self.apply(event, detail);
        self.sites.settle();
    }

    /// An event happens.
    #[inline(always)]
    fn begin(&mut self, ts: i64, op: Op, domain: Domain) {
        self.now = self.now.max(ts);
        self.present = Death { at: ts, by: op };
        self.sites.advance(self.now);
        self.recorded[domain as usize] = true;
    }

    /// Inlined with what it does to blocks: an event that is passed in memory is read in other pieces than it was
    /// written in, and the processor waits until it is all written, behind every miss before.
    #[inline(always)]
    fn apply(&mut self, event: &Event, detail: Option<&Detail>) {
        let Some(domain) = event.op.domain() else {
            return;
        };
        self.begin(event.ts, event.op, domain);
        if domain.is_kernel() {
            let books = kernel::Books {
                sites: &mut self.sites,
                account: &mut self.accounts[domain as usize],
                now: self.now,
                by_thread: self.by_thread,
                death: self.present,
                observer: &mut self.observer,
            };
            return self.kernel.event(event, domain, detail, books);
        }
        let unmapped = self.threads.take_unmapped(event.tid);
        match (event.op.effect(), domain) {
            (Effect::Allocate, Domain::Heap | Domain::Pool) => self.allocate_block(event),
            (Effect::Allocate, Domain::Mapping) => self.map(event),
            (Effect::Free, Domain::Heap | Domain::Pool) => {
                self.free(block_space(event), event.addr)
            }
            (Effect::Free, Domain::Mapping) => self.unmap(event),
            (Effect::FreeInner, Domain::Heap | Domain::Pool) => self.free_inner_block(event),
            (Effect::FreeInner, Domain::Mapping) => {
                let pieces = self.take_range(event);
                self.drop_pieces(&pieces);
            }
            (Effect::Release, _) => self.release(event, domain),
            (Effect::Outcome, _) => self.outcome(event, domain),
            (Effect::Restore, _) => self.restore(event, domain, unmapped),
            (Effect::Describe, _) => {}
            (_, Domain::Slab | Domain::Page | Domain::Percpu) => {}
        }
    }

    /// An address space begins as a copy of another one. The blocks in it are counted where they were
    /// allocated, and are not copied here: that would cost memory for each child. A free of what the
    /// space has not allocated itself is one of an inherited block: neither an anomaly nor a change.
    pub fn fork_space(&mut self, space: SpaceId) {
        self.forked.insert(space.0);
    }

    /// Frees of blocks that a process has inherited from its parent.
    pub fn inherited_frees(&self) -> u64 {
        self.inherited_frees
    }

    /// An address space ended because its last process executed another program: its memory is
    /// freed, and that is no anomaly.
    pub fn end_space(&mut self, space: SpaceId) {
        self.forked.remove(&space.0);
        self.present = Death {
            at: self.now,
            by: Op::Process,
        };
        for space in [space.0, space.0 | POOL_SPACE] {
            for block in self.heap.remove_space(space) {
                self.count_block_freed(&block);
            }
        }
        let pieces = self.mappings.take_space(space.0);
        self.drop_pieces(&pieces);
        self.sites.settle();
    }

    /// Ends the timelines at the moment the report is about (nanoseconds of the trace's clock).
    pub fn finish(&mut self, at: i64) {
        self.sites.finish(at);
    }

    /// Every allocation that is outstanding, also those whose reallocation is under way.
    pub fn outstanding(&self) -> impl Iterator<Item = Allocation> {
        let blocks = self.heap.iter(Part::WHOLE);
        let blocks = blocks.map(|block| Allocation::from(&block));
        blocks.chain(self.outstanding_beside_table())
    }

    /// `len` sums of the allocations that are outstanding, on several threads where there are millions: `add` puts
    /// each to the sums that it belongs to, in no order, and `merge` puts those of two threads together.
    pub fn sum_outstanding<T: Clone + Default + Send>(
        &self,
        len: usize,
        add: impl Fn(&mut [T], &Allocation) + Sync,
        merge: impl Fn(&mut T, T),
    ) -> Vec<T>
    where
        O: Sync,
    {
        let merge_all = |sums: &mut Vec<T>, more: Vec<T>| {
            let both = sums.iter_mut().zip(more);
            both.for_each(|(sum, more)| merge(sum, more));
        };
        let mut sums = part::sum(self.heap.len(), merge_all, |part| {
            let mut sums = vec![T::default(); len];
            // Inner iteration: a `for` would step through the tables of all spaces one by one.
            let blocks = self.heap.iter(part);
            blocks.for_each(|block| add(&mut sums, &Allocation::from(&block)));
            sums
        });
        self.outstanding_beside_table()
            .for_each(|allocation| add(&mut sums, &allocation));
        sums
    }

    /// What is outstanding and is no block in the table.
    fn outstanding_beside_table(&self) -> impl Iterator<Item = Allocation> {
        let pending_blocks = self.threads.pending_blocks();
        let pending_ranges = self.threads.pending_ranges();
        let pending_blocks = pending_blocks.map(Allocation::from);
        let mut mappings_seen = std::collections::HashSet::new();
        let ranges = self
            .mappings
            .iter()
            .chain(pending_ranges)
            .map(move |range| Allocation::piece(range, mappings_seen.insert(range.mapping)));
        let pending = pending_blocks.chain(ranges);
        pending.chain(self.kernel.outstanding())
    }

    pub fn sites(&self) -> &Sites {
        &self.sites
    }

    /// What is known of the kernel's memory.
    pub fn kernel(&self) -> &KernelMemory {
        &self.kernel
    }

    /// The figures of a domain; `None` if the trace has no event of it.
    pub fn account(&self, domain: Domain) -> Option<&Account> {
        self.recorded[domain as usize].then(|| &self.accounts[domain as usize])
    }

    pub fn anomalies(&self) -> Anomalies {
        self.anomalies
    }

    fn allocate_block(&mut self, event: &Event) {
        let site = self.site_of(event);
        self.allocate(Block {
            addr: event.addr,
            size: event.size,
            born: event.ts,
            space: block_space(event),
            site,
        });
    }

    #[inline(always)]
    fn allocate(&mut self, block: Block) {
        if let Some(old) = self.heap.insert(block) {
            self.anomalies.implicit_frees += 1;
            self.count_block_freed(&old);
        }
        let domain = block_domain(block.space);
        let account = &mut self.accounts[domain as usize];
        match &mut self.estimates {
            Some(estimates) if domain == Domain::Heap => {
                let figures = estimates.allocate(block.site, block.size, account, self.now);
                self.sites.set(block.site, figures);
            }
            _ => {
                self.sites.allocate(block.site, block.size);
                account.allocate(block.size, self.now);
            }
        }
        self.observer.born(&Allocation::from(&block), &self.sites);
    }

    #[inline]
    fn site_of(&mut self, event: &Event) -> u32 {
        let tid = if self.by_thread { event.tid } else { 0 };
        self.sites.find(event.stack, event.op, event.pid, tid)
    }

    /// The block at an address of a space of the table is freed.
    #[inline(always)]
    fn free(&mut self, space: i32, addr: u64) {
        if addr == 0 {
            return; // free(NULL)
        }
        match self.heap.remove(space, addr) {
            Some(block) => self.block_is_free(&block),
            None => {
                let unknown = self.classify(space, addr);
                self.count_unknown(unknown);
            }
        }
    }

    fn free_inner_block(&mut self, event: &Event) {
        if let Some(block) = self.heap.remove(block_space(event), event.addr) {
            self.block_is_free(&block);
        }
    }

    /// A block that is out of the table is freed.
    #[inline(always)]
    fn block_is_free(&mut self, block: &Block) {
        self.freed.remember(block.space, block.addr);
        self.count_block_freed(block);
    }

    #[inline(always)]
    fn count_block_freed(&mut self, block: &Block) {
        let lived = self.now - block.born;
        let domain = block_domain(block.space);
        let account = &mut self.accounts[domain as usize];
        match &mut self.estimates {
            Some(estimates) if domain == Domain::Heap => {
                self.sites.lived(block.site, lived);
                let figures = estimates.free(block.site, block.size, account, self.now);
                self.sites.set(block.site, figures);
            }
            _ => {
                self.sites.end(block.site, block.size, lived);
                account.free(block.size, 1);
            }
        }
        self.observer
            .died(&Allocation::from(block), self.present, &self.sites);
    }

    /// Why there is no block at an address of a space of the table.
    #[cold]
    fn classify(&mut self, space: i32, addr: u64) -> Unknown {
        if self.freed.contains(space, addr) {
            return Unknown::AlreadyFreed;
        }
        let unknown = self.unknown_in(SpaceId(space & !POOL_SPACE));
        if unknown == Unknown::Inherited {
            // A second free of it is not inherited.
            self.freed.remember(space, addr);
        }
        unknown
    }

    /// What a space has not allocated itself is older than the recording, or inherited.
    fn unknown_in(&self, space: SpaceId) -> Unknown {
        match self.forked.contains(&space.0) {
            true => Unknown::Inherited,
            false => Unknown::BeforeAttach,
        }
    }

    fn count_unknown(&mut self, unknown: Unknown) {
        match unknown {
            Unknown::Inherited => self.inherited_frees += 1,
            Unknown::BeforeAttach => self.anomalies.free_before_attach += 1,
            Unknown::AlreadyFreed => self.anomalies.already_freed += 1,
        }
    }
}
