//! Gives stacks their numbers in the trace.

use std::collections::{HashMap, HashSet};

use memleak_trace::{FrameId, Stack, StackId};

use crate::wire::{RawStack, StackHash};

/// The stacks of a recording: from the probes' hashes to numbers in order of first use.
#[derive(Debug, Default)]
pub struct Interner {
    /// Numbers of the stacks that were used: all that is kept of them, 16 bytes each.
    numbers: HashMap<StackHash, StackId>,
    /// Stacks that were told, and not yet used.
    told: HashMap<StackHash, RawStack>,
    next: i32,
    frames: HashSet<FrameId>,
    /// Stacks that the probes told again, having forgotten that they had.
    pub repeated: u64,
}

impl Interner {
    /// Takes a stack that the probes told. Returns its frames that no stack had before.
    pub fn tell(&mut self, stack: RawStack) -> Vec<FrameId> {
        if self.numbers.contains_key(&stack.hash) || self.told.contains_key(&stack.hash) {
            self.repeated += 1;
            return Vec::new();
        }
        let new = stack
            .frames
            .iter()
            .copied()
            .filter(|frame| self.frames.insert(*frame))
            .collect();
        self.told.insert(stack.hash, stack);
        new
    }

    /// The number of a stack, and the stack itself on its first use. `None` for a hash that was
    /// never told, which the probes rule out.
    pub fn number(&mut self, hash: StackHash) -> Option<(StackId, Option<Stack>)> {
        if let Some(id) = self.numbers.get(&hash) {
            return Some((*id, None));
        }
        let told = self.told.remove(&hash)?;
        let id = StackId(self.next);
        self.next += 1;
        self.numbers.insert(hash, id);
        let stack = Stack {
            id,
            frames: told.frames,
            end: told.end,
        };
        Some((id, Some(stack)))
    }

    /// Stacks with a number.
    pub fn used(&self) -> u64 {
        self.next as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use memleak_trace::StackEnd;

    fn told(hash: u64, frames: &[i64]) -> RawStack {
        RawStack {
            hash: StackHash(hash),
            pid: 1,
            space: 1,
            end: StackEnd::Complete,
            stopped_at: 0,
            frames: frames.iter().copied().map(FrameId).collect(),
        }
    }

    /// Numbers follow first use, the stack is given once, frames are new once.
    #[test]
    fn numbers_in_order_of_first_use() {
        let mut interner = Interner::default();
        assert_eq!(interner.tell(told(7, &[1, 2])), [FrameId(1), FrameId(2)]);
        assert_eq!(interner.tell(told(8, &[2, 3])), [FrameId(3)]);
        assert_eq!(interner.tell(told(8, &[2, 3])), []);
        assert_eq!(interner.repeated, 1);

        let first = interner.number(StackHash(8));
        assert_eq!(
            first.map(|(id, stack)| (id, stack.map(|stack| stack.frames))),
            Some((StackId(0), Some(vec![FrameId(2), FrameId(3)])))
        );
        assert_eq!(interner.number(StackHash(8)), Some((StackId(0), None)));
        assert_eq!(
            interner.number(StackHash(7)).map(|(id, _)| id),
            Some(StackId(1))
        );
        assert_eq!(interner.number(StackHash(9)), None);
        assert_eq!(interner.used(), 2);
    }
}
