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

use super::scaled::{Amount, Cells, Scale};
use super::stacks::{Stacks, WITH_FRAMES, domain_of};
use super::table::{Column, Estimated, Unit, Value};
use super::{Request, head, replay_with, since, write_ranking, write_table};
use crate::estimate::Sizes;
use crate::filter;
use crate::replay::{Allocation, Death, Observer, Sites};
use crate::units::show_duration;

const CLASSES: [&str; 4] = ["AIFI", "AIFO", "AOFI", "AOFO"];

/// What belongs to the four classes, per site.
#[derive(Debug)]
struct Window {
    /// Timestamp; the replay ends where the window does.
    from: i64,
    scale: Scale,
    sites: Vec<[Amount; 4]>,
}

impl Window {
    fn of(&mut self, allocation: &Allocation, freed: bool) -> &mut Amount {
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
    fn died(&mut self, allocation: &Allocation, death: Death, sites: &Sites) {
        if death.at >= self.from {
            let amount = self.scale.amount(allocation, sites);
            self.of(allocation, true).add(&amount);
        }
    }

    fn revived(&mut self, allocation: &Allocation, death: Death, sites: &Sites) {
        if death.at >= self.from {
            let amount = self.scale.amount(allocation, sites);
            self.of(allocation, true).remove(&amount);
        }
    }
}

/// Runs the view.
pub fn run(request: &Request, per_stack: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut filter = filter::resolve(&request.trace, &request.filters)?;
    let from = filter.from.take().unwrap_or(i64::MIN);
    let window = Window {
        from,
        scale: Scale::of(&request.trace),
        sites: Vec::new(),
    };
    let mut replayed = replay_with(&request.trace, request, filter, window, false)?;
    replayed.tell_outstanding(|window, allocation, sites| {
        let amount = window.scale.amount(allocation, sites);
        window.of(allocation, false).add(&amount);
    });
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
    let replay = &analysis.replay;
    let sites = replay.sites().as_slice();
    if per_stack {
        head.estimated = Estimated::of(replay, ESTIMATED_PER_STACK, 1);
        let mut ranked: Vec<(usize, &[Amount; 4])> = window.sites.iter().enumerate().collect();
        ranked.retain(|(_, classes)| {
            classes.iter().any(|amount| !amount.is_empty())
                && request.large_enough(classes[1].bytes.rounded())
        });
        ranked.sort_by_key(|(site, classes)| {
            (
                Reverse(classes[1].bytes.rounded()),
                Reverse(classes[0].bytes.rounded()),
                *site,
            )
        });
        let mut stacks = Stacks::new(analysis);
        let rows = ranked.into_iter().map(|(site, classes)| {
            let site = &sites[site];
            let cells = Cells::new(replay, sizes(classes));
            let figures = classes.iter().flat_map(|amount| cells.pair(amount));
            let mut row: Vec<Value> = figures.collect();
            row.extend(stacks.cells_with_frames(site));
            row
        });
        let rows = rows.collect();
        return write_ranking(request, &head, &per_stack_columns(), rows, out);
    }
    let mut domains: BTreeMap<&str, [Amount; 4]> = BTreeMap::new();
    for (site, classes) in sites.iter().zip(&window.sites) {
        let sums = domains.entry(domain_of(site)).or_default();
        for (sum, amount) in sums.iter_mut().zip(classes) {
            sum.add(amount);
        }
    }
    domains.retain(|_, classes| request.large_enough(classes[1].bytes.rounded()));
    let columns: [Column; 4] = [
        ("domain", Unit::Word),
        ("class", Unit::Word),
        ("bytes", Unit::Bytes),
        ("count", Unit::Count),
    ];
    let rows = domains.iter().flat_map(|(domain, classes)| {
        let cells = Cells::new(replay, sizes(classes));
        CLASSES.iter().zip(classes).map(move |(class, amount)| {
            let mut row: Vec<Value> = vec![(*domain).into(), (*class).into()];
            row.extend(cells.pair(amount));
            row
        })
    });
    head.estimated = Estimated::of(replay, &["bytes", "count"], 2);
    write_table(request.format, &head, &columns, rows, out)
}

fn sizes(classes: &[Amount; 4]) -> Sizes {
    let mut sizes = Sizes::NONE;
    classes.iter().for_each(|amount| sizes.merge(amount.sizes));
    sizes
}

/// First what the window left behind.
const ESTIMATED_PER_STACK: &[&str] = &[
    "aifo_bytes",
    "aifo_count",
    "aifi_bytes",
    "aifi_count",
    "aofi_bytes",
    "aofi_count",
    "aofo_bytes",
    "aofo_count",
];

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
    columns.extend(WITH_FRAMES);
    columns
}
