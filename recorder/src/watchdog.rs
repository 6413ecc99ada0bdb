//! A process of its own that continues the target if the recorder dies, however it dies.
//!
//! It is forked when the probes are loaded, and keeps three descriptors: the recorder's pidfd and
//! the two maps of [`crate::stops`]. Maps do not keep programs alive: the probes go with the
//! recorder. A pidfd is readable when the process has let go of everything, so nothing is stopped
//! after that but by a probe that was just running; therefore it looks several times.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use crate::stops::{StopReason, Stops, answer, keys};

/// How often, and how far apart, it looks for stops after the recorder's end.
const LOOKS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(25);

/// Starts the watchdog for this process. It ends by itself soon after this process.
pub fn start(stops: &Stops) -> io::Result<()> {
    // SAFETY: both calls take numbers only; the descriptor is new.
    let recorder = unsafe {
        let descriptor = libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0);
        match i32::try_from(descriptor) {
            Ok(descriptor) if descriptor >= 0 => OwnedFd::from_raw_fd(descriptor),
            _ => return Err(io::Error::last_os_error()),
        }
    };
    let [stops, continued] = stops.maps().map(|map| map.as_raw_fd());
    // Forked twice: init inherits it, and it never becomes a zombie of ours.
    // SAFETY: the child calls nothing that allocates or locks, and never returns.
    unsafe {
        let middle = libc::fork();
        match middle {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                if libc::fork() == 0 {
                    watch([recorder.as_raw_fd(), stops, continued]);
                }
                libc::_exit(0)
            }
            _ => {
                let mut status = 0;
                while libc::waitpid(middle, &mut status, 0) < 0
                    && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
                {
                }
                Ok(())
            }
        }
    }
}

/// The watchdog's whole life.
///
/// # Safety
/// For a process that was just forked: it closes every other descriptor and does not return.
unsafe fn watch(descriptors: [i32; 3]) -> ! {
    // SAFETY: system calls on numbers and on memory of this function.
    unsafe {
        // Ctrl-C of the terminal is not for us, nor is anything else that can be refused.
        libc::setsid();
        let mut all = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &all, std::ptr::null_mut());
        libc::prctl(libc::PR_SET_NAME, c"memleak-watchd".as_ptr());
        libc::chdir(c"/".as_ptr());
        // Nobody waits for the end of our stderr, and no probe hangs on a descriptor of ours.
        let [recorder, stops, continued] = keep_only(descriptors);
        let mut end = libc::pollfd {
            fd: recorder,
            events: libc::POLLIN,
            revents: 0,
        };
        while end.revents == 0 {
            libc::poll(&mut end, 1, -1);
        }
        let (stops, continued) = (
            BorrowedFd::borrow_raw(stops),
            BorrowedFd::borrow_raw(continued),
        );
        for _ in 0..LOOKS {
            for pid in keys(stops) {
                for reason in StopReason::ALL {
                    answer(stops, continued, pid, reason);
                }
            }
            libc::usleep(PAUSE.as_micros() as u32);
        }
        libc::_exit(0)
    }
}

/// Moves the descriptors to 0, 1 and 2, and closes all others.
///
/// # Safety
/// As for [`watch`].
unsafe fn keep_only(descriptors: [i32; 3]) -> [i32; 3] {
    /// Above those in use: none of them is overwritten before it is moved.
    const ASIDE: i32 = 64;
    // SAFETY: system calls on numbers.
    unsafe {
        let aside = descriptors.map(|descriptor| libc::fcntl(descriptor, libc::F_DUPFD, ASIDE));
        for (place, descriptor) in (0..).zip(aside) {
            libc::dup2(descriptor, place);
        }
        libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, 0u32);
    }
    [0, 1, 2]
}
