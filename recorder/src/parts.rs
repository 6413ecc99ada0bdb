//! The file or files of a recording: one trace, or parts that can each be read alone.
//!
//! A part is cut between two events. The one that ends is closed when the names of its last frames
//! have come; the one that begins tells processes and mappings again, and stacks and names where it
//! first uses them.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use memleak_trace::describe::CONTINUED;
use memleak_trace::header::Part;
use memleak_trace::writer::WriterOptions;
use memleak_trace::{Description, Detail, Event, Header, Note, Stack, TraceWriter};

use crate::encode::EncodeError;
use crate::past::{self, Past};
use crate::rotation::{Rotation, part_path};
use crate::{clocks, output};

/// A part is not cut for so long after it should be, if a file that its stacks use is not described
/// yet.
const PATIENCE: Duration = Duration::from_secs(2);

/// Rows go in, the file or files of a recording come out.
#[derive(Debug)]
pub struct Parts {
    writer: TraceWriter,
    /// Bytes of the parts that are closed.
    closed_bytes: u64,
    rotating: Option<Rotating>,
}

/// What is known of a recording that is cut into parts.
#[derive(Debug)]
struct Rotating {
    rotation: Rotation,
    /// The name that the parts' names are made of.
    path: PathBuf,
    header: Header,
    overwrite: bool,
    number: u32,
    began: Instant,
    past: Past,
    ending: Option<Ending>,
}

/// A part that has all of its events; names of its frames are still to come.
#[derive(Debug)]
struct Ending {
    writer: TraceWriter,
    unnamed: std::collections::HashSet<memleak_trace::FrameId>,
    /// When the next part began: nanoseconds of `CLOCK_MONOTONIC`.
    seam_ns: i64,
}

impl Ending {
    /// Bytes of the part.
    fn close(mut self) -> Result<u64, EncodeError> {
        let reason = CONTINUED.to_owned();
        self.writer.note(&Note {
            ts: self.seam_ns,
            what: Description::Close { reason },
        })?;
        Ok(self.writer.finish()?)
    }
}

impl Parts {
    /// Creates the trace at `path`, or its first part beside it.
    pub fn create(
        path: &Path,
        mut header: Header,
        overwrite: bool,
        rotation: Option<Rotation>,
    ) -> anyhow::Result<Parts> {
        let mut rotating = None;
        let mut file = path.to_owned();
        if let Some(rotation) = rotation {
            file = part_path(path, 1);
            let recording = unique()?;
            header.part = Some(Part {
                recording,
                number: 1,
            });
            rotating = Some(Rotating {
                rotation,
                path: path.to_owned(),
                header: header.clone(),
                overwrite,
                number: 1,
                began: Instant::now(),
                past: Past::default(),
                ending: None,
            });
        }
        Ok(Parts {
            writer: create(&file, &header, overwrite)?,
            closed_bytes: 0,
            rotating,
        })
    }

    /// Whether stacks must be told in each part.
    pub fn rotates(&self) -> bool {
        self.rotating.is_some()
    }

    /// Appends an event. `stack` is given with the first event of the part that uses it, `detail` with
    /// allocations in the kernel.
    pub fn event(
        &mut self,
        event: &Event,
        stack: Option<&Stack>,
        detail: Option<Detail>,
    ) -> Result<(), EncodeError> {
        if let (Some(rotating), Some(stack)) = (&mut self.rotating, stack) {
            for name in past::at(event.ts, rotating.past.stack(stack)) {
                self.writer.note(&name)?;
            }
        }
        match detail {
            Some(detail) => self.writer.detailed_event(event, stack, detail)?,
            None => self.writer.event(event, stack)?,
        }
        Ok(())
    }

    /// Appends a description.
    pub fn note(&mut self, note: &Note) -> Result<(), EncodeError> {
        if let Some(rotating) = &mut self.rotating {
            if let Description::Symbol(symbol) = &note.what
                && let Some(ending) = &mut rotating.ending
                && ending.unnamed.remove(&symbol.frame)
            {
                ending.writer.note(note)?;
            }
            if !rotating.past.note(&note.what) {
                return Ok(());
            }
        }
        Ok(self.writer.note(note)?)
    }

    /// Makes what was written so far durable and readable, if that is due.
    pub fn checkpoint_if_due(&mut self) -> Result<(), EncodeError> {
        self.writer.checkpoint_if_due()?;
        let Some(rotating) = &mut self.rotating else {
            return Ok(());
        };
        let named = |ending: &mut Ending| ending.unnamed.is_empty();
        if let Some(ending) = rotating.ending.take_if(named) {
            self.closed_bytes += ending.close()?;
        } else if let Some(ending) = &mut rotating.ending {
            ending.writer.checkpoint_if_due()?;
        }
        Ok(())
    }

    /// Begins another part if that is due; returns whether one was begun. `idle`: every event made
    /// so far has been written.
    pub fn cut_if_due(&mut self, idle: bool) -> Result<bool, EncodeError> {
        let Some(rotating) = &mut self.rotating else {
            return Ok(false);
        };
        let age = rotating.began.elapsed();
        let Rotation { bytes, time } = rotating.rotation;
        let late = Rotation {
            bytes: bytes.map(|bytes| bytes.saturating_mul(2)),
            time: time.map(|time| time + PATIENCE),
        };
        let bytes = self.writer.bytes();
        let waits = rotating.past.awaits_files() && !late.is_due(bytes, age);
        if !rotating.rotation.is_due(bytes, age) || waits {
            return Ok(false);
        }
        self.cut(idle)?;
        Ok(true)
    }

    fn cut(&mut self, idle: bool) -> Result<(), EncodeError> {
        let Some(rotating) = &mut self.rotating else {
            return Ok(());
        };
        // Where events wait to be written, the part that begins is as old as they are.
        let seam_ns = match self.writer.totals().last_ts {
            Some(last_ts) if !idle => last_ts,
            _ => clocks::monotonic_ns(),
        };
        // All events of the part are safe before anything else can fail.
        self.writer.checkpoint()?;
        let number = rotating.number + 1;
        if let Some(part) = &mut rotating.header.part {
            part.number = number;
        }
        let path = part_path(&rotating.path, number);
        let mut next = create(&path, &rotating.header, rotating.overwrite)
            .map_err(|source| EncodeError::Part { number, source })?;
        rotating.number = number;
        rotating.began = Instant::now();
        let unnamed = rotating.past.unnamed();
        for note in past::at(seam_ns, rotating.past.next_part()) {
            next.note(&note)?;
        }
        next.note(&Note {
            ts: seam_ns,
            what: Description::Open,
        })?;
        let ending = Ending {
            writer: std::mem::replace(&mut self.writer, next),
            unnamed,
            seam_ns,
        };
        if let Some(earlier) = rotating.ending.replace(ending) {
            self.closed_bytes += earlier.close()?;
        }
        Ok(())
    }

    /// Bytes in the files so far.
    pub fn bytes(&self) -> u64 {
        let rotating = self.rotating.as_ref();
        let ending = rotating.and_then(|rotating| rotating.ending.as_ref());
        self.closed_bytes + ending.map_or(0, |ending| ending.writer.bytes()) + self.writer.bytes()
    }

    /// Parts begun; 1 for a recording that is not cut.
    pub fn count(&self) -> u32 {
        self.rotating.as_ref().map_or(1, |rotating| rotating.number)
    }

    /// Closes the recording properly. Returns the bytes of all files.
    pub fn finish(mut self) -> Result<u64, EncodeError> {
        let ending = self
            .rotating
            .as_mut()
            .and_then(|rotating| rotating.ending.take());
        if let Some(ending) = ending {
            self.closed_bytes += ending.close()?;
        }
        Ok(self.closed_bytes + self.writer.finish()?)
    }
}

/// A new trace that belongs to the user who called sudo.
fn create(path: &Path, header: &Header, overwrite: bool) -> anyhow::Result<TraceWriter> {
    let writer = TraceWriter::create(path, header, &WriterOptions { overwrite })?;
    output::give_to_caller(path)?;
    Ok(writer)
}

/// A text that no other recording has.
fn unique() -> std::io::Result<String> {
    let uuid = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    Ok(uuid.trim().to_owned())
}
