//! `top`: who holds memory, by stack, function, module, source line, thread or size.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::io::Write;
use std::rc::Rc;

use super::histogram::{Classes, SizeTotals};
use super::stacks::{COLUMNS, Stacks, domain_of};
use super::table::{Column, Unit, Value};
use super::totals::{SiteTotals, Totals};
use super::{Replayed, Request, replay, write_ranking};
use crate::report::Frame;
use crate::units::show_duration;

/// What allocations are grouped by. Domains are always apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Key {
    #[default]
    Stack,
    /// The caller of the allocation function.
    Function,
    /// The module of the caller.
    Module,
    /// The source line of the call.
    Line,
    Thread,
    /// Powers of two.
    Size,
}

/// What groups are ranked by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rank {
    #[default]
    Bytes,
    Count,
    TotalBytes,
    TotalCount,
}

impl Rank {
    pub fn of(self, totals: &Totals) -> u64 {
        match self {
            Rank::Bytes => totals.bytes,
            Rank::Count => totals.count,
            Rank::TotalBytes => totals.total_bytes,
            Rank::TotalCount => totals.total_count,
        }
    }
}

const FIGURES: [Column; 4] = [
    ("bytes", Unit::Bytes),
    ("count", Unit::Count),
    ("total_bytes", Unit::Bytes),
    ("total_count", Unit::Count),
];

fn figures(totals: &Totals) -> [Value; 4] {
    [
        totals.bytes.into(),
        totals.count.into(),
        totals.total_bytes.into(),
        totals.total_count.into(),
    ]
}

/// Runs the view.
pub fn run(request: &Request, key: Key, rank: Rank, out: &mut dyn Write) -> anyhow::Result<()> {
    match key {
        Key::Size => by_size(request, rank, out),
        Key::Stack => {
            let replayed = totals(request, false)?;
            by_stack(request, &replayed, rank, out)
        }
        Key::Thread => {
            let replayed = totals(request, true)?;
            by_thread(request, &replayed, rank, out)
        }
        Key::Function | Key::Module | Key::Line => {
            let replayed = totals(request, false)?;
            by_name(request, &replayed, key, rank, out)
        }
    }
}

/// Replays with totals per site.
fn totals(request: &Request, by_thread: bool) -> anyhow::Result<Replayed<SiteTotals>> {
    let mut replayed = replay(request, SiteTotals::default(), by_thread)?;
    let outstanding = replayed.outstanding();
    replayed.observer.add_outstanding(&outstanding);
    Ok(replayed)
}

fn title<O>(replayed: &Replayed<O>, what: &str) -> String {
    let start = replayed.analysis.recording.start();
    format!(
        "allocations by {what}: outstanding {} after the start, and in all",
        show_duration(super::since(start, replayed.analysis.at))
    )
}

fn by_stack(
    request: &Request,
    replayed: &Replayed<SiteTotals>,
    rank: Rank,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let sites = replayed.analysis.replay.sites().as_slice();
    let mut stacks = Stacks::new(&replayed.analysis);
    let mut groups: Vec<(u32, Totals)> = replayed
        .observer
        .iter()
        .map(|(site, totals)| (site, *totals))
        .collect();
    groups.sort_by_key(|(site, totals)| (Reverse(rank.of(totals)), *site));
    let mut columns = FIGURES.to_vec();
    columns.extend(COLUMNS);
    columns.push(("frames", Unit::Frames));
    let groups = groups
        .iter()
        .filter(|(_, totals)| request.large_enough(totals.bytes));
    let rows = groups.map(|(site, totals)| {
        let site = &sites[*site as usize];
        let mut row = figures(totals).to_vec();
        row.extend(stacks.cells(site));
        row.push(Value::Frames(stacks.frames(site.stack)));
        row
    });
    let rows = rows.collect();
    let head = replayed.head(request, "top", title(replayed, "stack"));
    write_ranking(request, &head, &columns, rows, out)
}

fn by_thread(
    request: &Request,
    replayed: &Replayed<SiteTotals>,
    rank: Rank,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let sites = replayed.analysis.replay.sites().as_slice();
    let mut groups: HashMap<(&str, i32, i32), Totals> = HashMap::new();
    for (site, totals) in replayed.observer.iter() {
        let site = &sites[site as usize];
        let group = groups.entry((domain_of(site), site.pid, site.tid));
        group.or_default().add(totals);
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(key, totals)| (Reverse(rank.of(totals)), *key));
    let mut columns = FIGURES.to_vec();
    columns.extend([
        ("domain", Unit::Word),
        ("pid", Unit::Number),
        ("tid", Unit::Number),
    ]);
    let groups = groups
        .iter()
        .filter(|(_, totals)| request.large_enough(totals.bytes));
    let rows = groups.map(|((domain, pid, tid), totals)| {
        let mut row = figures(totals).to_vec();
        row.extend([(*domain).into(), (*pid).into(), (*tid).into()]);
        row
    });
    let rows = rows.collect();
    let head = replayed.head(request, "top", title(replayed, "thread"));
    write_ranking(request, &head, &columns, rows, out)
}

/// A name's own allocations, and those of every stack it is in (once per stack, however often it
/// stands there).
#[derive(Default)]
struct Named {
    own: Totals,
    inclusive: Totals,
}

fn by_name(
    request: &Request,
    replayed: &Replayed<SiteTotals>,
    key: Key,
    rank: Rank,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let (what, name_of): (&'static str, fn(&Frame) -> String) = match key {
        Key::Module => ("module", |frame| {
            frame.module.clone().unwrap_or_else(|| "unknown".to_owned())
        }),
        Key::Line => ("line", Frame::line),
        _ => ("function", Frame::name),
    };
    let sites = replayed.analysis.replay.sites().as_slice();
    let mut stacks = Stacks::new(&replayed.analysis);
    let mut groups: HashMap<(&str, Rc<str>), Named> = HashMap::new();
    for (site, totals) in replayed.observer.iter() {
        let site = &sites[site as usize];
        let frames = stacks.frames(site.stack);
        let mut names: Vec<Rc<str>> = frames.iter().map(|frame| name_of(frame).into()).collect();
        if names.is_empty() {
            names.push("(no stack)".into());
        }
        let domain = domain_of(site);
        groups
            .entry((domain, names[0].clone()))
            .or_default()
            .own
            .add(totals);
        for name in names.into_iter().collect::<BTreeSet<_>>() {
            groups
                .entry((domain, name))
                .or_default()
                .inclusive
                .add(totals);
        }
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by(|(one, a), (other, b)| {
        let ranks = |named: &Named| (rank.of(&named.own), rank.of(&named.inclusive));
        ranks(b).cmp(&ranks(a)).then_with(|| one.cmp(other))
    });
    let mut columns = FIGURES.to_vec();
    columns.extend([
        ("inclusive_bytes", Unit::Bytes),
        ("inclusive_count", Unit::Count),
        ("domain", Unit::Word),
        (what, Unit::Text),
    ]);
    let groups = groups
        .iter()
        .filter(|(_, named)| request.large_enough(named.inclusive.bytes));
    let rows = groups.map(|((domain, name), named)| {
        let mut row = figures(&named.own).to_vec();
        row.extend([
            named.inclusive.bytes.into(),
            named.inclusive.count.into(),
            (*domain).into(),
            (**name).into(),
        ]);
        row
    });
    let rows = rows.collect();
    let head = replayed.head(request, "top", title(replayed, what));
    write_ranking(request, &head, &columns, rows, out)
}

fn by_size(request: &Request, rank: Rank, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut replayed = replay(request, SizeTotals::default(), false)?;
    let outstanding = replayed.outstanding();
    let sites = replayed.analysis.replay.sites();
    replayed.observer.add_outstanding(&outstanding);
    let mut groups: Vec<((&str, usize), Totals)> = replayed.observer.by_domain(sites);
    groups.sort_by_key(|(key, totals)| (Reverse(rank.of(totals)), *key));
    let mut columns = FIGURES.to_vec();
    columns.extend([
        ("domain", Unit::Word),
        ("from_bytes", Unit::Bytes),
        ("to_bytes", Unit::Bytes),
    ]);
    let groups = groups
        .iter()
        .filter(|(_, totals)| request.large_enough(totals.bytes));
    let rows = groups.map(|((domain, class), totals)| {
        let mut row = figures(totals).to_vec();
        let (from, to) = Classes::size_bounds(*class);
        row.extend([(*domain).into(), from.into(), to.into()]);
        row
    });
    let rows = rows.collect();
    let head = replayed.head(request, "top", title(&replayed, "size"));
    write_ranking(request, &head, &columns, rows, out)
}
