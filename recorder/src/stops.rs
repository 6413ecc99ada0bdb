//! The one owner of what the recorder stops, and why (`bpf/stop.h`): a full ring, or probes that are
//! not on yet. Each reason is answered for itself; a process goes on when none is left, and if the
//! user did not stop it, too.
//!
//! [`answer`] allocates nothing: the watchdog does the same after the recorder's death.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use crate::bpf_map::{lookup, next_key, update};
use crate::layout::{STOP_REASONS, StopCounts};

/// Why a process is stopped: `enum ml_stop_reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum StopReason {
    /// Until the ring is drained.
    RingFull = 0,
    /// Until its probes are on.
    Held = 1,
}

impl StopReason {
    pub const ALL: [StopReason; STOP_REASONS] = [StopReason::RingFull, StopReason::Held];
}

/// The maps in which stops and answers are counted.
#[derive(Debug)]
pub struct Stops {
    stops: OwnedFd,
    continued: OwnedFd,
    /// Stops for a full ring that were answered. Locked while answers are given: two threads do, and
    /// each must see what the other one has left.
    pauses: Mutex<u64>,
}

/// Signals that stop a process, as bits of `/proc/PID/status`.
const STOP_SIGNALS: u64 = 1 << (libc::SIGSTOP - 1)
    | 1 << (libc::SIGTSTP - 1)
    | 1 << (libc::SIGTTIN - 1)
    | 1 << (libc::SIGTTOU - 1);

impl Stops {
    pub fn new(stops: OwnedFd, continued: OwnedFd) -> Stops {
        Stops {
            stops,
            continued,
            pauses: Mutex::new(0),
        }
    }

    /// The descriptors, for the watchdog: stops and answers.
    pub fn maps(&self) -> [BorrowedFd<'_>; 2] {
        [self.stops.as_fd(), self.continued.as_fd()]
    }

    /// The ring is drained: every process goes on that was stopped for that, and for nothing else.
    pub fn drained(&self) {
        let mut pauses = self.pauses.lock().unwrap_or_else(PoisonError::into_inner);
        for pid in keys(self.stops.as_fd()) {
            *pauses += self.answer(pid, StopReason::RingFull);
        }
    }

    /// The probes of this process are on: it goes on, unless it is stopped for something else.
    pub fn release(&self, pid: u32) {
        let _pauses = self.pauses.lock().unwrap_or_else(PoisonError::into_inner);
        self.answer(pid, StopReason::Held);
    }

    /// Nobody will answer any more: whatever the probes have stopped goes on.
    pub fn release_all(&self) {
        let mut pauses = self.pauses.lock().unwrap_or_else(PoisonError::into_inner);
        for pid in keys(self.stops.as_fd()) {
            *pauses += self.answer(pid, StopReason::RingFull);
            self.answer(pid, StopReason::Held);
        }
    }

    /// The processes that are held.
    pub fn held(&self) -> Vec<u32> {
        let is_held = |pid: &u32| {
            let told = lookup::<StopCounts>(self.stops.as_fd(), *pid).unwrap_or_default();
            let answered = lookup::<StopCounts>(self.continued.as_fd(), *pid).unwrap_or_default();
            new_stops(&told, &answered, StopReason::Held) > 0
        };
        keys(self.stops.as_fd()).filter(is_held).collect()
    }

    /// Stops for a full ring so far, of all processes.
    pub fn pauses(&self) -> u64 {
        *self.pauses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, pid: u32, reason: StopReason) -> u64 {
        answer(self.stops.as_fd(), self.continued.as_fd(), pid, reason)
    }
}

/// Twice what a map can hold.
const MOST_LOOKED_AT: usize = 8192;

/// The processes in a map of stops.
pub fn keys(stops: BorrowedFd<'_>) -> impl Iterator<Item = u32> {
    let mut key = None;
    let next = move || {
        key = next_key(stops, key);
        key
    };
    // Where an entry goes away while it is looked at, the kernel begins anew: not for ever.
    std::iter::from_fn(next).take(MOST_LOOKED_AT)
}

/// Stops for a reason that are not answered.
fn new_stops(told: &StopCounts, answered: &StopCounts, reason: StopReason) -> u64 {
    let index = reason as usize;
    told.by_reason[index]
        .sent
        .saturating_sub(answered.by_reason[index].sent)
}

/// The reason is over for this process. It goes on if there is no other one. Returns how many stops
/// that answers.
pub fn answer(
    stops: BorrowedFd<'_>,
    continued: BorrowedFd<'_>,
    pid: u32,
    reason: StopReason,
) -> u64 {
    let Some(told) = lookup::<StopCounts>(stops, pid) else {
        return 0;
    };
    let mut answered = lookup::<StopCounts>(continued, pid).unwrap_or_default();
    let count = new_stops(&told, &answered, reason);
    if count == 0 {
        return 0;
    }
    let is_other = |other: &StopReason| *other != reason;
    let mut others = StopReason::ALL.into_iter().filter(is_other);
    if !others.any(|other| new_stops(&told, &answered, other) > 0) {
        // A stopped process keeps a further stop signal pending, which SIGCONT would take away. With
        // one stop of ours it is someone else's: the process stays stopped, and goes on when they
        // say so. With more it may be ours.
        let ours: u64 = (told.by_reason.iter().zip(&answered.by_reason))
            .map(|(told, answered)| told.begun.saturating_sub(answered.begun))
            .sum();
        if !(ours <= 1 && is_stopped_twice(pid)) {
            // SAFETY: a signal; a process that is gone is an error that matters to nobody.
            unsafe {
                libc::kill(pid as i32, libc::SIGCONT);
            }
        }
    }
    // Behind the signal: who dies in between leaves a stop that the watchdog answers again.
    answered.by_reason[reason as usize] = told.by_reason[reason as usize];
    let _ = update(continued, pid, &answered);
    count
}

/// Whether the process is stopped, and another stop signal waits for it as a whole. (One that waits
/// while it still runs is the first.)
fn is_stopped_twice(pid: u32) -> bool {
    let mut bytes = [0u8; 4096];
    let Some(length) = read_status(pid, &mut bytes) else {
        return false;
    };
    let status = &bytes[..length];
    is_stopped(status) && pending(status) & STOP_SIGNALS != 0
}

fn is_stopped(status: &[u8]) -> bool {
    const STATE: &[u8] = b"State:\tT";
    status
        .split(|byte| *byte == b'\n')
        .any(|line| line.starts_with(STATE))
}

/// The set of shared pending signals in a `/proc/PID/status`.
fn pending(status: &[u8]) -> u64 {
    const NAME: &[u8] = b"ShdPnd:\t";
    let mut lines = status.split(|byte| *byte == b'\n');
    let digits = lines.find_map(|line| line.strip_prefix(NAME));
    digits.unwrap_or_default().iter().fold(0, |set, digit| {
        set << 4 | u64::from((*digit as char).to_digit(16).unwrap_or(0))
    })
}

/// Reads `/proc/PID/status`; returns its length.
fn read_status(pid: u32, bytes: &mut [u8]) -> Option<usize> {
    let mut path = [0u8; 32];
    let mut cursor = std::io::Cursor::new(&mut path[..]);
    // No more than 26 bytes; the rest stays 0, which ends the string.
    std::io::Write::write_fmt(&mut cursor, format_args!("/proc/{pid}/status")).ok()?;
    // SAFETY: a string that ends with 0, and a buffer with its length.
    let length = unsafe {
        let file = libc::open(path.as_ptr().cast(), libc::O_RDONLY | libc::O_CLOEXEC);
        if file < 0 {
            return None;
        }
        let length = libc::read(file, bytes.as_mut_ptr().cast(), bytes.len());
        libc::close(file);
        length
    };
    usize::try_from(length).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The set is found among the other lines.
    #[test]
    fn pending_signals() {
        let status =
            b"Name:\tx\nSigPnd:\t0000000000000001\nShdPnd:\t0000000000040000\nSigBlk:\t0\n";
        assert_eq!(pending(status), 1 << (libc::SIGSTOP - 1));
        assert_eq!(pending(b""), 0);
    }

    /// A second SIGSTOP waits while the first one is in force; SIGCONT takes it away.
    #[test]
    fn a_second_stop_is_pending() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let pid = child.id();
        let send = |signal| {
            // SAFETY: a signal to our own child.
            assert_eq!(unsafe { libc::kill(pid as i32, signal) }, 0);
        };
        let state = || {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            status.contains("State:\tT")
        };
        send(libc::SIGSTOP);
        while !state() {
            std::thread::yield_now();
        }
        assert!(!is_stopped_twice(pid));
        send(libc::SIGSTOP);
        assert!(is_stopped_twice(pid));
        send(libc::SIGCONT);
        assert!(!is_stopped_twice(pid));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
