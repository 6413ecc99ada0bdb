//! Gives stacks their numbers in the trace.

use std::collections::{HashMap, HashSet};

use memleak_trace::{FrameId, Stack, StackId};

use crate::wire::{RawStack, StackHash};

/// The stacks of a recording: from the probes' hashes to numbers in order of first use.
#[derive(Debug, Default)]
pub struct Interner {
    known: HashMap<StackHash, Known>,
    next: i32,
    frames: HashSet<FrameId>,
    /// Stacks that the probes told again, having forgotten that they had.
    pub repeated: u64,
}

#[derive(Debug)]
enum Known {
    /// Told, and not yet used.
    Told(RawStack),
    Used(StackId),
}

impl Interner {
    /// Takes a stack that the probes told. Returns its frames that no stack had before.
    pub fn tell(&mut self, stack: RawStack) -> Vec<FrameId> {
        if self.known.contains_key(&stack.hash) {
            self.repeated += 1;
            return Vec::new();
        }
        let new = stack
            .frames
            .iter()
            .copied()
            .filter(|frame| self.frames.insert(*frame))
            .collect();
        self.known.insert(stack.hash, Known::Told(stack));
        new
    }

    /// The number of a stack, and the stack itself on its first use. `None` for a hash that was
    /// never told, which the probes rule out.
    pub fn number(&mut self, hash: StackHash) -> Option<(StackId, Option<Stack>)> {
        let known = self.known.get_mut(&hash)?;
        let id = match known {
            Known::Used(id) => return Some((*id, None)),
            Known::Told(_) => StackId(self.next),
        };
        self.next += 1;
        let Known::Told(told) = std::mem::replace(known, Known::Used(id)) else {
            return Some((id, None));
        };
        Some((
            id,
            Some(Stack {
                id,
                frames: told.frames,
                end: told.end,
            }),
        ))
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
