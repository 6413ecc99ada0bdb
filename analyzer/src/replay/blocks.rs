//! The live heap blocks, by address: where most of the replay's time goes.
//!
//! An open-addressing table with linear probing and backward-shift deletion, so that there are no
//! tombstones and the table never degrades however long the trace is. A slot is 32 bytes, two to a
//! cache line and never across two; [`Blocks::prefetch`] lets the caller hide the cache miss.

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

/// Marks an empty slot; no site has this index.
const NO_SITE: u32 = u32::MAX;
const VACANT: Block = Block {
    addr: 0,
    size: 0,
    born: 0,
    space: 0,
    site: NO_SITE,
};
const INITIAL_BITS: u32 = 10;

/// The live heap blocks of all address spaces.
#[derive(Debug)]
pub struct Blocks {
    slots: Vec<Block>,
    len: usize,
    /// 64 minus the number of index bits.
    shift: u32,
}

/// Multiplicative hashing: the high bits of the product are well mixed for the regular strides of
/// allocators' addresses.
pub(super) fn hash(space: i32, addr: u64) -> u64 {
    (addr ^ (space as u64).rotate_left(52)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Default for Blocks {
    fn default() -> Self {
        Blocks {
            slots: vec![VACANT; 1 << INITIAL_BITS],
            len: 0,
            shift: 64 - INITIAL_BITS,
        }
    }
}

impl Blocks {
    /// Live blocks.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a block; a block that was still live at its address is replaced and returned.
    pub fn insert(&mut self, block: Block) -> Option<Block> {
        debug_assert_ne!(block.site, NO_SITE);
        if (self.len + 1) * 8 > self.slots.len() * 5 {
            self.grow();
        }
        let (index, found) = self.find(block.space, block.addr);
        let old = std::mem::replace(&mut self.slots[index], block);
        if found {
            return Some(old);
        }
        self.len += 1;
        None
    }

    /// The block at an address.
    pub fn get(&self, space: i32, addr: u64) -> Option<&Block> {
        let (index, found) = self.find(space, addr);
        found.then(|| &self.slots[index])
    }

    /// Takes the block at an address out.
    pub fn remove(&mut self, space: i32, addr: u64) -> Option<Block> {
        let (index, found) = self.find(space, addr);
        if !found {
            return None;
        }
        let block = self.slots[index];
        self.close_gap(index);
        self.len -= 1;
        Some(block)
    }

    /// Takes every block of an address space out (the space ended).
    pub fn remove_space(&mut self, space: i32) -> Vec<Block> {
        let ended: Vec<Block> = self
            .iter()
            .filter(|block| block.space == space)
            .copied()
            .collect();
        for block in &ended {
            self.remove(space, block.addr);
        }
        ended
    }

    /// The live blocks, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Block> {
        self.slots.iter().filter(|slot| slot.site != NO_SITE)
    }

    /// Asks the processor to load the slot of an address that will be looked up soon.
    #[inline]
    pub fn prefetch(&self, space: i32, addr: u64) {
        prefetch(&self.slots[self.home(space, addr)]);
    }

    #[inline]
    fn home(&self, space: i32, addr: u64) -> usize {
        (hash(space, addr) >> self.shift) as usize
    }

    /// The slot of an address and whether it is taken, else the empty slot where it would go.
    #[inline]
    fn find(&self, space: i32, addr: u64) -> (usize, bool) {
        let mask = self.slots.len() - 1;
        let mut index = self.home(space, addr);
        loop {
            let slot = &self.slots[index];
            if slot.site == NO_SITE {
                return (index, false);
            }
            if slot.addr == addr && slot.space == space {
                return (index, true);
            }
            index = (index + 1) & mask;
        }
    }

    /// Moves the following slots up over a gap, as far as their home slots allow.
    fn close_gap(&mut self, mut gap: usize) {
        let mask = self.slots.len() - 1;
        let mut index = gap;
        loop {
            index = (index + 1) & mask;
            let slot = self.slots[index];
            if slot.site == NO_SITE {
                break;
            }
            let home = self.home(slot.space, slot.addr);
            // The slot may move to the gap only if the gap lies between its home and its place.
            if (index.wrapping_sub(home) & mask) >= (index.wrapping_sub(gap) & mask) {
                self.slots[gap] = slot;
                gap = index;
            }
        }
        self.slots[gap] = VACANT;
    }

    fn grow(&mut self) {
        let mut doubled = Vec::with_capacity(self.slots.len() * 2);
        advise_huge_pages(doubled.spare_capacity_mut());
        doubled.resize(self.slots.len() * 2, VACANT);
        let old = std::mem::replace(&mut self.slots, doubled);
        self.shift -= 1;
        for block in old.into_iter().filter(|slot| slot.site != NO_SITE) {
            let (index, _) = self.find(block.space, block.addr);
            self.slots[index] = block;
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
                prop_assert_eq!(table.get(key.0, key.1), Some(block));
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
