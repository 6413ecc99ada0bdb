//! Merges the events of the kernel's buffers with each other, and with the records of the ring, by time.
//!
//! What is handed on must be all there is up to a time, the *watermark*. It is the clock before a look
//! at the buffers and the ring, if nothing was unfinished in them then: an event has its time from after
//! its slot was claimed, and after its place in the ring was reserved. The ring's own order stays as it is.
//! Stacks and names of the kernel go before everything else, since they lie in the ring before the slots
//! that refer to them are ready.

use aya::maps::{MapData, RingBuf};

use super::buffers::Buffers;
use crate::drain::{Chunk, Outlet};
use crate::ring_fill::RingFill;
use crate::{clocks, wire};

/// The kernel's fast clock may be behind that of user space by a little while it is corrected.
const CLOCK_MARGIN_NS: i64 = 20_000;

/// What the ring brought waits for so many bytes at most: where a program was preempted in the middle of an
/// event, what processes did goes on, in its own order but before events of the kernel that come with that one.
const MOST_HELD: usize = 32 << 20;

/// The buffers, and what of the ring waits for events in them.
#[derive(Debug)]
pub struct Merge {
    buffers: Buffers,
    fill: RingFill,
    /// Records of the ring, in its order.
    held: Chunk,
    watermark: u64,
}

impl Merge {
    pub fn new(buffers: Buffers, fill: RingFill) -> Merge {
        Merge {
            buffers,
            fill,
            held: Chunk::default(),
            watermark: 0,
        }
    }

    /// Reads buffers and ring. False if something in them was unfinished: the watermark stays.
    pub fn read(&mut self, ring: &mut RingBuf<MapData>, out: &mut Outlet<'_>) -> bool {
        let before = clocks::monotonic_ns() - CLOCK_MARGIN_NS;
        let mut whole = self.buffers.read();
        let produced = self.fill.produced();
        while self.fill.consumed() < produced {
            let Some(record) = ring.next() else {
                break;
            };
            if wire::describes_kernel(&record) {
                out.push(&record);
            } else {
                self.held.push(&record);
            }
        }
        whole &= self.fill.consumed() >= produced;
        if whole {
            self.watermark = before.max(0) as u64;
        }
        whole
    }

    /// Hands on what is known to be complete.
    pub fn hand_on(&mut self, out: &mut Outlet<'_>) {
        self.hand_on_until(self.watermark, out);
    }

    /// Hands on everything that was read.
    pub fn hand_on_rest(&mut self, out: &mut Outlet<'_>) {
        self.hand_on_until(u64::MAX, out);
    }

    fn hand_on_until(&mut self, until: u64, out: &mut Outlet<'_>) {
        let overfull = self.held.size() > MOST_HELD;
        let mut handed_on = 0;
        for record in self.held.records() {
            let time = wire::time_of(record);
            if !overfull && time.is_some_and(|time| time > until) {
                break;
            }
            let before = time.map(|time| time.min(until));
            for (slot, name) in
                std::iter::from_fn(|| before.and_then(|before| self.buffers.next(before)))
            {
                slot.record(name, |record| out.push(record));
            }
            out.push(record);
            handed_on += 1;
        }
        self.held.take_off(handed_on);
        while let Some((slot, name)) = self.buffers.next(until) {
            slot.record(name, |record| out.push(record));
        }
        self.buffers.give_back();
    }
}
