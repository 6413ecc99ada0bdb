//! Hints to the processor and the kernel: without them the replay waits for memory most of the time.

/// Asks the processor to load the cache line where a value begins.
#[inline]
pub fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint that never faults, and the reference is valid anyway.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

/// Asks the kernel for huge pages under a large table: random lookups in small ones miss the TLB.
pub fn advise_huge_pages<T>(table: &[T]) {
    const HUGE: usize = 2 << 20;
    let bytes = std::mem::size_of_val(table);
    let start = (table.as_ptr() as usize).next_multiple_of(HUGE);
    let end = table.as_ptr() as usize + bytes;
    if start + HUGE <= end {
        // SAFETY: the range lies within the table, and the advice does not change its contents. A
        // kernel that refuses it costs speed only.
        unsafe {
            libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_HUGEPAGE);
        }
    }
}
