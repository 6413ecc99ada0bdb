//! `top`: who holds memory, by stack, function, module, source line, thread or size.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::rc::Rc;

use memleak_trace::Domain;

use super::histogram::{Classes, SizeTotals};
use super::scaled::{BlockCounts, Figures, is_sampled};
use super::stacks::{COLUMNS, Stacks, domain_of};
use super::table::{Column, Unit, Value};
use super::totals::{SiteTotals, Totals};
use super::{Replayed, Request, replay, write_ranking};
use crate::cli::Format;
use crate::replay::{Allocation, Death, Observer, Sites};
use crate::report::Frame;
use crate::units::{show_count, show_duration};

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
/// Where figures are estimates: the ends of their intervals.
const BOUNDS: [Column; 8] = [
    ("bytes_low", Unit::Bytes),
    ("bytes_high", Unit::Bytes),
    ("count_low", Unit::Count),
    ("count_high", Unit::Count),
    ("total_bytes_low", Unit::Bytes),
    ("total_bytes_high", Unit::Bytes),
    ("total_count_low", Unit::Count),
    ("total_count_high", Unit::Count),
];
/// The same as text: how far the truth may lie from the figure.
const ERRORS: [Column; 2] = [("bytes_error", Unit::Bytes), ("count_error", Unit::Count)];

/// Totals per site, or per site and size where that is what groups are made by; and what estimates
/// need, where the trace is a sample.
struct Seen {
    sites: SiteTotals,
    sizes: Option<SizeTotals>,
    blocks: Option<BlockCounts>,
}

impl Observer for Seen {
    fn died(&mut self, allocation: &Allocation, death: Death, sites: &Sites) {
        match &mut self.sizes {
            Some(sizes) => sizes.died(allocation, death, sites),
            None => self.sites.died(allocation, death, sites),
        }
        if let Some(blocks) = &mut self.blocks {
            blocks.died(allocation, death, sites);
        }
    }

    fn revived(&mut self, allocation: &Allocation, death: Death, sites: &Sites) {
        match &mut self.sizes {
            Some(sizes) => sizes.revived(allocation, death, sites),
            None => self.sites.revived(allocation, death, sites),
        }
        if let Some(blocks) = &mut self.blocks {
            blocks.revived(allocation, death, sites);
        }
    }
}

/// What groups are made of: the figures of a site, or of its blocks of one class of sizes.
struct Part {
    site: u32,
    class: usize,
    figures: Figures,
}

/// The figures of a group; of names, those of every stack it is in too.
#[derive(Default)]
struct Group {
    own: Figures,
    inclusive: Option<Figures>,
}

/// Runs the view.
pub fn run(request: &Request, key: Key, rank: Rank, out: &mut dyn Write) -> anyhow::Result<()> {
    let seen = Seen {
        sites: SiteTotals::default(),
        sizes: (key == Key::Size).then(SizeTotals::default),
        blocks: is_sampled(&request.trace)?.then(BlockCounts::default),
    };
    let mut replayed = replay(request, seen, key == Key::Thread)?;
    let outstanding = replayed.outstanding();
    let (sites, seen) = (replayed.analysis.replay.sites(), &mut replayed.observer);
    match &mut seen.sizes {
        Some(sizes) => sizes.add_outstanding(&outstanding),
        None => seen.sites.add_outstanding(&outstanding),
    }
    if let Some(blocks) = &mut seen.blocks {
        blocks.add_outstanding(&outstanding, sites);
    }
    let parts = parts(&replayed);
    let asked = Asked {
        request,
        replayed: &replayed,
        rank,
    };
    match key {
        Key::Size => asked.by_size(&parts, out),
        Key::Stack => asked.by_stack(&parts, out),
        Key::Thread => asked.by_thread(&parts, out),
        Key::Function => asked.by_name(&parts, "function", Frame::name, out),
        Key::Line => asked.by_name(&parts, "line", Frame::line, out),
        Key::Module => {
            let module =
                |frame: &Frame| frame.module.clone().unwrap_or_else(|| "unknown".to_owned());
            asked.by_name(&parts, "module", module, out)
        }
    }
}

/// All that was seen, in parts; heap blocks as what they stand for.
fn parts(replayed: &Replayed<Seen>) -> Vec<Part> {
    let seen = &replayed.observer;
    let sites = replayed.analysis.replay.sites().as_slice();
    let exact = |site: u32, class: usize, totals: &Totals| Part {
        site,
        class,
        figures: totals.into(),
    };
    let mut parts: Vec<Part> = match &seen.sizes {
        Some(sizes) => {
            let classes = sizes.iter();
            classes
                .map(|(site, class, totals)| exact(site, class, totals))
                .collect()
        }
        None => {
            let all = seen.sites.iter();
            all.map(|(site, totals)| exact(site, 0, totals)).collect()
        }
    };
    if let (Some(blocks), Some(estimates)) = (&seen.blocks, replayed.analysis.replay.estimates()) {
        parts.retain(|part| sites[part.site as usize].op.domain() != Some(Domain::Heap));
        let heap = blocks.figures(estimates);
        parts.extend(heap.map(|(site, size, figures)| Part {
            site,
            class: Classes::of_size(size),
            figures,
        }));
    }
    parts
}

/// What is asked, of what was replayed.
struct Asked<'a> {
    request: &'a Request,
    replayed: &'a Replayed<Seen>,
    rank: Rank,
}

impl Asked<'_> {
    fn by_stack(&self, parts: &[Part], out: &mut dyn Write) -> anyhow::Result<()> {
        let sites = self.replayed.analysis.replay.sites().as_slice();
        let mut stacks = Stacks::new(&self.replayed.analysis);
        let mut columns = COLUMNS.to_vec();
        columns.push(("frames", Unit::Frames));
        let groups = grouped(parts, |part| part.site);
        let cells = |site: &u32| {
            let site = &sites[*site as usize];
            let mut cells = stacks.cells(site).to_vec();
            cells.push(Value::Frames(stacks.frames(site.stack)));
            cells
        };
        self.write("stack", &columns, groups, cells, out)
    }

    fn by_thread(&self, parts: &[Part], out: &mut dyn Write) -> anyhow::Result<()> {
        let sites = self.replayed.analysis.replay.sites().as_slice();
        let groups = grouped(parts, |part| {
            let site = &sites[part.site as usize];
            (domain_of(site), site.pid, site.tid)
        });
        let columns = [
            ("domain", Unit::Word),
            ("pid", Unit::Number),
            ("tid", Unit::Number),
        ];
        let cells = |(domain, pid, tid): &(&'static str, i32, i32)| {
            vec![(*domain).into(), (*pid).into(), (*tid).into()]
        };
        self.write("thread", &columns, groups, cells, out)
    }

    fn by_size(&self, parts: &[Part], out: &mut dyn Write) -> anyhow::Result<()> {
        let sites = self.replayed.analysis.replay.sites().as_slice();
        let groups = grouped(parts, |part| {
            (domain_of(&sites[part.site as usize]), part.class)
        });
        let columns = [
            ("domain", Unit::Word),
            ("from_bytes", Unit::Bytes),
            ("to_bytes", Unit::Bytes),
        ];
        let cells = |(domain, class): &(&'static str, usize)| {
            let (from, to) = Classes::size_bounds(*class);
            vec![(*domain).into(), from.into(), to.into()]
        };
        self.write("size", &columns, groups, cells, out)
    }

    /// A name has its own allocations, and those of every stack it is in (once per stack, however often it
    /// stands there).
    fn by_name(
        &self,
        parts: &[Part],
        what: &'static str,
        name_of: impl Fn(&Frame) -> String,
        out: &mut dyn Write,
    ) -> anyhow::Result<()> {
        let sites = self.replayed.analysis.replay.sites().as_slice();
        let mut stacks = Stacks::new(&self.replayed.analysis);
        let mut groups: BTreeMap<(&'static str, Rc<str>), Group> = BTreeMap::new();
        for (site, group) in grouped(parts, |part| part.site) {
            let site = &sites[site as usize];
            let frames = stacks.frames(site.stack);
            let mut names: Vec<Rc<str>> =
                frames.iter().map(|frame| name_of(frame).into()).collect();
            if names.is_empty() {
                names.push("(no stack)".into());
            }
            let domain = domain_of(site);
            let leaf = groups.entry((domain, names[0].clone())).or_default();
            leaf.own.add(&group.own);
            for name in names.into_iter().collect::<BTreeSet<_>>() {
                let named = groups.entry((domain, name)).or_default();
                named.inclusive.get_or_insert_default().add(&group.own);
            }
        }
        let columns = [("domain", Unit::Word), (what, Unit::Text)];
        let cells =
            |(domain, name): &(&'static str, Rc<str>)| vec![(*domain).into(), Value::from(&**name)];
        self.write(what, &columns, groups, cells, out)
    }

    /// Ranks the groups and writes a row for each; `cells` are those of its key.
    fn write<K: Ord>(
        &self,
        what: &str,
        key_columns: &[Column],
        groups: BTreeMap<K, Group>,
        mut cells: impl FnMut(&K) -> Vec<Value>,
        out: &mut dyn Write,
    ) -> anyhow::Result<()> {
        let estimates = self.replayed.analysis.replay.estimates();
        let is_text = self.request.format == Format::Text;
        let inclusive = groups.values().any(|group| group.inclusive.is_some());
        let mut columns = FIGURES.to_vec();
        if estimates.is_some() {
            columns.extend_from_slice(if is_text { &ERRORS } else { &BOUNDS });
        }
        if inclusive {
            columns.extend([
                ("inclusive_bytes", Unit::Bytes),
                ("inclusive_count", Unit::Count),
            ]);
            if estimates.is_some() && !is_text {
                columns.extend([
                    ("inclusive_bytes_low", Unit::Bytes),
                    ("inclusive_bytes_high", Unit::Bytes),
                    ("inclusive_count_low", Unit::Count),
                    ("inclusive_count_high", Unit::Count),
                ]);
            }
        }
        columns.extend_from_slice(key_columns);
        let mut ranked: Vec<(K, Group)> = groups
            .into_iter()
            .filter(|(_, group)| {
                let all = group.inclusive.as_ref().unwrap_or(&group.own);
                self.request.large_enough(all.totals().bytes)
            })
            .collect();
        // Among equals the order is that of their keys.
        ranked.sort_by_key(|(_, group)| {
            let rank = |figures: &Figures| self.rank.of(&figures.totals());
            Reverse((rank(&group.own), group.inclusive.as_ref().map(rank)))
        });
        let rows = ranked.iter().map(|(key, group)| {
            let totals = group.own.totals();
            let mut row: Vec<Value> = vec![
                totals.bytes.into(),
                totals.count.into(),
                totals.total_bytes.into(),
                totals.total_count.into(),
            ];
            if estimates.is_some() {
                let intervals = group.own.intervals(estimates);
                if is_text {
                    row.push(error(totals.bytes, intervals[0]));
                    row.push(error(totals.count, intervals[1]));
                } else {
                    row.extend(intervals.iter().flat_map(ends));
                }
            }
            if let Some(inclusive) = &group.inclusive {
                let totals = inclusive.totals();
                row.extend([totals.bytes.into(), totals.count.into()]);
                if estimates.is_some() && !is_text {
                    row.extend(inclusive.intervals(estimates)[..2].iter().flat_map(ends));
                }
            }
            row.extend(cells(key));
            row
        });
        let rows = rows.collect();
        let start = self.replayed.analysis.recording.start();
        let title = format!(
            "allocations by {what}: outstanding {} after the start, and in all",
            show_duration(super::since(start, self.replayed.analysis.at))
        );
        let mut head = self.replayed.head(self.request, "top", title);
        head.estimated = true;
        write_ranking(self.request, &head, &columns, rows, out)
    }
}

fn grouped<K: Ord>(parts: &[Part], key: impl Fn(&Part) -> K) -> BTreeMap<K, Group> {
    let mut groups: BTreeMap<K, Group> = BTreeMap::new();
    for part in parts {
        groups.entry(key(part)).or_default().own.add(&part.figures);
    }
    groups
}

fn ends((low, high): &(u64, u64)) -> [Value; 2] {
    [(*low).into(), (*high).into()]
}

/// `± 1,234`: the farther end of the interval.
fn error(figure: u64, (low, high): (u64, u64)) -> Value {
    let error = figure.abs_diff(low).max(figure.abs_diff(high));
    Value::Text(format!("± {}", show_count(error)))
}
