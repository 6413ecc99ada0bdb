//! What stands before each page: `PageHeader` of Parquet, as far as pages of ours have it.
//!
//! <https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift>

use parquet::basic::Encoding;

use super::{Result, Unusual};
use crate::thrift::{Cursor, I32, STRUCT};

/// The header of a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PageHeader {
    kind: u64,
    /// Bytes, decompressed and as they lie in the file.
    pub uncompressed: usize,
    pub compressed: usize,
    /// Of a data page: values with nulls, and the numbers of the encodings of values and levels.
    pub values: usize,
    encoding: u64,
    definition_encoding: u64,
    repetition_encoding: u64,
    /// Values in a dictionary.
    pub dictionary_values: usize,
}

/// Numbers of the kinds of pages.
const DATA: u64 = 0;
const DICTIONARY: u64 = 2;

/// The encodings of values that pages of ours have.
const ENCODINGS: [Encoding; 4] = [
    Encoding::PLAIN,
    Encoding::DELTA_BINARY_PACKED,
    Encoding::RLE_DICTIONARY,
    Encoding::BYTE_STREAM_SPLIT,
];

impl PageHeader {
    /// Reads a header; its length, too.
    pub(super) fn read(bytes: &[u8]) -> Result<(PageHeader, usize)> {
        let mut cursor = Cursor::new(bytes);
        let mut header = PageHeader::default();
        fields(&mut cursor, |cursor, field| {
            match field {
                (1, I32) => header.kind = cursor.number()?,
                (2, I32) => header.uncompressed = cursor.number()? as usize,
                (3, I32) => header.compressed = cursor.number()? as usize,
                (5, STRUCT) => fields(cursor, |cursor, field| {
                    match field {
                        (1, I32) => header.values = cursor.number()? as usize,
                        (2, I32) => header.encoding = cursor.number()?,
                        (3, I32) => header.definition_encoding = cursor.number()?,
                        (4, I32) => header.repetition_encoding = cursor.number()?,
                        _ => return None,
                    }
                    Some(())
                })?,
                (7, STRUCT) => fields(cursor, |cursor, field| {
                    match field {
                        (1, I32) => header.dictionary_values = cursor.number()? as usize,
                        // Its encoding is plain, there is no other one; whether it is sorted.
                        (2, I32) => cursor.number().map(drop)?,
                        (3, _) => {}
                        _ => return None,
                    }
                    Some(())
                })?,
                _ => return None,
            }
            Some(())
        })
        .ok_or(Unusual)?;
        Ok((header, cursor.at()))
    }

    /// The encoding of a data page's values.
    pub(super) fn encoding(&self) -> Result<Encoding> {
        let mut known = ENCODINGS.into_iter();
        known
            .find(|encoding| *encoding as u64 == self.encoding)
            .ok_or(Unusual)
    }

    /// Whether a data page's levels are run lengths and packed bits.
    pub(super) fn levels_are_runs(&self) -> bool {
        [self.definition_encoding, self.repetition_encoding] == [Encoding::RLE as u64; 2]
    }

    pub(super) fn is_data(&self) -> bool {
        self.kind == DATA
    }

    pub(super) fn is_dictionary(&self) -> bool {
        self.kind == DICTIONARY
    }
}

/// Reads the fields of a struct up to its end: `read` gets the number and the type of each.
fn fields(
    cursor: &mut Cursor<'_>,
    mut read: impl FnMut(&mut Cursor<'_>, (u64, u8)) -> Option<()>,
) -> Option<()> {
    let mut last = 0;
    while !cursor.take_end()? {
        let field = cursor.field(last)?;
        last = field.0;
        read(cursor, field)?;
    }
    Some(())
}
