//! `--estimate`: what a recording would cost, without recording anything.
//!
//! For some seconds the probes only count calls and sizes in the target. Then the price of a probed
//! call is measured on this very machine, on a loop of our own ([`price`]); rate times price is what
//! recording would take.

mod price;

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::Context;
use memleak_trace::Selection;
use memleak_trace::selection::{Sampling, Weights};

use crate::attachment::Attachment;
use crate::cli::Options;
use crate::layout::{Recording, TALLY_RELEASES, Tally};
use crate::preflight::target::Target;
use crate::status::{count, size};
use crate::talk::say;
use crate::watch::{Wake, Watch};
use crate::{preflight, trace_header};
use price::Prices;

/// How long calls are counted, unless asked otherwise.
const COUNTING: Duration = Duration::from_secs(5);

/// Bytes of an event in the trace: between the 3.5 of a regular program and the 6.6 of a hard one
/// that were measured, towards the latter.
const TRACE_BYTES: f64 = 6.0;
/// Bytes of an allocation and of a release in the ring, with the ring's own header.
const RING_ALLOCATION: f64 = 56.0;
const RING_RELEASE: f64 = 40.0;

/// Distances of sampling points that are tried for the advice.
const DISTANCES: [u32; 4] = [16 << 10, 64 << 10, 256 << 10, 1 << 20];
/// A sampling is cheap if recording takes at most this share of a core above the bare probes.
const CHEAP_CORES: f64 = 0.01;

/// Counts, measures, and prints the estimate to stdout.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let report = preflight::check(&options.pids, options.force_seccomp)?;
    let names = names(&report.targets);
    let mut watch = Watch::new(&options.pids).context("cannot watch for the target's end")?;
    let counted = counted(options, report.targets, &mut watch)?;
    let prices = Prices::measure(options)?;
    let text = text(&names, &counted, &prices, options.ring_bytes);
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn names(targets: &[Target]) -> String {
    let name = |target: &Target| {
        let program = target.executable.rsplit('/').next().unwrap_or_default();
        format!("{} ({program})", target.pid)
    };
    let names: Vec<String> = targets.iter().map(name).collect();
    names.join(", ")
}

/// What the target did while it was counted.
#[derive(Clone, Debug, Default, PartialEq)]
struct Counted {
    seconds: f64,
    /// CPU time it used in seconds.
    cpu: f64,
    /// Allocations by the bits of their size, releases last.
    tallies: Vec<Tally>,
}

impl Counted {
    fn allocations(&self) -> &[Tally] {
        &self.tallies[..self.tallies.len().min(TALLY_RELEASES)]
    }

    /// Allocations a second.
    fn allocation_rate(&self) -> f64 {
        let count: u64 = self.allocations().iter().map(|tally| tally.count).sum();
        count as f64 / self.seconds
    }

    /// Bytes allocated a second.
    fn byte_rate(&self) -> f64 {
        let bytes: u64 = self.allocations().iter().map(|tally| tally.bytes).sum();
        bytes as f64 / self.seconds
    }

    /// Releases a second.
    fn release_rate(&self) -> f64 {
        let releases = self.tallies.get(TALLY_RELEASES);
        releases.map_or(0.0, |tally| tally.count as f64) / self.seconds
    }

    /// The share of allocations that a sampling records; sizes between two powers of 2 count as
    /// their mean.
    fn share(&self, sampling: Option<Sampling>) -> f64 {
        let Some(sampling) = sampling else {
            return 1.0;
        };
        let weights = Weights::new(sampling);
        let (mut all, mut recorded) = (0.0, 0.0);
        for tally in self.allocations().iter().filter(|tally| tally.count > 0) {
            all += tally.count as f64;
            recorded += tally.count as f64 / weights.weight(tally.bytes / tally.count);
        }
        if all > 0.0 { recorded / all } else { 0.0 }
    }
}

fn counted(options: &Options, targets: Vec<Target>, watch: &mut Watch) -> anyhow::Result<Counted> {
    let mut attachment = Attachment::attach(targets, options, trace_header::page_size())?;
    let cpu_before = cpu_seconds(&options.pids);
    attachment.open()?;
    let start = Instant::now();
    let pids: Vec<String> = options.pids.iter().map(i32::to_string).collect();
    say(format_args!(
        "counting the calls of {}; nothing is recorded",
        pids.join(", ")
    ));
    let end = options.duration.unwrap_or(COUNTING);
    while start.elapsed() < end {
        let left = end.saturating_sub(start.elapsed());
        match watch.wait(left, Some(attachment.openings()))? {
            Wake::Signal(_) => break,
            Wake::Ended(_) if watch.is_over() => break,
            Wake::Ended(_) | Wake::Timeout => {}
        }
        attachment.opened()?;
    }
    let (seconds, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds(&options.pids));
    attachment.kernel().set_recording(Recording::Closed)?;
    attachment.stops().release_all();
    Ok(Counted {
        seconds: seconds.max(1e-3),
        cpu: (cpu - cpu_before).max(0.0),
        tallies: attachment.kernel().tallies()?,
    })
}

/// CPU time of these processes so far, user and system.
fn cpu_seconds(pids: &[i32]) -> f64 {
    let ticks = |pid: &i32| -> Option<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // Fields 14 and 15 of proc(5); the first one behind the name is field 3.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
        let mut next = || fields.next()?.parse::<f64>().ok();
        Some(next()? + next()?)
    };
    // SAFETY: sysconf has no preconditions.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
    pids.iter().filter_map(ticks).sum::<f64>() / per_second.max(1.0)
}

/// What one way to record would take.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cost {
    /// Events a second.
    events: f64,
    /// CPU time a second, in the target.
    cores: f64,
    /// Bytes a second through the ring.
    ring: f64,
}

fn cost(counted: &Counted, prices: &Prices, share: f64) -> Cost {
    let (allocations, releases) = (counted.allocation_rate(), counted.release_rate());
    let between = |probes: f64, recorded: f64| probes + share * (recorded - probes).max(0.0);
    let ns = allocations * between(prices.probed.allocation, prices.recorded.allocation)
        + releases * between(prices.probed.release, prices.recorded.release);
    Cost {
        events: share * (allocations + releases),
        cores: ns / 1e9,
        ring: share * (allocations * RING_ALLOCATION + releases * RING_RELEASE),
    }
}

fn text(names: &str, counted: &Counted, prices: &Prices, ring_bytes: u32) -> String {
    let floor = cost(counted, prices, 0.0);
    // Counting took about what probes take that record nothing.
    let own = (counted.cpu / counted.seconds - floor.cores).max(0.0);
    let slower = |cost: &Cost| match own > 0.001 {
        true => format!("×{:.2}", (own + cost.cores) / own),
        false => "?".to_owned(),
    };
    let row = |name: &str, cost: &Cost| {
        format!(
            "  {name:<24}{:>10}{:>9.3}{:>9}{:>15}{:>15}\n",
            count(cost.events),
            cost.cores,
            slower(cost),
            size((cost.events * 3600.0 * TRACE_BYTES) as u64),
            size(cost.ring as u64),
        )
    };
    let mut text = format!(
        "process {names}: counted for {:.1} s, nothing was recorded\n\
         \x20 {} allocations/s ({}/s), {} releases/s (mappings are not counted)\n\
         \x20 the process used {own:.2} cores without the probes\n\n\
         what recording would add to it, by the price of probed calls on this machine\n\
         (an allocation {:.0} ns, a release {:.0} ns; if left out {:.0} and {:.0} ns):\n\
         \x20 {:<24}{:>10}{:>9}{:>9}{:>15}{:>15}\n",
        counted.seconds,
        count(counted.allocation_rate()),
        size(counted.byte_rate() as u64),
        count(counted.release_rate()),
        prices.recorded.allocation,
        prices.recorded.release,
        prices.probed.allocation,
        prices.probed.release,
        "",
        "events/s",
        "cores",
        "CPU",
        "trace an hour",
        "ring a second",
    );
    let everything = cost(counted, prices, 1.0);
    text += &row("everything", &everything);
    let one_in_100 = counted.share(Some(Sampling::OneIn(100)));
    text += &row("-s 100", &cost(counted, prices, one_in_100));
    let mut advice = None;
    for bytes in DISTANCES {
        let by_bytes = cost(counted, prices, counted.share(Some(Sampling::Bytes(bytes))));
        let name = format!("--sample-bytes {}", spelled(bytes));
        text += &row(&name, &by_bytes);
        if advice.is_none() && by_bytes.cores - floor.cores <= CHEAP_CORES {
            advice = Some(name);
        }
    }
    text += &row("the probes alone", &floor);
    text += &match (everything.cores - floor.cores <= CHEAP_CORES, advice) {
        (true, _) => "\nRecording everything is cheap here.\n".to_owned(),
        (false, Some(name)) => {
            format!("\n{name} would make it cheap: what is left is the probes.\n")
        }
        (false, None) => "\nNone of these samplings makes it cheap.\n".to_owned(),
    };
    text += "The probes alone remain whatever is left out: every call enters the kernel.\n";
    if everything.ring > 0.0 {
        text += &format!(
            "If the recorder stands still, the ring of {} holds everything for {:.1} s.\n",
            size(ring_bytes.into()),
            f64::from(ring_bytes) / everything.ring
        );
    }
    text
}

/// As the command line takes it: `64KiB`.
fn spelled(bytes: u32) -> String {
    match bytes >> 20 {
        0 => format!("{}KiB", bytes >> 10),
        mebibytes => format!("{mebibytes}MiB"),
    }
}

/// Options of a recording of everything or nothing but what `selection` says.
fn with(options: &Options, selection: Selection, ring_bytes: u32) -> Options {
    Options {
        selection,
        ring_bytes,
        estimate: false,
        ..options.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use price::Price;

    fn counted() -> Counted {
        let mut tallies = vec![Tally::default(); TALLY_RELEASES + 1];
        // 1,000,000 of 64 bytes and 10 of 1 MiB, in two seconds.
        tallies[7] = Tally {
            count: 1_000_000,
            bytes: 64_000_000,
        };
        tallies[21] = Tally {
            count: 10,
            bytes: 10 << 20,
        };
        tallies[TALLY_RELEASES].count = 500_000;
        Counted {
            seconds: 2.0,
            cpu: 3.0,
            tallies,
        }
    }

    const PRICES: Prices = Prices {
        probed: Price {
            allocation: 1000.0,
            release: 600.0,
        },
        recorded: Price {
            allocation: 2000.0,
            release: 800.0,
        },
    };

    /// Rates, and the share that each sampling records.
    #[test]
    fn rates_and_shares() {
        let counted = counted();
        assert_eq!(counted.allocation_rate(), 500_005.0);
        assert_eq!(counted.release_rate(), 250_000.0);
        assert_eq!(counted.share(None), 1.0);
        assert!((counted.share(Some(Sampling::OneIn(100))) - 0.01).abs() < 1e-6);
        // A thousandth of the small ones, and all large ones.
        let share = counted.share(Some(Sampling::Bytes(65_536)));
        let expected = (1_000_000.0 * 64.0 / 65_536.0 + 10.0) / 1_000_010.0;
        assert!((share / expected - 1.0).abs() < 1e-3, "{share}");
    }

    /// The probes alone are the floor of every sampling; without sampling the whole price counts.
    #[test]
    fn costs() {
        let (counted, none) = (counted(), cost(&counted(), &PRICES, 0.0));
        assert_eq!(none.events, 0.0);
        assert!((none.cores - (500_005.0 * 1e-6 + 250_000.0 * 6e-7)).abs() < 1e-9);
        let all = cost(&counted, &PRICES, 1.0);
        assert!((all.cores - (500_005.0 * 2e-6 + 250_000.0 * 8e-7)).abs() < 1e-9);
        assert_eq!(all.events, 750_005.0);
    }

    /// The text has a row per way to record, says which sampling is cheap and that the probes remain.
    #[test]
    fn the_text() {
        let text = text("7 (server)", &counted(), &PRICES, 64 << 20);
        for words in [
            "process 7 (server): counted for 2.0 s, nothing was recorded",
            "500.0 k allocations/s",
            "everything",
            "--sample-bytes 16KiB would make it cheap",
            "The probes alone remain",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }
}
