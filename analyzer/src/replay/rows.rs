//! Rows of a batch, replayed: where most events go through, those that allocate and free heap blocks.

use std::ops::Range;

use memleak_trace::op::OpSet;
use memleak_trace::{Batch, Domain, Effect, Op, StackId};

use super::Replay;
use super::blocks::Block;
use super::observer::Observer;
use super::prefetch::prefetch;

/// What most events are.
const ALLOCATES: OpSet = OpSet::of(Effect::Allocate, Domain::Heap);
const FREES: OpSet = OpSet::of(Effect::Free, Domain::Heap);

/// How many rows ahead the slot of a block and the site of a stack are asked for.
const PREFETCH_ROWS: usize = 16;
/// So many rows' are asked for at once.
const PREFETCHED_AT_ONCE: usize = 8;

/// How many rows ahead the columns themselves are asked for.
const COLUMNS_AHEAD: usize = 128;

/// Columns of the same length, which the compiler knows to be so.
struct Columns<'a> {
    ops: &'a [Op],
    ts: &'a [i64],
    pids: &'a [i32],
    tids: &'a [i32],
    spaces: &'a [i32],
    addrs: &'a [u64],
    sizes: &'a [u64],
    stack_ids: &'a [i32],
}

impl<'a> Columns<'a> {
    /// Rows of a batch; `None` if it does not have them all.
    fn of(batch: &'a Batch, rows: Range<usize>) -> Option<Columns<'a>> {
        Some(Columns {
            ops: batch.ops.get(rows.clone())?,
            ts: batch.ts.get(rows.clone())?,
            pids: batch.pids.get(rows.clone())?,
            tids: batch.tids.get(rows.clone())?,
            spaces: batch.spaces.get(rows.clone())?,
            addrs: batch.addrs.get(rows.clone())?,
            sizes: batch.sizes.get(rows.clone())?,
            stack_ids: batch.stack_ids.get(rows)?,
        })
    }
}

impl Columns<'_> {
    /// Asks for the rows of the columns from one on: another core has just written them.
    #[inline(always)]
    fn prefetch(&self, from: usize) {
        prefetch(self.ts.as_ptr().wrapping_add(from));
        prefetch(self.addrs.as_ptr().wrapping_add(from));
        prefetch(self.sizes.as_ptr().wrapping_add(from));
        prefetch(self.stack_ids.as_ptr().wrapping_add(from));
        prefetch(self.spaces.as_ptr().wrapping_add(from));
        prefetch(self.pids.as_ptr().wrapping_add(from));
        prefetch(self.ops.as_ptr().wrapping_add(from));
    }
}

impl<O: Observer> Replay<O> {
    /// Replays the events in some rows of a batch.
    pub fn batch(&mut self, batch: &Batch, rows: Range<usize>) {
        let Some(columns) = Columns::of(batch, rows.clone()) else {
            return;
        };
        for at in 0..columns.ops.len() {
            if at.is_multiple_of(PREFETCHED_AT_ONCE) {
                columns.prefetch(at + COLUMNS_AHEAD);
                self.prefetch(batch, rows.start + at + PREFETCH_ROWS);
            }
            let op = columns.ops[at];
            let (allocates, frees) = (ALLOCATES.contains(op), FREES.contains(op));
            if !allocates && !frees {
                self.other_row(batch, rows.start + at);
                continue;
            }
            self.begin(columns.ts[at], op, Domain::Heap);
            self.threads.forget_unmapped(columns.tids[at]);
            if allocates {
                let stack = columns.stack_ids[at];
                let stack = (stack != Batch::NO_STACK).then_some(StackId(stack));
                let tid = if self.by_thread { columns.tids[at] } else { 0 };
                let site = self.sites.find(stack, op, columns.pids[at], tid);
                self.allocate(Block {
                    addr: columns.addrs[at],
                    size: columns.sizes[at],
                    born: columns.ts[at],
                    space: columns.spaces[at],
                    site,
                });
            } else {
                self.free(columns.spaces[at], columns.addrs[at]);
            }
        }
        self.sites.settle();
    }

    /// Replays the event at a row. Not inlined, so that the registers are left to what most events do.
    #[inline(never)]
    fn other_row(&mut self, batch: &Batch, row: usize) {
        if let Some(event) = batch.event(row) {
            self.apply(&event, batch.detail(row));
        }
    }

    /// Asks for what rows from one on will touch. Of many at once: the processor waits for the place of each
    /// in memory (its entry in the tables of pages), and it looks up several at a time if nothing comes between.
    #[inline]
    fn prefetch(&self, batch: &Batch, from: usize) {
        let rows = from..(from + PREFETCHED_AT_ONCE).min(batch.addrs.len());
        let Some(columns) = Columns::of(batch, rows) else {
            return;
        };
        self.heap.prefetch(columns.spaces, columns.addrs);
        self.sites.prefetch(columns.stack_ids);
    }
}
