//! A recording of programs under way: their probes, and what comes from them.

use std::collections::HashSet;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use memleak_trace::header;
use memleak_trace::{Description, Note};

use crate::attachment::{self, Attachment, print_probes};
use crate::cli::Options;
use crate::command::Command;
use crate::encode::{Finding, Sink, Written};
use crate::kernel_mode::beside::Beside;
use crate::kernel_mode::leaf_cut::LeafCut;
use crate::layout::{Counters, Recording};
use crate::ledger::Ledger;
use crate::live::Live;
use crate::overflow::OnOverflow;
use crate::parts::Parts;
use crate::pipeline::{Pipeline, Source};
use crate::preflight::target::{Target, living_thread};
use crate::process::Process;
use crate::stops::Stops;
use crate::talk::say;
use crate::{clocks, ending, preflight, rss, status, trace_header};

/// 4 MiB.
const WAITING_CHUNKS: usize = 16;

/// Everything is ready to record, or recording.
pub struct Session {
    attachment: Attachment,
    pipeline: Pipeline,
    on_overflow: OnOverflow,
    stops: Arc<Stops>,
    /// The ends of processes, to be written when everything they did is, unless the ring told them.
    ended: Vec<Note>,
    /// Processes whose end the ring told, and that [`Session::ended`] was not called for.
    told_ended: HashSet<i32>,
}

/// A recording that is closed.
pub struct Closed {
    pub written: Written,
    pub lost: u64,
    /// How often the target was stopped because the ring was nearly full.
    pub pauses: u64,
    /// The probes are still attached: the trace is complete before they are not.
    pub attachment: Attachment,
}

impl Session {
    /// Attaches the probes and creates the trace. Nothing is recorded yet. A command is held when its
    /// probes are on; `None` if it ended before.
    pub fn prepare(
        options: &Options,
        path: &Path,
        report: preflight::Report,
        command: Option<&mut Command>,
    ) -> anyhow::Result<Option<Session>> {
        let page_size = trace_header::page_size();
        // The command has the filter of whoever started us.
        if let (Some(command), false) = (&command, options.force_seccomp) {
            preflight::seccomp::check(command.pid(), report.kernel, &report.kernel_release)?;
        }
        let mut attachment = match command {
            None => Attachment::attach(report.targets, options, page_size)?,
            Some(command) => match Attachment::start(command, options, page_size)? {
                Some(attachment) => attachment,
                None => return Ok(None),
            },
        };
        print_probes(attachment.probes());
        let rows = attachment.kernel().rows();
        say(format_args!(
            "unwind tables: {} for {} files, shared by all processes",
            status::size(rows.bytes() as u64),
            rows.files()
        ));
        let beside = match &options.with_kernel {
            Some(kernel) => Some(Beside::attach(attachment.kernel(), kernel)?),
            None => None,
        };
        say(format_args!(
            "page size {page_size}; {}",
            match beside {
                Some(_) => "what these processes allocate in the kernel is recorded, too",
                None => "kernel allocations are not recorded",
            }
        ));

        let mut header = trace_header::base(options, report.kernel_release, page_size);
        (header.targets, header.probes) = recorded(&attachment);
        let mut cut = LeafCut::default();
        if let Some(beside) = beside {
            header.probes.extend(beside.probes);
            header.kernel = Some(beside.recording);
            cut = beside.cut;
        }
        let clock = header.clock;
        let writer = Parts::create(path, header, options.force, options.rotation)?;

        let stops = attachment.stops();
        let pipeline = Pipeline::start(
            Source {
                ring: attachment.kernel().take_ring()?,
                ring_bytes: u64::from(options.ring_bytes),
                page_size,
                paused: (options.on_overflow == OnOverflow::Pause).then(|| Arc::clone(&stops)),
                buffers: attachment.kernel().map_buffers()?,
                waiting_chunks: WAITING_CHUNKS,
            },
            Sink {
                writer,
                live: match options.live {
                    true => Some(Live::start(clock).context("cannot start the printer's thread")?),
                    false => None,
                },
                commands: attachment.commands(),
                cut,
            },
        )?;
        Ok(Some(Session {
            attachment,
            pipeline,
            on_overflow: options.on_overflow,
            stops,
            ended: Vec::new(),
            told_ended: HashSet::new(),
        }))
    }

    /// Opens the recording for all probes at once.
    pub fn open(&mut self) -> anyhow::Result<()> {
        for process in self.attachment.processes() {
            let Process { target, space, .. } = process;
            self.note(Description::Process {
                pid: target.pid,
                ppid: target.ppid,
                space: *space,
                command: target.command.join(" "),
            });
            for module in self.attachment.mapped(*space) {
                self.note(Description::Module(module.clone()));
            }
        }
        self.sample_rss();
        // The encoder takes notes and events as they come: this one must be in before the first
        // event is made.
        self.note(Description::Open);
        // What interrupts took from probes in the kernel before is no loss of this recording.
        self.pipeline
            .begin_ledger(self.attachment.kernel().counters()?);
        for module in self.attachment.open()? {
            self.note(Description::Module(module));
        }
        Ok(())
    }

    /// Readable when [`Session::work`] is waited for by a thread of the target.
    pub fn attention(&self) -> BorrowedFd<'_> {
        self.attachment.openings()
    }

    /// Does what has come up: libraries that were opened, findings of the encoder, names, losses.
    /// Never waits.
    pub fn work(&mut self) -> anyhow::Result<()> {
        for module in self.attachment.opened()? {
            self.note(Description::Module(module));
        }
        while let Some(finding) = self.pipeline.finding() {
            match finding {
                Finding::NewFrames { space, frames } => {
                    for frame in frames {
                        self.pipeline.ask(self.attachment.request(space, frame));
                    }
                }
                Finding::UnknownMapping { space, address } => {
                    for module in self.attachment.find_mapping(space, address)? {
                        self.note(Description::Module(module));
                    }
                }
                Finding::Exit { pid, space } => {
                    let seen = self.ended.len();
                    self.ended.retain(|note| !is_end_of(note, pid));
                    if self.ended.len() == seen {
                        self.told_ended.insert(pid);
                    }
                    self.attachment.exited(pid, space);
                }
            }
        }
        self.pipeline.tell_names();
        for loss in self.attachment.keep_probing() {
            self.note(loss);
        }
        if self.pipeline.is_window_over() {
            self.pipeline.account(self.attachment.kernel().counters()?);
            for module in self.attachment.look_at_held()? {
                self.note(Description::Module(module));
            }
        }
        Ok(())
    }

    /// A held command goes on.
    pub fn release(&self, pid: i32) {
        self.stops.release(pid as u32);
    }

    /// Processes that are followed since the last call.
    pub fn newcomers(&mut self) -> Vec<i32> {
        self.attachment.newcomers()
    }

    /// Whether a process lives that is recorded, or will be.
    pub fn has_living(&self) -> bool {
        self.attachment.has_living()
    }

    /// Whether events were lost and the recording is to end for that.
    pub fn must_abort(&mut self) -> anyhow::Result<bool> {
        if self.on_overflow != OnOverflow::Abort {
            return Ok(false);
        }
        // Interrupts take an event from probes in the kernel now and then: no ring prevents that.
        let counters = Counters {
            lost_alloc_interrupted: 0,
            lost_release_interrupted: 0,
            ..self.attachment.kernel().counters()?
        };
        Ok(Ledger::counts_losses(&counters))
    }

    /// Whether the trace can no longer be written; `close` says why.
    pub fn has_failed(&self) -> bool {
        self.pipeline.has_failed()
    }

    /// Puts the resident memory of every process into the trace.
    pub fn sample_rss(&self) {
        for process in self.attachment.processes() {
            resident(&process.target)
                .into_iter()
                .for_each(|what| self.note(what));
        }
    }

    /// Puts the end of a process into the trace, behind what it did. Returns it in words.
    pub fn ended(&mut self, pid: i32) -> String {
        let exit = self.attachment.kernel().exit_of(pid);
        if self.told_ended.remove(&pid) {
            return ending::words(exit);
        }
        self.ended.push(Note {
            ts: clocks::monotonic_ns(),
            what: Description::Exit {
                pid,
                status: exit.map(|exit| exit.status as i32),
                out_of_memory: exit.is_some_and(|exit| exit.out_of_memory != 0),
            },
        });
        ending::words(exit)
    }

    /// Events of programs that are in the trace, or on their way to it.
    pub fn program_events(&self) -> u64 {
        self.pipeline.program_events()
    }

    /// The processes that are recorded.
    pub fn pids(&self) -> Vec<i32> {
        let pids = self.attachment.processes().iter();
        pids.map(Process::pid).collect()
    }

    /// What the status line shows.
    pub fn progress(&self, elapsed: Duration) -> status::Progress {
        self.pipeline.progress(elapsed)
    }

    /// Closes the recording for all probes at once, empties the ring, names what is left, and
    /// closes the trace.
    pub fn close(self, reason: &str) -> anyhow::Result<Closed> {
        let Session {
            mut attachment,
            pipeline,
            ended,
            mut told_ended,
            stops,
            on_overflow,
        } = self;
        attachment.kernel().set_recording(Recording::Closed)?;
        let closed_ns = clocks::monotonic_ns();
        for process in attachment.processes() {
            let resident = resident(&process.target);
            resident.into_iter().for_each(|what| pipeline.note(what));
        }
        // A probe that saw the recording open may still be sending.
        std::thread::sleep(Duration::from_millis(2));
        // Nobody is held from here on, and nobody will let go who is.
        stops.release_all();
        let mut rest = pipeline.drain(closed_ns);
        // If the encoder has failed, nobody has emptied the ring and let the target go on.
        stops.release_all();
        rest.account(attachment.kernel().counters()?);
        while let Some(finding) = rest.finding() {
            match finding {
                Finding::NewFrames { space, frames } => {
                    for frame in frames {
                        rest.ask(attachment.request(space, frame));
                    }
                }
                Finding::Exit { pid, .. } => {
                    told_ended.insert(pid);
                }
                Finding::UnknownMapping { .. } => {}
            }
        }
        for note in ended {
            if !told_ended.iter().any(|pid| is_end_of(&note, *pid)) {
                rest.note(note);
            }
        }
        let (written, lost) = rest.finish(reason)?;
        Ok(Closed {
            written,
            lost,
            pauses: match on_overflow {
                OnOverflow::Pause => stops.pauses(),
                OnOverflow::Drop | OnOverflow::Abort => 0,
            },
            attachment,
        })
    }

    fn note(&self, what: Description) {
        self.pipeline.note(what);
    }
}

fn is_end_of(note: &Note, process: i32) -> bool {
    matches!(note.what, Description::Exit { pid, .. } if pid == process)
}

/// The target's resident memory now; nothing if it has ended.
fn resident(target: &Target) -> Vec<Description> {
    let pid = target.pid;
    rss::read(living_thread(pid).unwrap_or(pid))
        .into_iter()
        .flatten()
        .map(|(kind, bytes)| Description::Rss { pid, kind, bytes })
        .collect()
}

/// What is recorded, as the header has it.
fn recorded(attachment: &Attachment) -> (Vec<header::Target>, Vec<header::Probe>) {
    let probe = |probe: &attachment::Probe| header::Probe {
        pid: probe.pid.unwrap_or(0),
        object: probe.point.object.clone(),
        function: probe.point.symbol.clone(),
        file_offset: probe.point.file_offset,
        displacement: probe.point.displacement,
        returns: probe.point.shape.leave_program().is_some(),
    };
    let target = |process: &Process| header::Target {
        pid: process.target.pid,
        ppid: process.target.ppid,
        command: process.target.command.clone(),
        executable: process.target.executable.clone(),
    };
    (
        attachment.processes().iter().map(target).collect(),
        attachment.probes().iter().map(probe).collect(),
    )
}
