//! Streams of every class through the whole replay. Each program runs for ten seconds of trace time,
//! a step per millisecond, on one stack.

use super::{Judgement, Verdict, judge};
use crate::replay::Replay;
use memleak_trace::{Event, Op, SpaceId, StackId};

const MS: i64 = 1_000_000;
const STEPS: i64 = 10_000;

struct Program {
    replay: Replay,
    ts: i64,
    next: u64,
    seed: u64,
    live: Vec<u64>,
}

impl Program {
    fn new(seed: u64) -> Self {
        Program {
            replay: Replay::default(),
            ts: 0,
            next: 0x1000,
            seed,
            live: Vec::new(),
        }
    }

    fn event(&mut self, op: Op, addr: u64, size: u64) {
        self.ts += 100;
        let stack = (op != Op::Free).then_some(StackId(0));
        let (ts, space) = (self.ts, SpaceId(1));
        self.replay.event(&Event {
            ts,
            pid: 1,
            tid: 1,
            op,
            space,
            addr,
            size,
            stack,
        });
    }

    fn allocate(&mut self, size: u64) -> u64 {
        self.next += 0x100_0000;
        self.event(Op::Malloc, self.next, size);
        self.next
    }

    fn free(&mut self, addr: u64) {
        self.event(Op::Free, addr, 0);
    }

    /// Allocates a block that is freed by `free_oldest` or `free_any`.
    fn keep(&mut self, size: u64) {
        let addr = self.allocate(size);
        self.live.push(addr);
    }

    fn free_oldest(&mut self) {
        let addr = self.live.remove(0);
        self.free(addr);
    }

    fn free_any(&mut self) {
        let index = self.below(self.live.len() as u64) as usize;
        let addr = self.live.swap_remove(index);
        self.free(addr);
    }

    fn free_all(&mut self) {
        for addr in std::mem::take(&mut self.live) {
            self.free(addr);
        }
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.seed = self
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.seed >> 33) % limit
    }

    /// Short-lived blocks: about `count` live at once, replaced at random.
    fn churn(&mut self, count: usize) {
        for _ in 0..4 {
            if self.live.len() >= count.max(1) || (self.below(2) == 0 && !self.live.is_empty()) {
                self.free_any();
            } else {
                self.keep(64);
            }
        }
    }
}

/// What a program does in a step.
type Step = fn(&mut Program, i64);

fn run(step: Step, steps: i64) -> Judgement {
    run_with_seed(step, steps, 1)
}

fn run_with_seed(step: Step, steps: i64, seed: u64) -> Judgement {
    let mut program = Program::new(seed);
    program.replay.event(&Event {
        ts: 0,
        pid: 1,
        tid: 1,
        op: Op::Malloc,
        space: SpaceId(1),
        addr: 0x10,
        size: 1,
        stack: Some(StackId(1)),
    });
    for at in 0..steps {
        program.ts = at * MS;
        step(&mut program, at);
    }
    program.replay.finish(steps * MS);
    // Site 0 belongs to the block that starts the clock.
    judge(&program.replay, steps * MS, &[1])[0]
}

fn every(at: i64, steps: i64) -> bool {
    at % steps == 0
}

/// About 350 to 650 blocks at a time, in four waves.
fn waves(program: &mut Program, at: i64) {
    let wave = (at as f64 / STEPS as f64 * 4.0 * std::f64::consts::TAU).sin();
    let wanted = (500.0 + 150.0 * wave) as usize;
    program.keep(300);
    while program.live.len() > wanted {
        program.free_any();
    }
}

/// A behaviour, its class and what it does in a step.
type Case = (&'static str, Verdict, Step);

const CASES: &[Case] = &[
    ("a buffer that doubles", Verdict::Growing, |p, at| {
        let at = at as u64 + 1;
        if at.is_power_of_two() || at == 1 {
            p.keep(100 * at);
            if p.live.len() > 1 {
                p.free_oldest();
            }
        }
    }),
    ("a leak below a load in waves", Verdict::Growing, |p, at| {
        waves(p, at);
        if every(at, 25) {
            p.allocate(300);
        }
    }),
    ("a load in waves", Verdict::Plateau, waves),
    (
        "four tables, three of them at the start",
        Verdict::Plateau,
        |p, at| {
            if [1, 300, 700, 7_000].contains(&at) {
                p.allocate(10_000);
            }
        },
    ),
    ("a steady leak", Verdict::Growing, |p, _| {
        p.allocate(32);
    }),
    ("a slow leak", Verdict::Growing, |p, at| {
        if every(at, 300) {
            p.allocate(32);
        }
    }),
    ("a slow leak in heavy churn", Verdict::Growing, |p, at| {
        p.churn(200);
        if every(at, 25) {
            p.allocate(64);
        }
    }),
    (
        "a leak so slow that churn hides it",
        Verdict::Growing,
        |p, at| {
            if every(at, 40) {
                for _ in 0..2_000 {
                    p.keep(64);
                }
            }
            if at % 40 < 10 + at * 7 % 27 {
                for _ in 0..(p.live.len() / 4) {
                    p.free_any();
                }
            } else {
                p.free_all();
            }
            if every(at, 100) {
                p.allocate(64);
            }
        },
    ),
    ("a leak that begins late", Verdict::Growing, |p, at| {
        p.churn(20);
        if at > 7_000 {
            p.allocate(64);
        }
    }),
    (
        "a leak that begins late after a full cache",
        Verdict::Growing,
        |p, at| {
            p.keep(64);
            if p.live.len() > 300 {
                p.free_oldest();
            }
            if at > 7_000 {
                p.allocate(64);
            }
        },
    ),
    ("a leak, and an idle end", Verdict::Growing, |p, at| {
        if at < 7_500 {
            p.allocate(32);
        }
    }),
    ("a leak behind a large start", Verdict::Growing, |p, at| {
        if at < 100 {
            (0..100).for_each(|_| {
                p.allocate(64);
            });
        }
        p.allocate(64);
    }),
    ("a leak in bursts", Verdict::Growing, |p, at| {
        if every(at, 1_600) {
            (0..200).for_each(|_| {
                p.allocate(48);
            });
        }
    }),
    ("a leak with noise", Verdict::Growing, |p, at| {
        p.churn(1000);
        if at % 7 < 3 {
            p.allocate(64);
        }
    }),
    (
        "a queue that is served too slowly",
        Verdict::Growing,
        |p, at| {
            p.keep(100);
            if at % 10 < 7 {
                p.free_oldest();
            }
        },
    ),
    (
        "a buffer that grows by reallocation",
        Verdict::Growing,
        |p, at| {
            if every(at, 50) {
                let old = p.live.pop();
                if let Some(addr) = old {
                    p.event(Op::Free, addr, 0);
                }
                p.keep(4096 + at as u64 * 10);
            }
        },
    ),
    ("a leak that stopped", Verdict::Plateau, |p, at| {
        if at < 4_000 {
            p.allocate(32);
        }
    }),
    ("a leak that stopped in churn", Verdict::Plateau, |p, at| {
        p.churn(50);
        if at < 4_000 {
            p.allocate(64);
        }
    }),
    ("a cache that fills and stops", Verdict::Plateau, |p, at| {
        if at < 3_000 {
            p.allocate(512);
        }
    }),
    (
        "a cache that fills late and stops",
        Verdict::Plateau,
        |p, at| {
            if at < 6_000 {
                p.allocate(512);
            }
        },
    ),
    ("a full cache with replacement", Verdict::Plateau, |p, _| {
        p.keep(512);
        if p.live.len() > 1_000 {
            p.free_oldest();
        }
    }),
    (
        "a cache filled to the middle, with replacement",
        Verdict::Plateau,
        |p, _| {
            p.keep(512);
            if p.live.len() > 5_000 {
                p.free_oldest();
            }
        },
    ),
    ("a cache of random keys", Verdict::Plateau, |p, _| {
        // Each key is missing with the probability that it was not drawn before.
        let filled = p.live.len() as u64;
        if p.below(3_000) >= filled {
            p.keep(256);
        }
    }),
    ("growth like a logarithm", Verdict::Plateau, |p, at| {
        let wanted = (f64::ln(1.0 + at as f64) * 200.0) as usize;
        while p.live.len() < wanted {
            p.keep(64);
        }
    }),
    ("a pool whose use varies", Verdict::Plateau, |p, _| {
        p.churn(400);
    }),
    ("a start-up table", Verdict::Static, |p, at| {
        if at < 300 {
            p.allocate(128);
        }
    }),
    ("one block", Verdict::Static, |p, at| {
        if at == 2_000 {
            p.allocate(50_000);
        }
    }),
    ("batches", Verdict::Churn, |p, at| {
        if at % 700 < 600 {
            p.keep(1024);
        } else {
            p.free_all();
        }
    }),
    (
        "three batches, the last not over",
        Verdict::Churn,
        |p, at| {
            p.keep(1024);
            if every(at, 2_800) {
                p.free_all();
            }
        },
    ),
    ("blocks that come and go", Verdict::Churn, |p, _| {
        let addr = p.allocate(2_000);
        p.free(addr);
    }),
    ("a few short-lived blocks", Verdict::Churn, |p, _| {
        p.churn(2)
    }),
    ("all freed", Verdict::Churn, |p, at| {
        if at < 9_000 {
            p.keep(10);
        } else {
            p.free_all();
        }
    }),
];

/// Behaviours with chance in them that are told apart from a leak, whatever else they are called.
const NOT_GROWING: &[(&str, Step)] = &[
    ("load in waves", |p, at| {
        let wanted = 60.0 + 50.0 * (at as f64 / 700.0).sin();
        while p.live.len() < wanted as usize {
            p.keep(200);
        }
        while p.live.len() > wanted as usize {
            p.free_any();
        }
    }),
    ("a cache of random sizes", |p, _| {
        let size = 100 + p.below(5_000);
        p.keep(size);
        if p.live.len() > 700 {
            p.free_any();
        }
    }),
    ("requests that take random times", |p, _| {
        for _ in 0..p.below(4) {
            p.keep(300);
        }
        for _ in 0..p.live.len() {
            if p.below(40) == 0 {
                p.free_any();
            }
        }
    }),
    ("a pool that is cut back now and then", |p, at| {
        p.keep(100);
        if every(at, 900) {
            while p.live.len() > 300 {
                p.free_oldest();
            }
        }
    }),
];

/// Leaks with chance in them.
const GROWING: &[(&str, Step)] = &[
    ("a leak of random sizes at random times", |p, _| {
        if p.below(30) == 0 {
            let size = 1 + p.below(2_000);
            p.allocate(size);
        }
    }),
    ("a leak under load in waves", |p, at| {
        let wanted = 60.0 + 50.0 * (at as f64 / 700.0).sin();
        while p.live.len() < wanted as usize {
            p.keep(200);
        }
        while p.live.len() > wanted as usize {
            p.free_any();
        }
        if p.below(12) == 0 {
            p.allocate(200);
        }
    }),
    ("a leak in requests that take random times", |p, _| {
        for _ in 0..p.below(4) {
            p.keep(300);
        }
        for _ in 0..p.live.len() {
            if p.below(40) == 0 {
                p.free_any();
            }
        }
        if p.below(20) == 0 {
            p.allocate(300);
        }
    }),
    ("a leak beside a full cache", |p, _| {
        let size = 100 + p.below(500);
        p.keep(size);
        if p.live.len() > 1_000 {
            p.free_any();
        }
        if p.below(10) == 0 {
            p.allocate(200);
        }
    }),
];

/// Whatever the chance, no leak is called anything else, and nothing else a leak.
#[test]
fn chance_does_not_matter() {
    let mut wrong = Vec::new();
    for seed in 1..=20 {
        let cases = CASES.iter().map(|(name, class, step)| (name, *class, step));
        let growing = GROWING
            .iter()
            .map(|(name, step)| (name, Verdict::Growing, step));
        let others = NOT_GROWING
            .iter()
            .map(|(name, step)| (name, Verdict::Plateau, step));
        for (name, class, step) in cases.chain(growing).chain(others) {
            let found = run_with_seed(*step, STEPS, seed);
            let grows = found.verdict == Some(Verdict::Growing);
            if grows != (class == Verdict::Growing) {
                wrong.push(format!("{name}, seed {seed}: {found:?}"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// Every behaviour gets the verdict of its class.
#[test]
fn every_class() {
    let mut wrong = Vec::new();
    for (name, class, step) in CASES {
        let found = run(*step, STEPS);
        if found.verdict != Some(*class) {
            wrong.push(format!("{name}: {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A stack that is seen for an eighth of the buckets or less is not judged, and says so.
#[test]
fn too_short() {
    let late: Step = |p, at| {
        if at > 9_500 {
            p.allocate(8);
        }
    };
    let found = run(late, STEPS);
    assert_eq!(
        (found.verdict, found.evidence.reason),
        (None, super::Reason::TooShort)
    );
}

/// The length of a trace does not decide: behaviours that scale with it are judged alike.
#[test]
fn length_does_not_matter() {
    let leak: Step = |p, _| {
        p.allocate(32);
    };
    let cache: Step = |p, _| {
        p.keep(512);
        if p.live.len() > 200 {
            p.free_oldest();
        }
    };
    for steps in [1_000, 3_000, 70_000] {
        assert_eq!(run(leak, steps).verdict, Some(Verdict::Growing), "{steps}");
        assert_eq!(run(cache, steps).verdict, Some(Verdict::Plateau), "{steps}");
    }
}

/// The numbers of a leak of 32 bytes per millisecond say so.
#[test]
fn evidence_of_a_leak() {
    let leak: Step = |p, _| {
        p.allocate(32);
    };
    let evidence = run(leak, STEPS).evidence;
    let slope = evidence.slope_bytes_per_second.expect("a slope");
    assert!((slope - 32_000.0).abs() < 500.0, "{evidence:?}");
    assert_eq!(evidence.freed, 0);
    assert!(
        evidence.in_words().contains("/s"),
        "{}",
        evidence.in_words()
    );
}
