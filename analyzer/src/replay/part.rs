//! Millions of things summed on several threads, a part of them on each.

use std::ops::Range;
use std::thread;

/// One of several parts of about the same length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    index: usize,
    of: usize,
}

impl Part {
    /// All there is.
    pub const WHOLE: Part = Part { index: 0, of: 1 };

    /// So many parts, in their order.
    pub fn of(parts: usize) -> impl Iterator<Item = Part> {
        (0..parts).map(move |index| Part { index, of: parts })
    }

    /// Which of `len` things are in it.
    pub fn range(self, len: usize) -> Range<usize> {
        let bound = |index: usize| (len as u128 * index as u128 / self.of as u128) as usize;
        bound(self.index)..bound(self.index + 1)
    }
}

/// Parts of many things, a thread for each. Not as many as there are processors: sums of fractions are the same on
/// every machine.
const PARTS: usize = 4;
/// For fewer a thread is not worth its beginning.
const MANY: usize = 200_000;

/// Sums `len` things: `sum` gives what a part of them sums to, `merge` makes one sum of two, in their order.
pub fn sum<T: Send>(len: usize, merge: impl Fn(&mut T, T), sum: impl Fn(Part) -> T + Sync) -> T {
    if len < MANY {
        return sum(Part::WHOLE);
    }
    thread::scope(|scope| {
        let mut parts = Part::of(PARTS);
        let own = parts.next().unwrap_or(Part::WHOLE);
        let sum = &sum;
        let others: Vec<_> = parts
            .map(|part| {
                let thread = thread::Builder::new();
                (part, thread.spawn_scoped(scope, move || sum(part)))
            })
            .collect();
        let mut all = sum(own);
        for (part, other) in others {
            // A thread that could not begin, or came to no end, is done without.
            let other = other.ok().and_then(|thread| thread.join().ok());
            merge(&mut all, other.unwrap_or_else(|| sum(part)));
        }
        all
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parts lie one behind the other, whatever does not divide, and are nearly equal.
    #[test]
    fn parts_are_the_whole() {
        for (len, parts) in [(0, 3), (2, 3), (10, 3), (usize::MAX, 4)] {
            let ranges: Vec<_> = Part::of(parts).map(|part| part.range(len)).collect();
            assert_eq!((ranges[0].start, ranges[parts - 1].end), (0, len));
            assert!(ranges.windows(2).all(|two| two[0].end == two[1].start));
            assert!(
                ranges
                    .iter()
                    .all(|range| range.len().abs_diff(len / parts) <= 1)
            );
        }
        assert_eq!(Part::WHOLE.range(7), 0..7);
    }

    /// The sum is that of one thread, and parts are merged in their order.
    #[test]
    fn sums_are_of_all() {
        for len in [0, 1, MANY, 3 * MANY + 1] {
            let numbers = |part: Part| part.range(len).collect::<Vec<usize>>();
            let all = sum(len, |all: &mut Vec<usize>, more| all.extend(more), numbers);
            assert!(all.into_iter().eq(0..len));
        }
    }
}
