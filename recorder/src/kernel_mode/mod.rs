//! Recording the kernel's own allocations: which code path holds memory.
//!
//! - [`table`]: the places that are probed; [`places`]: attaches and reads them
//! - [`settings`]: what they are told; [`probes`]: the object that has nothing else
//! - [`cast`]: how they read the kernel's memory
//! - [`buffers`], [`order`], [`merge`]: the events of all CPUs in one order
//! - [`wire`], [`names`], [`gfp`]: from their records to the columns of the trace
//! - [`kallsyms`], [`leaf_cut`]: names of frames, and where a stack begins
//! - [`choice`]: whose allocations; [`coverage`]: what cannot be seen
//! - [`session`]: a recording of the kernel alone; [`beside`]: beside that of programs

pub mod beside;
pub mod buffers;
pub mod cast;
pub mod choice;
pub mod coverage;
pub mod gfp;
pub mod kallsyms;
pub mod leaf_cut;
pub mod machine;
pub mod merge;
pub mod misses;
pub mod names;
pub mod order;
pub mod places;
pub mod probes;
pub mod session;
pub mod settings;
pub mod table;
pub mod wire;

use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;

use crate::cli::Options;
use crate::status::{self, StatusLine};
use crate::talk::say;
use crate::watch::{Wake, Watch};
use crate::{output, preflight};
use choice::Choice;
use session::Session;

/// How to record the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelOptions {
    /// Percpu memory too.
    pub percpu: bool,
    /// Stacks of allocations.
    pub stacks: bool,
    pub choice: Choice,
}

/// The session's work is looked after at least this often.
const TICK: Duration = Duration::from_millis(50);

/// Records until the end that `options` ask for.
pub fn run(options: &Options, kernel: &KernelOptions) -> anyhow::Result<()> {
    let path = match &options.output {
        Some(path) => path.clone(),
        None => output::dated_name("kernel", SystemTime::now()),
    };
    output::check(&path, options.force)?;
    let (_, release) = preflight::machine::check()?;
    preflight::capabilities::check()?;
    kernel.choice.check()?;
    let mut watch =
        Watch::new(&kernel.choice.pids).context("cannot watch for the end of the processes")?;
    let mut session = Session::prepare(options, kernel, &path, release)?;
    session.open()?;
    let start = Instant::now();
    let whose = match kernel.choice.words() {
        words if words.is_empty() => String::new(),
        words => format!(" {words}"),
    };
    say(format_args!(
        "recording the kernel's allocations{whose} into {}; Ctrl-C ends it",
        path.display()
    ));

    // Whatever ends it, what was recorded is written.
    let (reason, failure) = match follow(&mut session, &mut watch, options.duration, start) {
        Ok(reason) => (reason, None),
        Err(error) => ("recording failed", Some(error)),
    };
    let closed = session.close(reason)?;
    say(format_args!(
        "recorded {} events with {} stacks in {} ({}), {} lost: {reason}",
        closed.written.events,
        closed.written.stacks,
        status::clock(start.elapsed()),
        status::size(closed.written.bytes),
        closed.lost,
    ));
    if closed.untracked > 0 {
        say(format_args!(
            "{} chosen allocations were too many or too large to be followed one by one: from then on every free was written",
            closed.untracked
        ));
    }
    say(format_args!("next: memleak-analyze {}", path.display()));
    match failure {
        Some(error) => Err(error),
        None if reason == OVERFLOW => Err(anyhow::anyhow!(
            "the ring was full and events were lost: the recording was ended, as --on-overflow abort asks for; \
             a larger --ring-size loses less"
        )),
        None => Ok(()),
    }
}

const OVERFLOW: &str = "the ring was full";

/// Looks after the session until something ends it; returns what, in words.
fn follow(
    session: &mut Session,
    watch: &mut Watch,
    duration: Option<Duration>,
    start: Instant,
) -> anyhow::Result<&'static str> {
    let mut status = StatusLine::on_stderr();
    let reason = loop {
        let left = duration.map(|duration| duration.saturating_sub(start.elapsed()));
        if left.is_some_and(|left| left.is_zero()) {
            break "the duration is over";
        }
        match watch.wait(left.unwrap_or(TICK).min(TICK), None)? {
            Wake::Signal(_) => break "stopped by a signal",
            Wake::Ended(_) if watch.is_over() => break "the processes have ended",
            Wake::Ended(_) | Wake::Timeout => {}
        }
        if session.has_failed() {
            break "recording failed";
        }
        session.work()?;
        if session.must_abort()? {
            break OVERFLOW;
        }
        if status.is_due() {
            status.show(&session.progress(start.elapsed()));
        }
    };
    status.clear();
    Ok(reason)
}
