//! How whole the stacks are: where walks ended early, and why.

use std::collections::BTreeMap;

use memleak_trace::StackEnd;
use serde::Serialize;

use super::frames::module;
use crate::analysis::Analysis;

/// Stands for the end of a stack that is not in the trace.
pub const MISSING: &str = "missing";

/// Allocations by how their stack ended.
#[derive(Debug, Default, Serialize)]
pub struct StackEnds {
    pub complete: u64,
    pub incomplete: BTreeMap<&'static str, u64>,
    /// Most first.
    pub stopped_in: Vec<StoppedIn>,
}

/// Allocations whose stack ended early at a frame of this module.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct StoppedIn {
    /// File name; `None`: code that no file backs, or a stack without frames.
    pub module: Option<String>,
    pub end: &'static str,
    pub count: u64,
}

/// Counts allocations, not stacks: a stack that is cut short and hot matters more than a rare one.
pub fn count(analysis: &Analysis) -> StackEnds {
    let mut ends = StackEnds::default();
    let mut stopped: BTreeMap<(Option<String>, &'static str), u64> = BTreeMap::new();
    for site in analysis.replay.sites().as_slice() {
        let stack = site.stack.and_then(|id| analysis.recording.stack_of(id));
        let (end, last) = match stack {
            Some(stack) if stack.end == StackEnd::Complete => {
                ends.complete += site.total_count;
                continue;
            }
            Some(stack) => (stack.end.name(), stack.frames.last()),
            None => (MISSING, None),
        };
        *ends.incomplete.entry(end).or_default() += site.total_count;
        if end != MISSING {
            let module = last.and_then(|frame| module(*frame, &analysis.recording));
            *stopped.entry((module, end)).or_default() += site.total_count;
        }
    }
    ends.stopped_in = stopped
        .into_iter()
        .map(|((module, end), count)| StoppedIn { module, end, count })
        .collect();
    // Stable: what stops equally often stays in order of the names.
    ends.stopped_in
        .sort_by_key(|stopped| std::cmp::Reverse(stopped.count));
    ends
}
