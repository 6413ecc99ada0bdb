//! What the probes ask to be looked at: threads that wait for us because they opened a library, and
//! processes that began.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use aya::maps::{MapData, RingBuf};

use crate::bpf_map;
use crate::layout::MAP_ANSWERS;

/// A thread waits for so long, nanoseconds, until we take up its ticket, and 25 times as long until we
/// are done (LLVM's library takes us 0.4 s, from the disk 0.8); what takes longer is a defect. Kernels before
/// 6.0 keep its CPU busy meanwhile, so there it is an eighth.
pub const HOLD_NS: u64 = 200_000_000;

/// A thread of `pid` waits until [`Openings::answer`] is called with this ticket; without ticket, the
/// process began, or executed another program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    pub pid: i32,
    ticket: u64,
}

impl Opening {
    pub fn waits_for_answer(&self) -> bool {
        self.ticket != 0
    }
}

/// The waiting threads.
pub struct Openings {
    ring: RingBuf<MapData>,
    answers: OwnedFd,
}

impl Openings {
    /// Takes the maps of `bpf/maps_changed.h`.
    pub fn new(ring: RingBuf<MapData>, answers: OwnedFd) -> Openings {
        Openings { ring, answers }
    }

    /// Readable when a thread waits.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring lives as long as what is returned.
        unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) }
    }

    /// The next thread that waits; it knows then that we are at it.
    pub fn take(&mut self) -> Option<Opening> {
        let record = self.ring.next()?;
        let (ticket, rest) = record.split_first_chunk::<8>()?;
        let pid = rest.first_chunk::<4>()?;
        let opening = Opening {
            pid: u32::from_ne_bytes(*pid) as i32,
            ticket: u64::from_ne_bytes(*ticket),
        };
        drop(record);
        if opening.waits_for_answer() {
            self.say(opening, 2 * opening.ticket);
        }
        Some(opening)
    }

    /// Lets the thread go on. If the answer is lost, it goes on by itself after a moment.
    pub fn answer(&self, opening: Opening) {
        self.say(opening, 2 * opening.ticket + 1);
    }

    fn say(&self, opening: Opening, what: u64) {
        let place = opening.ticket as u32 & (MAP_ANSWERS - 1);
        let _ = bpf_map::update(self.answers.as_fd(), place, &what);
    }
}
