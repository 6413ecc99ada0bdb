//! Decodes records and writes them into the trace, on a thread of its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, select};
use memleak_trace::{Description, Event, FrameId, Note, SpaceId, Stack, StackEnd, TraceError};

use crate::commands::Commands;
use crate::drain::Chunk;
use crate::interner::Interner;
use crate::kernel_mode::leaf_cut::LeafCut;
use crate::kernel_mode::names::Names;
use crate::kernel_mode::wire::RawDetail;
use crate::live::Live;
use crate::parts::Parts;
use crate::preflight::target;
use crate::wire::{RawEvent, RawExec, RawExit, RawFork, Record, WireError, decode};

/// What the encoder finds in the records and cannot settle itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Frames that no stack had before, and where one has them.
    NewFrames {
        space: SpaceId,
        frames: Vec<FrameId>,
    },
    /// A walk stopped at an address in no known mapping: a library was opened.
    UnknownMapping { space: SpaceId, address: u64 },
    /// A process has ended; all that it did is in the trace.
    Exit { pid: i32, space: SpaceId },
}

/// Why encoding stopped.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    #[error(transparent)]
    Trace(#[from] TraceError),
    #[error("the probes sent what this program does not understand: {0}")]
    Wire(#[from] WireError),
    #[error(
        "cannot begin part {number} of the recording: {source:#}; the parts before it are whole"
    )]
    Part { number: u32, source: anyhow::Error },
    #[error("the encoder died; the trace ends with its last checkpoint")]
    Died,
}

/// What was written in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    pub events: u64,
    pub stacks: u64,
    pub bytes: u64,
    pub parts: u32,
}

/// The running totals of the encoder, for the status line.
#[derive(Debug, Default)]
pub struct Progress {
    pub events: std::sync::atomic::AtomicU64,
    /// Those of programs, not of the kernel.
    pub program_events: std::sync::atomic::AtomicU64,
    pub bytes: std::sync::atomic::AtomicU64,
}

/// Where events go, and what helps to describe them.
pub struct Sink {
    pub writer: Parts,
    /// Prints a line per event, too.
    pub live: Option<Live>,
    /// Command lines of programs that begin while recording.
    pub commands: Arc<Commands>,
    /// Cuts kernel stacks.
    pub cut: LeafCut,
}

/// The encoding thread.
#[derive(Debug)]
pub struct Encoder {
    notes: Sender<Note>,
    thread: JoinHandle<Result<Written, EncodeError>>,
}

/// A checkpoint is looked for at least this often.
const IDLE: Duration = Duration::from_millis(100);

impl Encoder {
    /// Starts to encode what comes through `chunks` into `sink`; findings go to `findings`.
    pub fn start(
        sink: Sink,
        chunks: Receiver<Chunk>,
        findings: Sender<Finding>,
        progress: Arc<Progress>,
    ) -> std::io::Result<Encoder> {
        let Sink {
            writer,
            live,
            commands,
            cut,
        } = sink;
        let (notes, incoming) = crossbeam_channel::unbounded();
        let interner = match writer.rotates() {
            true => Interner::for_parts(),
            false => Interner::default(),
        };
        let state = State {
            writer,
            live,
            interner,
            findings,
            progress,
            commands,
            running: HashMap::new(),
            events: 0,
            program_events: 0,
            cut,
            names: Names::default(),
        };
        let thread = std::thread::Builder::new()
            .name("encode".to_owned())
            .spawn(move || state.run(&chunks, &incoming))?;
        Ok(Encoder { notes, thread })
    }

    /// Adds a description to the trace. If encoding has failed it is dropped; `finish` says why.
    pub fn note(&self, note: Note) {
        let _ = self.notes.send(note);
    }

    /// Whether the thread has ended by itself, that is with an error.
    pub fn has_failed(&self) -> bool {
        self.thread.is_finished()
    }

    /// Closes the trace when all chunks and notes are in it. The chunks must have ended.
    pub fn finish(self) -> Result<Written, EncodeError> {
        drop(self.notes);
        match self.thread.join() {
            Ok(result) => result,
            Err(_) => Err(EncodeError::Died),
        }
    }
}

struct State {
    writer: Parts,
    live: Option<Live>,
    interner: Interner,
    findings: Sender<Finding>,
    progress: Arc<Progress>,
    commands: Arc<Commands>,
    /// What each process runs.
    running: HashMap<i32, String>,
    events: u64,
    program_events: u64,
    /// Of kernel stacks.
    cut: LeafCut,
    names: Names,
}

impl State {
    /// Ends when both channels are closed and empty.
    fn run(
        mut self,
        chunks: &Receiver<Chunk>,
        notes: &Receiver<Note>,
    ) -> Result<Written, EncodeError> {
        let mut open = true;
        while open {
            select! {
                recv(chunks) -> chunk => match chunk {
                    Ok(chunk) => {
                        // What was noted before these events were made stands before them.
                        for note in notes.try_iter() {
                            self.note(&note)?;
                        }
                        self.chunk(&chunk)?;
                        self.cut_if_due(false)?;
                    }
                    Err(_) => open = false,
                },
                recv(notes) -> note => match note {
                    Ok(note) => self.note(&note)?,
                    Err(_) => open = false,
                },
                default(IDLE) => self.cut_if_due(true)?,
            }
            self.checkpoint()?;
        }
        // One channel is closed: take the rest of both. The order between them is free.
        for chunk in chunks {
            self.chunk(&chunk)?;
            self.checkpoint()?;
        }
        if let Some(live) = self.live.take() {
            live.finish();
        }
        // Nobody listens to findings when the chunks have ended.
        drop(self.findings);
        loop {
            match notes.recv_timeout(IDLE) {
                Ok(note) => self.writer.note(&note)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.writer.checkpoint_if_due()?;
        }
        let stacks = self.interner.used();
        let parts = self.writer.count();
        let bytes = self.writer.finish()?;
        Ok(Written {
            events: self.events,
            stacks,
            bytes,
            parts,
        })
    }

    /// Begins another part of the recording if that is due.
    fn cut_if_due(&mut self, idle: bool) -> Result<(), EncodeError> {
        if self.writer.cut_if_due(idle)? {
            self.interner.next_part();
        }
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<(), EncodeError> {
        use std::sync::atomic::Ordering::Relaxed;
        self.writer.checkpoint_if_due()?;
        self.progress.events.store(self.events, Relaxed);
        let program_events = &self.progress.program_events;
        program_events.store(self.program_events, Relaxed);
        self.progress.bytes.store(self.writer.bytes(), Relaxed);
        Ok(())
    }

    fn chunk(&mut self, chunk: &Chunk) -> Result<(), EncodeError> {
        for record in chunk.records() {
            match decode(record)? {
                Record::Event(event) => self.event(&event)?,
                Record::Exec(exec) => self.exec(&exec)?,
                Record::Fork(fork) => self.fork(&fork)?,
                Record::Exit(exit) => self.exit(&exit)?,
                Record::KernelAlloc(event, detail) => self.kernel_alloc(&event, &detail)?,
                Record::Cache(cache) => self.names.tell(cache),
                Record::Stack(mut stack) => {
                    if stack.space == 0 {
                        self.cut.cut(&mut stack.frames);
                    }
                    let space = SpaceId(stack.space as i32);
                    if stack.end == StackEnd::NoMapping {
                        let address = stack.stopped_at;
                        let _ = self
                            .findings
                            .send(Finding::UnknownMapping { space, address });
                    }
                    let frames = self.interner.tell(stack);
                    if !frames.is_empty() {
                        let _ = self.findings.send(Finding::NewFrames { space, frames });
                    }
                }
            }
        }
        if let Some(live) = &mut self.live {
            live.flush();
        }
        Ok(())
    }

    fn note(&mut self, note: &Note) -> Result<(), EncodeError> {
        if let Some(live) = &mut self.live {
            live.note(note);
        }
        if let Description::Process { pid, command, .. } = &note.what {
            self.running.insert(*pid, command.clone());
        }
        self.writer.note(note)
    }

    /// The process is another program from here on; it may be yet another one, or gone, by now.
    fn exec(&mut self, exec: &RawExec) -> Result<(), EncodeError> {
        let pid = exec.pid as i32;
        let space = SpaceId(exec.space as i32);
        let told = self.commands.take(space);
        let what = Description::Process {
            pid,
            ppid: exec.ppid as i32,
            space,
            command: told.unwrap_or_else(|| target::command(pid).join(" ")),
        };
        self.note(&Note {
            ts: exec.ts as i64,
            what,
        })
    }

    /// A child begins as a copy of its parent.
    fn fork(&mut self, fork: &RawFork) -> Result<(), EncodeError> {
        let (pid, ppid) = (fork.pid as i32, fork.ppid as i32);
        let space = SpaceId(fork.space as i32);
        let parent_space = SpaceId(fork.parent_space as i32);
        let ts = fork.ts as i64;
        self.commands.take(space);
        let command = self.running.get(&ppid).cloned();
        self.note(&Note {
            ts,
            what: Description::Fork {
                pid,
                ppid,
                space,
                parent_space,
            },
        })?;
        self.note(&Note {
            ts,
            what: Description::Process {
                pid,
                ppid,
                space,
                command: command.unwrap_or_else(|| target::command(pid).join(" ")),
            },
        })
    }

    fn exit(&mut self, exit: &RawExit) -> Result<(), EncodeError> {
        let (pid, space) = (exit.pid as i32, SpaceId(exit.space as i32));
        self.running.remove(&pid);
        self.note(&Note {
            ts: exit.ts as i64,
            what: Description::Exit {
                pid,
                status: Some(exit.status),
                out_of_memory: exit.out_of_memory,
            },
        })?;
        let _ = self.findings.send(Finding::Exit { pid, space });
        Ok(())
    }

    fn event(&mut self, raw: &RawEvent) -> Result<(), EncodeError> {
        let (event, definition) = self.interned(raw);
        self.writer.event(&event, definition.as_ref(), None)
    }

    fn kernel_alloc(&mut self, raw: &RawEvent, detail: &RawDetail) -> Result<(), EncodeError> {
        let (event, definition) = self.interned(raw);
        let detail = self.names.detail(detail);
        self.writer.event(&event, definition.as_ref(), Some(detail))
    }

    /// The event with its stack's number, and the stack on its first use.
    fn interned(&mut self, raw: &RawEvent) -> (Event, Option<Stack>) {
        let stack = raw.stack.and_then(|hash| self.interner.number(hash));
        let (id, definition) = match stack {
            Some((id, definition)) => (Some(id), definition),
            None => (None, None),
        };
        let event = Event {
            ts: raw.ts as i64,
            pid: raw.pid as i32,
            tid: raw.tid as i32,
            op: raw.op,
            space: SpaceId(raw.space as i32),
            addr: raw.addr,
            size: raw.size,
            stack: id,
        };
        self.events += 1;
        // 0 is the kernel's space.
        self.program_events += u64::from(raw.space != 0);
        if let Some(live) = &mut self.live {
            live.event(&event, definition.as_ref());
        }
        (event, definition)
    }
}
