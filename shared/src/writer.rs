//! Writes a trace so that it survives whatever kills the recorder.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::describe::Note;
use crate::detail::Detail;
use crate::error::TraceError;
use crate::event::Event;
use crate::footer::{self, FooterBudget, Groups, HEADER_KEY, PARQUET_MAGIC, TOTALS_KEY};
use crate::header::Header;
use crate::merge::{Run, SMALL_ROWS};
use crate::row_group::{EncodedGroup, PAGE_ROWS, RowGroupEncoder, moved};
use crate::rows::Rows;
use crate::selection::Weights;
use crate::stack::Stack;
use crate::totals::Totals;
use crate::trace_file::TraceFile;
use crate::trailer::{self, Summary, Tail};

/// Rows of a full row group.
const GROUP_ROWS: usize = 1 << 20;
/// At most so long a row waits in memory.
const INTERVAL: Duration = Duration::from_millis(500);

/// How a trace is written.
#[derive(Clone, Debug)]
pub struct WriterOptions {
    /// Replace an existing file.
    pub overwrite: bool,
}

/// What follows a trailer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// A footer if it is affordable.
    Open,
    /// Nothing.
    Bare,
    /// The last footer.
    Closed,
}

/// A row group in the file. Its metadata is in its trailer, and read from there for a footer: all of it
/// in memory would grow by megabytes an hour.
#[derive(Clone, Copy, Debug)]
struct PlacedGroup {
    rows: u64,
    /// Where its metadata lies.
    offset: u64,
    length: u32,
}

/// A row group that is about to be written: its metadata, as its trailer will have it.
#[derive(Clone, Copy, Debug)]
struct NewGroup<'a> {
    rows: u64,
    thrift: &'a [u8],
}

/// Rows go in, a file that is readable at any moment comes out.
#[derive(Debug)]
pub struct TraceWriter {
    file: TraceFile,
    header_json: String,
    encoder: RowGroupEncoder,
    rows: Rows,
    /// Of sampled blocks.
    weights: Option<Weights>,
    run: Run,
    totals: Totals,
    /// The totals of the rows that are in the file.
    told: Totals,
    groups: Vec<PlacedGroup>,
    /// End and checksum of the last trailer.
    previous: (u64, u32),
    interval: Duration,
    begun: Instant,
    last_checkpoint: Instant,
    budget: FooterBudget,
    /// Why nothing more can be written.
    failed: Option<String>,
}

impl TraceWriter {
    /// Creates the file and writes the header. Fails if the file exists, unless told to overwrite.
    pub fn create(
        path: &Path,
        header: &Header,
        options: &WriterOptions,
    ) -> Result<Self, TraceError> {
        let now = Instant::now();
        let mut writer = TraceWriter {
            encoder: RowGroupEncoder::new()?,
            header_json: serde_json::to_string(header)?,
            file: TraceFile::create(path, options.overwrite)?,
            rows: Rows::default(),
            weights: header.selection.sampling.map(Weights::new),
            run: Run::default(),
            totals: Totals::default(),
            told: Totals::default(),
            groups: Vec::new(),
            previous: (0, 0),
            interval: INTERVAL,
            begun: now,
            last_checkpoint: now,
            budget: FooterBudget::new(),
            failed: None,
        };
        let (magic, tail) = (PARQUET_MAGIC.to_vec(), Tail::default());
        let (first, footer) = writer.with_trailer(magic, tail, None, Some(header), End::Open)?;
        writer.append(&first, footer)?;
        writer.run = Run::new(writer.previous, 0);
        Ok(writer)
    }

    /// Sets how long a row may wait in memory before a checkpoint is due; half a second otherwise.
    pub fn with_interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Appends an event. `stack` is given with the first event that uses it.
    pub fn event(&mut self, event: &Event, stack: Option<&Stack>) -> Result<(), TraceError> {
        self.rows.push_event(event, stack);
        if let Some(weight) = self.weights.as_ref().and_then(|weights| weights.of(event)) {
            self.rows.push_weight(weight);
        }
        self.totals.add_event(event, stack.is_some());
        self.encode_if_due()
    }

    /// Appends an allocation in the kernel, with what it tells beside its size.
    pub fn detailed_event(
        &mut self,
        event: &Event,
        stack: Option<&Stack>,
        detail: Detail,
    ) -> Result<(), TraceError> {
        self.rows.push_detailed(event, stack, detail);
        self.totals.add_event(event, stack.is_some());
        self.encode_if_due()
    }

    /// Appends a description.
    pub fn note(&mut self, note: &Note) -> Result<(), TraceError> {
        self.rows.push_note(note);
        self.totals.add_note(note);
        self.encode_if_due()
    }

    /// Makes what was written so far durable and readable, if half a second has passed or
    /// the row group is full. Cheap otherwise: call it after every chunk of events.
    pub fn checkpoint_if_due(&mut self) -> Result<(), TraceError> {
        if self.last_checkpoint.elapsed() < self.interval {
            return Ok(());
        }
        self.checkpoint()
    }

    /// Makes what was written so far durable and readable. Writes nothing if there are no new rows.
    pub fn checkpoint(&mut self) -> Result<(), TraceError> {
        self.refuse_after_failure()?;
        self.last_checkpoint = Instant::now();
        match self.encoder.rows() + self.rows.len() {
            0 => Ok(()),
            1..=SMALL_ROWS => {
                self.encoder.write(&self.rows)?;
                self.write_group()?;
                self.run.add(&mut self.rows);
                if self.run.is_full() {
                    self.merge()
                } else {
                    Ok(())
                }
            }
            _ => {
                self.encode_rows()?;
                self.merge()?;
                self.write_group()?;
                self.run = Run::new(self.previous, self.groups.len());
                Ok(())
            }
        }
    }

    /// Sums over the rows so far.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Bytes in the file so far.
    pub fn bytes(&self) -> u64 {
        self.file.length()
    }

    /// Closes the trace properly. Returns the bytes of the file.
    pub fn finish(mut self) -> Result<u64, TraceError> {
        self.checkpoint()?;
        self.merge()?;
        let (last, footer) =
            self.with_trailer(Vec::new(), Tail::default(), None, None, End::Closed)?;
        self.append(&last, footer)?;
        Ok(self.file.length())
    }

    fn encode_if_due(&mut self) -> Result<(), TraceError> {
        if self.rows.len() < PAGE_ROWS {
            return Ok(());
        }
        self.encode_rows()?;
        if self.encoder.rows() >= GROUP_ROWS {
            self.checkpoint()
        } else {
            Ok(())
        }
    }

    fn encode_rows(&mut self) -> Result<(), TraceError> {
        if self.rows.len() > 0 {
            self.encoder.write(&self.rows)?;
            self.rows.clear();
        }
        Ok(())
    }

    /// Writes the row group that was encoded, with its trailer.
    fn write_group(&mut self) -> Result<(), TraceError> {
        let group = self.encoder.finish()?;
        self.told = self.totals.clone();
        let (piece, footer) = self.place(group, self.file.end(), End::Open)?;
        self.append(&piece, footer)
    }

    /// Replaces the small row groups at the end by one.
    fn merge(&mut self) -> Result<(), TraceError> {
        let run = std::mem::take(&mut self.run);
        if run.groups > 1 {
            // Not the writer's own encoder: the next row group may be in it.
            let mut encoder = RowGroupEncoder::new()?;
            encoder.write(&run.rows)?;
            let group = encoder.finish()?;
            let room = self.file.end() - run.before.0;
            self.append_merged(&run, &group)?;
            self.move_merged(&run, group, room)?;
        }
        self.run = Run::new(self.previous, self.groups.len());
        Ok(())
    }

    /// Step one: the merged group behind the small ones. From here on they are not needed.
    fn append_merged(&mut self, run: &Run, group: &EncodedGroup) -> Result<(), TraceError> {
        self.groups.truncate(run.first_group);
        self.previous = run.before;
        let copy = EncodedGroup {
            bytes: group.bytes.clone(),
            metadata: group.metadata.clone(),
        };
        let (piece, _) = self.place(copy, self.file.end(), End::Bare)?;
        let written = self.file.append_superseding(&piece, group.bytes.len());
        self.settle(written, &piece)
    }

    /// Step two: the merged group in place of the small ones, if it has `room` bytes there.
    fn move_merged(&mut self, run: &Run, group: EncodedGroup, room: u64) -> Result<(), TraceError> {
        let before = (self.previous, self.groups.pop());
        self.previous = run.before;
        let (piece, footer) = self.place(group, run.before.0, End::Open)?;
        if piece.len() as u64 > room {
            self.previous = before.0;
            self.groups.pop();
            self.groups.extend(before.1);
            return Ok(());
        }
        let written = self.file.replace(run.before.0, &piece, footer);
        self.settle(written, &piece)
    }

    /// The row group as it is to lie at `offset`, with its trailer; and the footer behind it.
    fn place(
        &mut self,
        group: EncodedGroup,
        offset: u64,
        end: End,
    ) -> Result<(Vec<u8>, Vec<u8>), TraceError> {
        let metadata = moved(&group.metadata, offset)?;
        let thrift = footer::encode_group(self.encoder.descriptor(), &metadata)?;
        let tail = Tail {
            data_offset: offset,
            data_length: group.bytes.len() as u64,
            data_crc: crc32fast::hash(&group.bytes),
            ..Tail::default()
        };
        let rows = metadata.num_rows() as u64;
        let new = NewGroup {
            rows,
            thrift: &thrift,
        };
        let (piece, footer) = self.with_trailer(group.bytes, tail, Some(new), None, end)?;
        let length = thrift.len() as u64;
        self.groups.push(PlacedGroup {
            rows,
            offset: offset + (piece.len() - trailer::TAIL_BYTES) as u64 - length,
            length: length as u32,
        });
        Ok((piece, footer))
    }

    /// `piece` with a trailer after it, and the footer if that is affordable.
    fn with_trailer(
        &mut self,
        mut piece: Vec<u8>,
        tail: Tail,
        new: Option<NewGroup>,
        header: Option<&Header>,
        end: End,
    ) -> Result<(Vec<u8>, Vec<u8>), TraceError> {
        let footer = self.footer(end, new, piece.len() as u64)?;
        let tail = Tail {
            previous_end: self.previous.0,
            previous_crc: self.previous.1,
            footer_length: footer.len() as u64,
            footer_crc: crc32fast::hash(&footer),
            ..tail
        };
        let summary = Summary {
            header: header.cloned(),
            totals: self.told.clone(),
            closed: end == End::Closed,
        };
        let thrift = new.map_or(&[][..], |new| new.thrift);
        piece.extend_from_slice(&trailer::encode(tail, &summary, thrift)?);
        Ok((piece, footer))
    }

    fn append(&mut self, piece: &[u8], footer: Vec<u8>) -> Result<(), TraceError> {
        self.budget.spend(footer.len() as u64, self.groups.len());
        let written = self.file.append(piece, footer);
        self.settle(written, piece)
    }

    /// Remembers the trailer at the end of `piece`, or why nothing can be written any more.
    fn settle(&mut self, written: Result<(), TraceError>, piece: &[u8]) -> Result<(), TraceError> {
        match &written {
            Ok(()) => self.previous = (self.file.end(), trailer::tail_crc(piece)),
            Err(error) => self.failed = Some(error.to_string()),
        }
        written
    }

    /// The footer for all row groups; empty if it would cost too much now.
    fn footer(
        &self,
        end: End,
        new: Option<NewGroup>,
        new_bytes: u64,
    ) -> Result<Vec<u8>, TraceError> {
        let count = self.groups.len() + usize::from(new.is_some());
        let file_bytes = self.file.end() + new_bytes;
        let seconds = self.begun.elapsed().as_secs();
        let affordable = match end {
            End::Open => self.budget.allows(count, file_bytes, seconds),
            End::Bare => false,
            End::Closed => true,
        };
        if !affordable {
            return Ok(Vec::new());
        }
        let closed = end == End::Closed;
        let summary = Summary {
            header: None,
            totals: self.told.clone(),
            closed,
        };
        let totals = serde_json::to_string(&summary)?;
        let key_values = [
            (HEADER_KEY, self.header_json.as_str()),
            (TOTALS_KEY, &totals),
        ];
        let mut groups = Groups::default();
        for placed in &self.groups {
            let thrift = self.file.read(placed.offset, placed.length)?;
            groups.add(placed.rows, &thrift)?;
        }
        if let Some(new) = new {
            groups.add(new.rows, new.thrift)?;
        }
        Ok(footer::encode(
            self.encoder.descriptor(),
            &groups,
            &key_values,
        )?)
    }

    fn refuse_after_failure(&self) -> Result<(), TraceError> {
        match &self.failed {
            None => Ok(()),
            Some(reason) => Err(TraceError::Io {
                path: self.file.path().to_owned(),
                doing: "write",
                source: std::io::Error::other(format!("an earlier write failed ({reason})")),
            }),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
