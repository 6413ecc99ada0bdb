//! Small row groups on their way to becoming one.
//!
//! A checkpoint is due twice a second even if hardly anything happens. Two days of that are 345,600
//! row groups, each with some kilobytes of metadata. So the rows of small groups are kept until
//! there are enough of them to be written again as one group in their place.

use crate::rows::Rows;

/// A row group with more rows is left as it is.
pub(crate) const SMALL_ROWS: usize = 1 << 15;
/// So many groups are merged: those of a minute.
const RUN_GROUPS: usize = 120;
/// So many rows are merged, at most about.
const RUN_ROWS: usize = 1 << 18;

/// The small row groups at the end of the file.
#[derive(Debug, Default)]
pub(crate) struct Run {
    /// End and checksum of the trailer before the run.
    pub before: (u64, u32),
    /// Number of the run's first row group.
    pub first_group: usize,
    pub groups: usize,
    /// The rows of its groups.
    pub rows: Rows,
}

impl Run {
    /// An empty run behind the trailer `before`, which has `groups` row groups before it.
    pub(crate) fn new(before: (u64, u32), groups: usize) -> Self {
        Run {
            before,
            first_group: groups,
            ..Run::default()
        }
    }

    /// Takes the rows of another row group.
    pub(crate) fn add(&mut self, rows: &mut Rows) {
        self.groups += 1;
        self.rows.append(rows);
    }

    /// Whether it is time to merge.
    pub(crate) fn is_full(&self) -> bool {
        self.groups >= RUN_GROUPS || self.rows.len() >= RUN_ROWS
    }
}
