//! A recording of the kernel under way: its probes, and the threads between ring and file.

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::Context;
use crossbeam_channel::Receiver;
use memleak_trace::header::{Header, KernelRecording, Machine, Probe, Target, VERSION};
use memleak_trace::{Description, FrameId, Note, Selection, SpaceId};

use super::KernelOptions;
use super::kallsyms::Kallsyms;
use super::leaf_cut::LeafCut;
use super::probes::{Facts, Probes};
use super::table::{Place, Row};
use super::{coverage, machine};
use crate::cli::Options;
use crate::drain::Drain;
use crate::encode::{Encoder, Finding, Progress, Written};
use crate::layout::Recording;
use crate::ledger::Ledger;
use crate::overflow::OnOverflow;
use crate::parts::Parts;
use crate::preflight::target;
use crate::ring_fill::RingFill;
use crate::symbolize::{Request, Symbolizer};
use crate::talk::say;
use crate::{clocks, output, status};

/// Chunks that wait between ring and encoder, 8 MiB at most: it is the ring that waits for a slow
/// disk.
const WAITING_CHUNKS: usize = 32;

/// Losses are told in windows of this length.
const LEDGER_WINDOW_NS: i64 = 500_000_000;

/// Everything is ready to record, or recording.
pub struct Session {
    probes: Probes,
    ring_fill: RingFill,
    ring_bytes: u64,
    on_overflow: OnOverflow,
    drain: Drain,
    encoder: Encoder,
    findings: Receiver<Finding>,
    progress: Arc<Progress>,
    symbolizer: Symbolizer,
    ledger: Ledger,
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
        kernel.choice.check()?;
        let cgroup = kernel.choice.find_cgroup()?;
        let page_size = page_size();
        let symbols = Kallsyms::read().context("cannot read /proc/kallsyms; mount /proc")?;
        if symbols.is_none() {
            say(format_args!(
                "memleak-record: this user may not see addresses of the kernel: stacks have no names; run as root, and set kernel.kptr_restrict to 0 or 1"
            ));
        }
        let facts = Facts {
            page_size,
            possible_cpus: machine::possible_cpus(),
            vmemmap_at: machine::vmemmap_at(symbols.as_ref()),
            cgroup,
        };
        drop(symbols);
        let mut probes = Probes::attach(options.ring_bytes, kernel, facts)
            .map_err(|error| explain(error.into(), options.verbose))?;
        print_probes(probes.attached(), probes.skipped());
        say(format_args!(
            "page size {page_size}; the kernel is recorded, programs are not"
        ));
        // Read again: the probes are functions of the kernel by now.
        let symbols = Kallsyms::read()?;
        let cut = LeafCut::new(symbols.as_ref());
        let targets = targets(&kernel.choice.pids);
        let header = Header {
            version: VERSION,
            requires: Vec::new(),
            recorder: format!("memleak-record {}", env!("CARGO_PKG_VERSION")),
            machine: Machine {
                kernel: release,
                architecture: std::env::consts::ARCH.to_owned(),
                page_size,
                cpus: std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u32),
            },
            clock: clocks::now(),
            targets: targets.clone(),
            probes: probes.attached().iter().map(probe).collect(),
            ring_bytes: u64::from(options.ring_bytes),
            on_overflow: options.on_overflow.name().to_owned(),
            selection: Selection::default(),
            part: None,
            kernel: Some(KernelRecording {
                possible_cpus: facts.possible_cpus,
                coverage: coverage::statement(probes.attached(), probes.skipped(), kernel),
            }),
        };
        let writer = Parts::create(path, header, options.force, None)?;
        output::give_to_caller(path)?;

        let ring = probes.take_ring()?;
        let ring_fill = RingFill::map(ring.as_fd(), page_size as usize)
            .context("cannot map the ring's positions")?;
        let (chunks, encoded) = crossbeam_channel::bounded(WAITING_CHUNKS);
        let (found, findings) = crossbeam_channel::unbounded();
        let progress = Arc::new(Progress::default());
        let encoder = Encoder::start_with_kernel(
            writer,
            None,
            encoded,
            found,
            Arc::clone(&progress),
            Arc::default(),
            cut,
        )
        .context("cannot start the encoder's thread")?;
        let drain = Drain::start(ring, chunks, None).context("cannot start the drain's thread")?;
        let symbolizer = Symbolizer::start().context("cannot start the symbolizer's thread")?;
        Ok(Session {
            probes,
            ring_fill,
            ring_bytes: u64::from(options.ring_bytes),
            on_overflow: options.on_overflow,
            drain,
            encoder,
            findings,
            progress,
            symbolizer,
            ledger: Ledger::new(clocks::monotonic_ns()),
            targets,
        })
    }

    /// Opens the recording for all probes at once.
    pub fn open(&mut self) -> anyhow::Result<()> {
        for target in &self.targets {
            self.note(Description::Process {
                pid: target.pid,
                ppid: target.ppid,
                space: SpaceId(0),
                command: target.command.join(" "),
            });
        }
        self.note(Description::Open);
        // What happened to the probes before is none of this recording.
        self.ledger.start(self.probes.counters()?);
        self.probes.set_recording(Recording::Open)?;
        Ok(())
    }

    /// Does what has come up: names and losses. Never waits.
    pub fn work(&mut self) -> anyhow::Result<()> {
        while let Ok(finding) = self.findings.try_recv() {
            ask(&mut self.symbolizer, finding);
        }
        for symbol in self.symbolizer.ready() {
            self.note(Description::Symbol(symbol));
        }
        let now = clocks::monotonic_ns();
        if now - self.ledger.last_ns() >= LEDGER_WINDOW_NS {
            for loss in self.ledger.update(self.probes.counters()?, now) {
                self.encoder.note(loss);
            }
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
        self.encoder.has_failed()
    }

    /// What the status line shows.
    pub fn progress(&self, elapsed: Duration) -> status::Progress {
        status::Progress {
            elapsed,
            events: self.progress.events.load(Relaxed),
            lost: self.ledger.lost(),
            ring_used: self.ring_fill.waiting(),
            ring_bytes: self.ring_bytes,
            file_bytes: self.progress.bytes.load(Relaxed),
        }
    }

    /// Closes the recording, empties the ring, names what is left, and closes the trace.
    pub fn close(self, reason: &str) -> anyhow::Result<Closed> {
        let Session {
            mut probes,
            drain,
            encoder,
            findings,
            mut symbolizer,
            mut ledger,
            ..
        } = self;
        probes.set_recording(Recording::Closed)?;
        let closed_ns = clocks::monotonic_ns();
        // A probe that saw the recording open may still be sending.
        std::thread::sleep(Duration::from_millis(2));
        drain.finish();
        for loss in ledger.update(probes.counters()?, closed_ns) {
            encoder.note(loss);
        }
        let note = |what| {
            encoder.note(Note {
                ts: closed_ns,
                what,
            })
        };
        // Ends when the encoder has seen the last chunk.
        for finding in findings {
            ask(&mut symbolizer, finding);
        }
        for symbol in symbolizer.close() {
            note(Description::Symbol(symbol));
        }
        note(Description::Close {
            reason: reason.to_owned(),
        });
        Ok(Closed {
            lost: ledger.lost(),
            untracked: probes.untracked()?,
            written: encoder.finish()?,
        })
    }

    fn note(&self, what: Description) {
        self.encoder.note(Note {
            ts: clocks::monotonic_ns(),
            what,
        });
    }
}

/// Asks for the names of new frames; the kernel has no other findings.
fn ask(symbolizer: &mut Symbolizer, finding: Finding) {
    if let Finding::NewFrames { frames, .. } = finding {
        frames
            .into_iter()
            .for_each(|frame| symbolizer.ask(request(frame)));
    }
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

fn probe(row: &Row) -> Probe {
    Probe {
        pid: 0,
        object: super::kallsyms::KERNEL.to_owned(),
        function: row.place.name().to_owned(),
        file_offset: 0,
        displacement: 0,
        returns: matches!(row.place, Place::Return(_)),
    }
}

/// Says on stderr what is probed, and what the kernel does not have.
fn print_probes(attached: &[Row], skipped: &[String]) {
    let names = |tracepoints: bool| -> Vec<&str> {
        attached
            .iter()
            .filter(|row| matches!(row.place, Place::Tracepoint(_)) == tracepoints)
            .map(|row| row.place.name())
            .collect()
    };
    say(format_args!(
        "probing the kernel's tracepoints {}",
        names(true).join(" ")
    ));
    if !names(false).is_empty() {
        say(format_args!(
            "probing the kernel's functions {}",
            names(false).join(" ")
        ));
    }
    for sentence in skipped {
        say(format_args!("memleak-record: {sentence}"));
    }
}

/// The kernel's refusal in one sentence; its log is many pages.
fn explain(error: anyhow::Error, verbose: bool) -> anyhow::Error {
    if verbose {
        return error;
    }
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    anyhow::anyhow!("{first} (the kernel's log: -v)")
}

fn page_size() -> u64 {
    // SAFETY: sysconf has no preconditions.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}
