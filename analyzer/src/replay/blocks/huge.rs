//! Zeroed memory for tables. Large ones stand on huge pages where the kernel has them: random lookups in small
//! pages miss the TLB nearly every time. They grow without being copied, and the kernel zeroes only what is new.
//! Small ones (there may be one for each of a hundred thousand processes) are the allocator's.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use super::chunk::Chunk;

/// What a huge page holds, in bytes.
const HUGE: usize = 2 << 20;
const PAGE: usize = 4096;

/// Chunks, which are plain numbers: all zero at first, none by default.
#[derive(Debug)]
pub struct Zeroed {
    chunks: NonNull<Chunk>,
    len: usize,
    /// Bytes that begin at `chunks`: a mapping from [`HUGE`] on, else the allocator's; 0: there are none.
    bytes: usize,
}

// SAFETY: the memory belongs to the value alone.
unsafe impl Send for Zeroed {}
// SAFETY: shared access reads only.
unsafe impl Sync for Zeroed {}

impl Default for Zeroed {
    fn default() -> Self {
        Zeroed {
            chunks: NonNull::dangling(),
            len: 0,
            bytes: 0,
        }
    }
}

impl Zeroed {
    /// Makes them at least `len`. Those that are there stay what they are, at another address.
    pub fn grow(&mut self, len: usize) {
        let wanted = len * size_of::<Chunk>();
        if wanted <= self.bytes {
            return;
        }
        let (begin, bytes) = match wanted {
            0..HUGE => (allocate(wanted), wanted),
            _ => map(wanted.next_multiple_of(PAGE)),
        };
        self.move_to(begin);
        self.chunks = begin.cast();
        self.len = bytes / size_of::<Chunk>();
        self.bytes = bytes;
    }

    /// Moves what is there to the beginning of larger memory, which nothing uses yet, and gives the old up.
    fn move_to(&self, begin: NonNull<u8>) {
        let old = self.chunks.as_ptr().cast();
        if self.bytes >= HUGE {
            // SAFETY: both are mappings, the old one is this value's own and not longer than the new one,
            // whose beginning gives way to its pages.
            let moved = unsafe {
                libc::mremap(
                    old,
                    self.bytes,
                    self.bytes,
                    libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED,
                    begin.as_ptr(),
                )
            };
            if moved == libc::MAP_FAILED {
                handle_alloc_error(layout(self.bytes));
            }
        } else if self.bytes > 0 {
            // SAFETY: two allocations do not overlap, and the old one, of this layout, is not used again.
            unsafe {
                std::ptr::copy_nonoverlapping(old.cast(), begin.as_ptr(), self.bytes);
                dealloc(old.cast(), layout(self.bytes));
            }
        }
    }
}

/// The layout of chunks that take so many bytes, which is not more than there are addresses.
fn layout(bytes: usize) -> Layout {
    Layout::array::<Chunk>(bytes / size_of::<Chunk>()).unwrap_or(Layout::new::<Chunk>())
}

/// New memory of the allocator; more than none.
fn allocate(bytes: usize) -> NonNull<u8> {
    let layout = layout(bytes);
    // SAFETY: the layout is not empty.
    let begin = unsafe { alloc_zeroed(layout) };
    NonNull::new(begin).unwrap_or_else(|| handle_alloc_error(layout))
}

/// A new mapping that begins where a huge page can, and how long it is.
fn map(bytes: usize) -> (NonNull<u8>, usize) {
    // A mapping begins at any small page: one page more lets a huge one begin within it. The rest
    // behind the last huge page stays small: rounding up could take nearly twice the memory.
    let mapped = bytes + HUGE - PAGE;
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
    let begin = begin.unwrap_or_else(|| handle_alloc_error(layout(bytes)));
    let skipped = begin.addr().get().next_multiple_of(HUGE) - begin.addr().get();
    // SAFETY: less than a huge page of `mapped` is skipped.
    let aligned = unsafe { begin.byte_add(skipped) };
    let end = aligned.as_ptr().wrapping_byte_add(bytes);
    // SAFETY: both ranges lie in the mapping, outside of what is used; the advice changes no
    // contents, and a kernel that refuses it costs speed only.
    unsafe {
        if skipped > 0 {
            libc::munmap(begin.as_ptr(), skipped);
        }
        if mapped - skipped > bytes {
            libc::munmap(end, mapped - skipped - bytes);
        }
        libc::madvise(aligned.as_ptr(), bytes, libc::MADV_HUGEPAGE);
    }
    (aligned.cast(), bytes)
}

impl Deref for Zeroed {
    type Target = [Chunk];

    #[inline]
    fn deref(&self) -> &[Chunk] {
        // SAFETY: `len` chunks lie in memory that lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.chunks.as_ptr(), self.len) }
    }
}

impl DerefMut for Zeroed {
    #[inline]
    fn deref_mut(&mut self) -> &mut [Chunk] {
        // SAFETY: as above, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.chunks.as_ptr(), self.len) }
    }
}

impl Drop for Zeroed {
    fn drop(&mut self) {
        let begin = self.chunks.as_ptr();
        if self.bytes >= HUGE {
            // SAFETY: the mapping is this value's own.
            unsafe { libc::munmap(begin.cast(), self.bytes) };
        } else if self.bytes > 0 {
            // SAFETY: so is the allocation, which has this layout.
            unsafe { dealloc(begin.cast(), layout(self.bytes)) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small and large tables are zero, not smaller than asked for, and keep what was written when they grow.
    #[test]
    fn chunks_are_zero_and_kept() {
        let mut table = Zeroed::default();
        assert!(table.is_empty());
        let mut written = Vec::new();
        for len in [1, 21, 22, 10_922, 10_923, 50_000] {
            let before = table.len();
            table.grow(len);
            assert!(table.len() >= len.max(before));
            assert!(
                table[before..]
                    .iter()
                    .all(|chunk| chunk.iter().count() == 0)
            );
            let last = table.len() - 1;
            if table[last].vacancy() == Some(0) {
                table[last].fill(0, [len as u64, 2, 3]);
                written.push(last);
            }
            let kept = written.iter().filter(|at| table[**at].iter().count() == 1);
            assert_eq!(kept.count(), written.len());
        }
    }
}
