//! The other questions: each a pass over the trace, and a table.
//!
//! A view is an observer of births and deaths (or reads what is outstanding at the end), and rows.
//! [`replay`] runs it over what the filter lets through; [`table`] writes the rows.

pub mod allocs;
pub mod diff;
pub mod events;
pub mod export;
mod filtered;
pub mod histogram;
#[cfg(test)]
mod model;
pub mod peak;
mod scaled;
pub mod series;
mod stacks;
pub mod table;
pub mod temporary;
mod text_table;
pub mod timeline;
pub mod top;
mod totals;
pub mod tree;
pub mod window;

use std::io::Write;
use std::path::Path;

use crate::analysis::{Analysis, analyze_observed};
use crate::cli::Format;
use crate::filter::{self, Filter, Shown};
use crate::replay::{Allocation, Observer, Sites};
use crate::report;
use crate::series::Series;

use filtered::Filtered;
use table::{Column, Estimated, Head, TableWriter, Value};

/// What every view is asked.
#[derive(Clone, Debug)]
pub struct Request {
    pub trace: Series,
    pub filters: filter::Options,
    /// At most so many rows (stacks, where rows belong to stacks).
    pub top: Option<u32>,
    pub format: Format,
}

/// Stacks or groups shown as text unless asked otherwise.
const TEXT_TOP: usize = 10;

impl Request {
    /// How many rows: as text ten unless asked otherwise, else all.
    fn limit(&self) -> usize {
        match (self.top, self.format) {
            (Some(top), _) => top as usize,
            (None, Format::Text) => TEXT_TOP,
            (None, _) => usize::MAX,
        }
    }

    /// Whether a group with so many bytes is shown.
    fn large_enough(&self, bytes: u64) -> bool {
        self.filters.min_bytes.is_none_or(|min| bytes >= min)
    }
}

/// A trace that was replayed for a view.
struct Replayed<O> {
    analysis: Analysis,
    filter: Filter,
    observer: O,
}

/// Replays the trace of a request; `observer` hears of what passes the filters. `by_thread`: sites are
/// told apart by thread.
fn replay<O: Observer>(
    request: &Request,
    observer: O,
    by_thread: bool,
) -> anyhow::Result<Replayed<O>> {
    let filter = filter::resolve(&request.trace, &request.filters)?;
    replay_with(&request.trace, request, filter, observer, by_thread)
}

fn replay_with<O: Observer>(
    trace: &Series,
    request: &Request,
    filter: Filter,
    observer: O,
    by_thread: bool,
) -> anyhow::Result<Replayed<O>> {
    let filtered = Filtered::new(filter, observer);
    let moment = request.filters.to.unwrap_or_default();
    let by_thread = by_thread || request.filters.needs_threads();
    let (analysis, filtered) = analyze_observed(trace, moment, filtered, by_thread)?;
    warn_if_incomplete(&trace.name(), &analysis);
    let (filter, observer) = filtered.into_parts();
    Ok(Replayed {
        analysis,
        filter,
        observer,
    })
}

/// The report says it too; a warning that cannot be written is not worth an error.
pub fn warn_if_incomplete(trace: &Path, analysis: &Analysis) {
    if !analysis.condition.complete {
        let remarks = analysis.condition.remarks.join(" ");
        let _ = writeln!(
            std::io::stderr(),
            "warning: {}: the trace is incomplete: {remarks}",
            trace.display()
        );
    }
}

impl<O> Replayed<O> {
    /// What is outstanding and passes the filter.
    fn outstanding(&self) -> Vec<Allocation> {
        let replay = &self.analysis.replay;
        let sites = self.filter.sites(replay);
        let outstanding = self.filter.outstanding_of(replay, self.analysis.at, &sites);
        outstanding.collect()
    }

    /// Tells the observer of what is outstanding, of which it has heard no death.
    fn tell_outstanding(&mut self, tell: impl Fn(&mut O, &Allocation, &Sites)) {
        let outstanding = self.outstanding();
        let sites = self.analysis.replay.sites();
        for allocation in &outstanding {
            tell(&mut self.observer, allocation, sites);
        }
    }

    fn head(&self, request: &Request, view: &'static str, title: String) -> Head {
        head(request, &self.analysis, &self.filter, view, title)
    }
}

fn head(
    request: &Request,
    analysis: &Analysis,
    filter: &Filter,
    view: &'static str,
    title: String,
) -> Head {
    let start = analysis.recording.start();
    Head {
        view,
        title,
        trace: report::trace(&request.trace.name(), analysis),
        at_ns: since(start, analysis.at),
        filters: Shown::new(&request.filters, filter, start, request.top),
        estimated: Estimated::default(),
    }
}

/// Nanoseconds from the start to a moment; never negative.
fn since(start: i64, ts: i64) -> u64 {
    u64::try_from(ts.saturating_sub(start)).unwrap_or(0)
}

/// Writes a whole table.
fn write_table(
    format: Format,
    head: &Head,
    columns: &[Column],
    rows: impl Iterator<Item = Vec<Value>>,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let mut table = TableWriter::begin(format, head, columns, out)?;
    for row in rows {
        table.row(&row)?;
    }
    table.finish()
}

/// Writes the first rows of a ranking, and says how many are left out.
fn write_ranking(
    request: &Request,
    head: &Head,
    columns: &[Column],
    rows: Vec<Vec<Value>>,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let (all, limit) = (rows.len(), request.limit());
    let mut table = TableWriter::begin(request.format, head, columns, out)?;
    for row in rows.iter().take(limit) {
        table.row(row)?;
    }
    if all > limit {
        table.remark(&format!("({} more; --top {all} shows all)", all - limit))?;
    }
    table.finish()
}
