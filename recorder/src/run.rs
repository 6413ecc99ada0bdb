//! The whole of a recording: checks first, then everything that must be undone.

use std::ffi::OsStr;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;

use crate::cli::Options;
use crate::command::Command;
use crate::session::Session;
use crate::silence::Silence;
use crate::status::{self, StatusLine};
use crate::talk::say;
use crate::watch::{Signal, Wake, Watch};
use crate::{detach, estimate, kernel_mode, memory, output, preflight, rotation};

/// The session's work is looked after at least this often.
const TICK: Duration = Duration::from_millis(50);

/// Records until the end that `options` ask for. Returns the exit code: that of the command, if one
/// was started.
pub fn run(options: Options) -> anyhow::Result<u8> {
    for remark in &options.remarks {
        say(format_args!("memleak-record: {remark}"));
    }
    if let Some(kernel) = &options.kernel {
        return kernel_mode::run(&options, kernel).map(|()| 0);
    }
    if options.estimate {
        raise_open_files();
        return estimate::run(&options).map(|()| 0);
    }
    // First of all: it is to have none of what this process becomes.
    let mut command = match &options.command {
        Some(words) => Some(Command::prepare(words)?),
        None => None,
    };
    let pids = match &command {
        Some(command) => vec![command.pid()],
        None => options.pids.clone(),
    };
    let path = match &options.output {
        Some(path) => path.clone(),
        None => output::default_name(pids.first().copied().unwrap_or(0), SystemTime::now()),
    };
    match options.rotation {
        None => output::check(&path, options.force)?,
        Some(_) => rotation::check(&path, options.force)?,
    }
    let report = preflight::check(&options.pids, options.force_seccomp)?;
    raise_open_files();
    memory::map_large_blocks();
    let mut watch = Watch::new(&pids).context("cannot watch for the target's end")?;
    let Some(mut session) = Session::prepare(&options, &path, report, command.as_mut())? else {
        say(format_args!(
            "memleak-record: the command ended before its program began; there is no trace"
        ));
        return end_of(command, &mut watch);
    };
    // What attaching took is not needed any more.
    memory::give_back();
    session.open()?;
    let start = Instant::now();
    say_recording(&pids, &options, &path);
    if let Some(command) = &mut command {
        session.release(command.pid());
        command.release();
    }
    let recorded = record(
        session,
        &options,
        &path,
        &mut watch,
        command.as_ref(),
        start,
    );
    if recorded.is_err() && command.is_some() {
        say(format_args!(
            "memleak-record: recording failed; the command goes on"
        ));
    }
    let code = end_of(command, &mut watch)?;
    recorded.map(|()| code)
}

/// The line that says that every probe is on.
fn say_recording(pids: &[i32], options: &Options, path: &Path) {
    let path = match options.rotation {
        None => path.display().to_string(),
        Some(_) => format!(
            "{} and further parts",
            rotation::part_path(path, 1).display()
        ),
    };
    let pids: Vec<String> = pids.iter().map(i32::to_string).collect();
    let pids = pids.join(", ");
    let children = if options.follow {
        " and its children"
    } else {
        ""
    };
    match &options.command {
        Some(words) => say(format_args!(
            "recording process {pid}{children} into {path}: {command}; it ends with {last}",
            pid = pids,
            command = words.join(OsStr::new(" ")).display(),
            last = if options.follow {
                "the last of them"
            } else {
                "the command"
            },
        )),
        None => say(format_args!(
            "recording process{} {pids}{children} into {path}; Ctrl-C ends it",
            if options.pids.len() > 1 { "es" } else { "" },
        )),
    }
}

/// Waits for the command, which may live longer than its recording. Its exit code; 0 if there is no
/// command.
fn end_of(command: Option<Command>, watch: &mut Watch) -> anyhow::Result<u8> {
    let Some(command) = command else {
        return Ok(0);
    };
    while !command.has_ended()? {
        if let Wake::Signal(signal) = watch.wait(TICK, Some(command.descriptor()))? {
            hand_on(signal, &command);
        }
    }
    Ok(command.wait()?)
}

/// What the terminal sends, the command has got itself.
fn hand_on(signal: Signal, command: &Command) {
    if !signal.from_terminal {
        command.signal(signal.number);
    }
}

/// Records until something ends it, and finishes the trace.
fn record(
    mut session: Session,
    options: &Options,
    path: &Path,
    watch: &mut Watch,
    command: Option<&Command>,
    start: Instant,
) -> anyhow::Result<()> {
    // Whatever ends it, what was recorded is written.
    let (reason, failure) = match follow(&mut session, watch, options.duration, command, start) {
        Ok(reason) => (reason, None),
        Err(error) => (Reason::Failure, Some(error)),
    };
    let closed = session.close(&reason.words())?;
    say(format_args!(
        "recorded {} events with {} stacks in {} ({}), {} lost: {}",
        closed.written.events,
        closed.written.stacks,
        status::clock(start.elapsed()),
        status::size(closed.written.bytes),
        closed.lost,
        reason.words()
    ));
    if closed.pauses > 0 {
        say(format_args!(
            "the ring was nearly full {} times: the target was stopped each time until it was drained",
            closed.pauses
        ));
    }
    let all = match options.rotation {
        None => path.to_owned(),
        Some(_) => {
            say(format_args!("{} parts were written", closed.written.parts));
            rotation::pattern(path)
        }
    };
    say(format_args!("next: memleak-analyze {}", all.display()));
    detach::in_background(closed.attachment);
    match reason {
        Reason::Overflow => Err(anyhow::anyhow!(
            "the ring was full and events were lost: the recording was ended, as --on-overflow abort asks for; \
             a larger --ring-size loses less, --on-overflow pause nothing"
        )),
        _ => failure.map_or(Ok(()), Err),
    }
}

/// Why a recording ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Reason {
    Signal,
    /// And how.
    TargetEnded(String),
    Overflow,
    Duration,
    Failure,
}

impl Reason {
    fn words(&self) -> String {
        let words = match self {
            Reason::Signal => "stopped by a signal",
            Reason::TargetEnded(how) => return format!("the target {how}"),
            Reason::Overflow => "the ring was full",
            Reason::Duration => "the duration is over",
            Reason::Failure => "recording failed",
        };
        words.to_owned()
    }
}

/// Looks after the session until something ends it.
fn follow(
    session: &mut Session,
    watch: &mut Watch,
    duration: Option<Duration>,
    command: Option<&Command>,
    start: Instant,
) -> anyhow::Result<Reason> {
    hurry();
    const RSS_INTERVAL: Duration = Duration::from_secs(1);
    let mut status = StatusLine::on_stderr();
    let mut next_rss = RSS_INTERVAL;
    let mut last = None;
    let mut silence = Silence::begin(&session.pids());
    let reason = loop {
        // A child may have begun with the last moment of its parent.
        if let Some(how) = last.take_if(|_| watch.is_over() && !session.has_living()) {
            break Reason::TargetEnded(how);
        }
        let left = duration.map(|duration| duration.saturating_sub(start.elapsed()));
        if left.is_some_and(|left| left.is_zero()) {
            break Reason::Duration;
        }
        match watch.wait(left.unwrap_or(TICK).min(TICK), Some(session.attention()))? {
            Wake::Signal(signal) => match command {
                Some(command) if !command.has_ended()? => hand_on(signal, command),
                // Children that outlive it have not got it: they may be in the background.
                _ => break Reason::Signal,
            },
            Wake::Ended(pid) => last = Some(session.ended(pid)),
            Wake::Timeout => {}
        }
        if session.has_failed() {
            break Reason::Failure;
        }
        session.work()?;
        for pid in session.newcomers() {
            // One that is gone by now needs no watching.
            let _ = watch.add(pid);
        }
        if session.must_abort()? {
            break Reason::Overflow;
        }
        if start.elapsed() >= next_rss {
            next_rss += RSS_INTERVAL;
            session.sample_rss();
        }
        if let Some(words) =
            silence.remark(session.program_events(), start.elapsed(), &session.pids())
        {
            status.clear();
            say(format_args!("memleak-record: {words}"));
        }
        if status.is_due() {
            status.show(&session.progress(start.elapsed()));
        }
    };
    status.clear();
    Ok(reason)
}

/// This thread sleeps nearly always; when it is woken, threads of the target may wait for it. Without
/// the right to a higher priority it goes on as it is.
fn hurry() {
    // SAFETY: plain numbers; 0 is the calling thread.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, -20);
    }
}

/// Each file that the target runs code from is held open, and each probe is a descriptor: as many
/// as the hard limit allows. Where that fails, the usual limit of 1,024 serves most targets.
fn raise_open_files() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: a valid rlimit for both calls.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}
