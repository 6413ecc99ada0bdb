//! The live heap blocks, by address: where most of the replay's time goes.
//!
//! Each address space has a table of its own. [`Blocks::prefetch`] lets the caller hide the cache miss.

mod chunk;
mod huge;
mod table;

use std::collections::HashMap;

use chunk::Slot;
use table::Table;

use super::part::Part;

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

/// Stands for a size that needs more than 32 bits and is kept apart.
const LARGE: u32 = u32::MAX;

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
    /// One for each space, in order of first use.
    tables: Vec<(i32, Table)>,
    /// Where each space has its table.
    places: HashMap<i32, usize>,
    /// Place of the table used last: most traces have one.
    last: usize,
    /// Sizes of 4 GiB and more, by space and address.
    large: HashMap<(i32, u64), u64>,
}

impl Blocks {
    /// Live blocks.
    pub fn len(&self) -> usize {
        self.tables.iter().map(|(_, table)| table.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a block; a block that was still live at its address is replaced and returned.
    #[inline]
    pub fn insert(&mut self, block: Block) -> Option<Block> {
        let size = u32::try_from(block.size).unwrap_or(LARGE);
        let slot = [
            hash(block.space, block.addr),
            block.born as u64,
            u64::from(block.site) << 32 | u64::from(size),
        ];
        let old = self.table_or_new(block.space).insert(slot);
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
        let (_, table) = self.tables.get(*self.places.get(&space)?)?;
        let slot = table.get(hash(space, addr))?;
        Some(self.block(space, slot))
    }

    /// Takes the block at an address out.
    #[inline]
    pub fn remove(&mut self, space: i32, addr: u64) -> Option<Block> {
        let slot = self.table(space)?.remove(hash(space, addr))?;
        Some(self.take_block(space, &slot))
    }

    /// Takes every block of an address space out (the space ended).
    pub fn remove_space(&mut self, space: i32) -> Vec<Block> {
        let Some(table) = self.table(space) else {
            return Vec::new();
        };
        let table = std::mem::take(table);
        let ended = table
            .iter(Part::WHOLE)
            .map(|slot| self.block(space, slot))
            .collect();
        self.large.retain(|(of, _), _| *of != space);
        ended
    }

    /// A part of the live blocks, in no particular order.
    pub fn iter(&self, part: Part) -> impl Iterator<Item = Block> {
        let tables = self.tables.iter();
        tables.flat_map(move |(space, table)| {
            let slots = table.iter(part);
            slots.map(move |slot| self.block(*space, slot))
        })
    }

    /// Asks the processor to load where the block of an address stands that will be looked up soon.
    #[inline]
    pub fn prefetch(&self, space: i32, addr: u64) {
        if let Some((of, table)) = self.tables.get(self.last)
            && *of == space
        {
            table.prefetch(hash(space, addr));
        }
    }

    /// Whether a space's table is the one that was used last.
    #[inline]
    fn is_last(&self, space: i32) -> bool {
        let last = self.tables.get(self.last);
        last.is_some_and(|(of, _)| *of == space)
    }

    /// A space's table, if it has one.
    #[inline]
    fn table(&mut self, space: i32) -> Option<&mut Table> {
        if !self.is_last(space) {
            self.last = *self.places.get(&space)?;
        }
        self.tables.get_mut(self.last).map(|(_, table)| table)
    }

    #[inline]
    fn table_or_new(&mut self, space: i32) -> &mut Table {
        if !self.is_last(space) {
            self.enter(space);
        }
        &mut self.tables[self.last].1
    }

    #[cold]
    fn enter(&mut self, space: i32) {
        let next = self.tables.len();
        self.last = *self.places.entry(space).or_insert(next);
        if self.last == next {
            self.tables.push((space, Table::default()));
        }
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
            site: (site_and_size >> 32) as u32,
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
            prop_assert_eq!(table.iter(Part::WHOLE).count(), model.len());
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
        assert!(table.iter(Part::WHOLE).all(|block| block.space == 2));
    }
}
