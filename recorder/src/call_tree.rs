//! Stacks kept small: as paths in a tree, whose outer frames they share.

use std::collections::HashMap;

use memleak_trace::FrameId;

/// The end of a path, which stands for a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Node(u32);

/// Stands above the outermost frames, and for the stack without frames.
const ROOT: Node = Node(0);

/// Every stack that was put in. It grows with frames that follow others for the first time, by about
/// 40 bytes each, not with the number of stacks and their depth.
#[derive(Debug, Default)]
pub struct CallTree {
    /// Of each node but the root, at its number less one: the node that called it, and its frame.
    callers: Vec<Node>,
    frames: Vec<FrameId>,
    callees: HashMap<(Node, FrameId), Node>,
}

impl CallTree {
    /// Puts in a stack, leaf first.
    pub fn insert(&mut self, stack: &[FrameId]) -> Node {
        let mut node = ROOT;
        for frame in stack.iter().rev() {
            node = *self.callees.entry((node, *frame)).or_insert_with(|| {
                self.callers.push(node);
                self.frames.push(*frame);
                Node(self.frames.len() as u32)
            });
        }
        node
    }

    /// The stack that ends at `node`, leaf first.
    pub fn stack(&self, node: Node) -> Vec<FrameId> {
        let mut frames = Vec::new();
        let mut node = node;
        while let Some(index) = (node.0 as usize).checked_sub(1) {
            frames.push(self.frames[index]);
            node = self.callers[index];
        }
        frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was put in comes out; outer frames are kept once; the empty stack is one too.
    #[test]
    fn stacks_share_their_outer_frames() {
        let frames = |ids: &[i64]| ids.iter().copied().map(FrameId).collect::<Vec<_>>();
        let mut tree = CallTree::default();
        let stacks = [&[1, 2, 3][..], &[9, 2, 3], &[2, 3], &[], &[3, 3, 3]].map(frames);
        let nodes = stacks.each_ref().map(|stack| tree.insert(stack));
        for (stack, node) in stacks.iter().zip(nodes) {
            assert_eq!(&tree.stack(node), stack);
            assert_eq!(tree.insert(stack), node);
        }
        assert_eq!(tree.frames.len(), 6);
    }
}
