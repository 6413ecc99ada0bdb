//! As much of Thrift's compact protocol as it takes to find the row groups in the metadata of a Parquet
//! file, and to put such metadata together from row groups that were encoded before.
//!
//! <https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>

use crate::varint::{put_varint, take_varint, unzigzag};

/// `FileMetaData` taken apart at its fields `num_rows` (3) and `row_groups` (4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileMetaData<'a> {
    /// The fields before: version and schema.
    before: &'a [u8],
    /// The row groups, back to back.
    pub groups: &'a [u8],
    /// The fields behind: key-value pairs, the writer's name, column orders; and the end.
    behind: &'a [u8],
}

const ROWS: u64 = 3;
const GROUPS: u64 = 4;

/// Types of fields and elements.
pub(crate) const I32: u8 = 5;
const I64: u8 = 6;
const LIST: u8 = 9;
pub(crate) const STRUCT: u8 = 12;

impl<'a> FileMetaData<'a> {
    /// `None` if these bytes are something else.
    pub(crate) fn split(bytes: &'a [u8]) -> Option<FileMetaData<'a>> {
        let mut cursor = Cursor::new(bytes);
        let (mut id, mut rows_at) = (0, None);
        loop {
            let start = cursor.at;
            let (next, kind) = cursor.field(id)?;
            id = next;
            match (id, kind) {
                (ROWS, I64) => rows_at = Some(start),
                (GROUPS, LIST) => {
                    let (count, element) = cursor.list()?;
                    let first = cursor.at;
                    for _ in 0..count {
                        cursor.skip(element)?;
                    }
                    return Some(FileMetaData {
                        before: &bytes[..rows_at?],
                        groups: &bytes[first..cursor.at],
                        behind: &bytes[cursor.at..],
                    });
                }
                _ => {}
            }
            cursor.skip(kind)?;
        }
    }

    /// The same metadata with other row groups: `count` of them back to back in `groups`.
    pub(crate) fn with(&self, rows: u64, count: u64, groups: &[u8]) -> Vec<u8> {
        let mut bytes =
            Vec::with_capacity(self.before.len() + groups.len() + self.behind.len() + 32);
        bytes.extend_from_slice(self.before);
        // A field's header is the distance to the field before, and the type.
        bytes.push(1 << 4 | I64);
        put_varint(rows << 1, &mut bytes);
        bytes.push(1 << 4 | LIST);
        match count {
            0..15 => bytes.push((count as u8) << 4 | STRUCT),
            _ => {
                bytes.push(15 << 4 | STRUCT);
                put_varint(count, &mut bytes);
            }
        }
        bytes.extend_from_slice(groups);
        bytes.extend_from_slice(self.behind);
        bytes
    }
}

/// A place in encoded bytes; each method returns `None` where they end too early.
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes, at: 0 }
    }

    /// Bytes before the place.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn advance(&mut self, length: u64) -> Option<()> {
        let end = self.at.checked_add(usize::try_from(length).ok()?)?;
        (end <= self.bytes.len()).then(|| self.at = end)
    }

    fn varint(&mut self) -> Option<u64> {
        take_varint(self.bytes, &mut self.at)
    }

    /// A number that is not negative.
    pub(crate) fn number(&mut self) -> Option<u64> {
        u64::try_from(unzigzag(self.varint()?)).ok()
    }

    /// Takes the end of a struct, if this is where it ends.
    pub(crate) fn take_end(&mut self) -> Option<bool> {
        let ends = *self.bytes.get(self.at)? == 0;
        self.at += usize::from(ends);
        Some(ends)
    }

    /// Number and type of the next field of a struct; `last` is the number before it.
    pub(crate) fn field(&mut self, last: u64) -> Option<(u64, u8)> {
        let header = self.byte()?;
        let id = match u64::from(header >> 4) {
            // Zigzag; no field of Parquet has a negative number.
            0 => self.varint()? >> 1,
            distance => last + distance,
        };
        (header != 0).then_some((id, header & 15))
    }

    /// Length of a list and type of its elements.
    fn list(&mut self) -> Option<(u64, u8)> {
        let header = self.byte()?;
        let count = match header >> 4 {
            15 => self.varint()?,
            count => u64::from(count),
        };
        Some((count, header & 15))
    }

    /// Steps over a value: an element, or a field that is no boolean (those are in their header).
    fn skip(&mut self, kind: u8) -> Option<()> {
        match kind {
            1 | 2 => Some(()),
            3 => self.advance(1),
            4..=6 => self.varint().map(drop),
            7 => self.advance(8),
            8 => {
                let length = self.varint()?;
                self.advance(length)
            }
            LIST | 10 => {
                let (count, element) = self.list()?;
                (0..count).try_for_each(|_| self.skip(if element <= 2 { 3 } else { element }))
            }
            STRUCT => {
                // Every struct ends with a zero.
                while *self.bytes.get(self.at)? != 0 {
                    let (_, kind) = self.field(0)?;
                    self.skip(kind)?;
                }
                self.advance(1)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that end early, or say something else, are refused; never more is read than there is.
    #[test]
    fn other_bytes_are_refused() {
        assert_eq!(FileMetaData::split(&[]), None);
        assert_eq!(FileMetaData::split(&[0]), None);
        assert_eq!(
            FileMetaData::split(&[0x19, 0xfc, 0xff, 0xff, 0xff, 0x7f]),
            None
        );
        assert_eq!(FileMetaData::split(b"PAR1PAR1"), None);
    }
}
