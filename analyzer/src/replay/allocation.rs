//! What is outstanding, as the replay tells of it.

use super::blocks::Block;
use super::ranges::Range;

/// An allocation that is outstanding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocation {
    pub addr: u64,
    /// Bytes asked for.
    pub size: u64,
    /// Bytes that it takes, as far as that is known: in the kernel more than was asked for.
    pub taken: u64,
    /// Nanoseconds of the trace's clock.
    pub born: i64,
    /// Index of its site in [`Replay::sites`].
    pub site: u32,
    /// 1; 0 for the further pieces of a mapping that was cut up, which counts once.
    pub count: u32,
}

impl From<&Block> for Allocation {
    fn from(block: &Block) -> Self {
        Allocation {
            addr: block.addr,
            size: block.size,
            taken: block.size,
            born: block.born,
            site: block.site,
            count: 1,
        }
    }
}

impl Allocation {
    /// Nanoseconds since it was made; 0 if another thread stamped it a little later.
    pub fn age(&self, at: i64) -> u64 {
        u64::try_from(at.saturating_sub(self.born)).unwrap_or(0)
    }

    /// A piece of a mapping; `counts` where it stands for the whole of it.
    pub(super) fn piece(range: &Range, counts: bool) -> Allocation {
        Allocation {
            addr: range.start,
            size: range.size(),
            taken: range.size(),
            born: range.born,
            site: range.site,
            count: u32::from(counts),
        }
    }
}
