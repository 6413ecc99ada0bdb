//! Empties the ring on a thread of its own, so that it never waits for encoding.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use crossbeam_channel::Sender;

use crate::kernel_mode::merge::Merge;
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

    /// How many bytes the records take.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Takes off the first `count` records.
    pub fn take_off(&mut self, count: usize) {
        let bytes: usize = self.records().take(count).map(|it| it.len() + 4).sum();
        self.bytes.drain(..bytes);
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
    /// Starts to drain `ring` into `chunks`, and the kernel's buffers with it. A full channel makes
    /// them fill up, which the probes account for.
    pub fn start(
        ring: RingBuf<MapData>,
        chunks: Sender<Chunk>,
        relief: Option<Relief>,
        merge: Option<Merge>,
    ) -> std::io::Result<Drain> {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("drain".to_owned())
            .spawn(move || {
                let mut outlet = Outlet::new(&chunks);
                match merge {
                    None => run(ring, &mut outlet, relief.as_ref(), &asked),
                    Some(merge) => run_merged(ring, &mut outlet, merge, &asked),
                }
            })?;
        Ok(Drain { stop, thread })
    }

    /// Empties the ring once more and ends. Call it when the probes no longer record.
    pub fn finish(self) {
        self.stop.store(true, Ordering::Release);
        // The thread has no panicking path; if it died all the same, its chunks just end here.
        let _ = self.thread.join();
    }
}

/// Where records go.
#[derive(Debug)]
pub struct Outlet<'a> {
    chunk: Chunk,
    chunks: &'a Sender<Chunk>,
    /// Whether anybody listens.
    open: bool,
}

impl<'a> Outlet<'a> {
    fn new(chunks: &'a Sender<Chunk>) -> Outlet<'a> {
        Outlet {
            chunk: Chunk::default(),
            chunks,
            open: true,
        }
    }

    /// Adds a record; may wait until a full chunk is taken.
    pub fn push(&mut self, record: &[u8]) {
        self.chunk.push(record);
        if self.is_full() {
            self.hand_on();
        }
    }

    fn is_full(&self) -> bool {
        self.chunk.size() >= CHUNK_BYTES
    }

    /// Sends the chunk, if it holds anything; false when nobody listens any more.
    fn hand_on(&mut self) -> bool {
        if self.chunk.size() > 0 {
            let next = Chunk {
                bytes: Vec::with_capacity(CHUNK_BYTES + 4096),
            };
            let chunk = std::mem::replace(&mut self.chunk, next);
            self.open &= self.chunks.send(chunk).is_ok();
        }
        self.open
    }
}

fn run(
    mut ring: RingBuf<MapData>,
    out: &mut Outlet<'_>,
    relief: Option<&Relief>,
    stop: &AtomicBool,
) {
    loop {
        // Asked before the ring is emptied: what came before the request is drained for sure.
        let last = stop.load(Ordering::Acquire);
        while let Some(record) = ring.next() {
            out.chunk.push(&record);
            if out.is_full() {
                drop(record);
                if !out.hand_on() {
                    return;
                }
                relief.inspect(|relief| relief.look());
            }
        }
        if !out.hand_on() {
            return;
        }
        relief.inspect(|relief| relief.look());
        if last {
            return;
        }
        await_records(&ring);
    }
}

/// Whoever is in the middle of an event when the recording is closed has so many milliseconds: it may have
/// been preempted.
const LAST_MS: u32 = 2000;

/// As [`run`], with the buffers of the kernel beside.
fn run_merged(
    mut ring: RingBuf<MapData>,
    out: &mut Outlet<'_>,
    mut merge: Merge,
    stop: &AtomicBool,
) {
    while !stop.load(Ordering::Acquire) {
        merge.read(&mut ring, out);
        merge.hand_on(out);
        if !out.hand_on() {
            return;
        }
        await_records(&ring);
    }
    for _ in 0..LAST_MS {
        if merge.read(&mut ring, out) {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    merge.hand_on_rest(out);
    out.hand_on();
}

/// Waits until the probes wake the reader, but not for long.
fn await_records(ring: &RingBuf<MapData>) {
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
        chunk.take_off(2);
        assert_eq!(chunk.records().collect::<Vec<_>>(), [b"three"]);
    }
}
