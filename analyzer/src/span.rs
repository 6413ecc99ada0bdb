//! When a recording began and ended: what `--from`, `--to` and shares of it are about.

use memleak_trace::times::times;

use crate::analysis::{Moment, MomentAfterEnd, survey};
use crate::recording::Recording;
use crate::series::Series;

/// Start and end of a recording: nanoseconds of the trace's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub start: i64,
    pub end: i64,
}

impl Span {
    /// The span of a recording, found once. It is not decoded for that where it is whole; otherwise only
    /// reading it tells where it ends.
    pub fn of(series: &Series) -> anyhow::Result<Span> {
        if let Some(known) = series.span.get() {
            return Ok(*known);
        }
        let span = match Span::told(series)? {
            Some(span) => span,
            None => Span::read(&survey(series)?.recording),
        };
        Ok(*series.span.get_or_init(|| span))
    }

    /// The span of a recording that was read.
    pub fn read(recording: &Recording) -> Span {
        Span {
            start: recording.start(),
            end: recording.end(),
        }
    }

    /// What the files say without being decoded, as [`Recording`] would have it.
    fn told(series: &Series) -> anyhow::Result<Option<Span>> {
        let Some(first) = times(&series.first.path)? else {
            return Ok(None);
        };
        let mut last = first;
        for part in &series.further {
            let Some(next) = times(&part.path)? else {
                return Ok(None);
            };
            // Every part opens anew; its events may be none.
            last.closed = next.closed;
            last.last_ts = last.last_ts.max(next.last_ts);
        }
        let end = last.closed.or(last.last_ts).unwrap_or_default();
        Ok(Some(Span {
            start: first.opened,
            end: end.max(first.opened),
        }))
    }

    /// The timestamp of a moment; an error if it lies after the end.
    pub fn at(self, moment: Moment) -> Result<i64, MomentAfterEnd> {
        let length = self.end - self.start;
        match moment {
            Moment::End => Ok(self.end),
            Moment::After(after) if after > length => Err(MomentAfterEnd::new(after, length)),
            Moment::After(after) => Ok(self.start + after),
            Moment::Share(share) => Ok(self.start + (length as f64 * share) as i64),
        }
    }
}
