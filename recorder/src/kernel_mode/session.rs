//! A recording of the kernel under way: its probes, and what comes from them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use memleak_trace::header::{Header, Target};
use memleak_trace::{Description, FrameId, SpaceId};

use super::KernelOptions;
use super::beside::Beside;
use super::machine::Facts;
use super::probes::Probes;
use super::settings::Settings;
use crate::attachment::explain;
use crate::cli::Options;
use crate::encode::{Finding, Sink, Written};
use crate::layout::Recording;
use crate::overflow::OnOverflow;
use crate::parts::Parts;
use crate::pipeline::{Pipeline, Source};
use crate::preflight::target;
use crate::symbolize::Request;
use crate::talk::say;
use crate::{clocks, status, trace_header};

/// 8 MiB.
const WAITING_CHUNKS: usize = 32;

/// Everything is ready to record, or recording.
pub struct Session {
    probes: Probes,
    pipeline: Pipeline,
    on_overflow: OnOverflow,
    targets: Vec<Target>,
}

/// A recording that is closed.
#[derive(Clone, Copy, Debug)]
pub struct Closed {
    pub written: Written,
    pub lost: u64,
    /// Chosen allocations that found no place in the set of those whose frees are awaited.
    pub untracked: u64,
}

impl Session {
    /// Attaches the probes and creates the trace. Nothing is recorded yet.
    pub fn prepare(
        options: &Options,
        kernel: &KernelOptions,
        path: &Path,
        release: String,
    ) -> anyhow::Result<Session> {
        let cgroup = kernel.choice.find_cgroup()?;
        let page_size = trace_header::page_size();
        let facts = Facts::read(page_size)?;
        let settings = Settings::new(kernel, cgroup, facts, options.ring_bytes);
        let pids = &kernel.choice.pids;
        let mut probes = Probes::attach(options.ring_bytes, &settings, pids, kernel.percpu)
            .map_err(|error| explain(error, options.verbose))?;
        let places = Beside::of(probes.places(), kernel)?;
        say(format_args!(
            "page size {page_size}; the kernel is recorded, programs are not"
        ));
        let targets = targets(pids);
        let header = Header {
            targets: targets.clone(),
            probes: places.probes,
            kernel: Some(places.recording),
            ..trace_header::base(options, release, page_size)
        };
        let writer = Parts::create(path, header, options.force, None)?;
        let pipeline = Pipeline::start(
            Source {
                ring: probes.take_ring()?,
                ring_bytes: probes.ring_bytes(),
                page_size,
                paused: None,
                buffers: Some(probes.map_buffers(&settings)?),
                waiting_chunks: WAITING_CHUNKS,
            },
            Sink {
                writer,
                live: None,
                commands: Arc::default(),
                cut: places.cut,
            },
        )?;
        Ok(Session {
            probes,
            pipeline,
            on_overflow: options.on_overflow,
            targets,
        })
    }

    /// Opens the recording for all probes at once.
    pub fn open(&mut self) -> anyhow::Result<()> {
        for target in &self.targets {
            self.pipeline.note(Description::Process {
                pid: target.pid,
                ppid: target.ppid,
                space: SpaceId(0),
                command: target.command.join(" "),
            });
        }
        self.pipeline.note(Description::Open);
        // What happened to the probes before is none of this recording.
        self.pipeline.begin_ledger(self.probes.counters()?);
        self.probes.set_recording(Recording::Open)?;
        Ok(())
    }

    /// Does what has come up: names and losses. Never waits.
    pub fn work(&mut self) -> anyhow::Result<()> {
        while let Some(finding) = self.pipeline.finding() {
            requests(finding).for_each(|request| self.pipeline.ask(request));
        }
        self.pipeline.tell_names();
        if self.pipeline.is_window_over() {
            self.pipeline.account(self.probes.counters()?);
        }
        Ok(())
    }

    /// Whether events were lost at a full ring and the recording is to end for that.
    pub fn must_abort(&self) -> anyhow::Result<bool> {
        if self.on_overflow != OnOverflow::Abort {
            return Ok(false);
        }
        let counters = self.probes.counters()?;
        Ok(counters.lost_alloc_ring_full + counters.lost_release_ring_full > 0)
    }

    /// Whether the trace can no longer be written; `close` says why.
    pub fn has_failed(&self) -> bool {
        self.pipeline.has_failed()
    }

    /// What the status line shows.
    pub fn progress(&self, elapsed: Duration) -> status::Progress {
        self.pipeline.progress(elapsed)
    }

    /// Closes the recording, empties the ring, names what is left, and closes the trace.
    pub fn close(self, reason: &str) -> anyhow::Result<Closed> {
        let Session {
            mut probes,
            pipeline,
            ..
        } = self;
        probes.set_recording(Recording::Closed)?;
        let closed_ns = clocks::monotonic_ns();
        // A probe that saw the recording open may still be sending.
        std::thread::sleep(Duration::from_millis(2));
        let mut rest = pipeline.drain(closed_ns);
        rest.account(probes.counters()?);
        while let Some(finding) = rest.finding() {
            requests(finding).for_each(|request| rest.ask(request));
        }
        let (written, lost) = rest.finish(reason)?;
        Ok(Closed {
            written,
            lost,
            untracked: probes.untracked()?,
        })
    }
}

/// The questions for the names of new frames; the kernel has no other findings.
fn requests(finding: Finding) -> impl Iterator<Item = Request> {
    let frames = match finding {
        Finding::NewFrames { frames, .. } => frames,
        _ => Vec::new(),
    };
    frames.into_iter().map(request)
}

fn request(frame: FrameId) -> Request {
    Request {
        frame,
        address: frame.0 as u64,
        pid: 0,
        module: None,
        file: None,
    }
}

fn targets(pids: &[i32]) -> Vec<Target> {
    let target = |pid: &i32| Target {
        pid: *pid,
        ppid: target::parent(*pid).unwrap_or(0),
        command: target::command(*pid),
        executable: target::executable(*pid),
    };
    pids.iter().map(target).collect()
}
