//! The pages of one column of a row group, one after the other.

use bytes::Bytes;
use parquet::basic::{Compression, Encoding, Type};
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::ChunkReader;
use zstd::bulk::Decompressor;

use super::page_header::PageHeader;
use super::{Result, Unusual};
use crate::group::GroupBytes;

/// Larger pages are none of ours, and a length that was made up is not worth the memory.
const MOST_BYTES: usize = 64 << 20;

/// The pages of a column.
pub(super) struct Pages {
    /// From the next page on.
    bytes: Bytes,
    /// The dictionary page: how many values, and their bytes.
    dictionary: Option<(usize, Bytes)>,
    kind: Type,
    max_definition: i16,
    max_repetition: i16,
}

/// A data page.
pub(super) struct DataPage {
    /// Values, nulls and items of lists.
    pub count: usize,
    pub encoding: Encoding,
    /// The levels, each kind behind its length, and the values.
    pub bytes: Bytes,
}

impl Pages {
    /// The column whose path is `name`.
    pub(super) fn open(source: &GroupBytes, group: &RowGroupMetaData, name: &str) -> Result<Pages> {
        let mut columns = group.columns().iter();
        let column = columns
            .find(|column| column.column_path().string() == name)
            .ok_or(Unusual)?;
        let descriptor = column.column_descr();
        // A column without lists has a value or a null for each row.
        let is_whole = descriptor.max_rep_level() > 0 || column.num_values() == group.num_rows();
        if !is_whole || !matches!(column.compression(), Compression::ZSTD(_)) {
            return Err(Unusual);
        }
        let first_data = column.data_page_offset();
        let start = column.dictionary_page_offset().unwrap_or(first_data);
        let start = u64::try_from(start.min(first_data)).map_err(|_| Unusual)?;
        let length = usize::try_from(column.compressed_size()).map_err(|_| Unusual)?;
        let bytes = source.get_bytes(start, length);
        Ok(Pages {
            bytes: bytes.map_err(|_| Unusual)?,
            dictionary: None,
            kind: column.column_type(),
            max_definition: descriptor.max_def_level(),
            max_repetition: descriptor.max_rep_level(),
        })
    }

    /// The same pages, if the column's values are of this type, and may be null or in lists up to these levels.
    pub(super) fn expect(self, kind: Type, definition: i16, repetition: i16) -> Result<Pages> {
        let found = (self.kind, self.max_definition, self.max_repetition);
        match found == (kind, definition, repetition) {
            true => Ok(self),
            false => Err(Unusual),
        }
    }

    /// The next data page.
    pub(super) fn next(&mut self, decompressor: &mut Decompressor<'_>) -> Result<DataPage> {
        loop {
            let (header, length) = PageHeader::read(&self.bytes)?;
            let behind = length.checked_add(header.compressed).ok_or(Unusual)?;
            let compressed = self.bytes.get(length..behind).ok_or(Unusual)?;
            if header.uncompressed > MOST_BYTES {
                return Err(Unusual);
            }
            let page = decompressor.decompress(compressed, header.uncompressed);
            let bytes = Bytes::from(page.map_err(|_| Unusual)?);
            self.bytes = self.bytes.slice(behind..);
            if bytes.len() != header.uncompressed {
                return Err(Unusual);
            }
            if header.is_data() && header.levels_are_runs() {
                return Ok(DataPage {
                    count: header.values,
                    encoding: header.encoding()?,
                    bytes,
                });
            }
            if !header.is_dictionary() || self.dictionary.is_some() {
                return Err(Unusual);
            }
            self.dictionary = Some((header.dictionary_values, bytes));
        }
    }

    /// The dictionary, once a data page was read: how many values, and their bytes, laid out plainly. It is taken.
    pub(super) fn take_dictionary(&mut self) -> Option<(usize, Bytes)> {
        self.dictionary.take()
    }
}

impl DataPage {
    /// Takes the levels off that come next.
    pub(super) fn take_levels(&mut self) -> Result<Bytes> {
        let (length, rest) = self.bytes.split_first_chunk().ok_or(Unusual)?;
        let length = u32::from_le_bytes(*length) as usize;
        let levels = rest.get(..length).ok_or(Unusual)?;
        let levels = self.bytes.slice_ref(levels);
        let behind = size_of::<u32>() + length;
        self.bytes = self.bytes.slice(behind..);
        Ok(levels)
    }
}
