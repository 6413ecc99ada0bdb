//! A recording under way: what was found out about the target, the loaded probes, and the threads
//! between ring and file.

use std::num::NonZeroU32;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use crossbeam_channel::{Receiver, TryRecvError};
use memleak_trace::header::{Header, Machine, Probe, VERSION};
use memleak_trace::stack::Location;
use memleak_trace::writer::WriterOptions;
use memleak_trace::{Description, FrameId, Note, SpaceId, TraceWriter};

use crate::cli::Options;
use crate::discover::Discovery;
use crate::drain::Drain;
use crate::encode::{Encoder, Finding, Progress, Written};
use crate::kernel::{Kernel, KernelError, LoadOptions, ProbePoint};
use crate::ledger::Ledger;
use crate::modules::Modules;
use crate::preflight::target::{Target, living_thread};
use crate::ring_fill::RingFill;
use crate::symbolize::{Request, Symbolizer};
use crate::{clocks, output, preflight, rss, status};

/// The address space of the target; others come with children and exec.
const SPACE: SpaceId = SpaceId(1);

/// Chunks that wait between ring and encoder: 64 MiB at most.
const WAITING_CHUNKS: usize = 256;

/// Room for the rows of libraries that are opened later.
const SPARE_ROWS: usize = 512 * 1024;

/// The probes are attached, and everything is ready to record.
pub struct Session {
    target: Target,
    kernel: Kernel,
    modules: Modules,
    discovery: Discovery,
    ring_fill: RingFill,
    ring_bytes: u64,
    drain: Drain,
    encoder: Encoder,
    findings: Receiver<Finding>,
    progress: Arc<Progress>,
    symbolizer: Symbolizer,
    ledger: Ledger,
    /// When the mappings were last read in vain.
    vain_refresh: Option<Instant>,
}

impl Session {
    /// Finds the allocator, loads and attaches the probes, creates the trace. Nothing is recorded
    /// yet.
    pub fn prepare(
        options: &Options,
        path: &std::path::Path,
        report: preflight::Report,
    ) -> anyhow::Result<Session> {
        let target = report.target;
        let mut modules = Modules::new();
        modules.refresh(target.pid, SPACE)?;
        let mut discovery = Discovery::default();
        let mapped = modules.mapped(SPACE);
        let files = discovery.read(mapped, &modules, &target.executable);
        let probes = discovery.points(&files);
        if !probes.iter().any(|point| point.function.symbol == "malloc") {
            bail!(no_allocator(&target, &modules));
        }

        let page_size = page_size();
        let mut kernel = Kernel::load(LoadOptions {
            ring_bytes: options.ring_bytes,
            row_capacity: u32::try_from(2 * discovery.row_count() + SPARE_ROWS).unwrap_or(u32::MAX),
            page_size,
            sample_every: 0,
        })
        .map_err(|error| explain(error, options.verbose))?;
        tell_mappings(&mut kernel, &discovery, &modules, &target)?;
        let task = task(&target)?;
        for point in &probes {
            kernel.attach(point, task)?;
        }
        print_probes(&probes);
        eprintln!("page size {page_size}; kernel allocations are not recorded");

        let header = Header {
            version: VERSION,
            requires: Vec::new(),
            recorder: format!("memleak-record {}", env!("CARGO_PKG_VERSION")),
            machine: Machine {
                kernel: report.kernel_release,
                architecture: std::env::consts::ARCH.to_owned(),
                page_size,
                cpus: std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u32),
            },
            clock: clocks::now(),
            targets: vec![memleak_trace::header::Target {
                pid: target.pid,
                ppid: target.ppid,
                command: target.command.clone(),
                executable: target.executable.clone(),
            }],
            probes: probes
                .iter()
                .map(|point| header_probe(point, target.pid))
                .collect(),
            ring_bytes: u64::from(options.ring_bytes),
        };
        let writer = TraceWriter::create(
            path,
            &header,
            &WriterOptions {
                overwrite: options.force,
            },
        )?;
        output::give_to_caller(path)?;

        let ring = kernel.take_ring()?;
        let ring_fill = RingFill::map(ring.as_fd(), page_size as usize)
            .context("cannot map the ring's positions")?;
        let (chunks, encoded) = crossbeam_channel::bounded(WAITING_CHUNKS);
        let (found, findings) = crossbeam_channel::unbounded();
        let progress = Arc::new(Progress::default());
        let encoder = Encoder::start(writer, encoded, found, Arc::clone(&progress))
            .context("cannot start the encoder's thread")?;
        let drain = Drain::start(ring, chunks).context("cannot start the drain's thread")?;
        let symbolizer = Symbolizer::start().context("cannot start the symbolizer's thread")?;
        Ok(Session {
            kernel,
            modules,
            discovery,
            ring_fill,
            ring_bytes: u64::from(options.ring_bytes),
            drain,
            encoder,
            findings,
            progress,
            symbolizer,
            ledger: Ledger::new(clocks::monotonic_ns()),
            vain_refresh: None,
            target,
        })
    }

    /// Opens the recording for all probes at once.
    pub fn open(&mut self) -> anyhow::Result<()> {
        self.note(Description::Process {
            pid: self.target.pid,
            ppid: self.target.ppid,
            space: SPACE,
            command: self.target.command.join(" "),
        });
        for module in self.modules.mapped(SPACE).to_vec() {
            self.note(Description::Module(module));
        }
        self.sample_rss();
        // Before the first event in the file; the instant is that of the flag.
        self.note(Description::Open);
        self.kernel.set_recording(true)?;
        Ok(())
    }

    /// Does what has come up: findings of the encoder, names, losses. Never waits.
    pub fn work(&mut self) -> anyhow::Result<()> {
        loop {
            match self.findings.try_recv() {
                Ok(finding) => self.finding(finding)?,
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        self.forward_symbols();
        self.account()
    }

    /// Whether the trace can no longer be written; `close` says why.
    pub fn has_failed(&self) -> bool {
        self.encoder.has_failed()
    }

    /// Puts the target's resident memory into the trace.
    pub fn sample_rss(&mut self) {
        resident(&self.target)
            .into_iter()
            .for_each(|what| self.note(what));
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

    /// Closes the recording for all probes at once, empties the ring, names what is left, and
    /// closes the trace. Returns what was written and lost, and the probes, which are still
    /// attached: detaching them takes seconds, and the trace is complete before.
    pub fn close(self, reason: &str, ended: bool) -> anyhow::Result<(Written, u64, Kernel)> {
        let Session {
            target,
            mut kernel,
            modules,
            drain,
            encoder,
            findings,
            mut symbolizer,
            mut ledger,
            ..
        } = self;
        kernel.set_recording(false)?;
        let closed = clocks::monotonic_ns();
        let note = |what| encoder.note(Note { ts: closed, what });
        if !ended {
            resident(&target).into_iter().for_each(note);
        }
        // A probe that saw the recording open may still be sending.
        std::thread::sleep(Duration::from_millis(2));
        drain.finish();
        for loss in ledger.update(kernel.counters()?, closed) {
            encoder.note(loss);
        }
        // Ends when the encoder has seen the last chunk.
        for finding in findings {
            if let Finding::NewFrames(frames) = finding {
                ask(&mut symbolizer, &modules, target.pid, frames);
            }
        }
        for symbol in symbolizer.close() {
            note(Description::Symbol(symbol));
        }
        if ended {
            note(Description::Exit {
                pid: target.pid,
                status: None,
            });
        }
        note(Description::Close {
            reason: reason.to_owned(),
        });
        let lost = ledger.lost();
        let written = encoder.finish()?;
        Ok((written, lost, kernel))
    }

    fn finding(&mut self, finding: Finding) -> anyhow::Result<()> {
        match finding {
            Finding::NewFrames(frames) => {
                ask(&mut self.symbolizer, &self.modules, self.target.pid, frames);
                Ok(())
            }
            Finding::UnknownMapping { address } => self.find_mapping(address),
        }
    }

    /// A walk met an address in no known mapping: a library was opened since, or it is junk.
    fn find_mapping(&mut self, address: u64) -> anyhow::Result<()> {
        const PAUSE: Duration = Duration::from_millis(500);
        if self.modules.at(SPACE, address).is_some()
            || self.vain_refresh.is_some_and(|last| last.elapsed() < PAUSE)
        {
            return Ok(());
        }
        // The target may have ended; then there is nothing to find.
        let new = self
            .modules
            .refresh(self.target.pid, SPACE)
            .unwrap_or_default();
        self.vain_refresh = new.is_empty().then(Instant::now);
        if new.is_empty() {
            return Ok(());
        }
        let files = self
            .discovery
            .read(&new, &self.modules, &self.target.executable);
        tell_mappings(
            &mut self.kernel,
            &self.discovery,
            &self.modules,
            &self.target,
        )?;
        for module in new {
            self.note(Description::Module(module));
        }
        let points = self.discovery.points(&files);
        if points.is_empty() {
            return Ok(());
        }
        let task = task(&self.target)?;
        for point in &points {
            if let Err(error) = self.kernel.attach(point, task) {
                eprintln!("memleak-record: {error}; what it allocates is not recorded");
            }
        }
        print_probes(&points);
        Ok(())
    }

    fn forward_symbols(&mut self) {
        for symbol in self.symbolizer.ready() {
            self.note(Description::Symbol(symbol));
        }
    }

    fn account(&mut self) -> anyhow::Result<()> {
        const WINDOW_NS: i64 = 500_000_000;
        if clocks::monotonic_ns() - self.ledger.last_ns() >= WINDOW_NS {
            self.account_into_trace()?;
        }
        Ok(())
    }

    fn account_into_trace(&mut self) -> anyhow::Result<()> {
        let counters = self.kernel.counters()?;
        for note in self.ledger.update(counters, clocks::monotonic_ns()) {
            self.encoder.note(note);
        }
        Ok(())
    }

    fn note(&self, what: Description) {
        self.encoder.note(Note {
            ts: clocks::monotonic_ns(),
            what,
        });
    }
}

/// The target's resident memory now; nothing if it has ended.
fn resident(target: &Target) -> Vec<Description> {
    let task = living_thread(target.pid).unwrap_or(target.pid);
    rss::read(task)
        .into_iter()
        .flatten()
        .map(|(kind, bytes)| Description::Rss {
            pid: target.pid,
            kind,
            bytes,
        })
        .collect()
}

/// Asks for the names of frames, with what their mapping says now.
fn ask(symbolizer: &mut Symbolizer, modules: &Modules, pid: i32, frames: Vec<FrameId>) {
    for frame in frames {
        let (address, file, module) = match frame.location() {
            Location::File { file, offset } => {
                let mapping = modules.mapped(SPACE).iter().find(|module| {
                    module.file == Some(file)
                        && offset >= module.file_offset
                        && offset - module.file_offset <= module.length
                });
                let address =
                    mapping.map_or(0, |module| module.start + (offset - module.file_offset));
                let opened = modules.file(file).cloned();
                let path = opened.as_ref().map(|file| file.path().to_owned());
                (address, opened, path)
            }
            Location::Anonymous { address, .. } | Location::Kernel { address } => {
                let path = modules.at(SPACE, address).map(|module| module.path.clone());
                (address, None, path)
            }
        };
        symbolizer.ask(Request {
            frame,
            address,
            pid,
            module,
            file,
        });
    }
}

/// Tells the probes all mappings as they are known now.
fn tell_mappings(
    kernel: &mut Kernel,
    discovery: &Discovery,
    modules: &Modules,
    target: &Target,
) -> anyhow::Result<()> {
    let (rows, left_out) = discovery.mapping_rows(modules.mapped(SPACE), kernel.rows());
    for path in left_out {
        eprintln!(
            "memleak-record: no room for the unwind information of {path}: stacks may end there"
        );
    }
    match kernel.set_mappings(target.pid as u32, SPACE.0 as u32, &rows) {
        Err(error @ KernelError::TooManyMappings { .. }) => {
            eprintln!("memleak-record: {error}");
            Ok(())
        }
        other => Ok(other?),
    }
}

/// A living thread of the target: probes live as long as the thread they name.
fn task(target: &Target) -> anyhow::Result<NonZeroU32> {
    let task = living_thread(target.pid).unwrap_or(target.living_thread);
    u32::try_from(task)
        .ok()
        .and_then(NonZeroU32::new)
        .with_context(|| format!("process {} has ended", target.pid))
}

fn header_probe(point: &ProbePoint, pid: i32) -> Probe {
    Probe {
        pid,
        object: point.object.clone(),
        function: point.function.symbol.to_owned(),
        file_offset: point.file_offset,
        displacement: point.displacement,
        returns: point.function.shape.leave_program().is_some(),
    }
}

/// Says on stderr what is probed, one line per object.
fn print_probes(probes: &[ProbePoint]) {
    let mut objects: Vec<&str> = probes.iter().map(|point| point.object.as_str()).collect();
    objects.sort_unstable();
    objects.dedup();
    for object in objects {
        let functions: Vec<&str> = probes
            .iter()
            .filter(|point| point.object == object)
            .map(|point| point.function.symbol)
            .collect();
        eprintln!("probing {object}, which defines {}", functions.join(" "));
    }
}

fn no_allocator(target: &Target, modules: &Modules) -> String {
    let mut files: Vec<&str> = modules
        .mapped(SPACE)
        .iter()
        .filter(|module| module.file.is_some())
        .map(|module| module.path.as_str())
        .collect();
    files.dedup();
    format!(
        "no malloc found in process {} ({}): none of its files defines it by name ({}); \
         a static program must keep its symbols (do not strip it)",
        target.pid,
        target.executable,
        files.join(", ")
    )
}

/// The kernel's refusal in one sentence; its log is many pages.
fn explain(error: KernelError, verbose: bool) -> anyhow::Error {
    if verbose {
        return anyhow::Error::new(error);
    }
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default().to_owned();
    anyhow::anyhow!("{first} (the kernel's log: -v)")
}

fn page_size() -> u64 {
    // SAFETY: sysconf has no preconditions.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}
