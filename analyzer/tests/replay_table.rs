//! Each effect of the replay, and each trap of pairing that it decides, as a row: what happens, and
//! what must be outstanding afterwards.

use memleak_analyze::replay::{Anomalies, Replay};
use memleak_trace::Op::{self, *};
use memleak_trace::{Domain, Event, SpaceId, StackId};

const P: u64 = 4096;

/// Thread, operation, address, bytes.
type Step = (i32, Op, u64, u64);

struct Case {
    name: &'static str,
    steps: &'static [Step],
    /// Outstanding (address, bytes), by address.
    heap: &'static [(u64, u64)],
    mapping: &'static [(u64, u64)],
    /// Most bytes at once: heap, mapping.
    peak: (u64, u64),
    anomalies: Anomalies,
}

const NONE: Anomalies = Anomalies {
    free_before_attach: 0,
    already_freed: 0,
    implicit_frees: 0,
    unfinished_reallocations: 0,
    mappings_replaced: 0,
};

const CASES: &[Case] = &[
    Case {
        name: "every way to allocate a block",
        steps: &[
            (1, Malloc, 0x10, 1),
            (1, Calloc, 0x20, 2),
            (1, PosixMemalign, 0x30, 4),
            (1, AlignedAlloc, 0x40, 8),
            (1, Memalign, 0x50, 16),
            (1, Valloc, 0x60, 32),
            (1, Pvalloc, 0x70, 64),
            (1, Realloc, 0x80, 128),
            (1, Reallocarray, 0x90, 256),
        ],
        heap: &[
            (0x10, 1),
            (0x20, 2),
            (0x30, 4),
            (0x40, 8),
            (0x50, 16),
            (0x60, 32),
            (0x70, 64),
            (0x80, 128),
            (0x90, 256),
        ],
        mapping: &[],
        peak: (511, 0),
        anomalies: NONE,
    },
    Case {
        name: "U8: malloc(0) is an allocation of no bytes, free(NULL) is nothing",
        steps: &[(1, Malloc, 0x10, 0), (1, Free, 0, 0)],
        heap: &[(0x10, 0)],
        mapping: &[],
        peak: (0, 0),
        anomalies: NONE,
    },
    Case {
        name: "freed by another thread",
        steps: &[
            (1, Malloc, 0x10, 5),
            (2, Free, 0x10, 0),
            (2, Malloc, 0x10, 7),
        ],
        heap: &[(0x10, 7)],
        mapping: &[],
        peak: (7, 0),
        anomalies: NONE,
    },
    Case {
        name: "U4: realloc that moves; both blocks are live for the peak",
        steps: &[
            (1, Malloc, 0x10, 100),
            (1, ReallocRelease, 0x10, 0),
            (1, Realloc, 0x20, 150),
        ],
        heap: &[(0x20, 150)],
        mapping: &[],
        peak: (250, 0),
        anomalies: NONE,
    },
    Case {
        name: "U4: realloc in place is one block, also for the peak",
        steps: &[
            (1, Malloc, 0x10, 100),
            (1, ReallocRelease, 0x10, 0),
            (1, Realloc, 0x10, 150),
        ],
        heap: &[(0x10, 150)],
        mapping: &[],
        peak: (150, 0),
        anomalies: NONE,
    },
    Case {
        name: "U4: another thread gets the old address before realloc returns",
        steps: &[
            (1, Malloc, 0x10, 100),
            (1, ReallocRelease, 0x10, 0),
            (2, Malloc, 0x10, 30),
            (1, Realloc, 0x20, 150),
        ],
        heap: &[(0x10, 30), (0x20, 150)],
        mapping: &[],
        peak: (280, 0),
        anomalies: NONE,
    },
    Case {
        name: "U4: two threads swap addresses by realloc",
        steps: &[
            (1, Malloc, 0x10, 1),
            (2, Malloc, 0x20, 2),
            (1, ReallocRelease, 0x10, 0),
            (2, ReallocRelease, 0x20, 0),
            (1, Realloc, 0x20, 10),
            (2, Realloc, 0x10, 20),
        ],
        heap: &[(0x10, 20), (0x20, 10)],
        mapping: &[],
        // 1 and 2, then 10 more; the 1 goes, and 20 more.
        peak: (32, 0),
        anomalies: NONE,
    },
    Case {
        name: "U4: a failed realloc keeps the old block",
        steps: &[
            (1, Malloc, 0x10, 100),
            (1, ReallocRelease, 0x10, 0),
            (1, ReallocFailed, 0x10, 0),
        ],
        heap: &[(0x10, 100)],
        mapping: &[],
        peak: (100, 0),
        anomalies: NONE,
    },
    Case {
        name: "U4: a failed realloc whose address was given away loses to the younger block",
        steps: &[
            (1, Malloc, 0x10, 100),
            (1, ReallocRelease, 0x10, 0),
            (2, Malloc, 0x10, 7),
            (1, ReallocFailed, 0x10, 0),
        ],
        heap: &[(0x10, 7)],
        mapping: &[],
        peak: (107, 0),
        anomalies: Anomalies {
            implicit_frees: 1,
            ..NONE
        },
    },
    Case {
        name: "U4: realloc(p, 0) frees",
        steps: &[
            (1, Malloc, 0x10, 100),
            (1, ReallocRelease, 0x10, 0),
            (1, Realloc, 0, 0),
        ],
        heap: &[],
        mapping: &[],
        peak: (100, 0),
        anomalies: NONE,
    },
    Case {
        name: "U4: realloc(NULL, n) allocates",
        steps: &[
            (1, ReallocRelease, 0, 0),
            (1, Realloc, 0x10, 9),
            (1, Reallocarray, 0x20, 9),
        ],
        heap: &[(0x10, 9), (0x20, 9)],
        mapping: &[],
        peak: (18, 0),
        anomalies: NONE,
    },
    Case {
        name: "a realloc under way still counts",
        steps: &[(1, Malloc, 0x10, 100), (1, ReallocRelease, 0x10, 0)],
        heap: &[(0x10, 100)],
        mapping: &[],
        peak: (100, 0),
        anomalies: NONE,
    },
    Case {
        name: "U7: realloc of a block older than the recording; if it fails nothing is odd",
        steps: &[
            (1, ReallocRelease, 0x10, 0),
            (1, Realloc, 0x20, 5),
            (2, ReallocRelease, 0x30, 0),
            (2, ReallocFailed, 0x30, 0),
        ],
        heap: &[(0x20, 5)],
        mapping: &[],
        peak: (5, 0),
        anomalies: Anomalies {
            free_before_attach: 1,
            ..NONE
        },
    },
    Case {
        name: "a realloc whose outcome was lost freed its block",
        steps: &[
            (1, Malloc, 0x10, 1),
            (1, Malloc, 0x20, 2),
            (1, ReallocRelease, 0x10, 0),
            (1, ReallocRelease, 0x20, 0),
            (1, Realloc, 0x30, 4),
        ],
        heap: &[(0x30, 4)],
        mapping: &[],
        peak: (6, 0),
        anomalies: Anomalies {
            unfinished_reallocations: 1,
            ..NONE
        },
    },
    Case {
        name: "a failure of one domain does not undo what was done in the other",
        steps: &[
            (1, Mmap, 10 * P, P),
            (1, Munmap, 10 * P, P),
            (1, ReallocFailed, 0x10, 0),
            (1, Malloc, 0x10, 5),
            (1, ReallocRelease, 0x10, 0),
            (1, MremapFailed, 10 * P, P),
        ],
        heap: &[],
        mapping: &[],
        peak: (5, P),
        anomalies: Anomalies {
            unfinished_reallocations: 1,
            ..NONE
        },
    },
    Case {
        name: "U6: an allocation at a live address is an implicit free",
        steps: &[(1, Malloc, 0x10, 100), (1, Malloc, 0x10, 30)],
        heap: &[(0x10, 30)],
        mapping: &[],
        peak: (100, 0),
        anomalies: Anomalies {
            implicit_frees: 1,
            ..NONE
        },
    },
    Case {
        name: "U7: a block older than the recording, and a second free by the thread cache",
        steps: &[
            (1, Free, 0x10, 0),
            (1, Malloc, 0x20, 5),
            (1, Free, 0x20, 0),
            (1, Free, 0x20, 0),
            (1, Free, 0x20, 0),
        ],
        heap: &[],
        mapping: &[],
        peak: (5, 0),
        anomalies: Anomalies {
            free_before_attach: 1,
            already_freed: 2,
            ..NONE
        },
    },
    Case {
        name: "U10: munmap of head, tail and middle",
        steps: &[
            (1, Mmap, 10 * P, 10 * P),
            (1, Munmap, 10 * P, 2 * P),
            (1, Munmap, 18 * P, 2 * P),
            (1, Munmap, 14 * P, P),
        ],
        heap: &[],
        mapping: &[(12 * P, 2 * P), (15 * P, 3 * P)],
        peak: (0, 10 * P),
        anomalies: NONE,
    },
    Case {
        name: "U10: one munmap over several mappings and the gaps between them",
        steps: &[
            (1, Mmap, 10 * P, 2 * P),
            (1, Mmap, 14 * P, 2 * P),
            (1, Mmap, 20 * P, 4 * P),
            (1, Munmap, 11 * P, 11 * P),
        ],
        heap: &[],
        mapping: &[(10 * P, P), (22 * P, 2 * P)],
        peak: (0, 8 * P),
        anomalies: NONE,
    },
    Case {
        name: "U10: a mapping over a live one replaces what it covers",
        steps: &[(1, Mmap, 10 * P, 4 * P), (1, Mmap, 11 * P, 2 * P)],
        heap: &[],
        mapping: &[(10 * P, P), (11 * P, 2 * P), (13 * P, P)],
        peak: (0, 4 * P),
        anomalies: Anomalies {
            mappings_replaced: 1,
            ..NONE
        },
    },
    Case {
        name: "U10: a failed munmap changes nothing",
        steps: &[
            (1, Mmap, 10 * P, 4 * P),
            (1, Munmap, 11 * P, P),
            (2, Malloc, 0x10, 1),
            (1, MunmapFailed, 11 * P, P),
        ],
        heap: &[(0x10, 1)],
        mapping: &[(10 * P, 4 * P)],
        peak: (1, 4 * P),
        anomalies: NONE,
    },
    Case {
        name: "U10: only the thread's very next event can take a munmap back",
        steps: &[
            (1, Mmap, 10 * P, 4 * P),
            (1, Munmap, 10 * P, 4 * P),
            (1, Malloc, 0x10, 1),
            (1, MunmapFailed, 10 * P, 4 * P),
        ],
        heap: &[(0x10, 1)],
        mapping: &[],
        peak: (1, 4 * P),
        anomalies: NONE,
    },
    Case {
        name: "U7: munmap of a mapping older than the recording, and one that failed",
        steps: &[
            (1, Munmap, 10 * P, P),
            (2, Munmap, 20 * P, P),
            (2, MunmapFailed, 20 * P, P),
        ],
        heap: &[],
        mapping: &[],
        peak: (0, 0),
        anomalies: Anomalies {
            free_before_attach: 1,
            ..NONE
        },
    },
    Case {
        name: "an allocator's own munmap is no anomaly, and frees what we know",
        steps: &[
            (1, Mmap, 10 * P, 4 * P),
            (1, MunmapInner, 12 * P, 9 * P),
            (1, MunmapInner, 50 * P, P),
        ],
        heap: &[],
        mapping: &[(10 * P, 2 * P)],
        peak: (0, 4 * P),
        anomalies: NONE,
    },
    Case {
        name: "U10: mremap grows in place, moves, shrinks and fails",
        steps: &[
            (1, Mmap, 10 * P, 2 * P),
            (1, MremapRelease, 10 * P, 2 * P),
            (1, Mremap, 10 * P, 4 * P),
            (1, MremapRelease, 10 * P, 4 * P),
            (1, Mremap, 50 * P, 5 * P),
            (1, MremapRelease, 50 * P, 5 * P),
            (1, Mremap, 50 * P, P),
            (1, MremapRelease, 50 * P, P),
            (1, MremapFailed, 50 * P, P),
        ],
        heap: &[],
        mapping: &[(50 * P, P)],
        peak: (0, 9 * P),
        anomalies: NONE,
    },
    Case {
        name: "U10: mremap that leaves the old range mapped releases nothing; its failure restores nothing",
        steps: &[
            (1, Mmap, 10 * P, 2 * P),
            (1, Mremap, 50 * P, 2 * P),
            (1, MremapFailed, 10 * P, 2 * P),
        ],
        heap: &[],
        mapping: &[(10 * P, 2 * P), (50 * P, 2 * P)],
        peak: (0, 4 * P),
        anomalies: NONE,
    },
    Case {
        name: "U10: mremap onto a live mapping replaces what it covers",
        steps: &[
            (1, Mmap, 10 * P, 3 * P),
            (1, Mmap, 20 * P, 9 * P),
            (1, MremapRelease, 10 * P, 3 * P),
            (1, Mremap, 23 * P, 3 * P),
        ],
        heap: &[],
        mapping: &[(20 * P, 3 * P), (23 * P, 3 * P), (26 * P, 3 * P)],
        peak: (0, 12 * P),
        anomalies: Anomalies {
            mappings_replaced: 1,
            ..NONE
        },
    },
    Case {
        name: "U10: munmap page by page; the mapping ends with its last page",
        steps: &[
            (1, Mmap, 10 * P, 3 * P),
            (1, Munmap, 11 * P, P),
            (1, Munmap, 10 * P, P),
            (1, Munmap, 12 * P, P),
        ],
        heap: &[],
        mapping: &[],
        peak: (0, 3 * P),
        anomalies: NONE,
    },
    Case {
        name: "U2: a realloc left by longjmp counts until the thread's next one",
        steps: &[
            (1, Malloc, 0x10, 100),
            (1, ReallocRelease, 0x10, 0),
            (1, Malloc, 0x20, 7),
            (1, Free, 0x20, 0),
        ],
        heap: &[(0x10, 100)],
        mapping: &[],
        peak: (107, 0),
        anomalies: NONE,
    },
    Case {
        name: "U2: a handler allocates and frees within an interrupted realloc",
        steps: &[
            (1, Malloc, 0x10, 100),
            (1, ReallocRelease, 0x10, 0),
            (1, Malloc, 0x20, 7),
            (1, Free, 0x20, 0),
            (1, Mmap, 10 * P, P),
            (1, Realloc, 0x30, 150),
        ],
        heap: &[(0x30, 150)],
        mapping: &[(10 * P, P)],
        peak: (250, P),
        anomalies: NONE,
    },
    Case {
        name: "U10: mremap of the middle of a mapping",
        steps: &[
            (1, Mmap, 10 * P, 9 * P),
            (1, MremapRelease, 13 * P, 3 * P),
            (1, Mremap, 80 * P, 3 * P),
        ],
        heap: &[],
        mapping: &[(10 * P, 3 * P), (16 * P, 3 * P), (80 * P, 3 * P)],
        peak: (0, 12 * P),
        anomalies: NONE,
    },
    Case {
        name: "U11: a heap block inside a mapping belongs to the other domain",
        steps: &[
            (1, Mmap, 10 * P, 4 * P),
            (1, Malloc, 11 * P, 8),
            (1, Munmap, 10 * P, 4 * P),
        ],
        heap: &[(11 * P, 8)],
        mapping: &[],
        peak: (8, 4 * P),
        anomalies: NONE,
    },
];

fn event(ts: i64, space: i32, (tid, op, addr, size): Step) -> Event {
    let stack = Some(StackId(op as i32));
    Event {
        ts,
        pid: 1,
        tid,
        op,
        space: SpaceId(space),
        addr,
        size,
        stack,
    }
}

fn outstanding(replay: &Replay, domain: Domain) -> Vec<(u64, u64)> {
    let of_domain =
        |site: u32| replay.sites().as_slice()[site as usize].op.domain() == Some(domain);
    let allocations = replay
        .outstanding()
        .filter(|allocation| of_domain(allocation.site));
    let mut list: Vec<_> = allocations.map(|a| (a.addr, a.size)).collect();
    list.sort_unstable();
    list
}

/// Every row of the table; and in each, allocated = freed + outstanding, by domain and by site.
#[test]
fn cases() {
    for case in CASES {
        let mut replay = Replay::default();
        for (ts, step) in case.steps.iter().enumerate() {
            replay.event(&event(ts as i64, 1, *step));
        }
        let name = case.name;
        assert_eq!(
            outstanding(&replay, Domain::Heap),
            case.heap,
            "{name}: heap"
        );
        assert_eq!(
            outstanding(&replay, Domain::Mapping),
            case.mapping,
            "{name}: mappings"
        );
        assert_eq!(replay.anomalies(), case.anomalies, "{name}");
        let peak = |domain| {
            replay
                .account(domain)
                .map_or(0, |account| account.peak_bytes)
        };
        assert_eq!(
            (peak(Domain::Heap), peak(Domain::Mapping)),
            case.peak,
            "{name}: peak"
        );
        balance(&replay, name);
    }
}

/// The accounts, the sites and the list of outstanding allocations tell the same.
fn balance(replay: &Replay, name: &str) {
    for domain in Domain::ALL {
        let Some(account) = replay.account(domain) else {
            continue;
        };
        assert_eq!(
            account.total_bytes,
            account.freed_bytes + account.bytes,
            "{name}: bytes"
        );
        assert_eq!(
            account.total_count,
            account.freed_count + account.count,
            "{name}: count"
        );
        let listed: u64 = outstanding(replay, domain)
            .iter()
            .map(|(_, size)| size)
            .sum();
        assert_eq!(account.bytes, listed, "{name}: listed");
    }
    for (index, site) in replay.sites().as_slice().iter().enumerate() {
        let own = replay
            .outstanding()
            .filter(|allocation| allocation.site == index as u32);
        let (bytes, count) = own.fold((0, 0), |sum, own| {
            (sum.0 + own.size, sum.1 + u64::from(own.count))
        });
        assert_eq!(
            (site.bytes, site.count),
            (bytes, count),
            "{name}: site {index}"
        );
    }
}

/// U12: equal addresses in two address spaces are two blocks; an exec ends one space only.
#[test]
fn address_spaces_are_apart() {
    let mut replay = Replay::default();
    replay.event(&event(0, 1, (1, Malloc, 0x10, 100)));
    replay.event(&event(1, 2, (2, Malloc, 0x10, 7)));
    replay.event(&event(2, 2, (2, Mmap, 10 * P, P)));
    replay.event(&event(3, 3, (3, Free, 0x10, 0)));
    assert_eq!(outstanding(&replay, Domain::Heap), [(0x10, 7), (0x10, 100)]);
    replay.end_space(SpaceId(2));
    assert_eq!(outstanding(&replay, Domain::Heap), [(0x10, 100)]);
    assert_eq!(outstanding(&replay, Domain::Mapping), []);
    assert_eq!(
        replay.anomalies(),
        Anomalies {
            free_before_attach: 1,
            ..NONE
        }
    );
    balance(&replay, "exec");
}

/// U12: a forked child frees copies of its parent's blocks: no anomaly, and the parent's stay. What it
/// frees twice is told, its own blocks are its own, and exec ends the copy.
#[test]
fn forked_children_inherit() {
    let mut replay = Replay::default();
    replay.event(&event(0, 1, (1, Malloc, 0x10, 100)));
    replay.event(&event(1, 1, (1, Mmap, 10 * P, P)));
    replay.fork_space(SpaceId(2));
    let child = [
        (2, Malloc, 0x20, 7),
        (2, Free, 0x10, 0),
        (2, Free, 0x10, 0),
        (2, Munmap, 10 * P, P),
        (2, ReallocRelease, 0x30, 0),
        (2, Realloc, 0x40, 9),
        (2, Munmap, 20 * P, P),
        (2, MunmapFailed, 20 * P, 0),
    ];
    for (ts, step) in (2..).zip(child) {
        replay.event(&event(ts, 2, step));
    }
    assert_eq!(
        outstanding(&replay, Domain::Heap),
        [(0x10, 100), (0x20, 7), (0x40, 9)]
    );
    assert_eq!(outstanding(&replay, Domain::Mapping), [(10 * P, P)]);
    assert_eq!(replay.inherited_frees(), 3);
    assert_eq!(
        replay.anomalies(),
        Anomalies {
            already_freed: 1,
            ..NONE
        }
    );
    replay.end_space(SpaceId(2));
    replay.event(&event(20, 2, (2, Free, 0x50, 0)));
    assert_eq!(outstanding(&replay, Domain::Heap), [(0x10, 100)]);
    assert_eq!(replay.anomalies().free_before_attach, 1);
    balance(&replay, "fork");
}

/// The stack, operation and process that allocated are what is charged, whoever frees.
#[test]
fn sites_are_stack_operation_and_process() {
    let mut replay = Replay::default();
    for (addr, stack, op, pid) in [
        (0x10, Some(StackId(0)), Malloc, 1),
        (0x20, Some(StackId(0)), Calloc, 1),
        (0x30, Some(StackId(0)), Malloc, 2),
        (0x40, None, Malloc, 1),
        (0x50, Some(StackId(0)), Malloc, 1),
    ] {
        let space = SpaceId(1);
        replay.event(&Event {
            ts: 0,
            pid,
            tid: pid,
            op,
            space,
            addr,
            size: addr,
            stack,
        });
    }
    replay.event(&event(1, 1, (9, Free, 0x10, 0)));
    let sites: Vec<_> = replay
        .sites()
        .as_slice()
        .iter()
        .map(|s| (s.bytes, s.total_count))
        .collect();
    assert_eq!(sites, [(0x50, 2), (0x20, 1), (0x30, 1), (0x40, 1)]);
}

/// The replay's clock never goes back, although timestamps of two threads may be swapped.
#[test]
fn swapped_timestamps_do_no_harm() {
    let mut replay = Replay::default();
    for (ts, step) in [
        (1_000_000_000, (1, Malloc, 0x10, 1)),
        (999_990_000, (2, Malloc, 0x20, 2)),
        (1_000_000_100, (2, Free, 0x20, 0)),
    ] {
        replay.event(&event(ts, 1, step));
    }
    replay.finish(1_000_000_200);
    assert_eq!(outstanding(&replay, Domain::Heap), [(0x10, 1)]);
    let account = replay.account(Domain::Heap).expect("heap events");
    assert_eq!((account.peak_bytes, account.peak_at), (3, 1_000_000_000));
}
