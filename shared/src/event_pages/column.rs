//! What all columns have in common that have a value, or a mark for none, in each row.

use zstd::bulk::Decompressor;

use super::Result;

/// A column that is read a stretch at a time: a page, or a part of one.
pub(super) trait Column<T> {
    /// Rows of the stretch at hand that are left.
    fn left(&self) -> usize;

    /// Goes on to the next stretch, once none is left; it may have no rows.
    fn advance(&mut self, decompressor: &mut Decompressor<'_>) -> Result<()>;

    /// Fills `out` with rows of the stretch at hand: as many as are left, or fewer.
    fn take(&mut self, out: &mut [T]) -> Result<()>;

    /// Fills `out` with the next rows.
    fn fill(&mut self, mut out: &mut [T], decompressor: &mut Decompressor<'_>) -> Result<()> {
        while !out.is_empty() {
            let left = self.left();
            if left == 0 {
                self.advance(decompressor)?;
                continue;
            }
            let (now, later) = out.split_at_mut(left.min(out.len()));
            self.take(now)?;
            out = later;
        }
        Ok(())
    }
}
