//! Records real programs without frame pointers, and holds the stacks that the probes found against
//! those that another unwinder finds from the same registers and stack bytes. Needs root.

#[path = "unwind/comparison.rs"]
mod comparison;
#[path = "unwind/expressions.rs"]
mod expressions;
#[path = "unwind/gdb.rs"]
mod gdb;
#[path = "unwind/programs.rs"]
mod programs;
#[path = "unwind/recording.rs"]
mod recording;
#[path = "unwind/reference.rs"]
mod reference;

use std::collections::HashSet;

use comparison::Comparison;
use memleak_record::symbolize::{Request, Symbolizer};
use memleak_trace::stack::Location;
use memleak_trace::{FileId, FrameId, StackEnd};
use programs::Program;
use recording::{Options, Recording};

/// Samples per program.
const WANTED: usize = 2000;

/// Records the program and compares; says what came out before anything is asserted.
fn compare(name: &str, mut program: Program, options: Options) -> (Recording, Comparison) {
    let executable = program.executable();
    let pid = program.pid();
    let mut working = None;
    let recording = recording::record(pid, &executable, options, || {
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
    let options = Options {
        sample_every,
        wanted: WANTED,
        only: &[],
    };
    let (recording, result) = compare(name, program, options);
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
    let compiler = ["rustc", "-O", "-Cforce-frame-pointers=no", "--edition=2021"];
    check(
        "Rust",
        programs::built("rust", "rust/program.rs", &compiler, &[]),
        100,
    );
}

/// A corner of the C program, built with `flags`; both unwinders agree on it.
fn corner(name: &str, flags: &[&str]) -> (Recording, Comparison) {
    let (recording, result) = corner_of_our_own(name, flags);
    assert!(result.percent() >= 99.5);
    (recording, result)
}

/// As `corner`, where the other unwinder knows less.
fn corner_of_our_own(name: &str, flags: &[&str]) -> (Recording, Comparison) {
    let corner = name.split(' ').next().unwrap();
    let directory = format!("corner-{}", name.replace(' ', "-"));
    let mut compiler = vec!["gcc", "-O2", "-fomit-frame-pointer", "-pthread"];
    compiler.extend(flags);
    let program = programs::built(&directory, "corners.c", &compiler, &[corner]);
    let options = Options {
        sample_every: 10,
        wanted: 500,
        only: &["malloc", "free"],
    };
    let (recording, result) = compare(name, program, options);
    assert!(result.compared >= 500, "only {} samples", result.compared);
    assert_eq!(result.outside, 0);
    (recording, result)
}

/// The file that a frame lies in.
fn file(frame: &FrameId) -> Option<FileId> {
    match frame.location() {
        Location::File { file, .. } => Some(file),
        _ => None,
    }
}

/// A stack with more frames than are kept says so; one with fewer is whole.
#[test]
fn deep() {
    let (recording, result) = corner("deep", &[]);
    assert!(result.no_call.is_empty());
    assert_eq!(result.longest, 127);
    assert_eq!(
        result.ends.keys().collect::<Vec<_>>(),
        [&"complete", &"too_deep"]
    );
    for stack in recording.stacks.values() {
        let full = stack.frames.len() == 127;
        assert!(full || stack.end == StackEnd::Complete);
    }
}

/// Frames of megabytes.
#[test]
fn huge_frames() {
    let (recording, result) = corner("frames", &[]);
    assert!(result.no_call.is_empty());
    assert_eq!(whole_percent(&recording), 100.0);
}

/// Functions that end in a call, with the next one close behind.
#[test]
fn last_calls() {
    let (recording, result) = corner("calls", &["-falign-functions=1"]);
    assert!(result.no_call.is_empty());
    assert_eq!(whole_percent(&recording), 100.0);
}

/// What is called before main reaches the start of ld.so, which no table describes.
#[test]
fn before_main() {
    let (recording, result) = corner_of_our_own("early", &[]);
    assert!(result.no_call.is_empty());
    assert_eq!(whole_percent(&recording), 100.0);
    for stack in recording.stacks.values() {
        let path = file(stack.frames.last().unwrap())
            .and_then(|id| recording.modules.file(id))
            .map_or("", |file| file.path());
        assert!(path.contains("/ld-linux"), "it ends in {path:?}");
    }
}

/// A handler that allocates: on the stack of what it interrupts and on its own, in the middle of
/// any function, of a linkage stub, of the vdso.
#[test]
fn signals() {
    let (recording, result) = corner("signals", &["-Wl,-z,lazy"]);
    assert!(result.no_call.is_empty());
    assert!(whole_percent(&recording) >= 99.5);
    assert!(result.longest > 8);
    let mapped = recording.modules.mapped(recording::SPACE);
    let vdso = mapped
        .iter()
        .find(|module| module.path == "[vdso]")
        .unwrap();
    let mut frames = recording.stacks.values().flat_map(|stack| &stack.frames);
    assert!(frames.any(|frame| file(frame) == vdso.file));
}

/// Code made at run time, without tables and frame pointers: its way out is enough.
#[test]
fn compiled_at_run_time() {
    let (recording, result) = corner_of_our_own("compiled", &[]);
    assert!(result.no_call.is_empty());
    assert_eq!(whole_percent(&recording), 100.0);
    let compiled = |stack: &&memleak_record::wire::RawStack| {
        let frames = stack.frames.iter();
        frames.filter(|frame| file(frame).is_none()).count()
    };
    assert_eq!(
        recording
            .stacks
            .values()
            .map(|stack| compiled(&stack))
            .max(),
        Some(19)
    );
}

/// Threads end where they were started.
#[test]
fn threads() {
    let (recording, _) = corner("threads", &[]);
    assert_eq!(whole_percent(&recording), 100.0);
}

/// A coroutine's stack ends in glibc's code below it, whose rows do not say that it has no caller:
/// no frame is made up, and the stack is not taken for whole.
#[test]
fn contexts() {
    let (recording, result) = corner("contexts", &[]);
    assert_eq!(result.ends.keys().collect::<Vec<_>>(), [&"no_mapping"]);
    assert!(
        recording
            .stacks
            .values()
            .all(|stack| stack.frames.len() == 8)
    );
}

/// Every way to link a program.
#[test]
fn linked() {
    for flags in ["-static", "-static-pie", "-no-pie"] {
        let (recording, _) = corner(&format!("threads {flags}"), &[flags]);
        assert_eq!(whole_percent(&recording), 100.0, "{flags}");
    }
}

/// What a program without `.eh_frame` has instead: debug information, frame pointers, or nothing.
#[test]
fn without_eh_frame() {
    const NO_TABLES: &str = "-fno-asynchronous-unwind-tables";
    let (recording, _) = corner("threads debug", &[NO_TABLES, "-g"]);
    assert_eq!(whole_percent(&recording), 100.0);
    let (recording, _) = corner("threads pointers", &[NO_TABLES, "-fno-omit-frame-pointer"]);
    assert_eq!(whole_percent(&recording), 100.0);
    let (_, result) = corner("threads nothing", &[NO_TABLES]);
    assert_eq!(result.ends.keys().collect::<Vec<_>>(), [&"no_unwind_info"]);
}

/// Stacks that gdb takes for a sample.
const GDB_STACKS: usize = 30;

/// gdb takes stacks of malloc's callers; then the same process is recorded, until each of these
/// was seen with the same frames to the outermost one. (Both at once is not possible: a return probe
/// hides the caller from gdb.) Returns the stacks' frames with their names by gdb.
fn against_gdb(mut program: Program) -> (Recording, Vec<(FrameId, Option<String>)>) {
    let (pid, executable) = (program.pid(), program.executable());
    let _working = program.work();
    let wanted = gdb::backtraces(pid, GDB_STACKS);
    let options = Options {
        sample_every: 0,
        wanted: 0,
        only: &["malloc", "free"],
    };
    let frames = |recording: &Recording, stack: &gdb::Backtrace| -> Vec<FrameId> {
        let frame = |frame: &gdb::GdbFrame| {
            comparison::caller_frame(&recording.modules, frame.address)
                .unwrap_or_else(|| panic!("gdb shows {frame:x?}, outside of executable mappings"))
        };
        stack.iter().map(frame).collect()
    };
    let missing = |recording: &Recording| -> Vec<Vec<FrameId>> {
        let whole = |end| end == StackEnd::Complete;
        let seen: HashSet<&[FrameId]> = recording
            .stacks
            .values()
            .filter(|stack| whole(stack.end))
            .map(|stack| &stack.frames[..])
            .collect();
        let wanted = wanted.iter().map(|stack| frames(recording, stack));
        wanted.filter(|stack| !seen.contains(&stack[..])).collect()
    };
    let enough = |recording: &Recording| missing(recording).is_empty();
    let recording = recording::record_until(pid, &executable, options, || (), enough);
    for stack in missing(&recording) {
        println!("never recorded:");
        for frame in &stack {
            println!(
                "  {}",
                comparison::describe(&recording.modules, Some(frame))
            );
        }
    }
    assert_eq!(missing(&recording).len(), 0);
    let longest = wanted.iter().map(Vec::len).max().unwrap();
    let distinct: HashSet<Vec<FrameId>> = wanted
        .iter()
        .map(|stack| frames(&recording, stack))
        .collect();
    println!(
        "{} distinct stacks of gdb, the deepest {longest} frames",
        distinct.len()
    );
    assert!(distinct.len() > 5 && longest > 10);
    let frames = wanted.iter().flat_map(|stack| {
        frames(&recording, stack)
            .into_iter()
            .zip(stack.iter().map(|frame| frame.name.clone()))
    });
    let frames = frames.collect();
    (recording, frames)
}

/// sqlite3 as Debian builds it, by gdb.
#[test]
fn sqlite3_by_gdb() {
    against_gdb(programs::sqlite3());
}

/// C++ without frame pointers, by gdb: the same frames, and the same functions by name.
#[test]
fn cpp_by_gdb() {
    let compiler = ["g++", "-O2", "-g", "-fomit-frame-pointer", "-pthread"];
    let program = programs::built("cpp-gdb", "program.cpp", &compiler, &[]);
    let (recording, frames) = against_gdb(program);
    let mut symbolizer = Symbolizer::start().unwrap();
    for (frame, _) in &frames {
        let id = file(frame).unwrap();
        symbolizer.ask(Request {
            frame: *frame,
            address: 0,
            pid: 0,
            module: None,
            file: recording.modules.file(id).cloned(),
        });
    }
    let ours: std::collections::HashMap<FrameId, Option<String>> = symbolizer
        .close()
        .iter()
        .map(|symbol| (symbol.frame, symbol.function))
        .collect();
    let own = recording.modules.mapped(recording::SPACE)[0].file;
    let mut compared = 0;
    for (frame, theirs) in &frames {
        if let (Some(ours), Some(theirs)) = (&ours[frame], theirs)
            && file(frame) == own
        {
            assert_eq!(bare_name(ours), bare_name(theirs), "{frame:x?}");
            compared += 1;
        }
    }
    println!("{compared} names compared");
    assert!(compared >= GDB_STACKS);
}

/// The last part of a name, without what the two write differently or leave out: scopes, parameters,
/// template arguments, clones.
fn bare_name(name: &str) -> String {
    let mut depth = 0;
    let mut bare = String::new();
    for letter in name.split(" [").next().unwrap().chars() {
        match letter {
            '(' | '<' | '{' => depth += 1,
            ')' | '>' | '}' => depth -= 1,
            _ if depth == 0 => bare.push(letter),
            _ => {}
        }
    }
    bare.rsplit("::").next().unwrap().trim().to_owned()
}
