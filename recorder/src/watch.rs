//! Waits for what may end a recording: a signal to us, or the end of a target.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// SIGINT, SIGTERM, or SIGHUP: the terminal is gone.
    Signal(Signal),
    /// Every thread of this process has ended; it is not watched any more.
    Ended(i32),
    /// Nothing within the time given, or something that is not watched here.
    Timeout,
}

/// A signal that came to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal {
    pub number: i32,
    /// Whether it came from the terminal: every process in the foreground has it, too.
    pub from_terminal: bool,
}

/// The watched descriptors.
#[derive(Debug)]
pub struct Watch {
    signals: OwnedFd,
    /// The processes that have not ended, by pid.
    processes: Vec<(i32, OwnedFd)>,
}

impl Watch {
    /// Blocks these signals for this thread and those it starts later, and watches them and
    /// these processes instead. Call it before any thread is started.
    pub fn new(pids: &[i32]) -> io::Result<Watch> {
        // SAFETY: the set is initialized by sigemptyset before use; both calls take valid pointers.
        let signals = unsafe {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            libc::sigaddset(&mut set, libc::SIGINT);
            libc::sigaddset(&mut set, libc::SIGTERM);
            libc::sigaddset(&mut set, libc::SIGHUP);
            let error = libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
            if error != 0 {
                return Err(io::Error::from_raw_os_error(error));
            }
            owned(i64::from(libc::signalfd(-1, &set, libc::SFD_CLOEXEC)))?
        };
        let mut watch = Watch {
            signals,
            processes: Vec::new(),
        };
        for pid in pids {
            watch.add(*pid)?;
        }
        Ok(watch)
    }

    /// Watches another process.
    pub fn add(&mut self, pid: i32) -> io::Result<()> {
        // SAFETY: pidfd_open takes a pid and flags, and returns a new descriptor.
        let descriptor = unsafe { owned(libc::syscall(libc::SYS_pidfd_open, pid, 0))? };
        self.processes.push((pid, descriptor));
        Ok(())
    }

    /// Takes the signal that waits.
    fn signal(&self) -> Option<Signal> {
        const FROM_KERNEL: i32 = 0x80; // SI_KERNEL
        // SAFETY: plain numbers, of which the kernel writes whole ones.
        let (read, told) = unsafe {
            let mut told: libc::signalfd_siginfo = std::mem::zeroed();
            let bytes = size_of_val(&told);
            let read = libc::read(self.signals.as_raw_fd(), (&raw mut told).cast(), bytes);
            (read == bytes as isize, told)
        };
        read.then_some(Signal {
            number: told.ssi_signo as i32,
            from_terminal: told.ssi_code == FROM_KERNEL,
        })
    }

    /// Whether every watched process has ended.
    pub fn is_over(&self) -> bool {
        self.processes.is_empty()
    }

    /// Waits until something happens, or `attention` can be read, at most for `time`.
    pub fn wait(&mut self, time: Duration, attention: Option<BorrowedFd<'_>>) -> io::Result<Wake> {
        let processes = self.processes.iter().map(|(_, process)| process);
        let mut ready: Vec<libc::pollfd> = std::iter::once(&self.signals)
            .chain(processes)
            .map(AsFd::as_fd)
            .chain(attention)
            .map(|descriptor| libc::pollfd {
                fd: descriptor.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            })
            .collect();
        let milliseconds = i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: as many valid pollfds as it says.
        let count = unsafe {
            libc::poll(
                ready.as_mut_ptr(),
                ready.len() as libc::nfds_t,
                milliseconds,
            )
        };
        if count < 0 {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::Interrupted => Ok(Wake::Timeout),
                _ => Err(error),
            };
        }
        Ok(match ready.iter().position(|fd| fd.revents != 0) {
            None => Wake::Timeout,
            Some(0) => self.signal().map_or(Wake::Timeout, Wake::Signal),
            Some(index) if index > self.processes.len() => Wake::Timeout,
            Some(index) => Wake::Ended(self.processes.remove(index - 1).0),
        })
    }
}

/// Takes a descriptor that a system call returned.
///
/// # Safety
/// Nobody else may own it.
unsafe fn owned(descriptor: i64) -> io::Result<OwnedFd> {
    match i32::try_from(descriptor) {
        // SAFETY: a fresh descriptor of the caller.
        Ok(descriptor) if descriptor >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The end of a process is seen, and until then nothing.
    #[test]
    fn sees_the_end_of_a_process() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let pid = child.id() as i32;
        let own = std::process::id() as i32;
        let mut watch = Watch::new(&[own, pid]).unwrap();
        assert_eq!(watch.wait(Duration::ZERO, None).unwrap(), Wake::Timeout);
        child.kill().unwrap();
        assert_eq!(
            watch.wait(Duration::from_secs(60), None).unwrap(),
            Wake::Ended(pid)
        );
        assert!(!watch.is_over());
        child.wait().unwrap();
    }
}
