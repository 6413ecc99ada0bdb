//! Times of day, where the report is read.

/// Hour, minute and second in the local time zone of whoever reads the report.
pub fn local_time(wall_ns: i64) -> (i32, i32, i32) {
    let seconds: libc::time_t = wall_ns.div_euclid(1_000_000_000);
    let mut parts = std::mem::MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both pointers are valid for the call; zeroed is a valid `tm`, should the call fail.
    let parts = unsafe {
        libc::localtime_r(&seconds, parts.as_mut_ptr());
        parts.assume_init()
    };
    (parts.tm_hour, parts.tm_min, parts.tm_sec)
}
