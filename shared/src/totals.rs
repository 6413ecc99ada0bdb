//! Sums over the rows written so far; every trailer and every footer carries them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::describe::{Description, Note};
use crate::event::Event;

/// Sums over the rows of a trace up to some point.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    pub events: u64,
    pub descriptions: u64,
    /// Stacks told.
    pub stacks: u64,
    /// Events missing from the trace, by cause.
    pub lost: BTreeMap<String, u64>,
    /// Events kept with a defect, by cause.
    pub defects: BTreeMap<String, u64>,
    /// Smallest and largest time of an event, in nanoseconds of `CLOCK_MONOTONIC`.
    pub first_ts: Option<i64>,
    pub last_ts: Option<i64>,
}

impl Totals {
    /// Rows of any kind.
    pub fn rows(&self) -> u64 {
        self.events + self.descriptions
    }

    pub(crate) fn add_event(&mut self, event: &Event, tells_stack: bool) {
        self.events += 1;
        self.stacks += u64::from(tells_stack);
        self.first_ts = Some(self.first_ts.map_or(event.ts, |first| first.min(event.ts)));
        self.last_ts = Some(self.last_ts.map_or(event.ts, |last| last.max(event.ts)));
    }

    pub(crate) fn add_note(&mut self, note: &Note) {
        self.descriptions += 1;
        let (sums, cause, count) = match &note.what {
            Description::Loss { cause, count, .. } => (&mut self.lost, cause, count),
            Description::Defect { cause, count, .. } => (&mut self.defects, cause, count),
            _ => return,
        };
        let sum = sums.entry(cause.clone()).or_default();
        *sum = sum.saturating_add(*count);
    }
}
