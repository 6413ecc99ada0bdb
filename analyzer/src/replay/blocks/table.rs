//! A hash table of live blocks that grows where it stands.
//!
//! Chunks are probed one after the other from a hash's home on; each counts what went past it, so that nothing
//! marks the place of what was taken out, and the table never degrades however long the trace is. The
//! home is the hash scaled to the number of chunks: any number will do, and growing keeps the order.

use super::chunk::{Chunk, SLOTS, Slot};
use super::huge::Zeroed;
use crate::replay::part::Part;

/// Blocks by their hashes, which no two of them share. 44 to 88 bytes for each.
#[derive(Debug, Default)]
pub struct Table {
    chunks: Zeroed,
    len: usize,
    /// Grows when it holds so many: five eighths of the slots. Then every sixth block finds its home full, with three
    /// quarters every third would, and the chunk behind it comes from memory that nobody asked for ahead.
    limit: usize,
}

impl Table {
    pub fn len(&self) -> usize {
        self.len
    }

    /// Puts a block in; what had its hash is returned.
    #[inline(always)]
    pub fn insert(&mut self, slot: Slot) -> Option<Slot> {
        if self.len >= self.limit {
            self.grow();
        }
        let home = home(slot[0], self.chunks.len());
        let chunk = &mut self.chunks[home];
        match (chunk.find(slot[0]), chunk.vacancy(), chunk.is_passed()) {
            (Some(at), ..) => Some(chunk.replace(at, slot)),
            (None, Some(vacancy), false) => {
                chunk.fill(vacancy, slot);
                self.len += 1;
                None
            }
            _ => self.insert_further(home, slot[0], slot[1], slot[2]),
        }
    }

    /// Puts in what may stand behind its home. The slot comes word by word: its address taken, it would have to be in
    /// memory, and every block would go through there, written in words and read in pairs of them, for which the processor waits.
    #[cold]
    fn insert_further(&mut self, home: usize, hash: u64, born: u64, rest: u64) -> Option<Slot> {
        let slot = [hash, born, rest];
        if let Some((index, at)) = self.find(slot[0]) {
            return Some(self.chunks[index].replace(at, slot));
        }
        self.put(home, slot);
        None
    }

    /// Puts in what is not there, in the first vacancy from its home on.
    fn put(&mut self, home: usize, slot: Slot) {
        let mut index = home;
        loop {
            let chunk = &mut self.chunks[index];
            if let Some(vacancy) = chunk.vacancy() {
                chunk.fill(vacancy, slot);
                self.len += 1;
                return;
            }
            chunk.pass();
            index = after(index, self.chunks.len());
        }
    }

    /// Takes the block of a hash out.
    #[inline(always)]
    pub fn remove(&mut self, hash: u64) -> Option<Slot> {
        let (index, at) = self.find(hash)?;
        self.len -= 1;
        let mut passed = home(hash, self.chunks.len());
        while passed != index {
            self.chunks[passed].unpass();
            passed = after(passed, self.chunks.len());
        }
        Some(self.chunks[index].vacate(at))
    }

    #[inline]
    pub fn get(&self, hash: u64) -> Option<&Slot> {
        let (index, at) = self.find(hash)?;
        Some(self.chunks[index].slot(at))
    }

    /// The chunk of a hash, and its place there.
    #[inline(always)]
    fn find(&self, hash: u64) -> Option<(usize, usize)> {
        let mut index = home(hash, self.chunks.len());
        for _ in 0..self.chunks.len() {
            let chunk = &self.chunks[index];
            if let Some(at) = chunk.find(hash) {
                return Some((index, at));
            }
            if !chunk.is_passed() {
                return None;
            }
            index = after(index, self.chunks.len());
        }
        None
    }

    /// The blocks of one of several parts of the table; all parts together have each block once.
    pub fn iter(&self, part: Part) -> impl Iterator<Item = &Slot> {
        self.chunks[part.range(self.chunks.len())]
            .iter()
            .flat_map(Chunk::iter)
    }

    /// Asks for the chunks where hashes most probably stand.
    #[inline]
    pub fn prefetch(&self, hashes: impl Iterator<Item = u64>) {
        // Once for all: behind each hint the compiler would look again where they are.
        let chunks = &self.chunks[..];
        for hash in hashes {
            if let Some(chunk) = chunks.get(home(hash, chunks.len())) {
                chunk.prefetch();
            }
        }
    }

    /// Doubles, from the last chunk to the first: a block's new home does not lie before its old
    /// one, so it finds its place among chunks that are done. A few do not (they stand behind their home, or
    /// at the end there is no room): they wait until all is done.
    #[cold]
    fn grow(&mut self) {
        let old = self.chunks.len();
        self.chunks.grow(old * 2 + 1);
        self.limit = self.chunks.len() * SLOTS / 8 * 5;
        self.len = 0;
        let mut waiting = Vec::new();
        for index in (0..old).rev() {
            let chunk = std::mem::take(&mut self.chunks[index]);
            for slot in chunk.iter() {
                let home = home(slot[0], self.chunks.len());
                if home >= index && self.has_room(home) {
                    self.put(home, *slot);
                } else {
                    waiting.push(*slot);
                }
            }
        }
        for slot in waiting {
            self.put(home(slot[0], self.chunks.len()), slot);
        }
    }

    /// Whether there is a vacancy from a chunk on to the last one.
    fn has_room(&self, from: usize) -> bool {
        let mut chunks = self.chunks[from..].iter();
        chunks.any(|chunk| chunk.vacancy().is_some())
    }
}

#[inline]
fn home(hash: u64, chunks: usize) -> usize {
    ((u128::from(hash) * chunks as u128) >> 64) as usize
}

#[inline]
fn after(index: usize, chunks: usize) -> usize {
    let next = index + 1;
    if next == chunks { 0 } else { next }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        /// Whatever is put in and taken out, also where hashes crowd, the table answers as std's map does.
        #[test]
        fn table_behaves_as_a_map(
            steps in prop::collection::vec((any::<bool>(), 0..900_u64), 0..6000),
            spread in 0..3_usize,
        ) {
            let mut table = Table::default();
            let mut model: HashMap<u64, Slot> = HashMap::new();
            for (at, (insert, number)) in steps.into_iter().enumerate() {
                // Spread over the table; in few chunks and with few tags; all at its end, so that they wrap around.
                let hash = match spread {
                    0 => number.wrapping_mul(0x9e37_79b9_7f4a_7c15),
                    1 => (number % 3) << 60 | (number % 5) << 32 | number,
                    _ => u64::MAX - number,
                };
                if insert {
                    let slot = [hash, at as u64, number];
                    prop_assert_eq!(table.insert(slot), model.insert(hash, slot));
                } else {
                    prop_assert_eq!(table.remove(hash), model.remove(&hash));
                }
                prop_assert_eq!(table.len(), model.len());
            }
            for (hash, slot) in &model {
                prop_assert_eq!(table.get(*hash), Some(slot));
            }
            prop_assert_eq!(table.iter(Part::WHOLE).count(), model.len());
            let thirds = Part::of(3).flat_map(|part| table.iter(part));
            prop_assert!(thirds.eq(table.iter(Part::WHOLE)));
        }
    }
}
