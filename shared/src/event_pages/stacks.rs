//! The frames of stacks, which stand in the first row that uses the stack: most rows have none.

use zstd::bulk::Decompressor;

use super::codes::{Dictionary, Plain, codes_of};
use super::pages::Pages;
use super::runs::{Piece, Runs};
use super::{Result, Unusual};
use crate::stack::{FrameId, Stack, StackEnd, StackId};

/// The columns `frames` and `stack_end`.
pub(super) struct Stacks {
    frames: Sparse<i64>,
    ends: Sparse<StackEnd>,
}

impl Stacks {
    pub(super) fn new(frames: Pages, ends: Pages) -> Result<Stacks> {
        Ok(Stacks {
            // No stack, a stack without frames, a frame.
            frames: Sparse::new(frames, 2, true)?,
            ends: Sparse::new(ends, 1, false)?,
        })
    }

    /// The stacks that stand in the next rows, which have these numbers.
    pub(super) fn take(
        &mut self,
        ids: &[i32],
        decompressor: &mut Decompressor<'_>,
    ) -> Result<Vec<Stack>> {
        let mut stacks = Vec::new();
        let (mut frames, mut end) = (Vec::new(), Vec::new());
        let mut row = 0;
        while row < ids.len() {
            let without = self.frames.take_empty(ids.len() - row, decompressor)?;
            let mut also = 0;
            while also < without {
                also += match self.ends.take_empty(without - also, decompressor)? {
                    0 => return Err(Unusual),
                    rows => rows,
                };
            }
            row += without;
            if without > 0 {
                continue;
            }
            self.frames.take_row(&mut frames, decompressor)?;
            self.ends.take_row(&mut end, decompressor)?;
            stacks.push(Stack {
                id: StackId(ids[row]),
                frames: frames.iter().copied().map(FrameId).collect(),
                end: *end.first().ok_or(Unusual)?,
            });
            row += 1;
        }
        Ok(stacks)
    }
}

/// A column in which most rows have no value, so that its levels are runs.
struct Sparse<T> {
    pages: Pages,
    /// Whether a row may have several values.
    has_lists: bool,
    /// 1 where a list goes on, 0 where the next row begins; nothing but rows where there are no lists.
    repetition: Runs,
    /// 0 where a row has nothing, the most where it has a value.
    definition: Runs,
    most: u32,
    /// Levels left in the page.
    left: usize,
    dictionary: Dictionary<T>,
    codes: Runs,
}

impl<T: Plain> Sparse<T> {
    fn new(pages: Pages, most: u8, has_lists: bool) -> Result<Sparse<T>> {
        Ok(Sparse {
            pages: pages.expect(T::KIND, i16::from(most), i16::from(has_lists))?,
            has_lists,
            repetition: Runs::none(),
            definition: Runs::none(),
            most: u32::from(most),
            left: 0,
            dictionary: Dictionary::new(),
            codes: Runs::none(),
        })
    }

    /// Takes up to `rows` rows that have nothing; how many there were before the first one that has something, or more may
    /// follow in the next run.
    fn take_empty(&mut self, rows: usize, decompressor: &mut Decompressor<'_>) -> Result<usize> {
        if self.left == 0 {
            self.next_page(decompressor)?;
        }
        let ((0, rows_here), (0, nothing)) = (self.repetition.same()?, self.definition.same()?)
        else {
            return Ok(0);
        };
        let taken = rows.min(rows_here).min(nothing).min(self.left);
        self.take_levels(taken);
        Ok(taken)
    }

    /// Takes a row; its values.
    fn take_row(&mut self, values: &mut Vec<T>, decompressor: &mut Decompressor<'_>) -> Result<()> {
        values.clear();
        let mut count = 0;
        if self.left == 0 {
            self.next_page(decompressor)?;
        }
        if self.repetition.same()?.0 != 0 {
            return Err(Unusual);
        }
        loop {
            count += usize::from(self.definition.same()?.0 == self.most);
            self.take_levels(1);
            // A row's list ends with the page.
            if self.left == 0 || self.repetition.same()?.0 == 0 {
                break;
            }
        }
        let dictionary = &self.dictionary;
        self.codes.read(count, |piece| {
            match piece {
                Piece::Same(code, count) => {
                    values.extend(std::iter::repeat_n(dictionary.value(code)?, count));
                }
                Piece::Each(codes) => {
                    for code in codes {
                        values.push(dictionary.value(*code)?);
                    }
                }
            }
            Ok(())
        })
    }

    fn take_levels(&mut self, count: usize) {
        self.repetition.skip(count);
        self.definition.skip(count);
        self.left -= count;
    }

    fn next_page(&mut self, decompressor: &mut Decompressor<'_>) -> Result<()> {
        let mut page = self.pages.next(decompressor)?;
        self.dictionary.load(&mut self.pages)?;
        self.repetition = match self.has_lists {
            true => Runs::new(page.take_levels()?, 1)?,
            false => Runs::of(0, page.count),
        };
        let width = crate::encoding::bit_width(u64::from(self.most));
        self.definition = Runs::new(page.take_levels()?, width)?;
        self.left = page.count;
        // A page without values is told to be plain.
        self.codes = match page.bytes.is_empty() {
            true => Runs::none(),
            false => codes_of(&page)?,
        };
        match page.count {
            0 => Err(Unusual),
            _ => Ok(()),
        }
    }
}
