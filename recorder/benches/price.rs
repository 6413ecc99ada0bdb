//! What recording costs: `cargo bench --workspace --bench price`, as root.
//!
//! One run measures the same loop of malloc and free untraced, under probes that do nothing, under
//! the recorder, and under a tracer that leaves the stack to the kernel's frame-pointer walk, so
//! that the ratios hold on a noisy machine; the best of several rounds counts.

#[path = "price/floor.rs"]
mod floor;
#[path = "price/pointer_walk.rs"]
mod pointer_walk;
#[path = "price/recorder.rs"]
mod recorder;
#[path = "price/target.rs"]
mod target;

use anyhow::{Context, ensure};
use floor::{Floor, Place};
use pointer_walk::PointerWalk;
use recorder::Recorder;
use target::{Build, Churn};

/// Frames between main and malloc: a shallow program, a usual one, a deep one.
const DEPTHS: [u32; 3] = [9, 17, 37];
const PAIRS: u32 = 200_000;
const ROUNDS: usize = 5;

fn main() -> anyhow::Result<()> {
    let programs = target::build_programs(Build::FramePointers)?;
    println!(
        "ns of the target's CPU time per malloc+free pair, best of {ROUNDS} rounds of {PAIRS} pairs"
    );
    println!(
        "{:>5} {:>9} {:>10} {:>12} {:>9} {:>12} {:>17} {:>20} {:>13} {:>12}",
        "depth",
        "untraced",
        "empty, +0",
        "empty, ours",
        "recorder",
        "kernel walk",
        "recorder - empty",
        "kernel walk - empty",
        "ours/kernel",
        "x empty, +0"
    );
    let mut frames = Vec::new();
    for depth in DEPTHS {
        let mut churn = Churn::start(&programs, depth, PAIRS)?;
        let untraced = churn.best_of(ROUNDS)?;
        let at_start = under_floor(&mut churn, Place::Start)?;
        let at_ours = under_floor(&mut churn, Place::Ours)?;
        let (recorded, ours) = under_recorder(&mut churn)?;
        let (walked, theirs) = under_pointer_walk(&mut churn)?;
        ensure!(
            theirs >= f64::from(depth),
            "the kernel's walk gave {theirs:.1} frames at depth {depth}: there is nothing to compare with"
        );
        println!(
            "{depth:>5} {untraced:>9.0} {at_start:>10.0} {at_ours:>12.0} {recorded:>9.0} {walked:>12.0} {:>17.0} {:>20.0} {:>13.2} {:>12.2}",
            recorded - at_ours,
            walked - at_ours,
            (recorded - at_ours) / (walked - at_ours),
            recorded / at_start,
        );
        frames.push(format!("{ours} and {theirs:.0} at {depth}"));
    }
    println!("reach: recorder - empty <= 2,000 at 9, <= 3,000 at 37, less than the kernel's walk");
    println!(
        "frames per stack, the recorder's and the kernel's: {}",
        frames.join(", ")
    );
    without_frame_pointers()?;
    left_out(&programs)?;
    full_speed(&programs)
}

/// What is saved by recording less, above probes that do nothing.
fn left_out(programs: &std::path::Path) -> anyhow::Result<()> {
    let mut churn = Churn::start(programs, DEPTHS[0], PAIRS)?;
    let floor = under_floor(&mut churn, Place::Ours)?;
    println!();
    println!("recording less, depth {}, blocks of 64 bytes:", DEPTHS[0]);
    println!(
        "  {:<24} {:>9} {:>9} {:>9} {:>14}",
        "", "ns a pair", "- empty", "x empty", "bytes an hour"
    );
    println!(
        "  {:<24} {floor:>9.0} {:>9} {:>9}",
        "empty probes", "-", "-"
    );
    let ways: [&[&str]; 5] = [
        &[],
        &["--sample-bytes", "4KiB"],
        &["--sample-bytes", "64KiB"],
        &["-s", "100"],
        &["--min-size", "65"],
    ];
    for options in ways {
        let recorder = Recorder::start(churn.pid(), options)?;
        let start = std::time::Instant::now();
        let best = churn.best_of(ROUNDS);
        let hours = start.elapsed().as_secs_f64() / 3600.0;
        let recorded = recorder.finish()?;
        let best = best?;
        let name = match options {
            [] => "everything".to_owned(),
            options => options.join(" "),
        };
        println!(
            "  {name:<24} {best:>9.0} {:>9.0} {:>9.2} {:>14.0}",
            best - floor,
            best / floor,
            recorded.file_bytes as f64 / hours
        );
    }
    println!("  (bytes an hour at the rate that each way allows, at full speed)");
    Ok(())
}

/// What the kernel's walk is worth on a program as distributions build it.
fn without_frame_pointers() -> anyhow::Result<()> {
    let programs = target::build_programs(Build::Optimized)?;
    let mut churn = Churn::start(&programs, DEPTHS[0], PAIRS)?;
    let (_, ours) = under_recorder(&mut churn)?;
    let (_, theirs) = under_pointer_walk(&mut churn)?;
    println!(
        "the same program without frame pointers: the recorder {ours} frames, the kernel's walk {theirs:.1}"
    );
    ensure!(theirs < 3.0, "the program has frame pointers after all");
    Ok(())
}

/// The loop under the recorder: nanoseconds per pair, and frames of its stacks.
fn under_recorder(churn: &mut Churn) -> anyhow::Result<(f64, usize)> {
    let recorder = Recorder::start(churn.pid(), &[])?;
    let best = churn.best_of(ROUNDS);
    let recorded = recorder.finish()?;
    Ok((best?, recorded.frames))
}

/// The loop under the kernel's walk: nanoseconds per pair, and frames of its stacks.
fn under_pointer_walk(churn: &mut Churn) -> anyhow::Result<(f64, f64)> {
    let walk = PointerWalk::start(churn.pid())?;
    let best = churn.best_of(ROUNDS);
    let frames = walk.finish()?;
    Ok((best?, frames))
}

/// The loop under probes that do nothing.
fn under_floor(churn: &mut Churn, place: Place) -> anyhow::Result<f64> {
    let floor = Floor::attach(churn.pid(), place)?;
    let best = churn.best_of(ROUNDS);
    drop(floor);
    best
}

/// One thread that does nothing but allocate: throughput, and the recorder's own needs.
fn full_speed(programs: &std::path::Path) -> anyhow::Result<()> {
    let mut churn = Churn::start(programs, DEPTHS[0], 1_000_000)?;
    let recorder = Recorder::start(churn.pid(), &[])?;
    let before = recorder.cpu_seconds()?;
    let start = std::time::Instant::now();
    churn.round()?;
    let seconds = start.elapsed().as_secs_f64();
    // The encoder may be behind: its work belongs to the round.
    std::thread::sleep(std::time::Duration::from_millis(300));
    let cpu = recorder.cpu_seconds()? - before;
    let memory = recorder.peak_memory_bytes()?;
    let result = recorder.finish()?;
    let events = result.events as f64;
    println!();
    println!("one thread at full speed, depth {}:", DEPTHS[0]);
    println!("  events                         {:>12}", result.events);
    println!(
        "  events/s                       {:>12.0}",
        events / seconds
    );
    println!("  lost                           {:>12}", result.lost);
    println!(
        "  recorder CPU, % of a core      {:>12.1}",
        100.0 * cpu / seconds
    );
    println!(
        "  recorder CPU, ns per event     {:>12.0}",
        1e9 * cpu / events
    );
    println!(
        "  recorder peak memory, MiB      {:>12.1}",
        memory as f64 / f64::from(1 << 20)
    );
    println!(
        "  bytes per event                {:>12.2}",
        result.file_bytes as f64 / events
    );
    println!("  ms from Ctrl-C to closed trace {:>12.1}", result.close_ms);
    println!("  ms until the recorder is gone  {:>12.1}", result.exit_ms);
    (result.events >= 2_000_000)
        .then_some(())
        .context("the trace has fewer events than the program made")
}
