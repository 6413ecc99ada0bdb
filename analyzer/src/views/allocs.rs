//! `allocs`: each outstanding allocation, largest or oldest first.

use std::io::Write;

use super::stacks::{COLUMNS, Stacks, cells};
use super::table::{TableWriter, Unit, Value};
use super::{Request, replay, since};
use crate::units::show_duration;

/// What comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    #[default]
    Size,
    Age,
    Address,
}

/// Runs the view: every allocation, unless the request has a limit.
pub fn run(request: &Request, order: Order, out: &mut dyn Write) -> anyhow::Result<()> {
    let replayed = replay(request, (), true)?;
    let analysis = &replayed.analysis;
    let start = analysis.recording.start();
    let mut outstanding = replayed.outstanding();
    match order {
        Order::Size => outstanding.sort_unstable_by_key(|a| (u64::MAX - a.size, a.addr, a.born)),
        Order::Age => outstanding.sort_unstable_by_key(|a| (a.born, a.addr)),
        Order::Address => outstanding.sort_unstable_by_key(|a| (a.addr, a.born)),
    }
    let title = format!(
        "allocations outstanding {} after the start",
        show_duration(since(start, analysis.at))
    );
    let mut columns = vec![
        ("address", Unit::Word),
        ("size", Unit::Bytes),
        ("age_ns", Unit::Nanoseconds),
        ("born_ns", Unit::Nanoseconds),
        ("tid", Unit::Number),
    ];
    columns.extend(COLUMNS);
    columns.push(("function", Unit::Text));
    let sites = analysis.replay.sites().as_slice();
    let mut stacks = Stacks::new(analysis);
    let head = replayed.head(request, "allocs", title);
    let mut table = TableWriter::begin(request.format, &head, &columns, out)?;
    let limit = request.top.map_or(usize::MAX, |top| top as usize);
    for allocation in outstanding.iter().take(limit) {
        let site = &sites[allocation.site as usize];
        let mut row: Vec<Value> = vec![
            format!("{:#x}", allocation.addr).into(),
            allocation.size.into(),
            allocation.age(analysis.at).into(),
            since(start, allocation.born).into(),
            site.tid.into(),
        ];
        row.extend(cells(site));
        let frames = stacks.frames(site.stack);
        row.push(frames.first().map(|frame| frame.name()).into());
        table.row(&row)?;
    }
    table.finish()
}
