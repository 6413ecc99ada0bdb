//! The command line of `memleak-record`. clap is named here and below only.

mod selection;

use std::collections::HashSet;
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, ValueEnum};

use crate::allocators::Wishes;
use crate::kernel_mode::KernelOptions;
use crate::kernel_mode::choice::{Choice, MOST_COMM};
use crate::overflow::OnOverflow;
use crate::pools::Pool;
use crate::rotation::Rotation;
use memleak_trace::Selection;
use memleak_trace::quantity::{parse_duration, parse_size};

use crate::layout::MAX_PROCESSES;
use selection::SelectionArgs;

/// What the user asked for.
#[allow(clippy::large_enum_variant, reason = "there is one per run")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    Record(Options),
    /// Print a manual page or completions to stdout.
    Generate(Document),
}

/// How to record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The processes to record, each once; none if a command is started.
    pub pids: Vec<i32>,
    /// The command to start and to record: its words.
    pub command: Option<Vec<OsString>>,
    /// Record children, too.
    pub follow: bool,
    /// Where the trace goes; a name made of pid and date if `None`.
    pub output: Option<PathBuf>,
    /// Replace an existing file.
    pub force: bool,
    /// Stop after this time.
    pub duration: Option<Duration>,
    /// Bytes of the ring between kernel and recorder: a power of two.
    pub ring_bytes: u32,
    pub on_overflow: OnOverflow,
    /// Which heap blocks to record.
    pub selection: Selection,
    /// Recorded blocks that can be live at once where others are left out.
    pub tracked_blocks: u32,
    /// Print a line per event to stdout, too.
    pub live: bool,
    /// Record nothing: count, and say what recording would cost.
    pub estimate: bool,
    /// Cut the recording into parts; one trace if `None`.
    pub rotation: Option<Rotation>,
    /// What to probe beside or instead of what is found.
    pub wishes: Wishes,
    /// Record a target with a seccomp filter on a kernel where that may kill it.
    pub force_seccomp: bool,
    /// Show the details of a failure, such as the kernel verifier's log.
    pub verbose: bool,
    /// Answers to options that memleak needs and this program does not, a sentence each for stderr.
    pub remarks: Vec<String>,
    /// Record the kernel, and no programs.
    pub kernel: Option<KernelOptions>,
    /// Record what the processes allocate in the kernel, too.
    pub with_kernel: Option<KernelOptions>,
}

/// The values of `--on-overflow`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Overflow {
    /// Lose events, and count them in the trace.
    Drop,
    /// Stop the target until there is room: nothing is lost.
    Pause,
    /// End the recording at the first loss.
    Abort,
}

impl From<Overflow> for OnOverflow {
    fn from(value: Overflow) -> OnOverflow {
        match value {
            Overflow::Drop => OnOverflow::Drop,
            Overflow::Pause => OnOverflow::Pause,
            Overflow::Abort => OnOverflow::Abort,
        }
    }
}

/// A document made from the definitions in this file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Document {
    Man,
    Bash,
    Zsh,
    Fish,
}

const EXAMPLES: &str = "\
EXAMPLES:
    Record process 1234 until Ctrl-C, or until it ends:
        sudo memleak-record -p 1234 -o trace.parquet

    Record it for 30 seconds:
        sudo memleak-record -p 1234 --duration 30s

    Start a program and record it from its first instruction, with its children:
        sudo memleak-record --follow -o trace.parquet -- ./server --port 80

    Record two processes in one trace:
        sudo memleak-record -p 1234,1235 -o trace.parquet

    A burst of allocations fills the ring: make it larger:
        sudo memleak-record -p 1234 --ring-size 256MiB

    A busy process: record one block per 64 KiB allocated, and estimate the rest:
        sudo memleak-record -p 1234 --sample-bytes 64KiB

    Only blocks of at least 1 MiB:
        sudo memleak-record -p 1234 -z 1MiB

    What would recording cost? Nothing is recorded:
        sudo memleak-record -p 1234 --estimate

    See the allocations of at least 1 MiB as they happen:
        sudo memleak-record -p 1234 -z 1MiB -t

    Record a pool that hands out pieces of larger blocks, and which argument is size and pointer:
        sudo memleak-record -p 1234 --probe 'pool_alloc(size=2):pool_free(ptr=2)'

    Lose nothing, even if the process must wait now and then:
        sudo memleak-record -p 1234 --on-overflow pause

    Record for days, in parts of an hour; old parts may be deleted:
        sudo memleak-record -p 1234 --rotate-time 1h -o trace.parquet
        memleak-analyze trace.*.parquet

    Record the kernel's allocations, as memleak does without a pid:
        sudo memleak-record --kernel --duration 10s -o trace.parquet

    Those that one process, or threads of one name, cause in the kernel:
        sudo memleak-record --kernel -p 1234 -o trace.parquet
        sudo memleak-record --kernel --comm nginx --percpu -o trace.parquet

    What a process allocates itself and what it causes in the kernel, in one trace:
        sudo memleak-record -p 1234 --with-kernel -o trace.parquet

    Then look at what is outstanding:
        memleak-analyze trace.parquet";

const NO_PAUSE: &str = "--on-overflow pause stops the process that fills the ring; the kernel cannot be stopped: \
                        use drop or abort, and a larger --ring-size";

const LONG_COMM: &str = "the kernel keeps 15 bytes of a thread's name: give the first 15 to --comm";

const TOO_MANY_TARGETS: &str = "at most 64 processes can be recorded at once";

const KERNEL_ONLY: &str = "--percpu, --comm, --cgroup and --no-kernel-stacks are about the kernel: add --kernel or --with-kernel";

const ALONE: &str = "--comm and --cgroup choose among all tasks, --with-kernel records those of the process: leave them out, or record the kernel alone with --kernel";

const BESIDE_WHAT: &str = "--with-kernel records the kernel beside a process: name one with -p PID, or start one with -- COMMAND";

const NO_COMMAND: &str = "--kernel starts no command: use --with-kernel, or start it from another terminal, and choose its allocations with -p PID or --comm";

const KERNEL: &str = "Kernel";

/// Record every allocation of a process, or of the kernel, with its stack, into a Parquet file.
///
/// Without a process it records the kernel, as memleak does.
///
/// Needs root, or CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE. The target keeps running; recording ends
/// at Ctrl-C, SIGTERM, --duration, or when the target ends. Then memleak-analyze reads the file.
#[derive(Debug, Parser)]
#[command(name = "memleak-record", version, after_help = EXAMPLES)]
#[command(
    override_usage = "memleak-record -p PID [OPTIONS]\n       memleak-record [OPTIONS] -- COMMAND [ARGS…]\n       memleak-record [--kernel] [OPTIONS]"
)]
struct Args {
    /// Process to record; several: -p 12,13 or -p 12 -p 13.
    #[arg(short, long, value_name = "PID", value_delimiter = ',', value_parser = clap::value_parser!(i32).range(1..))]
    pid: Vec<i32>,

    /// Command to start and to record, as the user who called sudo; its exit status is passed on.
    #[arg(last = true, value_name = "COMMAND", conflicts_with = "pid")]
    command: Vec<OsString>,

    /// The same as one text, split at blanks, as memleak has it.
    #[arg(short, value_name = "COMMAND", conflicts_with_all = ["pid", "command"])]
    c: Option<String>,

    /// Record children, too: after fork, vfork and exec, until the last of them has ended.
    #[arg(long)]
    follow: bool,

    /// Record the kernel's allocations: slab objects and pages. With -p, only those that the process
    /// causes; frees count whoever does them.
    #[arg(long, help_heading = KERNEL)]
    kernel: bool,

    /// Record what the process allocates itself, and also what it causes in the kernel, in one trace.
    #[arg(long, help_heading = KERNEL, conflicts_with_all = ["kernel", "estimate"])]
    with_kernel: bool,

    /// Percpu memory of the kernel too.
    #[arg(short = 'P', long, help_heading = KERNEL)]
    percpu: bool,

    /// Only what threads of this name allocate in the kernel.
    #[arg(long, value_name = "NAME", help_heading = KERNEL)]
    comm: Option<String>,

    /// Only what tasks in this control group, or in one below it, allocate in the kernel: a directory
    /// of /sys/fs/cgroup.
    #[arg(long, value_name = "PATH", help_heading = KERNEL)]
    cgroup: Option<PathBuf>,

    /// Leave out the stacks of kernel allocations: what they cost is most of what recording costs.
    #[arg(long, help_heading = KERNEL)]
    no_kernel_stacks: bool,

    /// Trace file to write [default: memleak-PID-DATE.parquet].
    #[arg(short, long, value_name = "FILE", value_parser = output_path)]
    output: Option<PathBuf>,

    /// Replace the trace file if it exists.
    #[arg(long)]
    force: bool,

    /// Stop after this time: 500ms, 30s, 5m.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    duration: Option<Duration>,

    /// Buffer between kernel and recorder, a power of two.
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = parse_ring_size)]
    ring_size: u32,

    /// When that buffer is full: lose events and count them, stop the target until there is room,
    /// or end the recording.
    #[arg(long, value_name = "HOW", value_enum, default_value_t = Overflow::Drop)]
    on_overflow: Overflow,

    #[command(flatten)]
    selection: SelectionArgs,

    /// Print a line per event to stdout, as it happens; the trace is written all the same.
    #[arg(short, long)]
    trace: bool,

    /// Record nothing: count calls for 5 s (or --duration), then print what recording would cost,
    /// and which sampling would make it cheap.
    #[arg(long, conflicts_with_all = ["trace", "output", "command", "c", "follow"])]
    estimate: bool,

    /// Look for allocation functions in this file only: its path as the process sees it, or its name.
    #[arg(short = 'O', long = "obj", value_name = "PATH")]
    object: Vec<String>,

    /// Look for functions with this before their names, too: my_ finds my_malloc and my_free.
    #[arg(short = 'S', long, value_name = "PREFIX")]
    symbols_prefix: Option<String>,

    /// Record a pool: its functions, and which argument (from 1) is what. Without ptr a function
    /// allocates, with size, count or bytes; with ptr it releases; with both it reallocates.
    #[arg(long, value_name = "FUNCTION(size=N):FUNCTION(ptr=N)[@OBJECT]")]
    probe: Vec<Pool>,

    /// Begin another part of the trace when one has this size: trace.parquet becomes
    /// trace.000001.parquet, trace.000002.parquet, …, each of which can be read alone.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    rotate_size: Option<u64>,

    /// Begin another part of the trace after this time.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    rotate_time: Option<Duration>,

    /// Record a process with a seccomp filter even on a kernel where return probes may kill it.
    #[arg(long)]
    force_seccomp: bool,

    /// Show details of failures, such as the kernel verifier's log.
    #[arg(short, long)]
    verbose: bool,

    /// Accepted for memleak's sake: a missing free is always handled.
    #[arg(
        short = 'F',
        long,
        help_heading = "Options of memleak that are not needed here"
    )]
    wa_missing_free: bool,

    /// Accepted for memleak's sake: the number of stacks has no limit.
    #[arg(
        long,
        value_name = "N",
        help_heading = "Options of memleak that are not needed here"
    )]
    stack_storage_size: Option<u64>,

    /// Accepted for memleak's sake: up to 127 frames are always kept.
    #[arg(
        long,
        value_name = "N",
        help_heading = "Options of memleak that are not needed here"
    )]
    perf_max_stack_depth: Option<u64>,

    /// Print a manual page or shell completions to stdout.
    #[arg(long, hide = true, value_name = "DOCUMENT", exclusive = true)]
    generate: Option<Document>,
}

/// Why there is nothing to record: a wrong command line, or the text of `--help` and `--version`.
#[derive(Debug)]
pub struct Refusal(clap::Error);

impl Refusal {
    /// 2 for a wrong command line, 0 where help was asked for.
    pub fn exit_code(&self) -> u8 {
        u8::try_from(self.0.exit_code()).unwrap_or(2)
    }

    /// Prints it where it belongs: help to stdout, errors to stderr.
    pub fn print(&self) -> std::io::Result<()> {
        self.0.print()
    }
}

/// Reads the command line; `arguments` starts with the program's name.
pub fn parse<I, T>(arguments: I) -> Result<Request, Refusal>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let args = Args::try_parse_from(arguments).map_err(Refusal)?;
    if let Some(document) = args.generate {
        return Ok(Request::Generate(document));
    }
    let remarks = remarks(&args);
    let on_overflow = OnOverflow::from(args.on_overflow);
    on_overflow
        .check(args.ring_size)
        .map_err(|reason| Refusal(Args::command().error(ErrorKind::ValueValidation, reason)))?;
    let rotation = Rotation::new(args.rotate_size, args.rotate_time)
        .map_err(|reason| Refusal(Args::command().error(ErrorKind::ValueValidation, reason)))?;
    let selection = args
        .selection
        .selection()
        .map_err(|reason| Refusal(Args::command().error(ErrorKind::ValueValidation, reason)))?;
    let mut pids = args.pid;
    let mut seen = HashSet::new();
    pids.retain(|pid| seen.insert(*pid));
    let refuse = |kind, text: &str| Err(Refusal(Args::command().error(kind, text)));
    let command = command(args.command, args.c);
    if pids.len() > MAX_PROCESSES {
        return refuse(ErrorKind::TooManyValues, TOO_MANY_TARGETS);
    }
    let about_kernel =
        args.percpu || args.comm.is_some() || args.cgroup.is_some() || args.no_kernel_stacks;
    let kernel = args.kernel || (pids.is_empty() && command.is_none());
    if args.with_kernel && kernel {
        return refuse(ErrorKind::MissingRequiredArgument, BESIDE_WHAT);
    }
    if args.with_kernel && (args.comm.is_some() || args.cgroup.is_some()) {
        return refuse(ErrorKind::ArgumentConflict, ALONE);
    }
    if about_kernel && !kernel && !args.with_kernel {
        return refuse(ErrorKind::MissingRequiredArgument, KERNEL_ONLY);
    }
    if args.kernel && command.is_some() {
        return refuse(ErrorKind::ArgumentConflict, NO_COMMAND);
    }
    let about_programs: Vec<&str> = [
        (args.estimate, "--estimate"),
        (args.trace, "--trace (-t)"),
        (args.follow, "--follow"),
        (args.force_seccomp, "--force-seccomp"),
        (args.rotate_size.is_some(), "--rotate-size"),
        (args.rotate_time.is_some(), "--rotate-time"),
    ]
    .into_iter()
    .filter_map(|(given, option)| given.then_some(option))
    .chain(args.selection.given())
    .collect();
    if kernel && !about_programs.is_empty() {
        let text = format!(
            "a recording of the kernel has no {}: leave that out, or record a process with -p PID and without --kernel",
            about_programs.join(", ")
        );
        return refuse(ErrorKind::ArgumentConflict, &text);
    }
    if (kernel || args.with_kernel) && on_overflow == OnOverflow::Pause {
        return refuse(ErrorKind::ArgumentConflict, NO_PAUSE);
    }
    if args
        .comm
        .as_ref()
        .is_some_and(|comm| comm.len() > MOST_COMM)
    {
        return refuse(ErrorKind::ValueValidation, LONG_COMM);
    }
    let choose = |choice| KernelOptions {
        percpu: args.percpu,
        stacks: !args.no_kernel_stacks,
        choice,
    };
    let with_kernel = args.with_kernel.then(|| {
        choose(Choice {
            recorded: true,
            ..Choice::default()
        })
    });
    let kernel = kernel.then(|| {
        choose(Choice {
            pids: pids.clone(),
            comm: args.comm,
            cgroup: args.cgroup,
            recorded: false,
        })
    });
    Ok(Request::Record(Options {
        pids,
        command,
        follow: args.follow,
        output: args.output,
        force: args.force,
        duration: args.duration,
        ring_bytes: args.ring_size,
        on_overflow,
        selection,
        tracked_blocks: args.selection.tracked_blocks(),
        live: args.trace,
        estimate: args.estimate,
        rotation,
        wishes: Wishes {
            objects: args.object,
            prefix: args.symbols_prefix,
            pools: args.probe,
        },
        force_seccomp: args.force_seccomp,
        verbose: args.verbose,
        remarks,
        kernel,
        with_kernel,
    }))
}

/// Writes a manual page or completions made from the same definitions as the parser.
pub fn generate(document: Document, out: &mut dyn Write) -> std::io::Result<()> {
    use clap_complete::Shell;
    let mut command = Args::command();
    let shell = match document {
        Document::Man => return clap_mangen::Man::new(command).render(out),
        Document::Bash => Shell::Bash,
        Document::Zsh => Shell::Zsh,
        Document::Fish => Shell::Fish,
    };
    // clap_complete panics when it cannot write (`| head`): hand it memory, and write that here.
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, "memleak-record", &mut text);
    out.write_all(&text)
}

/// The words of the command, in either spelling.
fn command(words: Vec<OsString>, text: Option<String>) -> Option<Vec<OsString>> {
    match text {
        Some(text) => Some(text.split_whitespace().map(OsString::from).collect()),
        None => (!words.is_empty()).then_some(words),
    }
}

fn remarks(args: &Args) -> Vec<String> {
    let answers = [
        (
            args.wa_missing_free,
            "--wa-missing-free is always on: an allocation at an address that was never freed is counted as an implicit free",
        ),
        (
            args.stack_storage_size.is_some(),
            "--stack-storage-size is not needed: the number of stacks has no limit here",
        ),
        (
            args.perf_max_stack_depth.is_some(),
            "--perf-max-stack-depth is not needed: up to 127 frames are kept of every stack",
        ),
    ];
    answers
        .iter()
        .filter(|answer| answer.0)
        .map(|answer| answer.1.to_owned())
        .collect()
}

/// Bytes of a ring: what the kernel accepts is a power of two of at least a page that fits 32 bits.
fn parse_ring_size(text: &str) -> Result<u32, String> {
    let bytes = parse_size(text).map_err(|error| error.to_string())?;
    u32::try_from(bytes)
        .ok()
        .filter(|bytes| bytes.is_power_of_two() && *bytes >= 4096)
        .ok_or_else(|| {
            "the ring must be a power of two between 4096 and 2GiB, for example 64MiB".to_owned()
        })
}

/// A Parquet file is finished by its end and rewritten on the way: a pipe cannot hold it.
fn output_path(text: &str) -> Result<PathBuf, String> {
    match text {
        "-" => Err("a trace is not a stream: it needs a file; give -o FILE".to_owned()),
        "" => Err("the name is empty; give -o FILE".to_owned()),
        path => Ok(PathBuf::from(path)),
    }
}

#[cfg(test)]
mod tests;
