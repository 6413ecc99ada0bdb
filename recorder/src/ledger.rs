//! Turns the probes' counters into losses and defects with a time window.

use memleak_trace::{Description, Note};

use crate::layout::Counters;

/// What was lost until when.
#[derive(Debug)]
pub struct Ledger {
    last: Counters,
    /// Counts when the recording opened.
    before: Counters,
    /// End of the last window, nanoseconds of `CLOCK_MONOTONIC`.
    last_ns: i64,
}

/// One row per cause: its name in the trace, and its counter.
type Cause = (&'static str, fn(&Counters) -> u64);

/// Events that happened and are not in the trace.
const LOSSES: [Cause; 8] = [
    ("ring full, allocation", |counters| {
        counters.lost_alloc_ring_full
    }),
    ("ring full, release", |counters| {
        counters.lost_release_ring_full
    }),
    ("no memory for the thread's state", |counters| {
        counters.lost_no_task_storage
    }),
    // One for each process: nobody knows how many events it makes.
    ("too many processes, one not followed", |counters| {
        counters.lost_no_space
    }),
    ("interrupted probe, allocation", |counters| {
        counters.lost_alloc_interrupted
    }),
    ("interrupted probe, release", |counters| {
        counters.lost_release_interrupted
    }),
    ("too many objects at once, allocation", |counters| {
        counters.lost_alloc_bulk
    }),
    ("too many objects at once, release", |counters| {
        counters.lost_release_bulk
    }),
];

/// Events that are in the trace without the whole of their stack, or whose release cannot be told from
/// others'.
const DEFECTS: [Cause; 5] = [
    ("ring full, stack not told", |counters| {
        counters.defect_stack_unpublished
    }),
    ("no memory to read the stack", |counters| {
        counters.defect_stack_unread
    }),
    (
        "no room to remember a recorded block: releases of others are recorded too from then on",
        |counters| counters.defect_set_full,
    ),
    // Of those that are walked both ways, see bpf/kernel_walk.h.
    (
        "stack walked by the tables differs from the kernel's walk",
        |counters| counters.defect_stack_mistaken,
    ),
    // One for each library: how many stacks end there is told by their ends.
    ("library opened, learnt too late", |counters| {
        counters.defect_mappings_late
    }),
];

impl Ledger {
    pub fn new(now_ns: i64) -> Ledger {
        Ledger {
            last: Counters::default(),
            before: Counters::default(),
            last_ns: now_ns,
        }
    }

    /// What the probes had counted before the recording opened is no loss.
    pub fn start(&mut self, counters: Counters) {
        self.before = counters;
        self.last = counters;
    }

    /// What was added since the last call, as notes of the window that ends now.
    pub fn update(&mut self, counters: Counters, now_ns: i64) -> Vec<Note> {
        let window_ns = (now_ns - self.last_ns).max(0) as u64;
        let mut notes = Vec::new();
        let mut add = |causes: &[Cause], what: fn(String, u64, u64) -> Description| {
            for (cause, count) in causes {
                let added = count(&counters).saturating_sub(count(&self.last));
                if added > 0 {
                    let what = what((*cause).to_owned(), added, window_ns);
                    notes.push(Note { ts: now_ns, what });
                }
            }
        };
        add(&LOSSES, |cause, count, window_ns| Description::Loss {
            cause,
            count,
            window_ns,
        });
        add(&DEFECTS, |cause, count, window_ns| Description::Defect {
            cause,
            count,
            window_ns,
        });
        self.last = counters;
        self.last_ns = now_ns;
        notes
    }

    /// Whether there are losses among the counts.
    pub fn counts_losses(counters: &Counters) -> bool {
        LOSSES.iter().any(|(_, count)| count(counters) > 0)
    }

    /// End of the last window, nanoseconds of `CLOCK_MONOTONIC`.
    pub fn last_ns(&self) -> i64 {
        self.last_ns
    }

    /// Events lost so far, of all causes.
    pub fn lost(&self) -> u64 {
        let since = |count: &fn(&Counters) -> u64| count(&self.last) - count(&self.before);
        LOSSES.iter().map(|(_, count)| since(count)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each cause is told once, with what was added in its window; no loss, no note.
    #[test]
    fn tells_what_was_added() {
        let mut ledger = Ledger::new(100);
        let mut counters = Counters {
            lost_release_ring_full: 3,
            ..Counters::default()
        };
        let loss = |count, ts, window_ns| Note {
            ts,
            what: Description::Loss {
                cause: "ring full, release".to_owned(),
                count,
                window_ns,
            },
        };
        assert_eq!(ledger.update(counters, 150), [loss(3, 150, 50)]);
        assert_eq!(ledger.update(counters, 160), []);
        counters.lost_release_ring_full = 5;
        counters.defect_stack_unread = 1;
        let notes = ledger.update(counters, 200);
        assert_eq!(notes.len(), 2);
        assert_eq!(notes[0], loss(2, 200, 40));
        assert_eq!(ledger.lost(), 5);
    }
}
