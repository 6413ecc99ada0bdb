//! Gives stacks their numbers in the trace.

use std::collections::{HashMap, HashSet};

use memleak_trace::{FrameId, Stack, StackEnd, StackId};

use crate::call_tree::{CallTree, Node};
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
    /// What the next part of the recording needs; `None` if there will be none.
    again: Option<Again>,
}

/// The stacks themselves: each part of a recording tells those that it uses.
#[derive(Debug)]
struct Again {
    tree: CallTree,
    /// At the stack's number.
    stacks: Vec<Kept>,
    part: u32,
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    node: Node,
    end: StackEnd,
    /// The last part that told it.
    told_in: u32,
}

impl Again {
    fn keep(&mut self, stack: &Stack) {
        self.stacks.push(Kept {
            node: self.tree.insert(&stack.frames),
            end: stack.end,
            told_in: self.part,
        });
    }

    /// The stack, if the present part has not told it yet.
    fn untold(&mut self, id: StackId) -> Option<Stack> {
        let kept = self.stacks.get_mut(id.0 as usize)?;
        if kept.told_in == self.part {
            return None;
        }
        kept.told_in = self.part;
        Some(Stack {
            id,
            frames: self.tree.stack(kept.node),
            end: kept.end,
        })
    }
}

impl Interner {
    /// Keeps the stacks too, so that each part of the recording can tell them.
    pub fn for_parts() -> Interner {
        Interner {
            again: Some(Again {
                tree: CallTree::default(),
                stacks: Vec::new(),
                part: 0,
            }),
            ..Interner::default()
        }
    }

    /// Another part begins: it has told no stack.
    pub fn next_part(&mut self) {
        if let Some(again) = &mut self.again {
            again.part += 1;
        }
    }

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

    /// The number of a stack, and the stack itself on its first use (in this part). `None` for a hash
    /// that was never told, which the probes rule out.
    pub fn number(&mut self, hash: StackHash) -> Option<(StackId, Option<Stack>)> {
        if let Some(&id) = self.numbers.get(&hash) {
            let untold = self.again.as_mut().and_then(|again| again.untold(id));
            return Some((id, untold));
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
        if let Some(again) = &mut self.again {
            again.keep(&stack);
        }
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

    /// Each part tells a stack once, under the number that it has in the whole recording.
    #[test]
    fn parts_tell_stacks_again() {
        let mut interner = Interner::for_parts();
        interner.tell(told(8, &[2, 3]));
        let told_first = interner.number(StackHash(8));
        assert!(matches!(&told_first, Some((StackId(0), Some(_)))));
        assert_eq!(interner.number(StackHash(8)), Some((StackId(0), None)));
        interner.next_part();
        assert_eq!(interner.number(StackHash(8)), told_first);
        assert_eq!(interner.number(StackHash(8)), Some((StackId(0), None)));
        assert_eq!(interner.used(), 1);
    }
}
