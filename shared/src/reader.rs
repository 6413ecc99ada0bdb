//! Reads a trace, whole or damaged.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchReader};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder, RowSelection,
};

use crate::batch::Batch;
use crate::columns::{DESCRIPTION_COLUMNS, DETAIL_COLUMNS, EVENT_COLUMNS};
use crate::decode::{self, DecodeError, Decoded};
use crate::error::TraceError;
use crate::event_pages::{EventPages, Unusual};
use crate::group::{Group, GroupBytes};
use crate::guard::guarded;
use crate::header::{Header, VERSION};
use crate::open::open;
use crate::row_group::PAGE_ROWS;
use crate::totals::Totals;

/// Rows of a batch, at most: columns of this length stay in the processor's cache.
pub const BATCH_ROWS: usize = 1 << 14;

/// Descriptions are read for so many rows at a time: a page of ours, which would be decompressed for each batch in it.
const DESCRIBED_AHEAD: usize = PAGE_ROWS;

/// What is known of the file's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Closed properly and read whole.
    pub complete: bool,
    /// Every byte read is covered by a checksum.
    pub verified: bool,
    /// Why it is not complete or not verified, each a sentence for the user.
    pub remarks: Vec<String>,
    /// Bytes of the file that hold readable row groups, and its length.
    pub readable_bytes: u64,
    pub file_bytes: u64,
}

/// An open trace.
#[derive(Debug)]
pub struct TraceReader {
    path: PathBuf,
    file: File,
    header: Header,
    condition: Condition,
    totals: Option<Totals>,
    rows: u64,
    rows_read: u64,
    groups: std::vec::IntoIter<Group>,
    current: Option<OpenGroup>,
    /// Its memory is used again.
    spare: Batch,
}

/// A row group that is being read.
struct OpenGroup {
    source: GroupBytes,
    metadata: ArrowReaderMetadata,
    index: usize,
    events: Events,
    /// The columns of allocations in the kernel, read in step with `events` from the first one on.
    details: Option<ParquetRecordBatchReader>,
    /// Descriptions from the current position on, as far as they were read.
    descriptions: Option<Descriptions>,
    /// Rows decoded so far, and rows in all.
    position: usize,
    rows: usize,
}

/// The columns of events, as far as they are read.
enum Events {
    /// Laid out as we write them.
    Usual(Box<EventPages>),
    Any(ParquetRecordBatchReader),
}

/// The description columns of some rows of a row group.
struct Descriptions {
    /// Rows of the group, ascending.
    rows: Vec<usize>,
    columns: RecordBatch,
}

impl Descriptions {
    /// Takes off those of the first rows; `None` if these are not the first ones.
    fn take(&mut self, rows: &[usize]) -> Option<RecordBatch> {
        if !self.rows.starts_with(rows) || self.columns.num_rows() != self.rows.len() {
            return None;
        }
        self.rows.drain(..rows.len());
        let left = self.rows.len();
        let taken = self.columns.slice(0, rows.len());
        self.columns = self.columns.slice(rows.len(), left);
        Some(taken)
    }
}

impl std::fmt::Debug for OpenGroup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenGroup")
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

impl TraceReader {
    /// Opens a trace and finds its readable row groups.
    pub fn open(path: &Path) -> Result<Self, TraceError> {
        let opened = open(path)?;
        Ok(TraceReader {
            path: path.to_owned(),
            file: opened.file,
            header: opened.header,
            condition: opened.condition,
            totals: opened.totals,
            rows: opened.rows,
            rows_read: 0,
            groups: opened.groups.into_iter(),
            current: None,
            spare: Batch::default(),
        })
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The row groups that are left to read. [`TraceReader::turn_to`] chooses among them.
    pub(crate) fn groups(&self) -> &[Group] {
        self.groups.as_slice()
    }

    /// Whether the checksum of a row group is right.
    pub(crate) fn is_intact(&self, group: &Group) -> bool {
        let loaded = group.load(&self.file, self.condition.file_bytes);
        loaded.is_ok()
    }

    /// Goes on with this row group, which is the last one then.
    pub(crate) fn turn_to(&mut self, group: Group) {
        self.current = None;
        self.groups = vec![group].into_iter();
    }

    /// Known after opening; may get worse while reading (a checksum that fails ends the trace there).
    pub fn condition(&self) -> &Condition {
        &self.condition
    }

    /// Rows in the readable part, from the metadata (for progress).
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Sums over the rows as the writer counted them; `None` if another program rewrote the trace
    /// without them.
    pub fn totals(&self) -> Option<&Totals> {
        self.totals.as_ref()
    }

    /// The next rows, in file order; `None` at the end.
    pub fn next_batch(&mut self) -> Result<Option<Batch>, TraceError> {
        loop {
            if let Some(mut group) = self.current.take() {
                let spare = std::mem::take(&mut self.spare);
                match checked(|| group.next_batch(spare)) {
                    Ok(Some(batch)) => {
                        self.current = Some(group);
                        self.rows_read += batch.len() as u64;
                        return Ok(Some(batch));
                    }
                    Ok(None) => {}
                    Err(DecodeError::UnknownOp(op)) => {
                        return Err(TraceError::UnknownOp {
                            path: self.path.clone(),
                            op,
                            found: self.header.version,
                            supported: VERSION,
                        });
                    }
                    Err(DecodeError::Malformed(reason)) => self.end_here(&reason),
                }
                continue;
            }
            let Some(group) = self.groups.next() else {
                self.check_rows();
                return Ok(None);
            };
            match self.open_group(&group) {
                Ok(group) => self.current = Some(group),
                Err(reason) => self.end_here(&reason),
            }
        }
    }

    /// Takes a batch back that is not needed any more: its memory is used for one of the next.
    pub fn recycle(&mut self, batch: Batch) {
        self.spare = batch;
    }

    fn open_group(&self, group: &Group) -> Result<OpenGroup, String> {
        let loaded = group.load(&self.file, self.condition.file_bytes)?;
        checked(|| OpenGroup::new(loaded.source, loaded.metadata, loaded.index)).map_err(|error| {
            match error {
                DecodeError::UnknownOp(op) => format!("unknown operation {op:?}"),
                DecodeError::Malformed(reason) => reason,
            }
        })
    }

    /// The trace ends before what is damaged: rows behind it would lack their past.
    fn end_here(&mut self, reason: &str) {
        let missing = match self.rows.checked_sub(self.rows_read) {
            Some(missing) if missing > 0 => format!("; {missing} rows are missing"),
            _ => String::new(),
        };
        self.condition.remarks.push(format!(
            "The trace is damaged after row {}: {reason}{missing}.",
            self.rows_read
        ));
        self.condition.complete = false;
        self.groups = Vec::new().into_iter();
        self.rows = self.rows_read;
    }

    fn check_rows(&mut self) {
        if self.rows_read != self.rows {
            self.condition.complete = false;
            self.condition.remarks.push(format!(
                "The trace has {} rows, but its metadata tells of {}.",
                self.rows_read, self.rows
            ));
            self.rows = self.rows_read;
        }
    }
}

impl OpenGroup {
    fn new(
        source: GroupBytes,
        metadata: Arc<parquet::file::metadata::ParquetMetaData>,
        index: usize,
    ) -> Result<Self, DecodeError> {
        let metadata = with_op_names(metadata)?;
        let rows = metadata.metadata().row_group(index).num_rows();
        let rows = usize::try_from(rows).map_err(malformed)?;
        let events = match EventPages::open(&source, metadata.metadata().row_group(index)) {
            Ok(events) => Events::Usual(Box::new(events)),
            Err(Unusual) => Events::Any(
                columns(&source, &metadata, index, EVENT_COLUMNS)
                    .build()
                    .map_err(malformed)?,
            ),
        };
        Ok(OpenGroup {
            source,
            metadata,
            index,
            events,
            details: None,
            descriptions: None,
            position: 0,
            rows,
        })
    }

    fn next_batch(&mut self, spare: Batch) -> Result<Option<Batch>, DecodeError> {
        let Some(decoded) = self.next_events(spare)? else {
            return Ok(None);
        };
        let Decoded {
            mut batch,
            described,
            has_details,
        } = decoded;
        if !described.is_empty() {
            let descriptions = self.next_descriptions(&described)?;
            decode::notes(&mut batch, &described, &descriptions)?;
        }
        if self.details.is_some() || has_details {
            decode::details(&mut batch, &self.next_details()?)?;
        }
        self.position += batch.len();
        Ok(Some(batch))
    }

    /// The next rows, in the memory of `spare`.
    fn next_events(&mut self, spare: Batch) -> Result<Option<Decoded>, DecodeError> {
        if let Events::Usual(events) = &mut self.events {
            let rows = BATCH_ROWS.min(self.rows - self.position);
            if rows == 0 {
                return Ok(None);
            }
            match events.next_rows(rows, spare) {
                Ok(read) => return Ok(Some(read)),
                Err(Unusual) => {
                    let rest = self.position..self.rows;
                    let events = self.columns(EVENT_COLUMNS, std::iter::once(rest))?;
                    self.events = Events::Any(events);
                }
            }
        }
        let Events::Any(events) = &mut self.events else {
            return Ok(None);
        };
        let Some(columns) = events.next() else {
            return Ok(None);
        };
        decode::events(&columns.map_err(malformed)?).map(Some)
    }

    /// The columns of allocations in the kernel of the batch at the current position.
    fn next_details(&mut self) -> Result<RecordBatch, DecodeError> {
        if self.details.is_none() {
            let rest = self.position..self.rows;
            self.details = Some(self.columns(DETAIL_COLUMNS, std::iter::once(rest))?);
        }
        let missing = || DecodeError::Malformed("an allocation has no row".to_owned());
        let next = self.details.as_mut().and_then(Iterator::next);
        next.ok_or_else(missing)?.map_err(malformed)
    }

    /// The description columns of the given rows, counted from the current position: all that stand in the batch.
    fn next_descriptions(&mut self, described: &[usize]) -> Result<RecordBatch, DecodeError> {
        let rows: Vec<usize> = described.iter().map(|row| self.position + row).collect();
        if let Some(columns) = self.descriptions.as_mut().and_then(|read| read.take(&rows)) {
            return Ok(columns);
        }
        // What is damaged further on is nothing to those here.
        let mut ahead = checked(|| self.descriptions(self.described_ahead()?));
        match ahead.as_mut().ok().and_then(|read| read.take(&rows)) {
            Some(columns) => {
                self.descriptions = ahead.ok();
                Ok(columns)
            }
            None => Ok(self.descriptions(rows)?.columns),
        }
    }

    /// The rows of the group at which descriptions stand, from the current position on.
    fn described_ahead(&self) -> Result<Vec<usize>, DecodeError> {
        let end = (self.position + DESCRIBED_AHEAD).min(self.rows);
        let mut at = self.position;
        let mut rows = Vec::new();
        for columns in self.columns(&["op"], std::iter::once(at..end))? {
            let columns = columns.map_err(malformed)?;
            let described = decode::described(&columns)?;
            rows.extend(described.into_iter().map(|row| at + row));
            at += columns.num_rows();
        }
        Ok(rows)
    }

    /// The description columns of these rows of the group alone.
    fn descriptions(&self, rows: Vec<usize>) -> Result<Descriptions, DecodeError> {
        let ranges = rows.iter().map(|row| *row..row + 1);
        let reader = self.columns(DESCRIPTION_COLUMNS, ranges)?;
        let schema = reader.schema();
        let batches = reader.collect::<Result<Vec<_>, _>>().map_err(malformed)?;
        let columns = concat_batches(&schema, &batches).map_err(malformed)?;
        Ok(Descriptions { rows, columns })
    }

    /// Reads columns of some rows of the group.
    fn columns(
        &self,
        names: &[&str],
        ranges: impl Iterator<Item = Range<usize>>,
    ) -> Result<ParquetRecordBatchReader, DecodeError> {
        columns(&self.source, &self.metadata, self.index, names)
            .with_row_selection(RowSelection::from_consecutive_ranges(ranges, self.rows))
            .build()
            .map_err(malformed)
    }
}

/// What reads columns of a row group, batch by batch.
fn columns(
    source: &GroupBytes,
    metadata: &ArrowReaderMetadata,
    index: usize,
    names: &[&str],
) -> ParquetRecordBatchReaderBuilder<GroupBytes> {
    let leaves = ProjectionMask::columns(metadata.parquet_schema(), names.iter().copied());
    ParquetRecordBatchReaderBuilder::new_with_metadata(source.clone(), metadata.clone())
        .with_row_groups(vec![index])
        .with_projection(leaves)
        .with_batch_size(BATCH_ROWS)
}

fn malformed(error: impl std::fmt::Display) -> DecodeError {
    DecodeError::Malformed(error.to_string())
}

/// Columns of names that every event may have, and that few values fill.
const NAMES: [&str; 4] = ["op", "cache", "gfp", "comm"];

/// The schema in the file, but names as dictionaries: each is looked at once.
fn with_op_names(
    metadata: Arc<parquet::file::metadata::ParquetMetaData>,
) -> Result<ArrowReaderMetadata, DecodeError> {
    let plain = || ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let found = ArrowReaderMetadata::try_new(metadata.clone(), plain()).map_err(malformed)?;
    let names = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let fields = found.schema().fields().iter().map(|field| {
        if NAMES.contains(&field.name().as_str()) && field.data_type() == &DataType::Utf8 {
            Arc::new(Field::new(field.name(), names.clone(), field.is_nullable()))
        } else {
            field.clone()
        }
    });
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    ArrowReaderMetadata::try_new(metadata, plain().with_schema(schema)).map_err(malformed)
}

/// Runs a decoder of the Parquet library.
fn checked<T>(decode: impl FnOnce() -> Result<T, DecodeError>) -> Result<T, DecodeError> {
    guarded(|| Ok(decode())).map_err(DecodeError::Malformed)?
}

#[cfg(test)]
mod tests;
