//! The figures of a domain, and what the replay found odd.

use super::sites::Figures;

/// What a domain holds, held at most, and had in all. Domains are never summed.
///
/// The order of the fields is for speed: neighbours are changed in pairs, in one vector. Were two of them changed together
/// by an allocation, and one of these with a third by a free, each would wait until the other's vector is in the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Account {
    /// Bytes outstanding.
    pub bytes: u64,
    /// Most bytes held at once.
    pub peak_bytes: u64,
    /// Allocations outstanding.
    pub count: u64,
    /// When `peak_bytes` were held first: nanoseconds of the trace's clock.
    pub peak_at: i64,
    /// Bytes allocated in all; a reallocation counts with its whole new size.
    pub total_bytes: u64,
    pub total_count: u64,
    /// Bytes freed of what was allocated in the trace.
    pub freed_bytes: u64,
    pub freed_count: u64,
}

impl Account {
    #[inline]
    pub(super) fn allocate(&mut self, bytes: u64, now: i64) {
        self.bytes += bytes;
        self.count += 1;
        self.total_bytes += bytes;
        self.total_count += 1;
        self.note_peak(now);
    }

    /// The figures changed to these estimates. Whether they are the highest so far.
    pub(super) fn set(&mut self, estimated: Figures, now: i64) -> bool {
        let before = self.peak_bytes;
        self.bytes = estimated.bytes;
        self.count = estimated.count;
        self.total_bytes = estimated.total_bytes;
        self.total_count = estimated.total_count;
        // Both sums were rounded by themselves.
        self.freed_bytes = self.total_bytes.saturating_sub(self.bytes);
        self.freed_count = self.total_count.saturating_sub(self.count);
        self.note_peak(now);
        self.peak_bytes > before
    }

    #[inline]
    fn note_peak(&mut self, now: i64) {
        if self.bytes > self.peak_bytes {
            self.peak_bytes = self.bytes;
            self.peak_at = now;
        }
    }

    #[inline]
    pub(super) fn free(&mut self, bytes: u64, count: u64) {
        self.bytes -= bytes;
        self.count -= count;
        self.freed_bytes += bytes;
        self.freed_count += count;
    }

    /// What `free` took was never freed.
    pub(super) fn restore(&mut self, bytes: u64, count: u64, now: i64) {
        self.bytes += bytes;
        self.count += count;
        self.freed_bytes -= bytes;
        self.freed_count -= count;
        self.note_peak(now);
    }
}

/// What the replay met and could not pair; each is a count of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Anomalies {
    /// Frees and reallocations of blocks (unmappings of ranges) that were never seen allocated:
    /// they are older than the recording, or their allocation was lost.
    pub free_before_attach: u64,
    /// Frees of an address that had been freed before and not allocated again: glibc frees the
    /// blocks of a thread's cache a second time when the thread ends.
    pub already_freed: u64,
    /// Allocations at an address that was still live: its free was lost or not seen.
    pub implicit_frees: u64,
    /// Reallocations whose outcome is missing; their old blocks were taken for freed.
    pub unfinished_reallocations: u64,
    /// Mappings that were put over a live one, which ended it (`MAP_FIXED`; nothing is wrong).
    pub mappings_replaced: u64,
}
