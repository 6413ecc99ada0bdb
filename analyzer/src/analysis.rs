//! Drives the replay over one trace, up to the moment asked about.

use std::path::Path;

use memleak_trace::reader::Condition;
use memleak_trace::{Batch, Description, Header, SpaceId};

use crate::progress::Progress;
use crate::recording::Recording;
use crate::replay::Replay;
use crate::source::Source;

/// The moment a report is about.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Moment {
    #[default]
    End,
    /// Nanoseconds after the recording's start.
    After(i64),
    /// A share of the recording's duration, 0 to 1.
    Share(f64),
}

/// The moment lies outside of the recording.
#[derive(Debug, thiserror::Error)]
#[error(
    "--at lies {asked} after the start, but the recording lasted {duration}; choose an earlier moment"
)]
pub struct MomentAfterEnd {
    asked: String,
    duration: String,
}

/// A trace, replayed.
#[derive(Debug)]
pub struct Analysis {
    pub header: Header,
    pub condition: Condition,
    pub recording: Recording,
    pub replay: Replay,
    /// The moment of the report: nanoseconds of the trace's clock.
    pub at: i64,
}

/// Reads a trace and replays it up to `moment`.
pub fn analyze(path: &Path, moment: Moment) -> anyhow::Result<Analysis> {
    let cut = match moment {
        Moment::End => Cut::default(),
        Moment::After(after) => Cut {
            after: Some(after),
            ..Cut::default()
        },
        // How long the recording is, only its end tells: this form costs a pass of decoding more.
        Moment::Share(share) => {
            let duration = duration_of(path)?;
            Cut {
                after: Some((duration as f64 * share) as i64),
                ..Cut::default()
            }
        }
    };
    let mut source = Source::open(path)?;
    let mut progress = Progress::new("analyzing", source.rows());
    let mut driver = Driver {
        cut,
        ..Driver::default()
    };
    let sampling = source.header().selection.sampling;
    driver.replay.set_sampling(sampling);
    while let Some(batch) = source.next_batch() {
        let batch = batch?;
        progress.advance(batch.len() as u64);
        driver.batch(batch);
    }
    progress.finish();
    let header = source.header().clone();
    let condition = source.finish()?;
    driver.finish(header, condition)
}

/// Nanoseconds from start to end of a recording.
fn duration_of(path: &Path) -> anyhow::Result<i64> {
    let mut source = Source::open(path)?;
    let mut progress = Progress::new("looking for the end", source.rows());
    let mut recording = Recording::default();
    while let Some(batch) = source.next_batch() {
        let batch = batch?;
        progress.advance(batch.len() as u64);
        count_events(&mut recording, &batch, 0..batch.len());
        for (_, note) in batch.notes {
            recording.note(note, Some(i64::MIN));
        }
    }
    progress.finish();
    source.finish()?;
    Ok(recording.end() - recording.start())
}

/// Where the replay stops: at the first event, in file order, whose timestamp lies more than
/// `after` nanoseconds behind the start. File order is causal, so the state is one that memory
/// really had; events of other threads that were written later with a slightly smaller timestamp
/// (some microseconds) are left out.
#[derive(Clone, Copy, Debug, Default)]
struct Cut {
    after: Option<i64>,
    reached: bool,
}

/// Takes batches in file order. Descriptions are read to the end whatever the moment, because names
/// and losses are told late.
#[derive(Debug, Default)]
struct Driver {
    recording: Recording,
    replay: Replay,
    cut: Cut,
}

impl Driver {
    fn batch(&mut self, mut batch: Batch) {
        for stack in std::mem::take(&mut batch.stacks) {
            self.recording.stack(stack);
        }
        let mut from = 0;
        for (row, note) in std::mem::take(&mut batch.notes) {
            self.events(&batch, from..row);
            from = row;
            if let Description::Fork { space, .. } = note.what {
                self.replay.fork_space(space);
            }
            let ended = self.recording.note(note, self.until());
            self.end_space(ended);
        }
        self.events(&batch, from..batch.len());
    }

    /// The moment of the cut: nanoseconds of the trace's clock.
    fn until(&self) -> Option<i64> {
        self.cut
            .after
            .map(|after| self.recording.start().saturating_add(after))
    }

    fn events(&mut self, batch: &Batch, rows: std::ops::Range<usize>) {
        count_events(&mut self.recording, batch, rows.clone());
        if self.cut.reached {
            return;
        }
        let mut end = rows.end;
        if let Some(until) = self.until() {
            let late = |row: &usize| batch.ts[*row] > until && batch.ops[*row].is_event();
            if let Some(row) = rows.clone().find(late) {
                end = row;
                self.cut.reached = true;
            }
        }
        self.replay.batch(batch, rows.start..end);
    }

    fn end_space(&mut self, ended: Option<SpaceId>) {
        if let (Some(space), false) = (ended, self.cut.reached) {
            self.replay.end_space(space);
        }
    }

    fn finish(mut self, header: Header, mut condition: Condition) -> anyhow::Result<Analysis> {
        // A repaired trace is a whole file, but its recording still ends early.
        if condition.complete && self.recording.closed.is_none() {
            condition.complete = false;
            condition.remarks.push(
                "the recording was never closed: it ends with the last event that was kept"
                    .to_owned(),
            );
        }
        let (start, end) = (self.recording.start(), self.recording.end());
        let at = self.until().unwrap_or(end);
        if at > end {
            let in_words = |ns: i64| crate::units::show_duration(ns.unsigned_abs());
            let (asked, duration) = (in_words(at - start), in_words(end - start));
            return Err(MomentAfterEnd { asked, duration }.into());
        }
        self.replay.finish(at);
        let Driver {
            recording, replay, ..
        } = self;
        Ok(Analysis {
            header,
            condition,
            recording,
            replay,
            at,
        })
    }
}

fn count_events(recording: &mut Recording, batch: &Batch, rows: std::ops::Range<usize>) {
    for row in rows {
        if batch.ops[row].is_event() {
            recording.event(batch.ts[row]);
        }
    }
}
