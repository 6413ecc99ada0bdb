//! One row group of a file, read into memory and checked before anything is decoded.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::file::reader::{ChunkReader, Length};

/// Where a row group lies, and how to check it.
#[derive(Clone, Debug)]
pub(crate) enum Group {
    /// Told by a trailer.
    Verified {
        offset: u64,
        length: u64,
        crc: u32,
        metadata: Vec<u8>,
    },
    /// Told by the footer alone: number of the row group in it.
    Unverified {
        metadata: Arc<ParquetMetaData>,
        index: usize,
    },
}

/// The bytes of a row group and its metadata.
pub(crate) struct LoadedGroup {
    pub source: GroupBytes,
    pub metadata: Arc<ParquetMetaData>,
    pub index: usize,
}

impl Group {
    /// Reads the row group. The error is a sentence that says what is wrong with it.
    pub(crate) fn load(
        &self,
        file: &File,
        file_bytes: u64,
    ) -> std::result::Result<LoadedGroup, String> {
        match self {
            Group::Verified {
                offset,
                length,
                crc,
                metadata,
            } => {
                let source = read(file, *offset, *length).map_err(|error| error.to_string())?;
                if crc32fast::hash(&source.bytes) != *crc {
                    return Err("the checksum of its data does not match".to_owned());
                }
                let metadata = ParquetMetaDataReader::decode_metadata(metadata)
                    .map_err(|error| error.to_string())?;
                let loaded = LoadedGroup {
                    source,
                    metadata: Arc::new(metadata),
                    index: 0,
                };
                if loaded.metadata.num_row_groups() != 1 {
                    return Err("its trailer does not describe one row group".to_owned());
                }
                Ok(loaded)
            }
            Group::Unverified { metadata, index } => {
                let (start, end) = byte_range(metadata, *index)
                    .filter(|(start, end)| start < end && *end <= file_bytes)
                    .ok_or("its columns lie outside the file")?;
                let source = read(file, start, end - start).map_err(|error| error.to_string())?;
                Ok(LoadedGroup {
                    source,
                    metadata: metadata.clone(),
                    index: *index,
                })
            }
        }
    }
}

/// First byte and end of the columns of a row group; `None` if the metadata is senseless.
fn byte_range(metadata: &ParquetMetaData, index: usize) -> Option<(u64, u64)> {
    let mut range: Option<(u64, u64)> = None;
    for column in metadata.row_groups().get(index)?.columns() {
        // Not `byte_range()`: it panics on negative numbers.
        let start = column
            .dictionary_page_offset()
            .unwrap_or(column.data_page_offset());
        let start = u64::try_from(start.min(column.data_page_offset())).ok()?;
        let end = start.checked_add(u64::try_from(column.compressed_size()).ok()?)?;
        range = Some(range.map_or((start, end), |(low, high)| (low.min(start), high.max(end))));
    }
    range
}

fn read(file: &File, offset: u64, length: u64) -> io::Result<GroupBytes> {
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(GroupBytes {
        offset,
        bytes: Bytes::from(bytes),
    })
}

/// A part of a file in memory, addressed by offsets in the file: what was checked is what is decoded.
#[derive(Clone, Debug)]
pub(crate) struct GroupBytes {
    offset: u64,
    bytes: Bytes,
}

impl GroupBytes {
    /// A copy in which some bytes are others.
    #[cfg(test)]
    pub(crate) fn changed(&self, change: impl FnOnce(&mut [u8])) -> GroupBytes {
        let mut bytes = self.bytes.to_vec();
        change(&mut bytes);
        GroupBytes {
            offset: self.offset,
            bytes: bytes.into(),
        }
    }

    fn place(&self, start: u64, length: u64) -> Result<std::ops::Range<usize>> {
        let from = start.checked_sub(self.offset);
        let to = from.and_then(|from| from.checked_add(length));
        match (from, to) {
            (Some(from), Some(to)) if to <= self.bytes.len() as u64 => {
                Ok(from as usize..to as usize)
            }
            _ => Err(ParquetError::EOF(format!(
                "{length} bytes at {start} lie outside the row group"
            ))),
        }
    }
}

impl Length for GroupBytes {
    fn len(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }
}

impl ChunkReader for GroupBytes {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        let from = self.place(start, 0)?.start;
        Ok(self.bytes.slice(from..).reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        Ok(self.bytes.slice(self.place(start, length as u64)?))
    }
}
