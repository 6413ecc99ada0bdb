//! Columns of addresses, sizes and stack numbers.

use parquet::basic::{Encoding, Type};
use zstd::bulk::Decompressor;

use super::column::Column;
use super::pages::Pages;
use super::runs::{Piece, Runs};
use super::streams::Streams;
use super::{Result, Unusual};
use crate::batch::Batch;

/// A column in which each row has a number.
pub(super) struct Numbers {
    pages: Pages,
    streams: Streams,
}

impl Numbers {
    pub(super) fn new(pages: Pages) -> Result<Numbers> {
        Ok(Numbers {
            pages: pages.expect(Type::INT64, 0, 0)?,
            streams: Streams::default(),
        })
    }
}

impl Column<u64> for Numbers {
    fn left(&self) -> usize {
        self.streams.left()
    }

    fn advance(&mut self, decompressor: &mut Decompressor<'_>) -> Result<()> {
        let page = self.pages.next(decompressor)?;
        self.streams = Streams::new(page.bytes, 8)?;
        match page.encoding == Encoding::BYTE_STREAM_SPLIT && self.left() == page.count {
            true => Ok(()),
            false => Err(Unusual),
        }
    }

    fn take(&mut self, out: &mut [u64]) -> Result<()> {
        self.streams.fill(out)
    }
}

/// The column of stack numbers, which rows without a stack lack.
pub(super) struct StackIds {
    pages: Pages,
    /// 1 where a row has a number.
    levels: Runs,
    /// Rows left in the page.
    left: usize,
    streams: Streams,
    /// For each row at hand, whether it has a number; and the numbers.
    present: Vec<u8>,
    numbers: Vec<u32>,
}

impl StackIds {
    pub(super) fn new(pages: Pages) -> Result<StackIds> {
        Ok(StackIds {
            pages: pages.expect(Type::INT32, 1, 0)?,
            levels: Runs::none(),
            left: 0,
            streams: Streams::default(),
            present: Vec::new(),
            numbers: Vec::new(),
        })
    }
}

/// [`Batch::NO_STACK`] where a row has no number.
impl Column<i32> for StackIds {
    fn left(&self) -> usize {
        self.left
    }

    fn advance(&mut self, decompressor: &mut Decompressor<'_>) -> Result<()> {
        let mut page = self.pages.next(decompressor)?;
        if page.encoding != Encoding::BYTE_STREAM_SPLIT {
            return Err(Unusual);
        }
        self.levels = Runs::new(page.take_levels()?, 1)?;
        self.streams = Streams::new(page.bytes, 4)?;
        self.left = page.count;
        Ok(())
    }

    fn take(&mut self, out: &mut [i32]) -> Result<()> {
        self.left -= out.len();
        let present = &mut self.present;
        present.clear();
        self.levels.read(out.len(), |piece| {
            match piece {
                Piece::Same(level, count) => present.resize(present.len() + count, level as u8),
                Piece::Each(levels) => present.extend(levels.iter().map(|level| *level as u8)),
            }
            Ok(())
        })?;
        let count = self
            .present
            .iter()
            .map(|present| usize::from(*present))
            .sum();
        // One more: where the next number would stand is looked at also behind the last one.
        self.numbers.clear();
        self.numbers.resize(count + 1, 0);
        self.streams.fill(&mut self.numbers[..count])?;
        let mut next = 0;
        for (id, present) in out.iter_mut().zip(&self.present) {
            // Without a branch: allocations and frees take turns as no processor could guess.
            let number = self.numbers[next] as i32;
            *id = if *present != 0 {
                number
            } else {
                Batch::NO_STACK
            };
            next += usize::from(*present);
        }
        Ok(())
    }
}
