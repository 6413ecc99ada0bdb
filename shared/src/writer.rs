//! Writes a trace so that it survives whatever kills the recorder.

use std::path::Path;
use std::time::{Duration, Instant};

use parquet::file::metadata::RowGroupMetaData;

use crate::describe::Note;
use crate::error::TraceError;
use crate::event::Event;
use crate::footer::{self, FooterBudget, HEADER_KEY, PARQUET_MAGIC, TOTALS_KEY};
use crate::header::Header;
use crate::row_group::{RowGroupEncoder, moved};
use crate::rows::Rows;
use crate::stack::Stack;
use crate::totals::Totals;
use crate::trace_file::TraceFile;
use crate::trailer::{self, Summary, Tail};

/// Rows handed to the encoder at a time.
const CHUNK_ROWS: usize = 1 << 16;
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

/// Rows go in, a file that is readable at any moment comes out.
#[derive(Debug)]
pub struct TraceWriter {
    file: TraceFile,
    header_json: String,
    encoder: RowGroupEncoder,
    rows: Rows,
    totals: Totals,
    groups: Vec<RowGroupMetaData>,
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
            totals: Totals::default(),
            groups: Vec::new(),
            previous: (0, 0),
            interval: INTERVAL,
            begun: now,
            last_checkpoint: now,
            budget: FooterBudget::new(),
            failed: None,
        };
        writer.append(
            PARQUET_MAGIC.to_vec(),
            Tail::default(),
            Some(header),
            &[],
            false,
        )?;
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
        self.encode_rows()?;
        if self.encoder.rows() > 0 {
            self.write_group(false)
        } else {
            Ok(())
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
        self.refuse_after_failure()?;
        self.encode_rows()?;
        self.write_group(true)?;
        Ok(self.file.length())
    }

    fn encode_if_due(&mut self) -> Result<(), TraceError> {
        if self.rows.len() < CHUNK_ROWS {
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
            let batch = self.rows.take(self.encoder.schema())?;
            self.encoder.write(&batch)?;
        }
        Ok(())
    }

    /// Writes the row group (if it has rows) with its trailer.
    fn write_group(&mut self, closed: bool) -> Result<(), TraceError> {
        if self.encoder.rows() == 0 {
            return self.append(Vec::new(), Tail::default(), None, &[], closed);
        }
        let group = self.encoder.finish()?;
        let metadata = moved(&group.metadata, self.file.end())?;
        let thrift = footer::encode_group(self.encoder.descriptor(), &metadata)?;
        let tail = Tail {
            data_offset: self.file.end(),
            data_length: group.bytes.len() as u64,
            data_crc: crc32fast::hash(&group.bytes),
            ..Tail::default()
        };
        self.groups.push(metadata);
        self.append(group.bytes, tail, None, &thrift, closed)
    }

    /// Writes `piece`, a trailer after it, and a footer if that is affordable.
    fn append(
        &mut self,
        mut piece: Vec<u8>,
        tail: Tail,
        header: Option<&Header>,
        thrift: &[u8],
        closed: bool,
    ) -> Result<(), TraceError> {
        let footer = self.footer(closed, piece.len() as u64)?;
        let tail = Tail {
            previous_end: self.previous.0,
            previous_crc: self.previous.1,
            footer_length: footer.len() as u64,
            footer_crc: crc32fast::hash(&footer),
            ..tail
        };
        let summary = Summary {
            header: header.cloned(),
            totals: self.totals.clone(),
            closed,
        };
        let trailer = trailer::encode(tail, &summary, thrift)?;
        piece.extend_from_slice(&trailer.bytes);
        self.budget.spend(footer.len() as u64, self.groups.len());
        let written = self.file.append(&piece, footer);
        if let Err(error) = written {
            self.failed = Some(error.to_string());
            return Err(error);
        }
        self.previous = (self.file.end(), trailer.tail_crc);
        Ok(())
    }

    /// The footer for all row groups; empty if it would cost too much now.
    fn footer(&mut self, closed: bool, new_bytes: u64) -> Result<Vec<u8>, TraceError> {
        let file_bytes = self.file.end() + new_bytes;
        let seconds = self.begun.elapsed().as_secs();
        if !closed && !self.budget.allows(self.groups.len(), file_bytes, seconds) {
            return Ok(Vec::new());
        }
        let summary = Summary {
            header: None,
            totals: self.totals.clone(),
            closed,
        };
        let totals = serde_json::to_string(&summary)?;
        let key_values = [
            (HEADER_KEY, self.header_json.as_str()),
            (TOTALS_KEY, &totals),
        ];
        Ok(footer::encode(
            self.encoder.descriptor(),
            self.groups.clone(),
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
