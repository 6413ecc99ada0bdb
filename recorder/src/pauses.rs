//! Continues what the probes stopped because the ring was nearly full (`bpf/pause.h`).
//!
//! Allocates nothing: the watchdog does the same after the recorder's death.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::bpf_map::{lookup, next_key, update};
use crate::layout::Stops;

/// The maps in which stops and answers are counted.
#[derive(Debug)]
pub struct Pauses {
    stops: OwnedFd,
    continued: OwnedFd,
}

/// Signals that stop a process, as bits of `/proc/PID/status`.
const STOP_SIGNALS: u64 = 1 << (libc::SIGSTOP - 1)
    | 1 << (libc::SIGTSTP - 1)
    | 1 << (libc::SIGTTIN - 1)
    | 1 << (libc::SIGTTOU - 1);

impl Pauses {
    pub fn new(stops: OwnedFd, continued: OwnedFd) -> Pauses {
        Pauses { stops, continued }
    }

    /// The descriptors, for the watchdog: stops and answers.
    pub fn maps(&self) -> [BorrowedFd<'_>; 2] {
        [self.stops.as_fd(), self.continued.as_fd()]
    }

    /// Continues every process that the probes have stopped since. Returns how many.
    pub fn relieve(&self) -> u32 {
        relieve(self.stops.as_fd(), self.continued.as_fd())
    }

    /// Stops so far, of all processes.
    pub fn count(&self) -> u64 {
        let (mut count, mut key) = (0, None);
        while let Some(pid) = next_key(self.stops.as_fd(), key) {
            count += lookup::<Stops>(self.stops.as_fd(), pid).map_or(0, |stops| stops.sent);
            key = Some(pid);
        }
        count
    }
}

/// See [`Pauses::relieve`].
pub fn relieve(stops: BorrowedFd<'_>, continued: BorrowedFd<'_>) -> u32 {
    let (mut count, mut key) = (0, None);
    while let Some(pid) = next_key(stops, key) {
        key = Some(pid);
        let Some(told) = lookup::<Stops>(stops, pid) else {
            continue;
        };
        let answered = lookup::<Stops>(continued, pid).unwrap_or_default();
        if told.sent == answered.sent {
            continue;
        }
        // A stopped process keeps a further stop signal pending, which SIGCONT would take away. With
        // one stop of ours it is someone else's: the process stays stopped, and goes on when they
        // say so. With more it may be ours.
        let ours_alone = told.begun - answered.begun.min(told.begun) <= 1;
        if !(ours_alone && is_stopped_twice(pid)) {
            // SAFETY: a signal; a process that is gone is an error that matters to nobody.
            unsafe {
                libc::kill(pid as i32, libc::SIGCONT);
            }
            count += 1;
        }
        // Behind the signal: who dies in between leaves a stop that the watchdog answers again.
        let _ = update(continued, pid, &told);
    }
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
