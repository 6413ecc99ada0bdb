//! Keeps the recorder small beside its target: glibc holds on to memory that was used once, and
//! discovering a large program uses tens of megabytes once.

/// Blocks of at least so many bytes are mapped one by one, and given back as soon as they are free.
#[cfg(target_env = "gnu")]
const MAPPED_BYTES: libc::c_int = 1 << 20;

/// From now on, large blocks go back to the kernel when they are freed.
pub fn map_large_blocks() {
    #[cfg(target_env = "gnu")]
    // SAFETY: two integers; a refusal changes nothing.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, MAPPED_BYTES);
    }
}

/// Gives what is free back to the kernel.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no preconditions; it takes the allocator's own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}
