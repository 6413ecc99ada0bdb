//! Seven slots for live blocks and a byte of the hash of each: a lookup compares the seven bytes at once, so
//! that hardly any of its branches depends on which slot it is.
//!
//! After F14 (Bronson and Shi, "Open-sourcing F14 for faster, more memory-efficient hash tables", 2019).

use crate::replay::prefetch::prefetch;

/// A block: its hash, its birth, and in one word its size (low half) and its site (high half).
pub type Slot = [u64; 3];

/// Slots of a chunk.
pub const SLOTS: usize = 7;

/// The highest bit of each slot's tag.
const HIGH_BITS: u64 = 0x0080_8080_8080_8080;
const LOW_BITS: u64 = 0x0101_0101_0101_0101;
const PASSED: u64 = 1 << 56;
const MOST_PASSED: u64 = 255;

/// Three cache lines; all bits zero: vacant, as the kernel hands memory out.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
pub struct Chunk {
    /// Seven bytes, one for each slot: 0 where it is vacant. The highest byte counts the blocks that
    /// found no room here or in a chunk before, and went past; at [`MOST_PASSED`] it stays.
    tags: u64,
    slots: [Slot; SLOTS],
}

/// The byte of a hash that stands for it, never 0: bits that the place of its chunk hardly depends on.
#[inline]
fn tag(hash: u64) -> u64 {
    ((hash >> 32) & 0xff).max(1)
}

/// The high bit of each slot's byte that is zero, and no other: a vacant slot still has the hash that stood there.
#[inline]
fn zero_bytes(bytes: u64) -> u64 {
    const BELOW: u64 = 0x007f_7f7f_7f7f_7f7f;
    // Adding carries into the high bit of a byte unless its other bits are all zero.
    !(((bytes & BELOW) + BELOW) | bytes) & HIGH_BITS
}

/// The slot of the lowest bit.
#[inline]
fn lowest(bits: u64) -> usize {
    (bits.trailing_zeros() / 8) as usize
}

impl Chunk {
    /// Where a hash stands.
    #[inline]
    pub fn find(&self, hash: u64) -> Option<usize> {
        let mut candidates = zero_bytes(self.tags ^ (tag(hash) * LOW_BITS));
        while candidates != 0 {
            let at = lowest(candidates);
            if self.slots.get(at).is_some_and(|slot| slot[0] == hash) {
                return Some(at);
            }
            candidates &= candidates - 1;
        }
        None
    }

    /// A vacant slot.
    #[inline]
    pub fn vacancy(&self) -> Option<usize> {
        let vacant = zero_bytes(self.tags);
        (vacant != 0).then(|| lowest(vacant))
    }

    #[inline]
    pub fn slot(&self, at: usize) -> &Slot {
        &self.slots[at]
    }

    /// Puts a block of the same hash in place of the one that stands there, which is returned.
    #[inline]
    pub fn replace(&mut self, at: usize, slot: Slot) -> Slot {
        std::mem::replace(&mut self.slots[at], slot)
    }

    /// Fills a vacancy.
    #[inline]
    pub fn fill(&mut self, at: usize, slot: Slot) {
        self.slots[at] = slot;
        self.tags |= tag(slot[0]) << (8 * at);
    }

    /// Takes a block out.
    #[inline]
    pub fn vacate(&mut self, at: usize) -> Slot {
        self.tags &= !(0xff << (8 * at));
        self.slots[at]
    }

    /// Whether a block may stand behind this chunk that would stand here if there were room.
    #[inline]
    pub fn is_passed(&self) -> bool {
        self.tags >= PASSED
    }

    /// A block went past.
    #[inline]
    pub fn pass(&mut self) {
        if self.tags >> 56 < MOST_PASSED {
            self.tags += PASSED;
        }
    }

    /// A block that had gone past is taken out.
    #[inline]
    pub fn unpass(&mut self) {
        if self.is_passed() && self.tags >> 56 < MOST_PASSED {
            self.tags -= PASSED;
        }
    }

    /// The blocks in it.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = &Slot> {
        let mut taken = !zero_bytes(self.tags) & HIGH_BITS;
        std::iter::from_fn(move || {
            let slot = (taken != 0).then(|| &self.slots[lowest(taken)]);
            taken &= taken.wrapping_sub(1);
            slot
        })
    }

    /// Asks the processor to load all of it.
    #[inline]
    pub fn prefetch(&self) {
        let lines = std::ptr::from_ref(self).cast::<[u64; 8]>();
        for line in 0..size_of::<Chunk>() / size_of::<[u64; 8]>() {
            prefetch(lines.wrapping_add(line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hash whose tag is the low byte of a number.
    fn hash(number: u64) -> u64 {
        number << 32 | number
    }

    /// Each of seven blocks is found, also with equal tags and beside a vacancy; no other one is.
    #[test]
    fn blocks_are_found_by_their_tags() {
        for step in [1, 256] {
            let mut chunk = Chunk::default();
            for number in 0..SLOTS as u64 {
                let at = chunk.vacancy().unwrap();
                chunk.fill(at, [hash(number * step), number, 7]);
                assert_eq!(chunk.find(hash((number + 1) * step)), None);
            }
            assert_eq!(chunk.vacancy(), None);
            let at = chunk.find(hash(3 * step)).unwrap();
            assert_eq!(chunk.vacate(at), [hash(3 * step), 3, 7]);
            assert_eq!(
                (chunk.vacancy(), chunk.find(hash(3 * step))),
                (Some(at), None)
            );
            assert_eq!(chunk.iter().count(), SLOTS - 1);
        }
    }

    /// What went past is counted up to a limit at which nobody knows any more.
    #[test]
    fn passing_is_counted() {
        let mut chunk = Chunk::default();
        chunk.pass();
        assert!(chunk.is_passed());
        chunk.unpass();
        assert!(!chunk.is_passed());
        for _ in 0..300 {
            chunk.pass();
        }
        for _ in 0..300 {
            chunk.unpass();
        }
        assert!(chunk.is_passed() && chunk.vacancy() == Some(0));
    }
}
