//! The whole of a recording: checks first, then everything that must be undone.

use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;

use crate::cli::Options;
use crate::session::Session;
use crate::status::{self, StatusLine};
use crate::talk::say;
use crate::watch::{Wake, Watch};
use crate::{estimate, output, preflight};

/// The session's work is looked after at least this often.
const TICK: Duration = Duration::from_millis(50);

/// Records until the end that `options` ask for.
pub fn run(options: Options) -> anyhow::Result<()> {
    for remark in &options.remarks {
        say(format_args!("memleak-record: {remark}"));
    }
    if options.estimate {
        raise_open_files();
        return estimate::run(&options);
    }
    let path = match &options.output {
        Some(path) => path.clone(),
        None => output::default_name(
            options.pids.first().copied().unwrap_or(0),
            SystemTime::now(),
        ),
    };
    output::check(&path, options.force)?;
    let report = preflight::check(&options.pids, options.force_seccomp)?;
    raise_open_files();
    let mut watch = Watch::new(&options.pids).context("cannot watch for the target's end")?;
    let mut session = Session::prepare(&options, &path, report)?;
    session.open()?;
    let start = Instant::now();
    let pids: Vec<String> = options.pids.iter().map(i32::to_string).collect();
    say(format_args!(
        "recording process{} {} into {}; Ctrl-C ends it",
        if pids.len() > 1 { "es" } else { "" },
        pids.join(", "),
        path.display()
    ));

    // Whatever ends it, what was recorded is written.
    let (reason, failure) = match follow(&mut session, &mut watch, options.duration, start) {
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
    say(format_args!("next: memleak-analyze {}", path.display()));
    // Detaching takes seconds: the trace is complete, and the user told so, before.
    drop(closed.attachment);
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
    start: Instant,
) -> anyhow::Result<Reason> {
    hurry();
    const RSS_INTERVAL: Duration = Duration::from_secs(1);
    let mut status = StatusLine::on_stderr();
    let mut next_rss = RSS_INTERVAL;
    let reason = loop {
        let left = duration.map(|duration| duration.saturating_sub(start.elapsed()));
        if left.is_some_and(|left| left.is_zero()) {
            break Reason::Duration;
        }
        match watch.wait(left.unwrap_or(TICK).min(TICK), Some(session.attention()))? {
            Wake::Signal => break Reason::Signal,
            Wake::Ended(pid) => {
                let how = session.ended(pid);
                if watch.is_over() {
                    break Reason::TargetEnded(how);
                }
            }
            Wake::Timeout => {}
        }
        if session.has_failed() {
            break Reason::Failure;
        }
        session.work()?;
        if session.must_abort()? {
            break Reason::Overflow;
        }
        if start.elapsed() >= next_rss {
            next_rss += RSS_INTERVAL;
            session.sample_rss();
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
