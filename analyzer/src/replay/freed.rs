//! Which addresses were freed lately: tells a second free from a block older than the recording.

use super::blocks::hash;

const BITS: u32 = 18;

/// A fixed 1 MiB of marks, one per hash slot, so that memory does not grow with the trace.
///
/// It can err in one direction in practice: a mark is overwritten when one of the 262,144 slots is
/// used by another address, and the second free is then taken for one of a block born before the
/// recording. The other way round takes two addresses that agree in 50 bits of their hash.
#[derive(Debug)]
pub struct FreedAddresses {
    marks: Vec<u32>,
}

impl Default for FreedAddresses {
    fn default() -> Self {
        FreedAddresses {
            marks: vec![0; 1 << BITS],
        }
    }
}

impl FreedAddresses {
    /// Remembers that a block which we saw allocated was freed at this address.
    #[inline]
    pub fn remember(&mut self, space: i32, addr: u64) {
        let (slot, mark) = place(space, addr);
        self.marks[slot] = mark;
    }

    /// Whether a block which we saw allocated was freed at this address.
    pub fn contains(&self, space: i32, addr: u64) -> bool {
        let (slot, mark) = place(space, addr);
        self.marks[slot] == mark
    }
}

/// Slot from the hash's high bits, mark from the 32 bits below; 0 stands for an unused slot.
#[inline]
fn place(space: i32, addr: u64) -> (usize, u32) {
    let hash = hash(space, addr);
    (
        (hash >> (64 - BITS)) as usize,
        (hash >> (32 - BITS)) as u32 | 1,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Freed addresses are known, others and those of another address space are not.
    #[test]
    fn remembers_addresses_by_space() {
        let mut freed = FreedAddresses::default();
        for addr in (0..64).map(|i| 0x5555_0000_0000 + i * 0x20) {
            freed.remember(1, addr);
            assert!(freed.contains(1, addr));
            assert!(!freed.contains(2, addr));
            assert!(!freed.contains(1, addr + 0x10));
        }
    }
    /// What a pool freed says nothing about the heap, whichever address is asked for.
    #[test]
    fn pools_are_apart() {
        let (pool, addr) = (1 | super::super::POOL_SPACE, 0x5555_0000_0000);
        let mut freed = FreedAddresses::default();
        freed.remember(pool, addr);
        assert!(freed.contains(pool, addr));
        for bit in 0..47 {
            assert!(!freed.contains(1, addr ^ (1 << bit)), "bit {bit}");
        }
    }
}
