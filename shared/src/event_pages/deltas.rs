//! Times: each as its difference from the one before (DELTA_BINARY_PACKED).

use bytes::Bytes;
use parquet::basic::{Encoding, Type};
use zstd::bulk::Decompressor;

use super::column::Column;
use super::pages::Pages;
use super::runs::load;
use super::{Result, Unusual};
use crate::encoding::{BLOCK, MINIBLOCK};
use crate::varint::{take_varint, unzigzag};

/// A difference of more bits may lie in nine bytes. None of ours does: that would be four years.
const MOST_BITS: u8 = 57;

/// A column of times.
pub(super) struct Times {
    pages: Pages,
    bytes: Bytes,
    /// Where the next block of differences begins.
    at: usize,
    /// Values of the page whose blocks are still to be read.
    left_in_page: usize,
    /// The last value read.
    last: i64,
    /// Values that were read and not handed over: those of a block from `next` on.
    block: [i64; BLOCK],
    next: usize,
    end: usize,
}

impl Times {
    pub(super) fn new(pages: Pages) -> Result<Times> {
        Ok(Times {
            pages: pages.expect(Type::INT64, 0, 0)?,
            bytes: Bytes::new(),
            at: 0,
            left_in_page: 0,
            last: 0,
            block: [0; BLOCK],
            next: 0,
            end: 0,
        })
    }

    /// Begins a page, of which the first value stands alone.
    fn next_page(&mut self, decompressor: &mut Decompressor<'_>) -> Result<()> {
        let page = self.pages.next(decompressor)?;
        self.bytes = page.bytes;
        self.at = 0;
        let mut number = || take_varint(&self.bytes, &mut self.at).ok_or(Unusual);
        let layout = (number()?, number()?, number()?);
        let usual = (BLOCK as u64, (BLOCK / MINIBLOCK) as u64, page.count as u64);
        if layout != usual || page.encoding != Encoding::DELTA_BINARY_PACKED || page.count == 0 {
            return Err(Unusual);
        }
        self.last = unzigzag(number()?);
        self.left_in_page = page.count - 1;
        self.block[0] = self.last;
        (self.next, self.end) = (0, 1);
        Ok(())
    }

    fn next_block(&mut self) -> Result<()> {
        let least = unzigzag(take_varint(&self.bytes, &mut self.at).ok_or(Unusual)?);
        let rest = self.bytes.get(self.at..).ok_or(Unusual)?;
        let (widths, mut packed) = rest
            .split_first_chunk::<{ BLOCK / MINIBLOCK }>()
            .ok_or(Unusual)?;
        let count = self.left_in_page.min(BLOCK);
        let mut last = self.last;
        // Parts that no value needs are not there.
        for (values, width) in self.block[..count].chunks_mut(MINIBLOCK).zip(widths) {
            let size = usize::from(*width) * MINIBLOCK / 8;
            if *width > MOST_BITS || packed.len() < size {
                return Err(Unusual);
            }
            let (width, mask) = (usize::from(*width), (1u64 << width) - 1);
            for (index, value) in values.iter_mut().enumerate() {
                let bit = index * width;
                let above = load(packed, bit / 8) >> (bit % 8) & mask;
                last = last.wrapping_add(least).wrapping_add(above as i64);
                *value = last;
            }
            packed = &packed[size..];
        }
        self.at = self.bytes.len() - packed.len();
        self.last = last;
        self.left_in_page -= count;
        (self.next, self.end) = (0, count);
        Ok(())
    }
}

impl Column<i64> for Times {
    fn left(&self) -> usize {
        self.end - self.next
    }

    fn advance(&mut self, decompressor: &mut Decompressor<'_>) -> Result<()> {
        match self.left_in_page {
            0 => self.next_page(decompressor),
            _ => self.next_block(),
        }
    }

    fn take(&mut self, out: &mut [i64]) -> Result<()> {
        out.copy_from_slice(&self.block[self.next..][..out.len()]);
        self.next += out.len();
        Ok(())
    }
}
