//! Detaching takes about a tenth of a second for each probe: a process of its own does it, so that
//! nobody waits for it.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::attachment::Attachment;

/// Lets go of everything that is attached, without waiting for it. The recording must be closed: the
/// probes are there for some seconds more, and do nothing.
pub fn in_background(attachment: Attachment) {
    // Where it fails, letting go takes its time.
    let _held = start().ok();
    drop(attachment);
}

/// Starts a process that has all descriptors of this one until the pipe it reads from is closed.
fn start() -> io::Result<OwnedFd> {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors, which have no other owner. The child makes system calls on
    // numbers only, and never returns.
    unsafe {
        if libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) < 0 {
            return Err(io::Error::last_os_error());
        }
        let [wait, held] = ends.map(|end| OwnedFd::from_raw_fd(end));
        match libc::fork() {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                // Whoever reads what we said must not wait for this process.
                for standard in 0..3 {
                    libc::close(standard);
                }
                libc::close(held.as_raw_fd());
                libc::setsid();
                libc::prctl(libc::PR_SET_NAME, c"memleak-detach".as_ptr());
                let mut byte = 0u8;
                libc::read(wait.as_raw_fd(), (&raw mut byte).cast(), 1);
                libc::_exit(0)
            }
            _ => Ok(held),
        }
    }
}
