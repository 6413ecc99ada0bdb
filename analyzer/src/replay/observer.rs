//! Who hears of births and deaths while a trace is replayed.

use memleak_trace::Op;

use super::Allocation;
use super::sites::Sites;

/// How an allocation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Death {
    /// Timestamp of the event that ended it: nanoseconds of the trace's clock. Timestamps of two
    /// threads may be swapped by some microseconds, so it can lie a little before the birth.
    pub at: i64,
    /// The operation that ended it; `process` if its address space did.
    pub by: Op,
}

/// Hears of every birth and death, in the order of the trace.
///
/// A mapping may die in pieces: each is told with its own bytes, and the last one with the count 1,
/// the others with 0. What is still live at the end is in [`super::Replay::outstanding`].
///
/// `()` hears nothing and costs nothing.
pub trait Observer {
    /// Whether it wants to hear: else the figures of the sites are only brought up to date from time to
    /// time, which is faster.
    const LISTENS: bool = true;

    fn born(&mut self, allocation: &Allocation, sites: &Sites) {
        let _ = (allocation, sites);
    }

    fn died(&mut self, allocation: &Allocation, death: Death, sites: &Sites) {
        let _ = (allocation, death, sites);
    }

    /// A death that was told did not happen: an munmap failed.
    fn revived(&mut self, allocation: &Allocation, death: Death, sites: &Sites) {
        let _ = (allocation, death, sites);
    }
}

impl Observer for () {
    const LISTENS: bool = false;
}
