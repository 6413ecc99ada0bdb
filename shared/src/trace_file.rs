//! The file below a trace: grows by whole pieces, and goes back to the last whole one on an error.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::TraceError;

/// A file of which the first `end` bytes are good.
#[derive(Debug)]
pub(crate) struct TraceFile {
    file: File,
    path: PathBuf,
    /// End of the last trailer; a footer may follow.
    end: u64,
    /// Length of the footer after `end`.
    footer_length: u64,
    /// Its bytes, to be put back after a failure; none of a large one.
    footer: Vec<u8>,
}

/// A longer footer is not kept in memory.
const KEPT_FOOTER: usize = 1 << 20;

impl TraceFile {
    pub(crate) fn create(path: &Path, overwrite: bool) -> Result<Self, TraceError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        if overwrite {
            options.create(true).truncate(true);
        } else {
            options.create_new(true);
        }
        let file = options.open(path).map_err(|source| TraceError::Io {
            path: path.to_owned(),
            doing: "create",
            source,
        })?;
        Ok(TraceFile {
            file,
            path: path.to_owned(),
            end: 0,
            footer_length: 0,
            footer: Vec::new(),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Offset at which the next piece begins.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Bytes in the file, footer included.
    pub(crate) fn length(&self) -> u64 {
        self.end + self.footer_length
    }

    /// Reads back what was written.
    pub(crate) fn read(&self, offset: u64, length: u32) -> Result<Vec<u8>, TraceError> {
        let mut bytes = vec![0; length as usize];
        self.file
            .read_exact_at(&mut bytes, offset)
            .map_err(|source| TraceError::Io {
                path: self.path.clone(),
                doing: "read",
                source,
            })?;
        Ok(bytes)
    }

    /// Puts `piece` (up to and with its trailer) after the good bytes, then `footer`, and makes both
    /// durable. On an error the file is as before.
    pub(crate) fn append(&mut self, piece: &[u8], footer: Vec<u8>) -> Result<(), TraceError> {
        let written = self.try_append(piece, &footer);
        self.settle(written)?;
        self.end += piece.len() as u64;
        self.keep(footer);
        Ok(())
    }

    /// Appends a piece whose trailer, behind `data` bytes, takes the place of others: it is written
    /// when the data is durable. A disk that has the trailer and not the data would have lost both. On an
    /// error the file is as before.
    pub(crate) fn append_superseding(
        &mut self,
        piece: &[u8],
        data: usize,
    ) -> Result<(), TraceError> {
        let (data, trailer) = piece.split_at(data.min(piece.len()));
        let written = self.try_append(data, &[]).and_then(|()| {
            self.file
                .write_all_at(trailer, self.end + data.len() as u64)?;
            self.file.sync_data()
        });
        self.settle(written)?;
        self.end += piece.len() as u64;
        self.keep(Vec::new());
        Ok(())
    }

    fn keep(&mut self, footer: Vec<u8>) {
        self.footer_length = footer.len() as u64;
        self.footer = match footer.len() <= KEPT_FOOTER {
            true => footer,
            false => Vec::new(),
        };
    }

    fn try_append(&self, piece: &[u8], footer: &[u8]) -> io::Result<()> {
        // The old footer goes first: overwritten halfway, its end would still look like a footer.
        if self.footer_length > 0 {
            self.file.set_len(self.end)?;
        }
        self.file.write_all_at(piece, self.end)?;
        self.file
            .write_all_at(footer, self.end + piece.len() as u64)?;
        self.file.sync_data()
    }

    /// Puts `piece` at `start`, over bytes that the last trailer no longer needs, and ends the file
    /// behind it with `footer`. That trailer must lie behind the piece: until the piece is durable it
    /// is what a reader finds. On an error the trace is readable nonetheless.
    pub(crate) fn replace(
        &mut self,
        start: u64,
        piece: &[u8],
        footer: Vec<u8>,
    ) -> Result<(), TraceError> {
        let end = start + piece.len() as u64;
        let moved = self
            .file
            .write_all_at(piece, start)
            .and_then(|()| self.file.sync_data())
            .and_then(|()| self.file.set_len(end))
            // The footer must not be written over the trailer behind while that is still in the file.
            .and_then(|()| self.file.sync_data());
        self.settle(moved)?;
        self.end = end;
        self.keep(Vec::new());
        self.append(&[], footer)
    }

    fn settle(&mut self, written: io::Result<()>) -> Result<(), TraceError> {
        written.map_err(|source| {
            self.restore();
            TraceError::Io {
                path: self.path.clone(),
                doing: "write",
                source,
            }
        })
    }

    /// Goes back to the last good state. What fails here cannot be helped: the trailers remain.
    fn restore(&mut self) {
        let _ = self.file.set_len(self.end);
        if self.file.write_all_at(&self.footer, self.end).is_err() {
            let _ = self.file.set_len(self.end);
            self.keep(Vec::new());
        }
        self.footer_length = self.footer.len() as u64;
        let _ = self.file.sync_data();
    }
}
