//! `window`: allocated inside or outside of a window of time × freed inside or outside of it.
//!
//! | class | allocated | freed |
//! |---|---|---|
//! | AIFI | in the window | in the window |
//! | AIFO | in the window | after it, or never: what the window left behind |
//! | AOFI | before it | in the window |
//! | AOFO | before it | after it, or never |
//!
//! What was freed before the window or allocated after it belongs to none.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::Write;

use super::stacks::{COLUMNS, Stacks, domain_of};
use super::table::{Column, Unit, Value};
use super::totals::Totals;
use super::{Request, head, replay_with, since, write_ranking, write_table};
use crate::filter;
use crate::replay::{Allocation, Death, Observer, Sites};
use crate::units::show_duration;

const CLASSES: [&str; 4] = ["AIFI", "AIFO", "AOFI", "AOFO"];

/// Totals of the four classes, per site.
#[derive(Debug)]
struct Window {
    /// Timestamp; the replay ends where the window does.
    from: i64,
    sites: Vec<[Totals; 4]>,
}

impl Window {
    fn of(&mut self, allocation: &Allocation, freed: bool) -> &mut Totals {
        let class = match (allocation.born >= self.from, freed) {
            (true, true) => 0,
            (true, false) => 1,
            (false, true) => 2,
            (false, false) => 3,
        };
        let index = allocation.site as usize;
        if index >= self.sites.len() {
            self.sites.resize(index + 1, Default::default());
        }
        &mut self.sites[index][class]
    }
}

impl Observer for Window {
    fn died(&mut self, allocation: &Allocation, death: Death, _: &Sites) {
        if death.at >= self.from {
            self.of(allocation, true).freed(allocation);
        }
    }

    fn revived(&mut self, allocation: &Allocation, death: Death, _: &Sites) {
        if death.at >= self.from {
            self.of(allocation, true).not_freed(allocation);
        }
    }
}

/// Runs the view.
pub fn run(request: &Request, per_stack: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut filter = filter::resolve(&request.trace, &request.filters)?;
    let from = filter.from.take().unwrap_or(i64::MIN);
    let window = Window {
        from,
        sites: Vec::new(),
    };
    let mut replayed = replay_with(&request.trace, request, filter, window, false)?;
    for allocation in replayed.outstanding() {
        replayed.observer.of(&allocation, false).freed(&allocation);
    }
    let (analysis, window) = (&replayed.analysis, &replayed.observer);
    let start = analysis.recording.start();
    let from = since(start, from.max(start));
    let title = format!(
        "allocated inside or outside × freed inside or outside of the window from {} to {} after the start",
        show_duration(from),
        show_duration(since(start, analysis.at)),
    );
    let mut head = head(request, analysis, &replayed.filter, "window", title);
    head.filters.from_is_range = true;
    head.filters.from_ns = request.filters.from.map(|_| from);
    let sites = analysis.replay.sites().as_slice();
    if per_stack {
        let mut ranked: Vec<(usize, &[Totals; 4])> = window.sites.iter().enumerate().collect();
        ranked.retain(|(_, classes)| {
            classes.iter().any(|totals| !totals.is_empty())
                && request.large_enough(classes[1].total_bytes)
        });
        ranked.sort_by_key(|(site, classes)| {
            (
                Reverse(classes[1].total_bytes),
                Reverse(classes[0].total_bytes),
                *site,
            )
        });
        let mut stacks = Stacks::new(analysis);
        let rows = ranked.into_iter().map(|(site, classes)| {
            let site = &sites[site];
            let figures = classes
                .iter()
                .flat_map(|totals| [totals.total_bytes.into(), totals.total_count.into()]);
            let mut row: Vec<Value> = figures.collect();
            row.extend(stacks.cells(site));
            row.push(Value::Frames(stacks.frames(site.stack)));
            row
        });
        let rows = rows.collect();
        return write_ranking(request, &head, &per_stack_columns(), rows, out);
    }
    let mut domains: BTreeMap<&str, [Totals; 4]> = BTreeMap::new();
    for (site, classes) in sites.iter().zip(&window.sites) {
        let sums = domains.entry(domain_of(site)).or_default();
        for (sum, totals) in sums.iter_mut().zip(classes) {
            sum.add(totals);
        }
    }
    let columns: [Column; 4] = [
        ("domain", Unit::Word),
        ("class", Unit::Word),
        ("bytes", Unit::Bytes),
        ("count", Unit::Count),
    ];
    let rows = domains.iter().flat_map(|(domain, classes)| {
        CLASSES.iter().zip(classes).map(|(class, totals)| {
            vec![
                (*domain).into(),
                (*class).into(),
                totals.total_bytes.into(),
                totals.total_count.into(),
            ]
        })
    });
    write_table(request.format, &head, &columns, rows, out)
}

fn per_stack_columns() -> Vec<Column> {
    let mut columns = vec![
        ("aifi_bytes", Unit::Bytes),
        ("aifi_count", Unit::Count),
        ("aifo_bytes", Unit::Bytes),
        ("aifo_count", Unit::Count),
        ("aofi_bytes", Unit::Bytes),
        ("aofi_count", Unit::Count),
        ("aofo_bytes", Unit::Bytes),
        ("aofo_count", Unit::Count),
    ];
    columns.extend(COLUMNS);
    columns.push(("frames", Unit::Frames));
    columns
}
