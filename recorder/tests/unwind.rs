//! Records real programs without frame pointers, and holds the stacks that the probes found against
//! those that another unwinder finds from the same registers and stack bytes. Needs root.

#[path = "unwind/comparison.rs"]
mod comparison;
#[path = "unwind/expressions.rs"]
mod expressions;
#[path = "unwind/programs.rs"]
mod programs;
#[path = "unwind/recording.rs"]
mod recording;
#[path = "unwind/reference.rs"]
mod reference;

use comparison::Comparison;
use memleak_trace::StackEnd;
use programs::Program;
use recording::Recording;

/// Samples per program.
const WANTED: usize = 2000;

/// Records the program and compares; says what came out before anything is asserted.
fn compare(name: &str, mut program: Program, sample_every: u32) -> (Recording, Comparison) {
    let executable = program.executable();
    let pid = program.pid();
    let mut working = None;
    let recording = recording::record(pid, &executable, sample_every, WANTED, || {
        working = Some(program.work());
    });
    let result = Comparison::of(&recording);
    let events: u64 = recording.allocations.values().sum();
    let whole = whole_percent(&recording);
    println!(
        "{name}: {} stacks of {events} allocations compared, the deepest {} frames; {:.2} % identical \
         ({} of them as far as the shipped bytes go); {whole:.2} % of allocations whole; ends {:?}; \
         {} distinct stacks; {} frames outside of mappings, behind no call {:?}",
        result.compared,
        result.longest,
        result.percent(),
        result.beyond_window,
        result.ends,
        recording.stacks.len(),
        result.outside,
        result.no_call,
    );
    for difference in &result.differences {
        println!("  {difference}");
    }
    (recording, result)
}

/// Allocations whose stack reaches the outermost frame, in percent.
fn whole_percent(recording: &Recording) -> f64 {
    let count = |end| recording.allocations.get(&end).copied().unwrap_or(0) as f64;
    let all: u64 = recording.allocations.values().sum();
    100.0 * count(Some(StackEnd::Complete)) / all as f64
}

/// What holds for every program.
fn check(name: &str, program: Program, sample_every: u32) {
    let (recording, result) = compare(name, program, sample_every);
    assert!(
        result.compared >= WANTED,
        "only {} samples",
        result.compared
    );
    assert!(result.percent() >= 99.5);
    assert!(
        result.beyond_window * 10 < result.compared,
        "too many stacks are longer than what is shipped"
    );
    assert_eq!(result.outside, 0);
    assert!(result.no_call.is_empty());
    assert!(whole_percent(&recording) >= 99.0);
}

/// sqlite3 as Debian builds it: one thread, allocations deep in the parser and the virtual machine.
#[test]
fn sqlite3() {
    check("sqlite3", programs::sqlite3(), 5);
}

/// python3 as Debian builds it: recursion through the interpreter's loop, and a second thread.
#[test]
fn python3() {
    check("python3", programs::python3(), 100);
}

/// redis-server as Debian builds it: the allocator is jemalloc.
#[test]
fn redis() {
    check("redis-server", programs::redis(), 50);
}

/// C++ without frame pointers: exceptions, realigned stacks, large frames, two threads.
#[test]
fn cpp() {
    let compiler = ["g++", "-O2", "-fomit-frame-pointer", "-pthread"];
    check(
        "C++",
        programs::built("cpp", "program.cpp", &compiler, &[]),
        100,
    );
}

/// Rust without frame pointers: panics, closures, two threads.
#[test]
fn rust() {
    let compiler = ["rustc", "-O", "--edition=2021"];
    check(
        "Rust",
        programs::built("rust", "rust/program.rs", &compiler, &[]),
        100,
    );
}

/// A corner of the C program, built with `flags`.
fn corner(name: &str, corner: &str, flags: &[&str]) -> Program {
    let mut compiler = vec!["gcc", "-O2", "-fomit-frame-pointer", "-pthread"];
    compiler.extend(flags);
    programs::built(name, "corners.c", &compiler, &[corner])
}

#[test]
fn try_corners() {
    for (name, flags) in [
        ("pie", &[][..]),
        ("static", &["-static"]),
        ("static-pie", &["-static-pie"]),
        ("no-pie", &["-no-pie"]),
        ("debug-frame", &["-fno-asynchronous-unwind-tables", "-g"]),
        ("none", &["-fno-asynchronous-unwind-tables", "-g0"]),
        (
            "fp",
            &[
                "-fno-asynchronous-unwind-tables",
                "-g0",
                "-fno-omit-frame-pointer",
            ],
        ),
    ] {
        for what in ["deep", "frames", "signals", "threads", "contexts"] {
            if name != "pie" && what != "deep" {
                continue;
            }
            compare(&format!("{name} {what}"), corner(name, what, flags), 10);
        }
    }
}
