//! What a probed call costs on this machine: measured on a loop of malloc and free in this process.

use std::hint::black_box;

use anyhow::Context;
use memleak_trace::Selection;

use super::with;
use crate::attachment::Attachment;
use crate::cli::Options;
use crate::layout::Recording;
use crate::preflight::target::{self, Target};
use crate::trace_header;

/// Blocks of a round; so many of each sort fit the ring, which nobody empties.
const BLOCKS: usize = 2_000;
/// The best of so many rounds counts: whatever disturbs a round makes it slower.
const ROUNDS: usize = 12;
const RING_BYTES: u32 = 16 << 20;
/// Calls between the thread's start and malloc, as programs have them.
const DEPTH: u32 = 8;

/// Bytes of a block.
const BLOCK_SIZE: usize = 64;

/// Nanoseconds of CPU time that a call takes more than without probes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Price {
    pub allocation: f64,
    pub release: f64,
}

impl Price {
    fn above(self, plain: Price) -> Price {
        Price {
            allocation: (self.allocation - plain.allocation).max(0.0),
            release: (self.release - plain.release).max(0.0),
        }
    }
}

/// With probes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prices {
    /// Of blocks that are left out: the floor of every sampling.
    pub probed: Price,
    pub recorded: Price,
}

impl Prices {
    /// Measures for some hundredths of a second; attaching and detaching takes longer.
    pub fn measure(options: &Options) -> anyhow::Result<Prices> {
        let plain = best()?;
        // Two recordings: where some blocks are left out, those recorded cost a little more.
        let smaller = Selection {
            max_size: Some(BLOCK_SIZE as u64 - 1),
            ..Selection::default()
        };
        let probed = under_probes(options, smaller)?;
        let recorded = under_probes(options, Selection::default())?;
        Ok(Prices {
            probed: probed.above(plain),
            recorded: recorded.above(plain),
        })
    }
}

/// The price in this process while it is recorded.
fn under_probes(options: &Options, selection: Selection) -> anyhow::Result<Price> {
    let pid = std::process::id() as i32;
    let ourselves = Target {
        pid,
        ppid: target::parent(pid).unwrap_or(0),
        living_thread: pid,
        command: Vec::new(),
        executable: target::executable(pid),
    };
    let options = with(options, selection, RING_BYTES);
    let mut attachment = Attachment::attach(vec![ourselves], &options, trace_header::page_size())
        .context("cannot measure the price of probes on memleak-record itself")?;
    attachment.open()?;
    let price = best()?;
    attachment.kernel().set_recording(Recording::Closed)?;
    Ok(price)
}

/// The best rounds.
fn best() -> anyhow::Result<Price> {
    let rounds = std::thread::Builder::new()
        .name("price".to_owned())
        .spawn(move || {
            let mut blocks = vec![std::ptr::null_mut(); BLOCKS];
            let mut best = Price {
                allocation: f64::INFINITY,
                release: f64::INFINITY,
            };
            for _ in 0..ROUNDS {
                let round = descend(DEPTH, &mut blocks);
                best.allocation = best.allocation.min(round.allocation);
                best.release = best.release.min(round.release);
            }
            best
        });
    let best = rounds.context("cannot start a thread")?.join();
    best.map_err(|_| anyhow::anyhow!("the thread that measures prices failed"))
}

/// Calls itself, so that stacks have some frames.
#[inline(never)]
fn descend(depth: u32, blocks: &mut [*mut libc::c_void]) -> Price {
    if depth == 0 {
        return round(blocks);
    }
    // What follows the call keeps its frame.
    black_box(descend(black_box(depth - 1), blocks))
}

/// Allocates all blocks, then frees them; per call.
#[inline(never)]
fn round(blocks: &mut [*mut libc::c_void]) -> Price {
    let start = thread_ns();
    for block in blocks.iter_mut() {
        // SAFETY: malloc has no preconditions.
        *block = black_box(unsafe { libc::malloc(black_box(BLOCK_SIZE)) });
    }
    let middle = thread_ns();
    for block in blocks.iter() {
        // SAFETY: each was allocated above, and is freed once.
        unsafe { libc::free(black_box(*block)) };
    }
    let end = thread_ns();
    let count = blocks.len().max(1) as f64;
    Price {
        allocation: (middle - start) as f64 / count,
        release: (end - middle) as f64 / count,
    }
}

/// CPU time of this thread in nanoseconds.
fn thread_ns() -> i64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a valid timespec; the clock exists on every Linux.
    unsafe {
        libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time);
    }
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}
