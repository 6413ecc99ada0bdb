//! Empties the ring on a thread of its own, so that it never waits for encoding.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use aya::maps::{MapData, RingBuf};
use crossbeam_channel::Sender;

use crate::ring_fill::RingFill;
use crate::stops::Stops;

/// Records back to back, each behind its length (u32).
#[derive(Debug, Default)]
pub struct Chunk {
    bytes: Vec<u8>,
}

/// A chunk is handed on when it has this many bytes, or when the ring is empty.
const CHUNK_BYTES: usize = 256 * 1024;

/// The probes wake the reader once per 64 KiB; what is less waits for this long, in milliseconds.
const POLL_MS: i32 = 20;

impl Chunk {
    pub fn push(&mut self, record: &[u8]) {
        // A record is shorter than 2 KiB.
        self.bytes
            .extend_from_slice(&(record.len() as u32).to_ne_bytes());
        self.bytes.extend_from_slice(record);
    }

    /// The records, in ring order.
    pub fn records(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.bytes[..];
        std::iter::from_fn(move || {
            let (length, after) = rest.split_first_chunk::<4>()?;
            let (record, after) = after.split_at_checked(u32::from_ne_bytes(*length) as usize)?;
            rest = after;
            Some(record)
        })
    }
}

/// Continues the target that was stopped because the ring was nearly full.
#[derive(Debug)]
pub struct Relief {
    pub stops: Arc<Stops>,
    pub fill: RingFill,
    /// Bytes that may still wait then.
    pub below: u64,
}

impl Relief {
    fn look(&self) {
        if self.fill.waiting() < self.below {
            self.stops.drained();
        }
    }
}

/// The draining thread.
#[derive(Debug)]
pub struct Drain {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Drain {
    /// Starts to drain `ring` into `chunks`. A full channel makes the ring fill up, which the probes
    /// account for.
    pub fn start(
        ring: RingBuf<MapData>,
        chunks: Sender<Chunk>,
        relief: Option<Relief>,
    ) -> std::io::Result<Drain> {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("drain".to_owned())
            .spawn(move || run(ring, &chunks, relief.as_ref(), &asked))?;
        Ok(Drain { stop, thread })
    }

    /// Empties the ring once more and ends. Call it when the probes no longer record.
    pub fn finish(self) {
        self.stop.store(true, Ordering::Release);
        // The thread has no panicking path; if it died all the same, its chunks just end here.
        let _ = self.thread.join();
    }
}

fn run(
    mut ring: RingBuf<MapData>,
    chunks: &Sender<Chunk>,
    relief: Option<&Relief>,
    stop: &AtomicBool,
) {
    let mut chunk = Chunk::default();
    loop {
        // Asked before the ring is emptied: what came before the request is drained for sure.
        let last = stop.load(Ordering::Acquire);
        while let Some(record) = ring.next() {
            chunk.push(&record);
            if chunk.bytes.len() >= CHUNK_BYTES {
                drop(record);
                if !hand_on(&mut chunk, chunks) {
                    return;
                }
                relief.inspect(|relief| relief.look());
            }
        }
        if !hand_on(&mut chunk, chunks) {
            return;
        }
        relief.inspect(|relief| relief.look());
        if last {
            return;
        }
        let mut ready = libc::pollfd {
            fd: ring.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one valid pollfd. A failure (EINTR) only means an early look at the ring.
        unsafe {
            libc::poll(&mut ready, 1, POLL_MS);
        }
    }
}

/// Sends the chunk, if it holds anything; false when nobody listens any more.
fn hand_on(chunk: &mut Chunk, chunks: &Sender<Chunk>) -> bool {
    if chunk.bytes.is_empty() {
        return true;
    }
    let next = Chunk {
        bytes: Vec::with_capacity(CHUNK_BYTES + 4096),
    };
    chunks.send(std::mem::replace(chunk, next)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was pushed comes out, in order.
    #[test]
    fn chunks_keep_records() {
        let mut chunk = Chunk::default();
        for record in [&b"one"[..], b"", b"three"] {
            chunk.push(record);
        }
        let records: Vec<&[u8]> = chunk.records().collect();
        assert_eq!(records, [&b"one"[..], b"", b"three"]);
    }
}
