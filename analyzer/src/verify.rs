//! `memleak-analyze verify`: whether a trace is what it says, check by check.
//!
//! One pass over the rows, with the memory of a replay. [`rules`] holds what the rows must obey,
//! [`balance`] what their sums must, [`sequence`] what parts must that are given
//! together, [`outcome`] how the result is told.

mod balance;
mod outcome;
mod rules;
mod sequence;

use std::path::{Path, PathBuf};

use memleak_trace::reader::Condition;
use memleak_trace::{Description, TraceReader};

use crate::progress::Progress;
use crate::recording::Recording;
use crate::replay::Replay;

pub use outcome::{Check, Outcome, write_json, write_text};

/// Checks traces, and whether parts of one recording among them follow each other. An error means that
/// nothing of a trace could be read.
pub fn verify_all(paths: &[PathBuf]) -> anyhow::Result<Vec<Outcome>> {
    let outcomes = paths.iter().map(|path| verify(path));
    let mut outcomes = outcomes.collect::<anyhow::Result<Vec<Outcome>>>()?;
    sequence::check(&mut outcomes);
    Ok(outcomes)
}

/// Checks a trace. An error means that nothing of it could be read.
pub fn verify(path: &Path) -> anyhow::Result<Outcome> {
    let mut reader = TraceReader::open(path)?;
    let mut progress = Progress::new("verifying", reader.rows());
    let header = reader.header();
    let continues = header.part.as_ref().is_some_and(|part| part.number > 1);
    let mut rules = rules::Rules::new(header.machine.page_size, continues);
    let mut counted = balance::Counted::default();
    let mut replay = Replay::default();
    let mut recording = Recording::default();
    while let Some(mut batch) = reader.next_batch()? {
        progress.advance(batch.len() as u64);
        rules.batch(&batch);
        counted.batch(&batch);
        let mut from = 0;
        for (row, note) in std::mem::take(&mut batch.notes) {
            replay.batch(&batch, from..row);
            from = row;
            if let Description::Fork { space, .. } = note.what {
                replay.fork_space(space);
            }
            if let Some(space) = recording.note(note, None) {
                replay.end_space(space);
            }
        }
        replay.batch(&batch, from..batch.len());
    }
    progress.finish();
    let mut checks = vec![file_check(reader.condition())];
    checks.extend(counted.checks(reader.totals(), reader.condition().verified));
    checks.extend(rules.checks());
    checks.extend(balance::domains(&replay));
    checks.push(balance::anomalies(&replay, &recording));
    Ok(Outcome {
        path: path.to_owned(),
        part: reader.header().part.clone(),
        checks,
    })
}

/// Checksums, links, footer, and whether the recording was closed: the reader has judged them.
fn file_check(condition: &Condition) -> Check {
    let sound = condition.complete && condition.verified;
    let detail = match sound {
        true => format!(
            "every byte is covered by a checksum that holds ({} bytes), and the recording was closed",
            condition.file_bytes
        ),
        false => condition.remarks.join(" "),
    };
    Check::new("file", sound, detail)
}
