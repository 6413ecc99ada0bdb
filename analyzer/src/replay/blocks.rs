//! The live heap blocks, by address: where most of the replay's time goes.
//!
//! Open addressing with linear probing and backward-shift deletion, so that there are no tombstones
//! and the table never degrades however long the trace is. A slot is 24 bytes. Each address space has
//! a table of its own, cut into [`PARTS`] by the hash: each grows alone and by half, so that at most
//! a small part of the memory exists twice, and 34 to 52 bytes are taken for each live block.
//! [`Blocks::prefetch`] lets the caller hide the cache miss.

use std::collections::HashMap;

use super::prefetch::{advise_huge_pages, prefetch};

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
const INITIAL_SLOTS: usize = 16;
/// Stands for a size that needs more than 32 bits and is kept apart.
const LARGE: u32 = u32::MAX;

/// Address, birth, and in one word the size (low half) and one more than the site (high half): a
/// vacant slot is all zero, as the kernel hands memory out.
type Slot = [u64; 3];
const VACANT: Slot = [0; 3];

/// Multiplicative hashing: the high bits of the product are well mixed for the regular strides of
/// allocators' addresses.
#[inline]
pub(super) fn hash(space: i32, addr: u64) -> u64 {
    (addr ^ (space as u64).rotate_left(52)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The live heap blocks of all address spaces.
#[derive(Debug, Default)]
pub struct Blocks {
    tables: Vec<Table>,
    /// Where each space's table is.
    places: HashMap<i32, usize>,
    /// Space and place of the table used last: most traces have one.
    last: Option<(i32, usize)>,
    /// Sizes of 4 GiB and more, by space and address.
    large: HashMap<(i32, u64), u64>,
}

/// The blocks of one address space.
#[derive(Debug)]
struct Table {
    space: i32,
    parts: [Part; PARTS],
}

/// The blocks whose hash begins with the part's number.
#[derive(Debug, Default)]
struct Part {
    slots: Vec<Slot>,
    len: usize,
}

impl Blocks {
    /// Live blocks.
    pub fn len(&self) -> usize {
        self.tables
            .iter()
            .flat_map(|table| &table.parts)
            .map(|part| part.len)
            .sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a block; a block that was still live at its address is replaced and returned.
    pub fn insert(&mut self, block: Block) -> Option<Block> {
        let place = self.place_or_new(block.space);
        let size = u32::try_from(block.size).unwrap_or(LARGE);
        let slot = [
            block.addr,
            block.born as u64,
            u64::from(block.site + 1) << 32 | u64::from(size),
        ];
        let hash = hash(block.space, block.addr);
        let old = self.tables[place].parts[part_of(hash)].insert(hash, slot, block.space);
        let old = old.map(|slot| self.take_block(block.space, &slot));
        if size == LARGE {
            self.large.insert((block.space, block.addr), block.size);
        }
        old
    }

    /// The block at an address.
    pub fn get(&self, space: i32, addr: u64) -> Option<Block> {
        let hash = hash(space, addr);
        let part = &self.tables[self.place(space)?].parts[part_of(hash)];
        part.find(hash, addr)
            .map(|index| self.block(space, &part.slots[index]))
    }

    /// Takes the block at an address out.
    #[inline]
    pub fn remove(&mut self, space: i32, addr: u64) -> Option<Block> {
        let place = self.place(space)?;
        self.last = Some((space, place));
        let hash = hash(space, addr);
        let slot = self.tables[place].parts[part_of(hash)].remove(hash, addr, space)?;
        Some(self.take_block(space, &slot))
    }

    /// Takes every block of an address space out (the space ended).
    pub fn remove_space(&mut self, space: i32) -> Vec<Block> {
        let Some(place) = self.place(space) else {
            return Vec::new();
        };
        let empty: [Part; PARTS] = Default::default();
        let parts = std::mem::replace(&mut self.tables[place].parts, empty);
        let ended = parts.iter().flat_map(Part::iter);
        let ended: Vec<Block> = ended.map(|slot| self.block(space, slot)).collect();
        self.large.retain(|(of, _), _| *of != space);
        ended
    }

    /// The live blocks, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = Block> {
        self.tables.iter().flat_map(move |table| {
            let slots = table.parts.iter().flat_map(Part::iter);
            slots.map(move |slot| self.block(table.space, slot))
        })
    }

    /// Asks the processor to load the slot of an address that will be looked up soon.
    #[inline]
    pub fn prefetch(&self, space: i32, addr: u64) {
        if let Some(place) = self.place(space) {
            let hash = hash(space, addr);
            self.tables[place].parts[part_of(hash)].prefetch(hash);
        }
    }

    /// The site of the block at an address, if that is told by the slot where probing begins: a guess
    /// for prefetching.
    #[inline]
    pub fn likely_site(&self, space: i32, addr: u64) -> Option<u32> {
        let hash = hash(space, addr);
        let part = &self.tables[self.place(space)?].parts[part_of(hash)];
        let slot = part.slots.get(part.home(hash))?;
        (slot[0] == addr && slot[2] != 0).then(|| (slot[2] >> 32) as u32 - 1)
    }

    #[inline]
    fn place(&self, space: i32) -> Option<usize> {
        match self.last {
            Some((last, place)) if last == space => Some(place),
            _ => self.places.get(&space).copied(),
        }
    }

    #[inline]
    fn place_or_new(&mut self, space: i32) -> usize {
        let place = self.place(space).unwrap_or_else(|| {
            self.tables.push(Table {
                space,
                parts: Default::default(),
            });
            self.places.insert(space, self.tables.len() - 1);
            self.tables.len() - 1
        });
        self.last = Some((space, place));
        place
    }

    #[inline]
    fn block(&self, space: i32, slot: &Slot) -> Block {
        let [addr, born, site_and_size] = *slot;
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
    fn insert(&mut self, hash: u64, slot: Slot, space: i32) -> Option<Slot> {
        if self.len * 10 >= self.slots.len() * 7 {
            self.grow(space);
        }
        let (index, found) = self.probe(hash, slot[0]);
        let old = std::mem::replace(&mut self.slots[index], slot);
        self.len += usize::from(!found);
        found.then_some(old)
    }

    #[inline]
    fn remove(&mut self, hash: u64, addr: u64, space: i32) -> Option<Slot> {
        let index = self.find(hash, addr)?;
        let slot = self.slots[index];
        self.close_gap(index, space);
        self.len -= 1;
        Some(slot)
    }

    #[inline]
    fn find(&self, hash: u64, addr: u64) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        let (index, found) = self.probe(hash, addr);
        found.then_some(index)
    }

    fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().filter(|slot| **slot != VACANT)
    }

    #[inline]
    fn prefetch(&self, hash: u64) {
        if let Some(slot) = self.slots.get(self.home(hash)) {
            prefetch(slot);
        }
    }

    /// Where a hash's probing begins: its bits behind the part's number, scaled to the slots. Any
    /// number of slots will do, and growing keeps the order.
    #[inline]
    fn home(&self, hash: u64) -> usize {
        let bits = hash << PART_BITS >> 32;
        ((bits * self.slots.len() as u64) >> 32) as usize
    }

    #[inline]
    fn after(&self, index: usize) -> usize {
        if index + 1 == self.slots.len() {
            0
        } else {
            index + 1
        }
    }

    /// The slot of an address and whether it is taken, else the vacant slot where it would go.
    #[inline]
    fn probe(&self, hash: u64, addr: u64) -> (usize, bool) {
        let mut index = self.home(hash);
        loop {
            let slot = &self.slots[index];
            if slot[2] == 0 {
                return (index, false);
            }
            if slot[0] == addr {
                return (index, true);
            }
            index = self.after(index);
        }
    }

    /// Moves the following slots up over a gap, as far as their home slots allow.
    #[inline]
    fn close_gap(&mut self, mut gap: usize, space: i32) {
        let count = self.slots.len();
        let distance = |from: usize, to: usize| {
            if to >= from {
                to - from
            } else {
                to + count - from
            }
        };
        let mut index = gap;
        loop {
            index = self.after(index);
            let slot = self.slots[index];
            if slot[2] == 0 {
                break;
            }
            let home = self.home(hash(space, slot[0]));
            // The slot may move to the gap only if the gap lies between its home and its place.
            if distance(home, index) >= distance(gap, index) {
                self.slots[gap] = slot;
                gap = index;
            }
        }
        self.slots[gap] = VACANT;
    }

    #[cold]
    fn grow(&mut self, space: i32) {
        let count = (self.slots.len() * 3 / 2).max(INITIAL_SLOTS);
        // Zero memory comes from the kernel untouched, so the advice is in time.
        let slots = vec![VACANT; count];
        advise_huge_pages(&slots);
        let old = std::mem::replace(&mut self.slots, slots);
        for slot in old.into_iter().filter(|slot| *slot != VACANT) {
            let (index, _) = self.probe(hash(space, slot[0]), slot[0]);
            self.slots[index] = slot;
        }
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
