//! A process that is recorded.

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Instant;

use memleak_trace::SpaceId;

use crate::clocks;
use crate::kernel::Place;
use crate::preflight::target::{Target, is_alive, living_thread};

/// Probed places: the object by its lasting path, and the offset in it, with the program at its entry.
pub type Probed = HashSet<(PathBuf, u64, &'static str)>;

/// What the recorder keeps of a process.
#[derive(Debug)]
pub struct Process {
    pub target: Target,
    /// Its address space; exec brings a new one.
    pub space: SpaceId,
    /// The one before: names may still be asked for what was in it.
    pub past_space: Option<SpaceId>,
    /// Where the probes keep what they know of it.
    slot: u32,
    /// Whether it has probes of its own; else those serve it that fire everywhere.
    pub own: bool,
    /// The thread that its probes name.
    task: NonZeroU32,
    /// When that was last seen alive, nanoseconds of `CLOCK_MONOTONIC`.
    task_seen_ns: i64,
    /// The places that are probed for it.
    pub probed: Probed,
    /// When its mappings were last read without anything new in them.
    pub vain_refresh: Option<Instant>,
}

/// The probes hang on another thread now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    pub last: NonZeroU32,
    pub next: NonZeroU32,
    /// Nanoseconds since the last one was seen alive: how long the probes may have been off.
    pub window_ns: u64,
}

impl Process {
    /// `None` if it has ended.
    pub fn new(target: Target, space: SpaceId, slot: u32, own: bool) -> Option<Process> {
        Some(Process {
            task: living_task(&target)?,
            target,
            space,
            past_space: None,
            slot,
            own,
            task_seen_ns: clocks::monotonic_ns(),
            probed: Probed::new(),
            vain_refresh: None,
        })
    }

    pub fn pid(&self) -> i32 {
        self.target.pid
    }

    pub fn task(&self) -> NonZeroU32 {
        self.task
    }

    pub fn slot(&self) -> u32 {
        self.slot
    }

    pub fn place(&self) -> Place {
        Place {
            slot: self.slot,
            pid: self.target.pid as u32,
            space: self.space.0 as u32,
        }
    }

    /// It has executed another program: what is left of its threads has its pid. `by` is the thread
    /// that did it, as it was called before. Returns whether the probes hung on another one: they are
    /// gone with it then.
    pub fn executed(&mut self, target: Target, space: SpaceId, by: u32) -> bool {
        let lost = by != 0 && by != self.task.get();
        self.task = living_task(&target).unwrap_or(self.task);
        self.task_seen_ns = clocks::monotonic_ns();
        self.target = target;
        self.past_space = Some(std::mem::replace(&mut self.space, space));
        self.vain_refresh = None;
        if lost {
            self.probed.clear();
        }
        lost
    }

    /// Probes live as long as the thread they name. Where it has ended and the process has not,
    /// names another one.
    pub fn follow_thread(&mut self) -> Option<Moved> {
        let now = clocks::monotonic_ns();
        if is_alive(self.task.get() as i32) {
            self.task_seen_ns = now;
            return None;
        }
        // None: the process has ended, too, which is not ours to tell.
        let next = living_task(&self.target)?;
        let last = std::mem::replace(&mut self.task, next);
        let window_ns = u64::try_from(now - self.task_seen_ns).unwrap_or(0);
        self.task_seen_ns = now;
        Some(Moved {
            last,
            next,
            window_ns,
        })
    }
}

fn living_task(target: &Target) -> Option<NonZeroU32> {
    NonZeroU32::new(u32::try_from(living_thread(target.pid)?).ok()?)
}
