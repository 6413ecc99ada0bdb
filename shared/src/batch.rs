//! Rows as columns: what the reader hands out, one row group or less at a time.

use crate::describe::Note;
use crate::detail::Detail;
use crate::event::{Event, SpaceId};
use crate::op::Op;
use crate::stack::{Stack, StackId};

/// Rows in file order. Descriptions take a place in the columns too (their `op` says so), so that
/// `notes` and events can be interleaved; their other columns are 0 there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    pub ops: Vec<Op>,
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub ts: Vec<i64>,
    pub pids: Vec<i32>,
    pub tids: Vec<i32>,
    pub spaces: Vec<i32>,
    pub addrs: Vec<u64>,
    /// Bytes.
    pub sizes: Vec<u64>,
    /// The stack's number, or [`Batch::NO_STACK`].
    pub stack_ids: Vec<i32>,
    /// The stacks first used in this batch.
    pub stacks: Vec<Stack>,
    /// The descriptions, each with its row.
    pub notes: Vec<(usize, Note)>,
    /// What allocations in the kernel tell, each with its row, in order.
    pub details: Vec<(usize, Detail)>,
}

impl Batch {
    /// Stands where an event has no stack.
    pub const NO_STACK: i32 = -1;

    /// Rows, descriptions included.
    #[inline]
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// The event at `row`; `None` if a description stands there or the batch is shorter.
    #[inline(always)]
    pub fn event(&self, row: usize) -> Option<Event> {
        let op = *self.ops.get(row)?;
        if !op.is_event() {
            return None;
        }
        let stack = self.stack_ids[row];
        Some(Event {
            ts: self.ts[row],
            pid: self.pids[row],
            tid: self.tids[row],
            op,
            space: SpaceId(self.spaces[row]),
            addr: self.addrs[row],
            size: self.sizes[row],
            stack: (stack != Batch::NO_STACK).then_some(StackId(stack)),
        })
    }

    /// What the allocation in the kernel at `row` tells beside its size.
    #[inline]
    pub fn detail(&self, row: usize) -> Option<&Detail> {
        if self.details.is_empty() {
            return None;
        }
        let at = self.details.binary_search_by_key(&row, |(at, _)| *at);
        at.ok().map(|at| &self.details[at].1)
    }

    /// Appends an event, as the reader does; also for tests.
    pub fn push_event(&mut self, event: Event) {
        self.ops.push(event.op);
        self.ts.push(event.ts);
        self.pids.push(event.pid);
        self.tids.push(event.tid);
        self.spaces.push(event.space.0);
        self.addrs.push(event.addr);
        self.sizes.push(event.size);
        self.stack_ids
            .push(event.stack.map_or(Batch::NO_STACK, |id| id.0));
    }

    /// Appends a description, as the reader does; also for tests.
    pub fn push_note(&mut self, note: Note) {
        let row = self.len();
        self.ops.push(note.what.op());
        self.ts.push(note.ts);
        self.pids.push(0);
        self.tids.push(0);
        self.spaces.push(0);
        self.addrs.push(0);
        self.sizes.push(0);
        self.stack_ids.push(Batch::NO_STACK);
        self.notes.push((row, note));
    }
}
