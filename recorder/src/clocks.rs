//! The two clocks of a recording.

use memleak_trace::header::Clock;

/// Nanoseconds of `CLOCK_MONOTONIC`: the clock of the probes.
pub fn monotonic_ns() -> i64 {
    read(libc::CLOCK_MONOTONIC)
}

/// One instant on both clocks.
pub fn now() -> Clock {
    Clock {
        monotonic_ns: monotonic_ns(),
        realtime_ns: read(libc::CLOCK_REALTIME),
    }
}

fn read(clock: libc::clockid_t) -> i64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a valid timespec; both clocks exist on every Linux, so the call cannot fail.
    unsafe {
        libc::clock_gettime(clock, &mut time);
    }
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}
