//! Columns of few distinct values: each row has the number of its value in a dictionary.

use parquet::basic::{Encoding, Type};
use zstd::bulk::Decompressor;

use super::column::Column;
use super::pages::{DataPage, Pages};
use super::runs::{Piece, Runs};
use super::{Result, Unusual};
use crate::op::Op;
use crate::stack::StackEnd;

/// A value that stands in a dictionary.
pub(super) trait Plain: Copy {
    const KIND: Type;
    /// Takes a value off the front of a dictionary; `None` if there is none.
    fn take(plain: &mut &[u8]) -> Option<Self>;
}

impl Plain for i32 {
    const KIND: Type = Type::INT32;
    fn take(plain: &mut &[u8]) -> Option<i32> {
        let (value, rest) = plain.split_first_chunk()?;
        *plain = rest;
        Some(i32::from_le_bytes(*value))
    }
}

impl Plain for i64 {
    const KIND: Type = Type::INT64;
    fn take(plain: &mut &[u8]) -> Option<i64> {
        let (value, rest) = plain.split_first_chunk()?;
        *plain = rest;
        Some(i64::from_le_bytes(*value))
    }
}

/// Texts stand behind their lengths.
fn take_text<'a>(plain: &mut &'a [u8]) -> Option<&'a str> {
    let (length, rest) = plain.split_first_chunk()?;
    let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *plain = rest;
    std::str::from_utf8(text).ok()
}

impl Plain for Op {
    const KIND: Type = Type::BYTE_ARRAY;
    fn take(plain: &mut &[u8]) -> Option<Op> {
        Op::from_name(take_text(plain)?)
    }
}

impl Plain for StackEnd {
    const KIND: Type = Type::BYTE_ARRAY;
    fn take(plain: &mut &[u8]) -> Option<StackEnd> {
        StackEnd::from_name(take_text(plain)?)
    }
}

/// The values of a dictionary, by number.
#[derive(Debug)]
pub(super) struct Dictionary<T> {
    values: Vec<T>,
}

impl<T: Plain> Dictionary<T> {
    pub(super) fn new() -> Dictionary<T> {
        Dictionary { values: Vec::new() }
    }

    /// Reads the dictionary that stands before a column's first data page, if there is one.
    pub(super) fn load(&mut self, pages: &mut Pages) -> Result<()> {
        if let Some((count, plain)) = pages.take_dictionary() {
            let mut plain = &plain[..];
            let values = (0..count).map(|_| T::take(&mut plain));
            self.values = values.collect::<Option<_>>().ok_or(Unusual)?;
        }
        Ok(())
    }

    #[inline]
    pub(super) fn value(&self, code: u32) -> Result<T> {
        self.values.get(code as usize).copied().ok_or(Unusual)
    }

    pub(super) fn values(&self) -> &[T] {
        &self.values
    }
}

/// The codes of a data page, which end it, behind their width in bits.
pub(super) fn codes_of(page: &DataPage) -> Result<Runs> {
    let (Encoding::RLE_DICTIONARY, Some(width)) = (page.encoding, page.bytes.first()) else {
        return Err(Unusual);
    };
    Runs::new(page.bytes.slice(1..), u32::from(*width))
}

/// A column in which each row has a value.
pub(super) struct Codes<T> {
    pages: Pages,
    dictionary: Dictionary<T>,
    codes: Runs,
    /// Rows left in the page.
    left: usize,
}

impl<T: Plain> Codes<T> {
    pub(super) fn new(pages: Pages) -> Result<Codes<T>> {
        Ok(Codes {
            pages: pages.expect(T::KIND, 0, 0)?,
            dictionary: Dictionary::new(),
            codes: Runs::none(),
            left: 0,
        })
    }

    /// Every value that the rows so far may have.
    pub(super) fn values(&self) -> &[T] {
        self.dictionary.values()
    }
}

impl<T: Plain> Column<T> for Codes<T> {
    fn left(&self) -> usize {
        self.left
    }

    fn advance(&mut self, decompressor: &mut Decompressor<'_>) -> Result<()> {
        let page = self.pages.next(decompressor)?;
        self.dictionary.load(&mut self.pages)?;
        self.codes = codes_of(&page)?;
        self.left = page.count;
        Ok(())
    }

    fn take(&mut self, out: &mut [T]) -> Result<()> {
        self.left -= out.len();
        let (mut next, dictionary) = (0, &self.dictionary);
        self.codes.read(out.len(), |piece| {
            match piece {
                Piece::Same(code, count) => {
                    out[next..next + count].fill(dictionary.value(code)?);
                    next += count;
                }
                Piece::Each(codes) => {
                    for (value, code) in out[next..].iter_mut().zip(codes) {
                        *value = dictionary.value(*code)?;
                    }
                    next += codes.len();
                }
            }
            Ok(())
        })
    }
}
