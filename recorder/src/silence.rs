//! Says loudly that nothing is recorded, and why that may be: an empty trace is found out too late.

use std::time::Duration;

use crate::preflight::target;

/// So long without an event is worth a word.
const PATIENCE: Duration = Duration::from_secs(5);

/// A target that used less of a CPU than this, in percent, has done nothing.
const IDLE_PERCENT: u128 = 1;

/// Watches for a recording without events, and speaks once.
#[derive(Debug)]
pub struct Silence {
    cpu_before: Duration,
    is_over: bool,
}

impl Silence {
    /// Call it when the recording begins.
    pub fn begin(pids: &[i32]) -> Silence {
        Silence {
            cpu_before: cpu_time(pids),
            is_over: false,
        }
    }

    /// What to say, if it is time and there were no events.
    pub fn remark(&mut self, events: u64, elapsed: Duration, pids: &[i32]) -> Option<String> {
        if self.is_over || (events == 0 && elapsed < PATIENCE) {
            return None;
        }
        self.is_over = true;
        if events > 0 {
            return None;
        }
        let used = cpu_time(pids).saturating_sub(self.cpu_before);
        let runtimes: Vec<&str> = pids.iter().filter_map(|pid| runtime(*pid)).collect();
        Some(words(used, elapsed, &runtimes))
    }
}

fn words(used: Duration, elapsed: Duration, runtimes: &[&str]) -> String {
    let seconds = elapsed.as_secs_f64();
    let milliseconds = used.as_millis();
    if used.as_micros() * 100 < elapsed.as_micros() * IDLE_PERCENT {
        return format!(
            "NOTHING RECORDED in {seconds:.0} s: the target is idle, it used {milliseconds} ms of CPU; \
             events come when it works"
        );
    }
    let reason = match runtimes.first() {
        Some(what) => format!("its memory is managed by {what}, which takes it in large pieces"),
        None => "it allocates nothing (with -z, -Z, -s, --sample-bytes: nothing that is recorded), or from memory \
                 that it manages itself: a pool, or an allocator with names of its own"
            .to_owned(),
    };
    format!(
        "NOTHING RECORDED in {seconds:.0} s, though the target used {milliseconds} ms of CPU: {reason}. \
         Name a pool's functions with --probe, an allocator with -O FILE or -S PREFIX"
    )
}

/// Files of run-time systems that manage memory themselves.
const RUNTIMES: [(&str, &str); 4] = [
    ("libjvm.so", "Java's virtual machine"),
    ("libcoreclr.so", ".NET's run-time system"),
    ("libmonosgen", "Mono"),
    ("libv8", "V8"),
];

/// The run-time system of a process, by its files.
fn runtime(pid: i32) -> Option<&'static str> {
    let maps = crate::maps::read(target::living_thread(pid)?).ok()?;
    let known = |path: &str| RUNTIMES.iter().find(|(file, _)| path.contains(file));
    maps.iter()
        .find_map(|mapping| known(&mapping.path.to_string_lossy()))
        .map(|(_, name)| *name)
}

/// CPU time of all threads of these processes, also of ended threads.
fn cpu_time(pids: &[i32]) -> Duration {
    pids.iter().filter_map(|pid| target::cpu_time(*pid)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It speaks once, only after five seconds, and only if there was no event.
    #[test]
    fn speaks_once() {
        let own = [std::process::id() as i32];
        let second = Duration::from_secs(1);
        let mut silence = Silence::begin(&own);
        assert_eq!(silence.remark(0, 4 * second, &own), None);
        let words = silence.remark(0, 5 * second, &own).unwrap();
        assert!(words.starts_with("NOTHING RECORDED in 5 s"), "{words}");
        assert_eq!(silence.remark(0, 6 * second, &own), None);
        let mut silence = Silence::begin(&own);
        assert_eq!(silence.remark(1, second, &own), None);
        assert_eq!(silence.remark(1, 6 * second, &own), None);
    }

    /// The reason follows from the CPU time and the files.
    #[test]
    fn reasons() {
        let elapsed = Duration::from_secs(5);
        let idle = words(Duration::from_millis(10), elapsed, &["V8"]);
        assert!(idle.contains("idle, it used 10 ms"), "{idle}");
        let busy = words(Duration::from_secs(4), elapsed, &[]);
        assert!(
            busy.contains("4000 ms of CPU: it allocates nothing") && busy.contains("--probe"),
            "{busy}"
        );
        let java = words(Duration::from_secs(4), elapsed, &["Java's virtual machine"]);
        assert!(java.contains("managed by Java's"), "{java}");
    }
}
