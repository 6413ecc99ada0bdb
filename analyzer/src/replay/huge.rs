//! Zeroed memory for large tables, on huge pages where the kernel has them: random lookups in small
//! pages miss the TLB nearly every time.

use std::alloc::{Layout, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// What a huge page holds, in bytes.
const HUGE: usize = 2 << 20;
const PAGE: usize = 4096;

/// What a table is made of: plain numbers, for which all bits zero is a value.
pub type Slot = [u64; 3];

/// A fixed number of slots, all zero at first.
#[derive(Debug)]
pub struct Zeroed {
    slots: NonNull<Slot>,
    len: usize,
    /// Bytes of the mapping that begins at `slots`; 0: there is none.
    bytes: usize,
}

// SAFETY: the mapping belongs to the value alone.
unsafe impl Send for Zeroed {}
// SAFETY: shared access reads only.
unsafe impl Sync for Zeroed {}

impl Default for Zeroed {
    fn default() -> Self {
        Zeroed {
            slots: NonNull::dangling(),
            len: 0,
            bytes: 0,
        }
    }
}

impl Zeroed {
    /// At least `len` slots: as many as fit into the pages that these need.
    pub fn at_least(len: usize) -> Zeroed {
        let wanted = len * size_of::<Slot>();
        let page = if wanted < HUGE { PAGE } else { HUGE };
        let bytes = wanted.next_multiple_of(PAGE);
        // A mapping begins at any small page: one page more lets a huge one begin within it. The rest
        // behind the last huge page stays small: rounding up could take nearly twice the memory.
        let mapped = bytes + page - PAGE;
        // SAFETY: a new anonymous mapping touches no memory that is in use.
        let begin = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                mapped,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        let begin = NonNull::new(begin).filter(|begin| begin.as_ptr() != libc::MAP_FAILED);
        let Some(begin) = begin else {
            handle_alloc_error(Layout::array::<Slot>(len).unwrap_or(Layout::new::<Slot>()));
        };
        let skipped = begin.addr().get().next_multiple_of(page) - begin.addr().get();
        // SAFETY: less than a page of `mapped` is skipped.
        let slots = unsafe { begin.byte_add(skipped) }.cast::<Slot>();
        let end = slots.as_ptr().wrapping_byte_add(bytes);
        // SAFETY: both ranges lie in the mapping, outside of what is used; the advice changes no
        // contents, and a kernel that refuses it costs speed only.
        unsafe {
            if skipped > 0 {
                libc::munmap(begin.as_ptr(), skipped);
            }
            if mapped - skipped > bytes {
                libc::munmap(end.cast(), mapped - skipped - bytes);
            }
            if page == HUGE {
                libc::madvise(slots.as_ptr().cast(), bytes, libc::MADV_HUGEPAGE);
            }
        }
        Zeroed {
            slots,
            len: bytes / size_of::<Slot>(),
            bytes,
        }
    }
}

impl Deref for Zeroed {
    type Target = [Slot];

    #[inline]
    fn deref(&self) -> &[Slot] {
        // SAFETY: `len` slots lie in the mapping, which lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.slots.as_ptr(), self.len) }
    }
}

impl DerefMut for Zeroed {
    #[inline]
    fn deref_mut(&mut self) -> &mut [Slot] {
        // SAFETY: as above, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.slots.as_ptr(), self.len) }
    }
}

impl Drop for Zeroed {
    fn drop(&mut self) {
        if self.bytes > 0 {
            // SAFETY: the mapping is this table's own.
            unsafe { libc::munmap(self.slots.as_ptr().cast(), self.bytes) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small and large tables are zero, writable to their last value, and not smaller than asked for.
    #[test]
    fn slots_are_zero_and_writable() {
        assert!(Zeroed::default().is_empty());
        for len in [1, 170, 171, 87_381, 87_382, 400_000] {
            let mut table = Zeroed::at_least(len);
            assert!(table.len() >= len);
            assert!(table.iter().all(|slot| *slot == [0; 3]));
            let last = table.len() - 1;
            table[last] = [1, 2, 3];
            table[0] = [4, 5, 6];
            assert_eq!((table[last], table[0]), ([1, 2, 3], [4, 5, 6]));
        }
    }
}
