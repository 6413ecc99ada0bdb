//! Columns of addresses, sizes and stack numbers.

use parquet::basic::{Encoding, Type};
use zstd::bulk::Decompressor;

use super::pages::Pages;
use super::runs::Runs;
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

    /// Fills `out` with the numbers of the next rows.
    pub(super) fn fill(
        &mut self,
        mut out: &mut [u64],
        decompressor: &mut Decompressor<'_>,
    ) -> Result<()> {
        while !out.is_empty() {
            if self.streams.left() == 0 {
                let page = self.pages.next(decompressor)?;
                self.streams = Streams::new(page.bytes, 8)?;
                if page.encoding != Encoding::BYTE_STREAM_SPLIT || self.streams.left() != page.count
                {
                    return Err(Unusual);
                }
                continue;
            }
            let (now, later) = out.split_at_mut(self.streams.left().min(out.len()));
            self.streams.fill(now)?;
            out = later;
        }
        Ok(())
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
            levels: Runs::new(Default::default(), 1)?,
            left: 0,
            streams: Streams::default(),
            present: Vec::new(),
            numbers: Vec::new(),
        })
    }

    /// Fills `out` with the numbers of the next rows, [`Batch::NO_STACK`] where there is none.
    pub(super) fn fill(
        &mut self,
        mut out: &mut [i32],
        decompressor: &mut Decompressor<'_>,
    ) -> Result<()> {
        while !out.is_empty() {
            if self.left == 0 {
                let mut page = self.pages.next(decompressor)?;
                if page.encoding != Encoding::BYTE_STREAM_SPLIT {
                    return Err(Unusual);
                }
                self.levels = Runs::new(page.take_levels()?, 1)?;
                self.streams = Streams::new(page.bytes, 4)?;
                self.left = page.count;
                continue;
            }
            let (now, later) = out.split_at_mut(self.left.min(out.len()));
            self.fill_from_page(now)?;
            self.left -= now.len();
            out = later;
        }
        Ok(())
    }

    fn fill_from_page(&mut self, out: &mut [i32]) -> Result<()> {
        self.present.clear();
        let present = std::cell::RefCell::new(&mut self.present);
        self.levels.read(
            out.len(),
            |_, count, level| {
                let mut present = present.borrow_mut();
                let length = present.len() + count;
                present.resize(length, level as u8);
                Ok(())
            },
            |_, levels| {
                let levels = levels.iter().map(|level| *level as u8);
                present.borrow_mut().extend(levels);
                Ok(())
            },
        )?;
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
