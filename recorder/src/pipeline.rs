//! What lies between ring and file, whoever fills the ring: drain, encoder, names, and the ledger of
//! losses.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::Context;
use aya::maps::{MapData, RingBuf};
use crossbeam_channel::Receiver;
use memleak_trace::{Description, Note};

use crate::drain::{Drain, Relief};
use crate::encode::{Encoder, Finding, Progress, Sink, Written};
use crate::kernel_mode::buffers::Buffers;
use crate::kernel_mode::merge::Merge;
use crate::layout::Counters;
use crate::ledger::Ledger;
use crate::overflow::OnOverflow;
use crate::ring_fill::RingFill;
use crate::stops::Stops;
use crate::symbolize::{Request, Symbolizer};
use crate::{clocks, status};

/// Losses are told in windows of this length.
const LEDGER_WINDOW_NS: i64 = 500_000_000;

/// The ring, and what becomes of it when it is full.
pub struct Source {
    pub ring: RingBuf<MapData>,
    pub ring_bytes: u64,
    pub page_size: u64,
    /// Those who are stopped while the ring is nearly full; `None`: nobody is.
    pub paused: Option<Arc<Stops>>,
    /// What probes in the kernel fill; `None`: there are none.
    pub buffers: Option<Buffers>,
    /// Chunks of 256 KiB that wait between ring and encoder at most: it is the ring that waits for a
    /// slow disk.
    pub waiting_chunks: usize,
}

/// The threads between ring and file.
pub struct Pipeline {
    ring_fill: RingFill,
    /// Of the kernel's buffers.
    buffered: Arc<AtomicU64>,
    /// Of ring and buffers.
    ring_bytes: u64,
    drain: Drain,
    encoder: Encoder,
    findings: Receiver<Finding>,
    progress: Arc<Progress>,
    symbolizer: Symbolizer,
    ledger: Ledger,
}

impl Pipeline {
    /// Starts to write what the ring brings.
    pub fn start(source: Source, sink: Sink) -> anyhow::Result<Pipeline> {
        let Source {
            ring,
            ring_bytes,
            page_size,
            ..
        } = source;
        let map_fill = || {
            RingFill::map(ring.as_fd(), page_size as usize)
                .context("cannot map the ring's positions")
        };
        let ring_fill = map_fill()?;
        let relief = match source.paused {
            Some(stops) => Some(Relief {
                stops,
                fill: map_fill()?,
                below: OnOverflow::continue_below(ring_bytes),
            }),
            None => None,
        };
        let (chunks, encoded) = crossbeam_channel::bounded(source.waiting_chunks);
        let (found, findings) = crossbeam_channel::unbounded();
        let progress = Arc::new(Progress::default());
        let encoder = Encoder::start(sink, encoded, found, Arc::clone(&progress))
            .context("cannot start the encoder's thread")?;
        let buffered = source.buffers.as_ref().map(Buffers::waiting);
        let buffer_bytes = source.buffers.as_ref().map_or(0, Buffers::bytes);
        let merge = match source.buffers {
            Some(buffers) => Some(Merge::new(buffers, map_fill()?)),
            None => None,
        };
        let drain =
            Drain::start(ring, chunks, relief, merge).context("cannot start the drain's thread")?;
        let symbolizer = Symbolizer::start().context("cannot start the symbolizer's thread")?;
        Ok(Pipeline {
            ring_fill,
            buffered: buffered.unwrap_or_default(),
            ring_bytes: ring_bytes + buffer_bytes,
            drain,
            encoder,
            findings,
            progress,
            symbolizer,
            ledger: Ledger::new(clocks::monotonic_ns()),
        })
    }

    /// Adds a description of now to the trace.
    pub fn note(&self, what: Description) {
        self.encoder.note(Note {
            ts: clocks::monotonic_ns(),
            what,
        });
    }

    /// What the encoder found and nobody has taken yet; never waits.
    pub fn finding(&self) -> Option<Finding> {
        self.findings.try_recv().ok()
    }

    /// Asks for a frame's name.
    pub fn ask(&mut self, request: Request) {
        self.symbolizer.ask(request);
    }

    /// Puts the names that are known by now into the trace; never waits.
    pub fn tell_names(&mut self) {
        for symbol in self.symbolizer.ready() {
            self.note(Description::Symbol(symbol));
        }
    }

    /// What was counted before is none of this recording.
    pub fn begin_ledger(&mut self, counters: Counters) {
        self.ledger.start(counters);
    }

    /// Whether [`Pipeline::account`] is due.
    pub fn is_window_over(&self) -> bool {
        clocks::monotonic_ns() - self.ledger.last_ns() >= LEDGER_WINDOW_NS
    }

    /// Puts what was lost since the last call into the trace.
    pub fn account(&mut self, counters: Counters) {
        for loss in self.ledger.update(counters, clocks::monotonic_ns()) {
            self.encoder.note(loss);
        }
    }

    /// Whether the trace can no longer be written; [`Rest::finish`] says why.
    pub fn has_failed(&self) -> bool {
        self.encoder.has_failed()
    }

    /// Events that are in the trace, or on their way to it.
    pub fn events(&self) -> u64 {
        self.progress.events.load(Relaxed)
    }

    /// Those of them that programs made, not the kernel.
    pub fn program_events(&self) -> u64 {
        self.progress.program_events.load(Relaxed)
    }

    /// What the status line shows.
    pub fn progress(&self, elapsed: Duration) -> status::Progress {
        status::Progress {
            elapsed,
            events: self.events(),
            lost: self.ledger.lost(),
            ring_used: self.ring_fill.waiting() + self.buffered.load(Relaxed),
            ring_bytes: self.ring_bytes,
            file_bytes: self.progress.bytes.load(Relaxed),
        }
    }

    /// Empties the ring for the last time; the probes record nothing any more since `closed_ns`
    /// (`CLOCK_MONOTONIC`).
    pub fn drain(self, closed_ns: i64) -> Rest {
        self.drain.finish();
        Rest {
            encoder: self.encoder,
            findings: self.findings,
            symbolizer: self.symbolizer,
            ledger: self.ledger,
            closed_ns,
        }
    }
}

/// A recording whose last record is taken: what is left is to name and to write it.
pub struct Rest {
    encoder: Encoder,
    findings: Receiver<Finding>,
    symbolizer: Symbolizer,
    ledger: Ledger,
    closed_ns: i64,
}

impl Rest {
    /// Puts what was lost last into the trace.
    pub fn account(&mut self, counters: Counters) {
        for loss in self.ledger.update(counters, self.closed_ns) {
            self.encoder.note(loss);
        }
    }

    /// The encoder's next finding; waits for it. `None` when it has seen the last record.
    pub fn finding(&self) -> Option<Finding> {
        self.findings.recv().ok()
    }

    /// Asks for a frame's name.
    pub fn ask(&mut self, request: Request) {
        self.symbolizer.ask(request);
    }

    /// Adds a description to the trace.
    pub fn note(&self, note: Note) {
        self.encoder.note(note);
    }

    /// Names what is left and closes the trace. Returns what was written, and how many events were
    /// lost.
    pub fn finish(self, reason: &str) -> anyhow::Result<(Written, u64)> {
        let Rest {
            encoder,
            symbolizer,
            ledger,
            closed_ns: ts,
            ..
        } = self;
        for symbol in symbolizer.close() {
            let what = Description::Symbol(symbol);
            encoder.note(Note { ts, what });
        }
        let reason = reason.to_owned();
        let what = Description::Close { reason };
        encoder.note(Note { ts, what });
        Ok((encoder.finish()?, ledger.lost()))
    }
}
