//! `events`: the raw events that pass the filters, in the order of the trace, as they are read.

use std::io::Write;

use memleak_trace::Domain;

use super::stacks::Stacks;
use super::table::{Column, TableWriter, Unit};
use super::{Request, head, since, warn_if_incomplete};
use crate::analysis::{Analysis, survey};
use crate::filter::{self, Filter};
use crate::replay::{Replay, Site};
use crate::source::Source;
use crate::span::Span;

const COLUMNS: [Column; 9] = [
    ("at_ns", Unit::Moment),
    ("pid", Unit::Number),
    ("tid", Unit::Number),
    ("domain", Unit::Word),
    ("op", Unit::Word),
    ("address", Unit::Word),
    ("size", Unit::Bytes),
    ("stack_id", Unit::Number),
    ("function", Unit::Text),
];

/// Runs the view. The trace is read once before, for names and the time range.
pub fn run(request: &Request, out: &mut dyn Write) -> anyhow::Result<()> {
    let survey = survey(&request.trace)?;
    let filter = filter::resolve_read(&survey.recording, &request.filters)?;
    let span = Span::read(&survey.recording);
    let (start, end) = (span.start, span.end);
    let from = filter.from.unwrap_or(i64::MIN);
    let to = match request.filters.to {
        Some(moment) => span.at(moment)?,
        None => i64::MAX,
    };
    let mut source = Source::open(&request.trace)?;
    let analysis = Analysis {
        files: survey.files,
        header: survey.header,
        condition: survey.condition,
        recording: survey.recording,
        replay: Replay::default(),
        at: to.min(end),
    };
    warn_if_incomplete(&request.trace.name(), &analysis);
    let title = "events, in the order in which they took effect".to_owned();
    let head = head(request, &analysis, &filter, "events", title);
    let mut stacks = Stacks::new(&analysis);
    let mut table = TableWriter::begin(request.format, &head, &COLUMNS, out)?;
    let mut left = request.top.map_or(u64::MAX, u64::from);
    'trace: while let Some(batch) = source.next_batch() {
        let batch = batch?;
        for row in 0..batch.len() {
            let Some(event) = batch.event(row) else {
                continue;
            };
            if event.ts < from || event.ts > to || !passes(&filter, &event) {
                continue;
            }
            if left == 0 {
                break 'trace;
            }
            left -= 1;
            let frames = stacks.frames(event.stack);
            table.row(&[
                since(start, event.ts).into(),
                event.pid.into(),
                event.tid.into(),
                event.op.domain().map(Domain::name).into(),
                event.op.name().into(),
                format!("{:#x}", event.addr).into(),
                event.size.into(),
                event.stack.map(|id| id.0).into(),
                frames.first().map(|frame| frame.name()).into(),
            ])?;
        }
    }
    table.finish()
}

/// What of the filter an event alone can answer.
fn passes(filter: &Filter, event: &memleak_trace::Event) -> bool {
    filter.site(&Site::of(event))
        && filter.min_size.is_none_or(|min| event.size >= min)
        && filter.max_size.is_none_or(|max| event.size <= max)
}
