//! Reads the parts of a recording one after the other, as one trace.

use memleak_trace::reader::Condition;
use memleak_trace::{Batch, Description, Header, Note, TraceError, TraceReader};

use crate::series::{Series, TracePart};

/// The cause of loss where rows are missing between two parts.
const MISSING: &str = "part of the recording missing";

/// The rows of a recording, in order.
#[derive(Debug)]
pub struct PartsReader {
    header: Header,
    rows: u64,
    current: TraceReader,
    waiting: std::vec::IntoIter<TracePart>,
    /// The number of the part that is being read, if it is one.
    number: Option<u32>,
    /// Several files: remarks name theirs.
    several: bool,
    current_name: String,
    /// Of the parts that are read, and what was said of missing ones.
    condition: Condition,
    /// The largest time so far: nanoseconds of the trace's clock.
    last_ts: i64,
    /// Rows are missing between the last batch and the next.
    gap: bool,
    next: Option<Batch>,
}

impl PartsReader {
    /// Opens the first part.
    pub fn open(series: Series) -> Result<Self, TraceError> {
        let rows = series.files().map(|file| file.rows).sum();
        let Series { first, further, .. } = series;
        let current = TraceReader::open(&first.path)?;
        let mut reader = PartsReader {
            header: current.header().clone(),
            rows,
            current,
            number: first.number(),
            several: !further.is_empty(),
            current_name: first.path.display().to_string(),
            waiting: further.into_iter(),
            condition: Condition {
                complete: true,
                verified: true,
                remarks: Vec::new(),
                readable_bytes: 0,
                file_bytes: 0,
            },
            last_ts: i64::MIN,
            gap: false,
            next: None,
        };
        if let Some(before) = reader.number.and_then(|number| number.checked_sub(1))
            && before > 0
        {
            reader.incomplete(format!(
                "{} not given: what was allocated before is not counted, and its frees are frees of older blocks.",
                parts(1, before)
            ));
        }
        Ok(reader)
    }

    /// The first part's header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Rows of all parts, for progress.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The next rows; `None` at the end.
    pub fn next_batch(&mut self) -> Result<Option<Batch>, TraceError> {
        if let Some(batch) = self.next.take() {
            return Ok(Some(batch));
        }
        loop {
            if let Some(batch) = self.current.next_batch()? {
                return Ok(Some(self.behind_gap(batch)));
            }
            let Some(next) = self.waiting.next() else {
                return Ok(None);
            };
            self.go_on(&next)?;
        }
    }

    /// Takes a batch back that is not needed any more, see [`TraceReader::recycle`].
    pub fn recycle(&mut self, batch: Batch) {
        self.current.recycle(batch);
    }

    /// Known in full when everything is read.
    pub fn condition(&self) -> Condition {
        self.with_current()
    }

    /// Leaves a part for the next one.
    fn go_on(&mut self, next: &TracePart) -> Result<(), TraceError> {
        self.condition = self.with_current();
        // What is cut off of a part is missing before the next one.
        self.gap |= !self.current.condition().complete;
        self.current = TraceReader::open(&next.path)?;
        self.current_name = next.path.display().to_string();
        if let (Some(last), Some(number)) = (self.number, next.number())
            && number > last + 1
        {
            self.gap = true;
            self.incomplete(format!(
                "{} not given: what was freed meanwhile looks outstanding, and what was allocated is not counted.",
                parts(last + 1, number - 1)
            ));
        }
        self.number = next.number();
        Ok(())
    }

    /// A batch, with the loss before it if rows are missing there.
    fn behind_gap(&mut self, batch: Batch) -> Batch {
        if !self.several {
            return batch;
        }
        let before = self.last_ts;
        self.last_ts = batch.ts.iter().copied().fold(before, i64::max);
        let first = batch.ts.first().copied();
        let (true, Some(ts)) = (std::mem::take(&mut self.gap), first) else {
            return batch;
        };
        let mut loss = Batch::default();
        loss.push_note(Note {
            ts,
            what: Description::Loss {
                cause: MISSING.to_owned(),
                count: 0,
                window_ns: u64::try_from(ts.saturating_sub(before)).unwrap_or(0),
            },
        });
        self.next = Some(batch);
        loss
    }

    fn incomplete(&mut self, remark: String) {
        self.condition.complete = false;
        self.condition.remarks.push(remark);
    }

    /// The condition of what is read, the present part included.
    fn with_current(&self) -> Condition {
        let (all, current) = (&self.condition, self.current.condition());
        let named = |remark: &String| match self.several {
            true => format!("{}: {remark}", self.current_name),
            false => remark.clone(),
        };
        let remarks = all.remarks.iter().cloned();
        Condition {
            complete: all.complete && current.complete,
            verified: all.verified && current.verified,
            remarks: remarks.chain(current.remarks.iter().map(named)).collect(),
            readable_bytes: all.readable_bytes + current.readable_bytes,
            file_bytes: all.file_bytes + current.file_bytes,
        }
    }
}

/// `Part 3 is`, `Parts 3 to 5 are`.
fn parts(first: u32, last: u32) -> String {
    match first == last {
        true => format!("Part {first} is"),
        false => format!("Parts {first} to {last} are"),
    }
}
