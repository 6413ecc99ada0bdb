//! What recording the kernel costs: `cargo bench --workspace --bench kernel`, as root.
//!
//! One run measures `find /usr` and a parallel compile untraced, under programs on the same tracepoints that
//! do nothing, or the least that any recorder of every event does (a time and an address, kept), and under
//! the recorder with and without stacks, so that the ratios hold on a noisy machine; the best of several
//! rounds counts. Time is the CPU time of the workload.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, ensure};
use aya::programs::RawTracePoint;
use aya::{Ebpf, include_bytes_aligned};
use memleak_record::kernel_mode::table::{Place, ROWS};
use memleak_trace::TraceReader;

static EMPTY: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/empty.bpf.o"));

/// A program of the benchmark, on every tracepoint that the recorder uses by default.
const NOTHING: &str = "on_nothing";
const LEAST: &str = "on_least";

/// How the workload is watched.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Watched {
    Untraced,
    By(&'static str),
    WithoutStacks,
    WithStacks,
}

const ALL: [Watched; 5] = [
    Watched::Untraced,
    Watched::By(NOTHING),
    Watched::By(LEAST),
    Watched::WithoutStacks,
    Watched::WithStacks,
];

fn main() -> anyhow::Result<()> {
    println!("s of the workload's CPU time, best of several rounds in turn");
    println!(
        "{:>16} {:>9} {:>9} {:>9} {:>15} {:>12}   added, to that by the empty programs: {:>6} {:>15} {:>12}",
        "workload",
        "untraced",
        "empty",
        "least",
        "without stacks",
        "with stacks",
        "least",
        "without stacks",
        "with stacks",
    );
    for (name, command, rounds) in workloads() {
        let mut best = [f64::INFINITY; ALL.len()];
        let mut recorded = None;
        run(&command)?; // fills the caches
        for _ in 0..rounds {
            for (best, watched) in best.iter_mut().zip(ALL) {
                let (seconds, result) = measure(&command, watched)?;
                *best = best.min(seconds);
                recorded = result.or(recorded);
            }
        }
        let [untraced, empty, least, without, with] = best;
        let added = |seconds: f64| (seconds - untraced) / (empty - untraced);
        println!(
            "{name:>16} {untraced:>9.3} {empty:>9.3} {least:>9.3} {without:>15.3} {with:>12.3} {:>45.1} {:>15.1} {:>12.1}",
            added(least),
            added(without),
            added(with),
        );
        let (events, lost) = recorded.context("nothing was recorded")?;
        println!(
            "{:>16} slowdown {:.2} (empty), {:.2} (without stacks), {:.2} (with); {events} events, lost: {lost}",
            "",
            empty / untraced,
            without / untraced,
            with / untraced
        );
    }
    Ok(())
}

/// Name, command, rounds: the shorter one is measured more often.
fn workloads() -> [(&'static str, Vec<String>, usize); 2] {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/programs");
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compile");
    let find = "find /usr -xdev -newer /etc/hostname".split(' ');
    let compile = format!(
        "make -s -B -j4 -C {} OUT={}",
        sources.display(),
        out.display()
    );
    [
        ("find /usr", find.map(str::to_owned).collect(), 25),
        (
            "make -j4",
            compile.split(' ').map(str::to_owned).collect(),
            5,
        ),
    ]
}

/// CPU seconds of the workload; events and losses, if it was recorded.
fn measure(command: &[String], watched: Watched) -> anyhow::Result<(f64, Option<(u64, String)>)> {
    match watched {
        Watched::Untraced => Ok((run(command)?, None)),
        Watched::By(program) => {
            let probes = attach(program)?;
            let seconds = run(command)?;
            drop(probes);
            Ok((seconds, None))
        }
        Watched::WithoutStacks | Watched::WithStacks => {
            let recorder = Recorder::start(watched == Watched::WithStacks)?;
            let seconds = run(command)?;
            Ok((seconds, Some(recorder.finish()?)))
        }
    }
}

/// Runs the workload; its CPU time and that of its children, in seconds.
fn run(command: &[String]) -> anyhow::Result<f64> {
    let (program, arguments) = command.split_first().context("no command")?;
    let child = Command::new(program)
        .args(arguments)
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot run {program}"))?;
    let mut status = 0;
    // SAFETY: zeros are a valid rusage; both pointers are valid for the call, and the child is ours.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        let waited = libc::wait4(child.id() as i32, &raw mut status, 0, &raw mut usage);
        ensure!(waited > 0, "cannot wait for {program}");
        usage
    };
    ensure!(libc::WIFEXITED(status), "{program} was killed");
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 * 1e-6;
    Ok(seconds(usage.ru_utime) + seconds(usage.ru_stime))
}

/// Attaches one of the benchmark's own programs.
fn attach(name: &str) -> anyhow::Result<Ebpf> {
    let mut ebpf = Ebpf::load(EMPTY)?;
    let program: &mut RawTracePoint = ebpf
        .program_mut(name)
        .context("no such program")?
        .try_into()?;
    program.load()?;
    for row in ROWS.iter().filter(|row| !row.percpu) {
        if let Place::Tracepoint(name) = row.place {
            // Kernels differ in which they have.
            let _ = program.attach(name);
        }
    }
    Ok(ebpf)
}

/// The recorder as a user runs it.
struct Recorder {
    child: Child,
    stderr: std::io::Lines<BufReader<std::process::ChildStderr>>,
    trace: PathBuf,
}

impl Recorder {
    fn start(stacks: bool) -> anyhow::Result<Recorder> {
        let trace = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kernel.parquet");
        let mut child = Command::new(env!("CARGO_BIN_EXE_memleak-record"))
            .args(["--kernel", "--force", "-o"])
            .arg(&trace)
            .args((!stacks).then_some("--no-kernel-stacks"))
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start memleak-record")?;
        let stderr = child.stderr.take().context("it has no stderr")?;
        let mut recorder = Recorder {
            child,
            stderr: BufReader::new(stderr).lines(),
            trace,
        };
        let ready = |line: &std::io::Result<String>| {
            line.as_ref()
                .is_ok_and(|line| line.starts_with("recording"))
        };
        ensure!(
            recorder.stderr.any(|line| ready(&line)),
            "it does not record"
        );
        Ok(recorder)
    }

    /// Events in the trace, and what it says was lost.
    fn finish(mut self) -> anyhow::Result<(u64, String)> {
        // SAFETY: a signal to our own child.
        unsafe {
            libc::kill(self.child.id() as i32, libc::SIGINT);
        }
        let said: Vec<String> = self.stderr.by_ref().map_while(Result::ok).collect();
        ensure!(
            self.child.wait()?.success(),
            "it failed: {}",
            said.join("; ")
        );
        let reader = TraceReader::open(&self.trace)?;
        let totals = reader.totals().context("the trace has no totals")?;
        let lost: Vec<String> = totals
            .lost
            .iter()
            .map(|(cause, count)| format!("{cause} {count}"))
            .collect();
        let lost = match lost.is_empty() {
            true => "nothing".to_owned(),
            false => lost.join(", "),
        };
        Ok((totals.events, lost))
    }
}
