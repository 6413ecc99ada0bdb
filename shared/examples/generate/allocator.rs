//! Where blocks come to lie: size classes, the block freed last is given out first, arenas grow upwards.

/// Bytes of an arena's header, as malloc has it before each block.
const OVERHEAD: u64 = 8;
const SMALL_CLASSES: usize = 64;
/// Of blocks above a kilobyte each doubling has so many classes.
const STEPS: usize = 4;
const CLASSES: usize = SMALL_CLASSES + 40 * STEPS;

/// One of the allocator's arenas.
pub struct Arena {
    /// By class: addresses, the one freed last at the end.
    free: Vec<Vec<u64>>,
    top: u64,
}

impl Arena {
    /// An arena whose first block lies behind `base`.
    pub fn new(base: u64) -> Self {
        Arena {
            free: vec![Vec::new(); CLASSES],
            top: base + 16,
        }
    }

    pub fn allocate(&mut self, size: u64) -> u64 {
        let (class, room) = class(size);
        self.free[class].pop().unwrap_or_else(|| {
            let addr = self.top;
            self.top += room;
            addr
        })
    }

    pub fn free(&mut self, addr: u64, size: u64) {
        self.free[class(size).0].push(addr);
    }
}

/// The class of a block and the bytes it takes.
fn class(size: u64) -> (usize, u64) {
    let room = (size + OVERHEAD).next_multiple_of(16).max(32);
    if room <= 16 * SMALL_CLASSES as u64 {
        return ((room / 16) as usize - 1, room);
    }
    let power = room.ilog2();
    let step = (room - (1 << power)).div_ceil((1 << power) / STEPS as u64);
    let class = SMALL_CLASSES + (power as usize - 10) * STEPS + step as usize;
    (class, (1 << power) + step * ((1 << power) / STEPS as u64))
}
