//! How full the ring is, read from the positions that the kernel shares.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};

/// A read-only view of the ring's two positions.
#[derive(Debug)]
pub struct RingFill {
    consumer: *const AtomicU64,
    producer: *const AtomicU64,
    page_size: usize,
}

// SAFETY: two mappings of our own that are only read, atomically.
unsafe impl Send for RingFill {}

impl RingFill {
    /// Maps the position pages of the ring `map`.
    pub fn map(map: BorrowedFd<'_>, page_size: usize) -> io::Result<RingFill> {
        let page = |index: usize| {
            // SAFETY: a new read-only mapping at an address of the kernel's choice.
            let memory = unsafe {
                libc::mmap(
                    std::ptr::null_mut(),
                    page_size,
                    libc::PROT_READ,
                    libc::MAP_SHARED,
                    map.as_raw_fd(),
                    (index * page_size) as libc::off_t,
                )
            };
            if memory == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            Ok(memory.cast_const().cast::<AtomicU64>())
        };
        Ok(RingFill {
            consumer: page(0)?,
            producer: page(1)?,
            page_size,
        })
    }

    /// Bytes that wait to be drained.
    pub fn waiting(&self) -> u64 {
        let consumed = self.consumed();
        self.produced().saturating_sub(consumed)
    }

    /// Bytes that were drained, in all.
    pub fn consumed(&self) -> u64 {
        // SAFETY: the page is mapped as long as `self` lives, and starts with the position.
        unsafe { (*self.consumer).load(Ordering::Acquire) }
    }

    /// Bytes that were reserved, in all.
    pub fn produced(&self) -> u64 {
        // SAFETY: as above.
        unsafe { (*self.producer).load(Ordering::Acquire) }
    }
}

impl Drop for RingFill {
    fn drop(&mut self) {
        for page in [self.consumer, self.producer] {
            // SAFETY: the mapping made in `map`.
            unsafe {
                libc::munmap(page.cast_mut().cast(), self.page_size);
            }
        }
    }
}
