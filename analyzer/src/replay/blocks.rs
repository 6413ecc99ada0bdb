//! The live heap blocks, by address: where most of the replay's time goes.
//!
//! Open addressing with linear probing and backward-shift deletion, so that there are no tombstones
//! and the table never degrades however long the trace is. A slot is 24 bytes. Each address space has
//! a table of its own, cut into [`PARTS`] by the hash: each grows alone and by half, so that at most
//! a small part of the memory exists twice, and 36 to 54 bytes are taken for each live block.
//! [`Blocks::prefetch`] lets the caller hide the cache miss.

use std::collections::HashMap;

use super::huge::{Slot, Zeroed};
use super::prefetch::prefetch;

/// A live heap block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    pub addr: u64,
    /// Bytes asked for.
    pub size: u64,
    /// When it was allocated: nanoseconds of the trace's clock.
    pub born: i64,
    /// Address space the address belongs to.
    pub space: i32,
    /// Index of the allocation site that made it.
    pub site: u32,
}

const PART_BITS: u32 = 3;
/// Parts of a table.
const PARTS: usize = 1 << PART_BITS;
/// Stands for a size that needs more than 32 bits and is kept apart.
const LARGE: u32 = u32::MAX;

/// A slot has the hash, the birth, and in one word the size (low half) and one more than the site
/// (high half): a vacant one is all zero, as the kernel hands memory out.
const VACANT: Slot = [0; 3];

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
/// `MULTIPLIER * INVERSE` is 1: the hash tells the address.
const INVERSE: u64 = inverse(MULTIPLIER);

/// The inverse of an odd number modulo 2⁶⁴, by Newton's iteration: each step doubles the right bits,
/// of which an odd number is its own inverse in three.
const fn inverse(odd: u64) -> u64 {
    let mut inverse = odd;
    let mut right = 3;
    while right < 64 {
        inverse = inverse.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(inverse)));
        right *= 2;
    }
    inverse
}

/// Multiplicative hashing: the high bits of the product are well mixed for the regular strides of
/// allocators' addresses.
#[inline]
pub(super) fn hash(space: i32, addr: u64) -> u64 {
    (addr ^ (space as u64).rotate_left(52)).wrapping_mul(MULTIPLIER)
}

/// The address of a hash.
#[inline]
fn addr_of(space: i32, hash: u64) -> u64 {
    hash.wrapping_mul(INVERSE) ^ (space as u64).rotate_left(52)
}

/// The live heap blocks of all address spaces.
#[derive(Debug, Default)]
pub struct Blocks {
    /// [`PARTS`] for each space, in order of the spaces' places.
    parts: Vec<Part>,
    /// The spaces in order of first use, and where each has its place.
    spaces: Vec<i32>,
    places: HashMap<i32, usize>,
    /// Space used last, and its first part: most traces have one.
    last: (i32, usize),
    /// Sizes of 4 GiB and more, by space and address.
    large: HashMap<(i32, u64), u64>,
}

/// The blocks whose hash begins with the part's number.
#[derive(Debug, Default)]
struct Part {
    slots: Zeroed,
    len: usize,
    /// Grows when it holds so many: two thirds of the slots.
    limit: usize,
}

impl Blocks {
    /// Live blocks.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a block; a block that was still live at its address is replaced and returned.
    #[inline]
    pub fn insert(&mut self, block: Block) -> Option<Block> {
        let first = self.first_part_or_new(block.space);
        let size = u32::try_from(block.size).unwrap_or(LARGE);
        let hash = hash(block.space, block.addr);
        let slot = [
            hash,
            block.born as u64,
            u64::from(block.site + 1) << 32 | u64::from(size),
        ];
        let old = self.parts[first + part_of(hash)].insert(slot);
        if old.is_none() && size != LARGE {
            return None;
        }
        self.replaced(&block, old)
    }

    /// What is rare about a block that was put in: it replaced another one, or it is large.
    #[cold]
    fn replaced(&mut self, block: &Block, old: Option<Slot>) -> Option<Block> {
        let old = old.map(|slot| self.take_block(block.space, &slot));
        if block.size >= u64::from(LARGE) {
            self.large.insert((block.space, block.addr), block.size);
        }
        old
    }

    /// The block at an address.
    pub fn get(&self, space: i32, addr: u64) -> Option<Block> {
        let hash = hash(space, addr);
        let part = &self.parts[self.first_part(space)? + part_of(hash)];
        part.find(hash)
            .map(|index| self.block(space, &part.slots[index]))
    }

    /// Takes the block at an address out.
    #[inline]
    pub fn remove(&mut self, space: i32, addr: u64) -> Option<Block> {
        let first = self.first_part(space)?;
        self.last = (space, first);
        let hash = hash(space, addr);
        let slot = self.parts[first + part_of(hash)].remove(hash)?;
        Some(self.take_block(space, &slot))
    }

    /// Takes every block of an address space out (the space ended).
    pub fn remove_space(&mut self, space: i32) -> Vec<Block> {
        let Some(first) = self.first_part(space) else {
            return Vec::new();
        };
        let parts = self.parts[first..first + PARTS].iter_mut();
        let parts: Vec<Part> = parts.map(std::mem::take).collect();
        let ended = parts.iter().flat_map(Part::iter);
        let ended: Vec<Block> = ended.map(|slot| self.block(space, slot)).collect();
        self.large.retain(|(of, _), _| *of != space);
        ended
    }

    /// The live blocks, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = Block> {
        let tables = self.spaces.iter().zip(self.parts.chunks(PARTS));
        tables.flat_map(move |(space, parts)| {
            let slots = parts.iter().flat_map(Part::iter);
            slots.map(move |slot| self.block(*space, slot))
        })
    }

    /// Asks the processor to load the slot of an address that will be looked up soon.
    #[inline]
    pub fn prefetch(&self, space: i32, addr: u64) {
        if self.last.0 == space {
            let hash = hash(space, addr);
            if let Some(part) = self.parts.get(self.last.1 + part_of(hash)) {
                part.prefetch(hash);
            }
        }
    }

    /// Index of a space's first part.
    #[inline]
    fn first_part(&self, space: i32) -> Option<usize> {
        if self.last.0 == space && !self.parts.is_empty() {
            return Some(self.last.1);
        }
        self.places.get(&space).copied()
    }

    #[inline]
    fn first_part_or_new(&mut self, space: i32) -> usize {
        if self.last.0 == space && !self.parts.is_empty() {
            return self.last.1;
        }
        self.enter(space)
    }

    #[cold]
    fn enter(&mut self, space: i32) -> usize {
        let next = self.parts.len();
        let first = *self.places.entry(space).or_insert(next);
        if first == next {
            self.parts.resize_with(next + PARTS, Part::default);
            self.spaces.push(space);
        }
        self.last = (space, first);
        first
    }

    #[inline]
    fn block(&self, space: i32, slot: &Slot) -> Block {
        let [hash, born, site_and_size] = *slot;
        let addr = addr_of(space, hash);
        let size = match site_and_size as u32 {
            LARGE => self
                .large
                .get(&(space, addr))
                .copied()
                .unwrap_or(u64::from(LARGE)),
            size => u64::from(size),
        };
        Block {
            addr,
            size,
            born: born as i64,
            space,
            site: (site_and_size >> 32) as u32 - 1,
        }
    }

    /// The block of a slot that is out of the table.
    #[inline]
    fn take_block(&mut self, space: i32, slot: &Slot) -> Block {
        let block = self.block(space, slot);
        if slot[2] as u32 == LARGE {
            self.large.remove(&(space, block.addr));
        }
        block
    }
}

#[inline]
fn part_of(hash: u64) -> usize {
    (hash >> (64 - PART_BITS)) as usize
}

impl Part {
    /// Puts a slot in; what was at its address is returned.
    #[inline]
    fn insert(&mut self, slot: Slot) -> Option<Slot> {
        if self.len >= self.limit {
            self.grow();
        }
        let mut index = self.home(slot[0]);
        let slots = &mut self.slots[..];
        loop {
            let present = &mut slots[index];
            if present[2] == 0 {
                *present = slot;
                self.len += 1;
                return None;
            }
            if present[0] == slot[0] {
                return Some(std::mem::replace(present, slot));
            }
            index = after(index, slots.len());
        }
    }

    #[inline]
    fn remove(&mut self, hash: u64) -> Option<Slot> {
        let mut gap = self.find(hash)?;
        let count = self.slots.len();
        let slots = &mut self.slots[..];
        let taken = slots[gap];
        // The slots behind it move up over the gap, as far as their homes allow.
        let mut index = gap;
        loop {
            index = after(index, count);
            let slot = slots[index];
            if slot[2] == 0 {
                break;
            }
            let home = home(slot[0], count);
            // Only if the gap lies between its home and its place.
            if distance(home, index, count) >= distance(gap, index, count) {
                slots[gap] = slot;
                gap = index;
            }
        }
        slots[gap] = VACANT;
        self.len -= 1;
        Some(taken)
    }

    #[inline]
    fn find(&self, hash: u64) -> Option<usize> {
        let mut index = self.home(hash);
        let slots = &self.slots[..];
        loop {
            let slot = slots.get(index)?;
            if slot[0] == hash && slot[2] != 0 {
                return Some(index);
            }
            if slot[2] == 0 {
                return None;
            }
            index = after(index, slots.len());
        }
    }

    fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().filter(|slot| slot[2] != 0)
    }

    /// Asks for the cache line or two where probing mostly ends.
    #[inline]
    fn prefetch(&self, hash: u64) {
        if let Some(slot) = self.slots.get(self.home(hash)) {
            prefetch(slot);
            prefetch(std::ptr::from_ref(slot).wrapping_add(2));
        }
    }

    #[inline]
    fn home(&self, hash: u64) -> usize {
        home(hash, self.slots.len())
    }

    #[cold]
    fn grow(&mut self) {
        let slots = Zeroed::at_least(self.slots.len() * 3 / 2 + 1);
        self.limit = slots.len() / 3 * 2;
        let old = std::mem::replace(&mut self.slots, slots);
        self.len = 0;
        for slot in old.iter().filter(|slot| slot[2] != 0) {
            self.insert(*slot);
        }
    }
}

/// Where a hash's probing begins: its bits behind the part's number, scaled to the slots. Any number
/// of slots will do, and growing keeps the order.
#[inline]
fn home(hash: u64, count: usize) -> usize {
    let bits = u128::from(hash << PART_BITS);
    ((bits * count as u128) >> 64) as usize
}

#[inline]
fn after(index: usize, count: usize) -> usize {
    let next = index + 1;
    if next == count { 0 } else { next }
}

/// How far it is from one slot to another, always forwards.
#[inline]
fn distance(from: usize, to: usize, count: usize) -> usize {
    let direct = to.wrapping_sub(from);
    if to >= from {
        direct
    } else {
        direct.wrapping_add(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn block(space: i32, addr: u64, size: u64) -> Block {
        Block {
            addr,
            size,
            born: 0,
            space,
            site: 0,
        }
    }

    proptest! {
        /// Whatever is inserted and removed, the table answers as std's map does.
        #[test]
        fn table_behaves_as_a_map(
            steps in prop::collection::vec((any::<bool>(), 1..3_i32, 0..600_u64, 1..9_u64), 0..4000)
        ) {
            let mut table = Blocks::default();
            let mut model: HashMap<(i32, u64), Block> = HashMap::new();
            for (insert, space, slot, size) in steps {
                // One in four does not fit into 32 bits.
                let size = if size % 4 == 3 { size << 32 } else { size };
                // Few distinct high bits: long probe chains that also wrap around.
                let addr = slot << 4 | (slot % 7) << 60;
                if insert {
                    let block = block(space, addr, size);
                    prop_assert_eq!(table.insert(block), model.insert((space, addr), block));
                } else {
                    prop_assert_eq!(table.remove(space, addr), model.remove(&(space, addr)));
                }
                prop_assert_eq!(table.len(), model.len());
            }
            for (key, block) in &model {
                prop_assert_eq!(table.get(key.0, key.1), Some(*block));
            }
            prop_assert_eq!(table.iter().count(), model.len());
        }
    }

    /// When an address space ends, its blocks go and the others stay.
    #[test]
    fn a_space_is_removed_whole() {
        let mut table = Blocks::default();
        for addr in 0..5000 {
            table.insert(block(1 + (addr % 2) as i32, addr * 16, 1));
        }
        assert_eq!(table.remove_space(1).len(), 2500);
        assert_eq!(table.len(), 2500);
        assert!(table.iter().all(|block| block.space == 2));
    }
}
