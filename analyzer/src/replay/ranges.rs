//! The live mappings: an interval ledger per address space, because munmap frees ranges, not blocks.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

/// A piece of a live mapping; the whole of it, unless a part was unmapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub space: i32,
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
    /// When it was mapped: nanoseconds of the trace's clock.
    pub born: i64,
    /// Index of the allocation site that mapped it.
    pub site: u32,
    /// Which mapping it is a piece of.
    pub mapping: u64,
}

impl Range {
    /// Bytes.
    pub fn size(&self) -> u64 {
        self.end - self.start
    }
}

/// The live mappings of all address spaces.
///
/// Taking a piece out and dropping it are two steps, because an mremap under way has its range out
/// of the ledger while its bytes still count.
#[derive(Debug, Default)]
pub struct Ranges {
    /// By space and first address; ranges of a space never overlap.
    ranges: BTreeMap<(i32, u64), Range>,
    /// Pieces of each mapping, those taken out included. A mapping counts until its last is dropped.
    pieces: HashMap<u64, u32>,
    next_mapping: u64,
}

impl Ranges {
    /// Adds a new mapping. The caller has taken out whatever was in its place.
    pub fn insert(&mut self, space: i32, start: u64, end: u64, born: i64, site: u32) {
        let mapping = self.next_mapping;
        self.next_mapping += 1;
        self.pieces.insert(mapping, 1);
        self.ranges.insert(
            (space, start),
            Range {
                space,
                start,
                end,
                born,
                site,
                mapping,
            },
        );
    }

    /// Takes out what lies in `[start, end)`, cutting mappings at the edges. The pieces are still
    /// counted until [`Ranges::drop_piece`].
    pub fn take(&mut self, space: i32, start: u64, end: u64) -> Vec<Range> {
        if start >= end {
            return Vec::new();
        }
        let before = (Bound::Unbounded, Bound::Excluded((space, start)));
        let first = self
            .ranges
            .range(before)
            .next_back()
            .map(|(_, range)| *range);
        let mut touched: Vec<Range> = first
            .into_iter()
            .filter(|range| range.space == space && range.end > start)
            .collect();
        touched.extend(
            self.ranges
                .range((space, start)..(space, end))
                .map(|(_, range)| *range),
        );

        for range in &mut touched {
            self.ranges.remove(&(space, range.start));
            if range.start < start {
                self.split_off(Range {
                    end: start,
                    ..*range
                });
                range.start = start;
            }
            if range.end > end {
                self.split_off(Range {
                    start: end,
                    ..*range
                });
                range.end = end;
            }
        }
        touched
    }

    /// Puts a piece back that was taken out, and joins it with its neighbours of the same mapping.
    pub fn put_back(&mut self, mut piece: Range) {
        let before = (
            Bound::Unbounded,
            Bound::Excluded((piece.space, piece.start)),
        );
        let left = self
            .ranges
            .range(before)
            .next_back()
            .map(|(_, range)| *range);
        if let Some(left) = left.filter(|left| joins(left, &piece)) {
            self.ranges.remove(&(left.space, left.start));
            self.forget_piece(left.mapping);
            piece.start = left.start;
        }
        let right = self.ranges.get(&(piece.space, piece.end)).copied();
        if let Some(right) = right.filter(|right| joins(&piece, right)) {
            self.ranges.remove(&(right.space, right.start));
            self.forget_piece(right.mapping);
            piece.end = right.end;
        }
        self.ranges.insert((piece.space, piece.start), piece);
    }

    /// A piece that was taken out is gone for good. True if it was the last of its mapping.
    pub fn drop_piece(&mut self, piece: &Range) -> bool {
        self.forget_piece(piece.mapping)
    }

    /// A dropped piece is live after all; [`Ranges::put_back`] follows.
    pub fn revive_piece(&mut self, piece: &Range) {
        *self.pieces.entry(piece.mapping).or_insert(0) += 1;
    }

    /// Takes out every range of an address space (the space ended).
    pub fn take_space(&mut self, space: i32) -> Vec<Range> {
        self.take(space, 0, u64::MAX)
    }

    /// The live ranges, by space and address.
    pub fn iter(&self) -> impl Iterator<Item = &Range> {
        self.ranges.values()
    }

    fn split_off(&mut self, piece: Range) {
        self.ranges.insert((piece.space, piece.start), piece);
        *self.pieces.entry(piece.mapping).or_insert(0) += 1;
    }

    fn forget_piece(&mut self, mapping: u64) -> bool {
        let Some(pieces) = self.pieces.get_mut(&mapping) else {
            return false;
        };
        *pieces -= 1;
        let last = *pieces == 0;
        if last {
            self.pieces.remove(&mapping);
        }
        last
    }
}

fn joins(left: &Range, right: &Range) -> bool {
    left.space == right.space && left.mapping == right.mapping && left.end == right.start
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u64 = 4096;

    fn live(ranges: &Ranges) -> Vec<(u64, u64)> {
        ranges
            .iter()
            .map(|range| (range.start / PAGE, range.end / PAGE))
            .collect()
    }

    /// Each way to cut into two mappings at pages 10–14 and 20–24: what is taken, what is left.
    #[test]
    fn taking_cuts_mappings_at_the_edges() {
        type Case = (
            &'static str,
            (u64, u64),
            &'static [(u64, u64)],
            &'static [(u64, u64)],
        );
        let cases: &[Case] = &[
            ("head", (8, 11), &[(10, 11)], &[(11, 14), (20, 24)]),
            ("tail", (13, 20), &[(13, 14)], &[(10, 13), (20, 24)]),
            (
                "middle",
                (11, 12),
                &[(11, 12)],
                &[(10, 11), (12, 14), (20, 24)],
            ),
            ("whole", (10, 14), &[(10, 14)], &[(20, 24)]),
            (
                "several",
                (12, 22),
                &[(12, 14), (20, 22)],
                &[(10, 12), (22, 24)],
            ),
            ("none", (14, 20), &[], &[(10, 14), (20, 24)]),
            ("empty", (12, 12), &[], &[(10, 14), (20, 24)]),
        ];
        for (name, (from, to), taken, left) in cases {
            let mut ranges = Ranges::default();
            ranges.insert(1, 10 * PAGE, 14 * PAGE, 0, 0);
            ranges.insert(1, 20 * PAGE, 24 * PAGE, 0, 0);
            ranges.insert(2, 10 * PAGE, 14 * PAGE, 0, 0);
            let got = ranges.take(1, from * PAGE, to * PAGE);
            let pages: Vec<_> = got.iter().map(|r| (r.start / PAGE, r.end / PAGE)).collect();
            assert_eq!(pages, *taken, "{name}");
            let mut expected = left.to_vec();
            expected.push((10, 14));
            assert_eq!(live(&ranges), expected, "{name}");

            for piece in got {
                ranges.put_back(piece);
            }
            assert_eq!(
                live(&ranges),
                [(10, 14), (20, 24), (10, 14)],
                "{name}, put back"
            );
            assert!(ranges.pieces.values().all(|pieces| *pieces == 1), "{name}");
        }
    }

    /// A mapping cut in three counts until its last piece is dropped.
    #[test]
    fn a_split_mapping_ends_with_its_last_piece() {
        let mut ranges = Ranges::default();
        ranges.insert(1, 0, 9 * PAGE, 0, 0);
        for (from, to, last) in [(3, 6, false), (0, 3, false), (6, 9, true)] {
            let taken = ranges.take(1, from * PAGE, to * PAGE);
            assert_eq!(taken.len(), 1);
            assert_eq!(ranges.drop_piece(&taken[0]), last);
        }
        assert!(ranges.pieces.is_empty());
    }
}
