//! Drives the replay over one recording, up to the moment asked about.

use memleak_trace::describe::CONTINUED;
use memleak_trace::reader::Condition;
use memleak_trace::{Batch, Description, Header, SpaceId};

use crate::progress::Progress;
use crate::recording::Recording;
use crate::replay::{Observer, Replay};
use crate::series::{Series, TracePart};
use crate::source::Source;
use crate::span::Span;

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
    "the moment lies {asked} after the start, but the recording lasted {duration}; choose an earlier moment"
)]
pub struct MomentAfterEnd {
    asked: String,
    duration: String,
}

impl MomentAfterEnd {
    /// Both in nanoseconds.
    pub fn new(asked: i64, duration: i64) -> MomentAfterEnd {
        let in_words = |ns: i64| crate::units::show_duration(ns.unsigned_abs());
        MomentAfterEnd {
            asked: in_words(asked),
            duration: in_words(duration),
        }
    }
}

/// A recording, replayed.
#[derive(Debug)]
pub struct Analysis {
    /// Its files, in order.
    pub files: Vec<TracePart>,
    pub header: Header,
    pub condition: Condition,
    pub recording: Recording,
    pub replay: Replay,
    /// The moment of the report: nanoseconds of the trace's clock.
    pub at: i64,
}

/// Reads a recording and replays it up to `moment`.
pub fn analyze(series: &Series, moment: Moment) -> anyhow::Result<Analysis> {
    let (analysis, ()) = analyze_observed(series, moment, (), false)?;
    Ok(analysis)
}

/// As [`analyze`]; `observer` hears of every birth and death. `by_thread`: each thread that allocates
/// has sites of its own.
pub fn analyze_observed<O: Observer>(
    series: &Series,
    moment: Moment,
    observer: O,
    by_thread: bool,
) -> anyhow::Result<(Analysis, O)> {
    let after = match moment {
        Moment::End => None,
        Moment::After(after) => Some(after),
        Moment::Share(_) => {
            let span = Span::of(series)?;
            Some(span.at(moment)? - span.start)
        }
    };
    let cut = Cut {
        after,
        reached: false,
    };
    let mut source = Source::open(series)?;
    let mut progress = Progress::new("analyzing", source.rows());
    let mut driver = Driver {
        recording: Recording::default(),
        replay: Replay::observed_by(observer, by_thread),
        cut,
    };
    let sampling = source.header().selection.sampling;
    driver.replay.set_sampling(sampling);
    driver.replay.keep_books_apart();
    while let Some(batch) = source.next_batch() {
        let batch = batch?;
        progress.advance(batch.len() as u64);
        source.recycle(driver.batch(batch));
    }
    progress.finish();
    let header = source.header().clone();
    let condition = source.finish()?;
    driver.finish(series, header, condition)
}

/// What a recording says about itself, without its replay.
#[derive(Debug)]
pub struct Survey {
    /// Its files, in order.
    pub files: Vec<TracePart>,
    pub header: Header,
    pub condition: Condition,
    /// Without resident memory.
    pub recording: Recording,
}

/// Reads a recording without replaying it: when it starts and ends, its stacks and their names. That is
/// known only at its end, so what must know before the first event is replayed costs this pass more.
pub fn survey(series: &Series) -> anyhow::Result<Survey> {
    let mut source = Source::open(series)?;
    let mut progress = Progress::new("reading names and times", source.rows());
    let mut recording = Recording::default();
    while let Some(batch) = source.next_batch() {
        let mut batch = batch?;
        progress.advance(batch.len() as u64);
        for stack in std::mem::take(&mut batch.stacks) {
            recording.stack(stack);
        }
        let mut from = 0;
        for (row, note) in std::mem::take(&mut batch.notes) {
            recording.events(&batch.ts[from..row]);
            from = row + 1;
            recording.note(note, Some(i64::MIN));
        }
        recording.events(&batch.ts[from..]);
        source.recycle(batch);
    }
    progress.finish();
    let header = source.header().clone();
    let mut condition = source.finish()?;
    note_unclosed(&recording, &mut condition);
    series.span.get_or_init(|| Span::read(&recording));
    Ok(Survey {
        files: series.files().cloned().collect(),
        header,
        condition,
        recording,
    })
}

/// Whether the recording ends early: a repaired trace is a whole file, and so is a part of several.
fn note_unclosed(recording: &Recording, condition: &mut Condition) {
    if condition.complete && recording.closed.is_none() {
        condition.complete = false;
        condition.remarks.push(
            "the recording was never closed: it ends with the last event that was kept".to_owned(),
        );
    }
    let closed = recording.closed.as_ref();
    if closed.is_some_and(|(_, reason)| reason == CONTINUED) {
        condition.complete = false;
        condition.remarks.push(
            "The recording goes on in a later part, which is not given: this is the state at the end of the last one given."
                .to_owned(),
        );
    }
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
#[derive(Debug)]
struct Driver<O> {
    recording: Recording,
    replay: Replay<O>,
    cut: Cut,
}

impl<O: Observer> Driver<O> {
    /// The batch again, without what was taken out of it.
    fn batch(&mut self, mut batch: Batch) -> Batch {
        for stack in std::mem::take(&mut batch.stacks) {
            self.recording.stack(stack);
        }
        let mut from = 0;
        for (row, note) in std::mem::take(&mut batch.notes) {
            self.events(&batch, from..row);
            from = row + 1;
            if let Description::Fork { space, .. } = note.what {
                self.replay.fork_space(space);
            }
            let ended = self.recording.note(note, self.until());
            self.end_space(ended);
        }
        self.events(&batch, from..batch.len());
        batch
    }

    /// The moment of the cut: nanoseconds of the trace's clock.
    fn until(&self) -> Option<i64> {
        self.cut
            .after
            .map(|after| self.recording.start().saturating_add(after))
    }

    /// Rows between descriptions.
    fn events(&mut self, batch: &Batch, rows: std::ops::Range<usize>) {
        self.recording.events(&batch.ts[rows.clone()]);
        if self.cut.reached {
            return;
        }
        let mut end = rows.end;
        if let Some(until) = self.until() {
            let late = |row: &usize| batch.ts[*row] > until;
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

    fn finish(
        mut self,
        series: &Series,
        header: Header,
        mut condition: Condition,
    ) -> anyhow::Result<(Analysis, O)> {
        note_unclosed(&self.recording, &mut condition);
        let (start, end) = (self.recording.start(), self.recording.end());
        let at = self.until().unwrap_or(end);
        if at > end {
            return Err(MomentAfterEnd::new(at - start, end - start).into());
        }
        self.replay.finish(at);
        let Driver {
            recording, replay, ..
        } = self;
        let (replay, observer) = replay.into_parts();
        let analysis = Analysis {
            files: series.files().cloned().collect(),
            header,
            condition,
            recording,
            replay,
            at,
        };
        Ok((analysis, observer))
    }
}
