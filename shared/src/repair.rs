//! Rewrites a damaged or unclosed trace as a whole one.

use std::path::Path;

use crate::batch::Batch;
use crate::error::TraceError;
use crate::event::Event;
use crate::reader::{Condition, TraceReader};
use crate::stack::Stack;
use crate::writer::{TraceWriter, WriterOptions};

/// Writes the readable rows of `from` to the new trace `to`, which must not exist.
///
/// Returns the condition of `from` after reading; its remarks say what could not be saved.
///
/// # Errors
/// Those of opening `from` and of writing `to`. `from` is never changed.
pub fn repair(from: &Path, to: &Path) -> Result<Condition, TraceError> {
    let mut reader = TraceReader::open(from)?;
    let mut writer = TraceWriter::create(to, reader.header(), &WriterOptions { overwrite: false })?;
    copy(&mut reader, &mut writer, |_| ())?;
    writer.finish()?;
    Ok(reader.condition().clone())
}

/// Appends the readable rows that are left in `reader`; `seen` gets each batch before it is written.
///
/// # Errors
/// Those of reading and of writing.
pub fn copy(
    reader: &mut TraceReader,
    writer: &mut TraceWriter,
    mut seen: impl FnMut(&Batch),
) -> Result<(), TraceError> {
    while let Some(batch) = reader.next_batch()? {
        seen(&batch);
        let mut stacks = batch.stacks.iter().peekable();
        let mut notes = batch.notes.iter().peekable();
        for row in 0..batch.len() {
            if let Some((_, note)) = notes.next_if(|(at, _)| *at == row) {
                writer.note(note)?;
            } else if let Some(event) = batch.event(row) {
                let stack = stacks.next_if(|stack| tells(&event, stack));
                writer.event(&event, stack)?;
            }
        }
        writer.checkpoint_if_due()?;
    }
    Ok(())
}

/// Stacks stand in the order of their rows: the next one belongs to the first event that uses it.
fn tells(event: &Event, stack: &Stack) -> bool {
    event.stack == Some(stack.id)
}
