//! The unwind rows of all files, in memory shared with the probes. Rows are only appended: a file's
//! rows never move, so walks under way stay right.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use memleak_trace::FileId;

use crate::unwind_rows::UnwindRow;

/// Where a file's rows lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowRange {
    pub first: u32,
    pub count: u32,
}

/// A map of rows, mapped into this process.
#[derive(Debug)]
pub struct RowArena {
    memory: *mut UnwindRow,
    capacity: usize,
    used: usize,
    files: HashMap<FileId, RowRange>,
}

// SAFETY: the memory belongs to this value alone on the user side, and lives as long as it does.
unsafe impl Send for RowArena {}

impl RowArena {
    /// Maps `capacity` rows of a `BPF_F_MMAPABLE` array.
    pub fn map(map: BorrowedFd<'_>, capacity: usize) -> io::Result<RowArena> {
        // SAFETY: a new shared mapping at an address of the kernel's choice.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                capacity * size_of::<UnwindRow>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(RowArena {
            memory: memory.cast(),
            capacity,
            used: 0,
            files: HashMap::new(),
        })
    }

    /// The rows of a file, if they are in.
    pub fn find(&self, file: FileId) -> Option<RowRange> {
        self.files.get(&file).copied()
    }

    /// Files that have rows.
    pub fn files(&self) -> usize {
        self.files.values().filter(|range| range.count > 0).count()
    }

    /// Bytes that the rows take.
    pub fn bytes(&self) -> usize {
        self.used * size_of::<UnwindRow>()
    }

    /// Adds the rows of a file. Where there is no room for all, none is added and the file counts
    /// as one without unwind information; returns whether they fitted.
    pub fn insert(&mut self, file: FileId, rows: &[UnwindRow]) -> bool {
        let fits = rows.len() <= self.capacity - self.used;
        let rows = if fits { rows } else { &[] };
        // SAFETY: `used + rows.len() <= capacity`, and the source is another allocation. The probes
        // read only ranges that were handed out, that is after this copy.
        unsafe {
            std::ptr::copy_nonoverlapping(rows.as_ptr(), self.memory.add(self.used), rows.len());
        }
        let range = RowRange {
            first: self.used as u32,
            count: rows.len() as u32,
        };
        self.used += rows.len();
        self.files.insert(file, range);
        fits
    }
}

impl Drop for RowArena {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `map`; nothing refers to it any more.
        unsafe {
            libc::munmap(self.memory.cast(), self.capacity * size_of::<UnwindRow>());
        }
    }
}
