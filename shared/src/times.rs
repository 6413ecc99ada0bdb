//! When a recording opened and closed, without decoding it.
//!
//! The sums in the last trailer tell when the last event was, and the first and last row groups when the
//! recording opened and closed. That is true of a trace which will be read whole, so every checksum is looked at
//! first, which takes a small part of the time of decoding. Of any other trace nothing is told.

use std::path::Path;

use crate::describe::{Description, Note};
use crate::error::TraceError;
use crate::reader::TraceReader;

/// Row groups at the end in which the recording may have closed: names are told behind it.
const LAST_GROUPS: usize = 3;

/// Times of a trace: nanoseconds of its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// When the probes were on.
    pub opened: i64,
    /// When recording closed; `None` if the trace does not say.
    pub closed: Option<i64>,
    /// The largest time of an event.
    pub last_ts: Option<i64>,
}

/// The times of a trace; `None` if only reading it to its end can tell them: it is damaged, was never closed, has
/// no checksums, or does not say when it opened.
pub fn times(path: &Path) -> Result<Option<Times>, TraceError> {
    let mut reader = TraceReader::open(path)?;
    let condition = reader.condition();
    let whole = condition.complete && condition.verified;
    let (true, Some(totals)) = (whole, reader.totals()) else {
        return Ok(None);
    };
    let last_ts = totals.last_ts;
    let groups = reader.groups().to_vec();
    if !groups.iter().all(|group| reader.is_intact(group)) {
        return Ok(None);
    }
    let Some(first) = groups.first() else {
        return Ok(None);
    };
    reader.turn_to(first.clone());
    let Some(opened) = opening(&mut reader)? else {
        return Ok(None);
    };
    for group in groups.into_iter().rev().take(LAST_GROUPS) {
        reader.turn_to(group);
        if let Some(closed) = closing(&mut reader)? {
            return Ok(Some(Times {
                opened,
                closed,
                last_ts,
            }));
        }
    }
    Ok(None)
}

/// When recording opened, if it did in these rows.
fn opening(reader: &mut TraceReader) -> Result<Option<i64>, TraceError> {
    while let Some(batch) = reader.next_batch()? {
        let mut notes = batch.notes.iter().map(|(_, note)| note);
        if let Some(note) = notes.find(|note| matches!(note.what, Description::Open)) {
            return Ok(Some(note.ts));
        }
    }
    Ok(None)
}

/// Whether recording was closed behind these rows, and when; `None` if they say nothing about that.
fn closing(reader: &mut TraceReader) -> Result<Option<Option<i64>>, TraceError> {
    let mut closed = None;
    while let Some(batch) = reader.next_batch()? {
        for (_, Note { ts, what }) in &batch.notes {
            match what {
                Description::Open => closed = Some(None),
                Description::Close { .. } => closed = Some(Some(*ts)),
                _ => {}
            }
        }
    }
    Ok(closed)
}
