//! The kernel's memory in the replay: each row of a table is what happened and what is left.

use memleak_analyze::replay::{Allocation, Death, Observer, Replay, Sites};
use memleak_trace::{Detail, Domain, Event, Op, SpaceId, StackId};

const PAGE: u64 = 4096;

/// Operation, address, size, bytes taken.
type Step = (Op, u64, u64, u64);
/// Bytes, count, bytes taken; frees of what is not known, implicit frees.
type Left = (u64, u64, u64, u64, u64);

fn replay(steps: &[Step]) -> Replay {
    observed(steps, (), false).0
}

fn observed<O: Observer>(steps: &[Step], observer: O, by_thread: bool) -> (Replay, O) {
    let mut replay = Replay::observed_by(observer, by_thread);
    for (ts, (op, addr, size, taken)) in (0i64..).zip(steps) {
        let event = Event {
            ts,
            pid: 7,
            tid: 8,
            op: *op,
            space: SpaceId(0),
            addr: *addr,
            size: *size,
            stack: (*taken > 0).then_some(StackId(3)),
        };
        let detail = Detail {
            size2: *taken,
            cache: (*op == Op::KmemCacheAlloc).then(|| "dentry".into()),
            gfp: None,
            comm: Some("find".into()),
        };
        replay.detailed_event(&event, (*taken > 0).then_some(&detail));
    }
    replay.finish(steps.len() as i64);
    replay.into_parts()
}

/// What an observer was told: domain, thread of the site, address, size, count; who ended it.
#[derive(Default)]
struct Told(Vec<(Domain, i32, u64, u64, u32, Option<Op>)>);

impl Told {
    fn add(&mut self, allocation: &Allocation, by: Option<Op>, sites: &Sites) {
        let site = &sites.as_slice()[allocation.site as usize];
        let domain = site.op.domain().expect("sites have domains");
        let Allocation {
            addr, size, count, ..
        } = *allocation;
        self.0.push((domain, site.tid, addr, size, count, by));
    }
}

impl Observer for Told {
    fn born(&mut self, allocation: &Allocation, sites: &Sites) {
        self.add(allocation, None, sites);
    }

    fn died(&mut self, allocation: &Allocation, death: Death, sites: &Sites) {
        self.add(allocation, Some(death.by), sites);
    }
}

/// An observer hears of every birth and death in the kernel: of pages by piece, the last of which counts.
#[test]
fn observers_hear_of_the_kernel() {
    use Domain::{Page, Percpu, Slab};
    let steps = [
        (Op::Kmalloc, 0x100, 8, 16),
        (Op::Kmalloc, 0x100, 20, 32),
        (Op::Kfree, 0x100, 0, 0),
        (Op::Kfree, 0x900, 0, 0),
        (Op::PercpuAlloc, 0x40, 16, 64),
        (Op::PercpuFree, 0x40, 0, 0),
        (Op::PageAlloc, 8 * PAGE, 4 * PAGE, 4 * PAGE),
        (Op::PageFree, 9 * PAGE, PAGE, 0),
        (Op::PageAlloc, 8 * PAGE, 4 * PAGE, 4 * PAGE),
    ];
    let (_, told) = observed(&steps, Told::default(), true);
    let expected = [
        (Slab, 8, 0x100, 8, 1, None),
        (Slab, 8, 0x100, 8, 1, Some(Op::Kmalloc)),
        (Slab, 8, 0x100, 20, 1, None),
        (Slab, 8, 0x100, 20, 1, Some(Op::Kfree)),
        (Percpu, 8, 0x40, 16, 1, None),
        (Percpu, 8, 0x40, 16, 1, Some(Op::PercpuFree)),
        (Page, 8, 8 * PAGE, 4 * PAGE, 1, None),
        (Page, 8, 9 * PAGE, PAGE, 0, Some(Op::PageFree)),
        (Page, 8, 8 * PAGE, PAGE, 0, Some(Op::PageAlloc)),
        (Page, 8, 10 * PAGE, 2 * PAGE, 1, Some(Op::PageAlloc)),
        (Page, 8, 8 * PAGE, 4 * PAGE, 1, None),
    ];
    assert_eq!(told.0, expected);
}

/// Each domain by its own rules, and none by another's.
#[test]
fn what_is_left() {
    use Op::*;
    let cases: &[(&str, Domain, &[Step], Left)] = &[
        (
            "kfree of a cache object",
            Domain::Slab,
            &[
                (KmemCacheAlloc, 0x100, 24, 32),
                (Kmalloc, 0x200, 10, 16),
                (Kfree, 0x100, 0, 0),
            ],
            (10, 1, 16, 0, 0),
        ),
        (
            "bulk and RCU frees",
            Domain::Slab,
            &[
                (Kmalloc, 0x100, 8, 8),
                (KmemCacheAllocBulk, 0x200, 8, 8),
                (Kmalloc, 0x300, 8, 8),
                (KmemCacheFreeBulk, 0x100, 0, 0),
                (KfreeRcu, 0x200, 0, 0),
            ],
            (8, 1, 8, 0, 0),
        ),
        (
            "a free that was not seen",
            Domain::Slab,
            &[(Kmalloc, 0x100, 8, 8), (Kmalloc, 0x100, 20, 32)],
            (20, 1, 32, 0, 1),
        ),
        (
            "an object older than the recording, and a second free",
            Domain::Slab,
            &[
                (Kfree, 0x900, 0, 0),
                (Kmalloc, 0x100, 8, 8),
                (Kfree, 0x100, 0, 0),
                (KmemCacheFreeBulk, 0x100, 0, 0),
            ],
            (0, 0, 0, 2, 0),
        ),
        (
            "a block of pages that is freed piece by piece",
            Domain::Page,
            &[
                (PageAlloc, 8 * PAGE, 4 * PAGE, 4 * PAGE),
                (PageFree, 9 * PAGE, PAGE, 0),
                (PageFree, 10 * PAGE, 2 * PAGE, 0),
            ],
            (PAGE, 1, PAGE, 0, 0),
        ),
        (
            "its last piece, and pages that nobody knows",
            Domain::Page,
            &[
                (PageAlloc, 8 * PAGE, 2 * PAGE, 2 * PAGE),
                (PageFree, 8 * PAGE, PAGE, 0),
                (PageFree, 9 * PAGE, PAGE, 0),
                (PageFree, 9 * PAGE, PAGE, 0),
            ],
            (0, 0, 0, 1, 0),
        ),
        (
            "pages allocated where one still lived",
            Domain::Page,
            &[
                (PageAlloc, 8 * PAGE, PAGE, PAGE),
                (PageAlloc, 8 * PAGE, 2 * PAGE, 2 * PAGE),
            ],
            (2 * PAGE, 1, 2 * PAGE, 0, 1),
        ),
        (
            "a percpu block takes its size on every CPU",
            Domain::Percpu,
            &[
                (PercpuAlloc, 0x40, 16, 64),
                (PercpuAlloc, 0x80, 8, 32),
                (PercpuFree, 0x40, 0, 0),
            ],
            (8, 1, 32, 0, 0),
        ),
        (
            "an object and a percpu block at one address are two",
            Domain::Percpu,
            &[
                (PercpuAlloc, 0x100, 16, 64),
                (Kmalloc, 0x100, 8, 8),
                (Kfree, 0x100, 0, 0),
            ],
            (16, 1, 64, 0, 0),
        ),
    ];
    for (name, domain, steps, (bytes, count, taken, unknown, implicit)) in cases {
        let replay = replay(steps);
        let account = replay.account(*domain).expect(name);
        assert_eq!((account.bytes, account.count), (*bytes, *count), "{name}");
        assert_eq!(replay.kernel().taken(*domain), *taken, "{name}");
        let anomalies = replay.kernel().anomalies(*domain);
        assert_eq!(
            (anomalies.unknown_frees, anomalies.implicit_frees),
            (*unknown, *implicit),
            "{name}"
        );
        let own = |site: u32| {
            let op = replay.sites().as_slice()[site as usize].op;
            op.domain() == Some(*domain)
        };
        let live = replay.outstanding().filter(|live| own(live.site));
        let (mut sum, mut number, mut all) = (0, 0, 0);
        for live in live {
            sum += live.size;
            number += u64::from(live.count);
            all += live.taken;
        }
        assert_eq!((sum, number, all), (*bytes, *count, *taken), "{name}");
    }
}

/// A site tells its caches with what they still hold, and who allocated.
#[test]
fn caches_of_a_site() {
    let replay = replay(&[
        (Op::KmemCacheAlloc, 0x100, 24, 32),
        (Op::KmemCacheAlloc, 0x200, 24, 32),
        (Op::KmemCacheFree, 0x100, 0, 0),
    ]);
    let site = replay.kernel().site(0).expect("a site");
    assert_eq!(site.comm.as_deref(), Some("find"));
    assert_eq!(site.caches.len(), 1);
    let cache = &site.caches[0];
    assert_eq!((&*cache.name, cache.bytes, cache.count), ("dentry", 24, 1));
}
