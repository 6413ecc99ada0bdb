//! Random streams for the tests of views, and the lifetimes in them by a model without cleverness.

use memleak_trace::{Event, Op, SpaceId, StackId};
use proptest::prelude::*;

use crate::replay::{Observer, Replay};

/// A block of a random stream: (stack, bytes, born, died).
pub type Life = (i32, u64, i64, Option<i64>);

/// What happens at each step: a slot is allocated if it is free, else freed; and how much later
/// than the step before.
pub fn steps() -> impl Strategy<Value = Vec<(u64, i32, u64, i64)>> {
    prop::collection::vec((0..20_u64, 0..5_i32, 0..1000_u64, 0..9_i64), 1..400)
}

/// Replays the steps; returns the observer, the model's lifetimes in order of birth, and the end.
pub fn replayed<O: Observer>(
    steps: &[(u64, i32, u64, i64)],
    observer: O,
) -> (Replay, O, Vec<Life>, i64) {
    let mut replay = Replay::observed_by(observer, false);
    let mut lives: Vec<Life> = Vec::new();
    let mut slots: Vec<Option<usize>> = vec![None; 20];
    let mut now = 0;
    for (slot, stack, size, later) in steps {
        now += later;
        let freed = slots[*slot as usize].take();
        match freed {
            Some(life) => lives[life].3 = Some(now),
            None => {
                slots[*slot as usize] = Some(lives.len());
                lives.push((*stack, *size, now, None));
            }
        }
        replay.event(&Event {
            ts: now,
            pid: 1,
            tid: 1,
            op: if freed.is_some() {
                Op::Free
            } else {
                Op::Malloc
            },
            space: SpaceId(1),
            addr: (slot + 1) * 16,
            size: if freed.is_some() { 0 } else { *size },
            stack: freed.is_none().then_some(StackId(*stack)),
        });
    }
    let (replay, observer) = replay.into_parts();
    (replay, observer, lives, now)
}
