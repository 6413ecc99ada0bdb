//! Reads a trace, whole or damaged.

use std::path::Path;

use crate::batch::Batch;
use crate::error::TraceError;
use crate::header::Header;

/// What is known of the file's state before the first row is read.
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
    header: Header,
    condition: Condition,
}

impl TraceReader {
    /// Opens a trace and finds its readable row groups.
    pub fn open(path: &Path) -> Result<Self, TraceError> {
        Err(TraceError::Empty {
            path: path.to_owned(),
        })
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Known after opening; may get worse while reading (a checksum that fails ends the trace there).
    pub fn condition(&self) -> &Condition {
        &self.condition
    }

    /// Rows in the readable part, from the metadata (for progress).
    pub fn rows(&self) -> u64 {
        0
    }

    /// The next rows, in file order; `None` at the end.
    pub fn next_batch(&mut self) -> Result<Option<Batch>, TraceError> {
        Ok(None)
    }
}
