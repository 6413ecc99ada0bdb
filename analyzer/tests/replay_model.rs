//! Random streams against a naive model: one byte map per address space, a list of blocks, and no
//! cleverness. What they agree on is every outstanding allocation, the totals and the anomalies.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use memleak_analyze::replay::{Allocation, Death, Observer, Replay, Sites};
use memleak_trace::{Domain, Event, Op, SpaceId, StackId};
use proptest::prelude::*;

const PAGE: u64 = 4096;

/// The heap as the model sees it: live blocks, and the block each thread has under way.
#[derive(Default)]
struct Model {
    blocks: BTreeMap<(i32, u64), u64>,
    pending: BTreeMap<i32, Option<(i32, u64, u64)>>,
    /// Page by page, who mapped it.
    pages: BTreeMap<(i32, u64), u64>,
    mappings: u64,
    allocated: (u64, u64),
    unknown_frees: u64,
    implicit_frees: u64,
    unfinished: u64,
    replaced: u64,
    peak: u64,
}

impl Model {
    fn held(&self) -> u64 {
        let pending = self.pending.values().flatten().map(|(_, _, size)| size);
        self.blocks.values().chain(pending).sum()
    }

    fn allocate(&mut self, space: i32, addr: u64, size: u64) {
        self.implicit_frees += u64::from(self.blocks.insert((space, addr), size).is_some());
        self.allocated.0 += size;
        self.allocated.1 += 1;
    }

    fn event(&mut self, event: &Event) {
        let (space, tid, addr, size) = (event.space.0, event.tid, event.addr, event.size);
        match event.op {
            Op::Malloc => self.allocate(space, addr, size),
            Op::Free => {
                self.unknown_frees += u64::from(self.blocks.remove(&(space, addr)).is_none())
            }
            Op::ReallocRelease => {
                if let Some(older) = self.pending.remove(&tid) {
                    self.unfinished += 1;
                    self.unknown_frees += u64::from(older.is_none());
                }
                let block = self
                    .blocks
                    .remove(&(space, addr))
                    .map(|size| (space, addr, size));
                self.pending.insert(tid, block);
            }
            Op::Realloc => {
                let released = self.pending.remove(&tid);
                self.unknown_frees += u64::from(released == Some(None));
                // Both are live at once, unless they are the same block.
                let moved = released.flatten().filter(|old| old.1 != addr);
                self.allocate(space, addr, size);
                let old = moved.map_or(0, |old| old.2);
                self.peak = self.peak.max(self.held() + old);
            }
            Op::ReallocFailed => {
                if let Some((space, addr, size)) = self.pending.remove(&tid).flatten() {
                    match self.blocks.entry((space, addr)) {
                        Entry::Occupied(_) => self.implicit_frees += 1,
                        Entry::Vacant(gap) => {
                            gap.insert(size);
                        }
                    }
                }
            }
            Op::Mmap => {
                self.replaced += u64::from(self.unmap(space, addr, size));
                for page in 0..size / PAGE {
                    self.pages
                        .insert((space, addr / PAGE + page), self.mappings);
                }
                self.mappings += 1;
            }
            Op::Munmap => self.unknown_frees += u64::from(!self.unmap(space, addr, size)),
            Op::MunmapInner => {
                self.unmap(space, addr, size);
            }
            other => panic!("the model does not know {other:?}"),
        }
        self.peak = self.peak.max(self.held());
    }

    fn unmap(&mut self, space: i32, addr: u64, size: u64) -> bool {
        let pages = addr / PAGE..(addr + size) / PAGE;
        pages
            .filter(|page| self.pages.remove(&(space, *page)).is_some())
            .count()
            > 0
    }
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let heap_ops = vec![
        Op::Malloc,
        Op::Malloc,
        Op::Malloc,
        Op::Free,
        Op::Free,
        Op::ReallocRelease,
        Op::Realloc,
        Op::ReallocFailed,
    ];
    let heap = (
        prop::sample::select(heap_ops),
        1..4_i32,
        1..3_i32,
        1..40_u64,
        0..1000_u64,
    );
    let heap = heap.prop_map(|(op, tid, space, slot, size)| (op, tid, space, slot * 16, size));
    let mapping_ops = vec![Op::Mmap, Op::Mmap, Op::Munmap, Op::MunmapInner];
    let mapping = (
        prop::sample::select(mapping_ops),
        1..4_i32,
        1..3_i32,
        1..60_u64,
        1..12_u64,
    );
    let mapping = mapping
        .prop_map(|(op, tid, space, page, pages)| (op, tid, space, page * PAGE, pages * PAGE));
    let step = prop_oneof![3 => heap, 1 => mapping];
    prop::collection::vec(step, 0..600).prop_map(|steps| {
        let event = |(index, (op, tid, space, addr, size)): (usize, (Op, i32, i32, u64, u64))| {
            let stack = Some(StackId((index % 7) as i32));
            let space = SpaceId(space);
            Event {
                ts: index as i64,
                pid: 1,
                tid,
                op,
                space,
                addr,
                size,
                stack,
            }
        };
        steps.into_iter().enumerate().map(event).collect()
    })
}

/// Outstanding (address, bytes) of a domain.
fn outstanding(replay: &Replay, domain: Domain) -> Vec<(u64, u64)> {
    let sites = replay.sites().as_slice();
    let own = |site: u32| sites[site as usize].op.domain() == Some(domain);
    let allocations = replay
        .outstanding()
        .filter(|allocation| own(allocation.site));
    let mut list: Vec<_> = allocations.map(|a| (a.addr, a.size)).collect();
    list.sort_unstable();
    list
}

/// What an observer heard: bytes and allocations of each domain that were born and did not die.
#[derive(Default)]
struct Heard([(u64, u64); Domain::ALL.len()]);

impl Heard {
    fn of(&mut self, allocation: &Allocation, sites: &Sites) -> &mut (u64, u64) {
        let op = sites.as_slice()[allocation.site as usize].op;
        &mut self.0[op.domain().expect("an allocation") as usize]
    }
}

impl Observer for Heard {
    fn born(&mut self, allocation: &Allocation, sites: &Sites) {
        let sum = self.of(allocation, sites);
        *sum = (sum.0 + allocation.size, sum.1 + u64::from(allocation.count));
    }

    fn died(&mut self, allocation: &Allocation, death: Death, sites: &Sites) {
        assert!(death.at >= allocation.born);
        let sum = self.of(allocation, sites);
        *sum = (sum.0 - allocation.size, sum.1 - u64::from(allocation.count));
    }

    fn revived(&mut self, allocation: &Allocation, _: Death, sites: &Sites) {
        self.born(allocation, sites);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    /// Births less deaths, as an observer hears of them, are what is outstanding; with sites apart by
    /// thread too.
    #[test]
    fn observers_hear_of_everything(events in events(), by_thread in any::<bool>()) {
        let mut replay = Replay::observed_by(Heard::default(), by_thread);
        for event in &events {
            replay.event(event);
        }
        let (replay, heard) = replay.into_parts();
        for domain in Domain::ALL {
            let account = replay.account(domain).copied().unwrap_or_default();
            prop_assert_eq!(heard.0[domain as usize], (account.bytes, account.count));
        }
        let threads = replay.sites().as_slice().iter().map(|site| site.tid != 0);
        prop_assert!(threads.into_iter().all(|apart| apart == by_thread));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    /// The replay and the model agree, and allocated = freed + outstanding at every step.
    #[test]
    fn replay_agrees_with_the_model(events in events()) {
        let (mut replay, mut model) = (Replay::default(), Model::default());
        for event in &events {
            replay.event(event);
            model.event(event);
            for account in Domain::ALL.into_iter().filter_map(|domain| replay.account(domain)) {
                prop_assert_eq!(account.total_bytes, account.freed_bytes + account.bytes);
                prop_assert_eq!(account.total_count, account.freed_count + account.count);
                prop_assert!(account.peak_bytes >= account.bytes);
            }
        }

        let pending = model.pending.values().flatten().map(|(_, addr, size)| (*addr, *size));
        let mut blocks: Vec<_> =
            model.blocks.iter().map(|((_, addr), size)| (*addr, *size)).chain(pending).collect();
        blocks.sort_unstable();
        prop_assert_eq!(outstanding(&replay, Domain::Heap), blocks);

        let mapped: u64 = outstanding(&replay, Domain::Mapping).iter().map(|(_, size)| size).sum();
        prop_assert_eq!(mapped, model.pages.len() as u64 * PAGE);

        if let Some(heap) = replay.account(Domain::Heap) {
            prop_assert_eq!((heap.total_bytes, heap.total_count), model.allocated);
            prop_assert_eq!(heap.bytes, model.held());
            prop_assert_eq!(heap.peak_bytes, model.peak);
        }
        if let Some(mapping) = replay.account(Domain::Mapping) {
            let live: std::collections::BTreeSet<_> = model.pages.values().collect();
            prop_assert_eq!(mapping.count, live.len() as u64);
        }
        let anomalies = replay.anomalies();
        prop_assert_eq!(anomalies.free_before_attach + anomalies.already_freed, model.unknown_frees);
        prop_assert_eq!(anomalies.implicit_frees, model.implicit_frees);
        prop_assert_eq!(anomalies.unfinished_reallocations, model.unfinished);
        prop_assert_eq!(anomalies.mappings_replaced, model.replaced);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    /// Figures, lifetimes and timelines of sites are the same whichever thread keeps them.
    #[test]
    fn another_thread_keeps_the_same_books(events in events()) {
        let [here, apart] = [false, true].map(|apart| {
            let mut replay = Replay::default();
            if apart {
                replay.keep_books_apart();
            }
            for event in &events {
                replay.event(event);
            }
            replay.finish(events.last().map_or(0, |event| event.ts) + 1);
            replay
        });
        let (here, apart) = (here.sites(), apart.sites());
        prop_assert_eq!(here.as_slice(), apart.as_slice());
        for site in 0..here.as_slice().len() as u32 {
            prop_assert_eq!(here.lifetimes(site).bins(), apart.lifetimes(site).bins());
            prop_assert_eq!(here.points(site), apart.points(site));
        }
    }
}
