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
#[derive(Debug)]
pub struct Blocks {
    /// The space whose blocks were asked for last, and its table: most traces have one.
    space: i32,
    table: Table,
    /// The tables of all spaces, in order of first use; in place of that one stands an empty one.
    tables: Vec<(i32, Table)>,
    /// Where each space has its table.
    places: HashMap<i32, usize>,
    /// Place of the table that was taken out.
    taken: usize,
    /// Sizes of 4 GiB and more, by space and address.
    large: HashMap<(i32, u64), u64>,
}

impl Default for Blocks {
    fn default() -> Blocks {
        // A space that no trace has, so that there always is one.
        Blocks {
            space: 0,
            table: Table::default(),
            tables: vec![(0, Table::default())],
            places: HashMap::from([(0, 0)]),
            taken: 0,
            large: HashMap::new(),
        }
    }
}

impl Blocks {
    /// Live blocks.
    pub fn len(&self) -> usize {
        self.tables().map(|(_, table)| table.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a block; a block that was still live at its address is replaced and returned.
    #[inline(always)]
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
        self.replaced(block.space, block.addr, block.size, old)
    }

    /// What is rare about a block that was put in: it replaced another one, or it is large.
    #[cold]
    fn replaced(&mut self, space: i32, addr: u64, size: u64, old: Option<Slot>) -> Option<Block> {
        let old = old.map(|slot| self.take_block(space, &slot));
        if size >= u64::from(LARGE) {
            self.large.insert((space, addr), size);
        }
        old
    }

    /// The block at an address.
    pub fn get(&self, space: i32, addr: u64) -> Option<Block> {
        let table = self.table_at(*self.places.get(&space)?)?;
        let slot = table.get(hash(space, addr))?;
        Some(self.block(space, slot))
    }

    /// Takes the block at an address out.
    #[inline(always)]
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
        self.tables().flat_map(move |(space, table)| {
            let slots = table.iter(part);
            slots.map(move |slot| self.block(space, slot))
        })
    }

    /// Asks the processor to load where the blocks of some addresses, each of its space, stand that will be looked up soon.
    #[inline]
    pub fn prefetch(&self, spaces: &[i32], addrs: &[u64]) {
        let hashes = spaces.iter().zip(addrs);
        let hashes = hashes.filter(|(space, _)| **space == self.space);
        self.table
            .prefetch(hashes.map(|(space, addr)| hash(*space, *addr)));
    }

    /// Each space with its table, in order of first use.
    fn tables(&self) -> impl Iterator<Item = (i32, &Table)> {
        let spaces = self.tables.iter().enumerate();
        spaces.filter_map(|(place, (space, _))| Some((*space, self.table_at(place)?)))
    }

    /// The table of the space at a place, wherever it is.
    fn table_at(&self, place: usize) -> Option<&Table> {
        match place == self.taken {
            true => Some(&self.table),
            false => self.tables.get(place).map(|(_, table)| table),
        }
    }

    /// A space's table, if it has one.
    #[inline(always)]
    fn table(&mut self, space: i32) -> Option<&mut Table> {
        if self.space != space {
            self.take(*self.places.get(&space)?);
        }
        Some(&mut self.table)
    }

    #[inline(always)]
    fn table_or_new(&mut self, space: i32) -> &mut Table {
        if self.space != space {
            self.take_or_begin(space);
        }
        &mut self.table
    }

    #[cold]
    fn take_or_begin(&mut self, space: i32) {
        let next = self.tables.len();
        let place = *self.places.entry(space).or_insert(next);
        if place == next {
            self.tables.push((space, Table::default()));
        }
        self.take(place);
    }

    /// Puts the table at hand back, and takes another one.
    #[cold]
    fn take(&mut self, place: usize) {
        std::mem::swap(&mut self.table, &mut self.tables[self.taken].1);
        std::mem::swap(&mut self.table, &mut self.tables[place].1);
        (self.space, self.taken) = (self.tables[place].0, place);
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
