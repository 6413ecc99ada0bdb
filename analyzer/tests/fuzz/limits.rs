//! What no case may exceed: time and memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Limits the address space to what is in use now and `bytes` more: an allocation beyond fails, and
/// ends the test.
pub fn limit_memory(bytes: u64) {
    let status = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: u64 = status
        .split(' ')
        .next()
        .and_then(|pages| pages.parse().ok())
        .expect("pages in use");
    let limit = libc::rlimit {
        rlim_cur: pages * 4096 + bytes,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: a valid rlimit.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
}

/// Ends the test when a case takes too long.
pub struct Watchdog {
    /// The case under way; `DONE` ends the watch.
    seed: Arc<AtomicU64>,
}

const DONE: u64 = u64::MAX;

impl Watchdog {
    pub fn start(limit: Duration) -> Watchdog {
        let seed = Arc::new(AtomicU64::new(0));
        let watched = seed.clone();
        std::thread::spawn(move || {
            let mut last = (0, Instant::now());
            loop {
                std::thread::sleep(Duration::from_millis(200));
                match watched.load(Ordering::Relaxed) {
                    DONE => return,
                    seed if seed != last.0 => last = (seed, Instant::now()),
                    seed if last.1.elapsed() > limit => {
                        eprintln!("seed {seed} hangs: MEMLEAK_FUZZ_SEED={seed} repeats it");
                        std::process::abort();
                    }
                    _ => {}
                }
            }
        });
        Watchdog { seed }
    }

    pub fn begins(&self, seed: u64) {
        self.seed.store(seed, Ordering::Relaxed);
    }

    pub fn end(&self) {
        self.seed.store(DONE, Ordering::Relaxed);
    }
}
