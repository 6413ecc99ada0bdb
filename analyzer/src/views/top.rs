//! `top`: who holds memory, by stack, function, module, source line, thread or size.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::rc::Rc;

use super::histogram::{Classes, SizeTotals};
use super::scaled::{Cells, Scale};
use super::stacks::{Stacks, WITH_FRAMES, domain_of};
use super::table::{Column, Estimated, Unit, Value};
use super::totals::{SiteTotals, Totals};
use super::{Replayed, Request, replay, write_ranking};
use crate::replay::{Allocation, Death, Observer, Sites};
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
            Rank::Bytes => totals.held.bytes.rounded(),
            Rank::Count => totals.held.count.rounded(),
            Rank::TotalBytes => totals.all.bytes.rounded(),
            Rank::TotalCount => totals.all.count.rounded(),
        }
    }

    /// The figure's column.
    pub fn column(self) -> Column {
        FIGURES[self as usize]
    }

    /// The figure's cell.
    pub fn cell(self, totals: &Totals, cells: &Cells) -> Value {
        match self {
            Rank::Bytes => cells.bytes(&totals.held),
            Rank::Count => cells.count(&totals.held),
            Rank::TotalBytes => cells.bytes(&totals.all),
            Rank::TotalCount => cells.count(&totals.all),
        }
    }
}

const FIGURES: [Column; 4] = [
    ("bytes", Unit::Bytes),
    ("count", Unit::Count),
    ("total_bytes", Unit::Bytes),
    ("total_count", Unit::Count),
];
const INCLUSIVE: [Column; 2] = [
    ("inclusive_bytes", Unit::Bytes),
    ("inclusive_count", Unit::Count),
];
const ESTIMATED: &[&str] = &[
    "bytes",
    "count",
    "total_bytes",
    "total_count",
    "inclusive_bytes",
    "inclusive_count",
];

/// Totals per site, or per site and size where that is what groups are made by.
enum Seen {
    Sites(SiteTotals),
    Sizes(SizeTotals),
}

impl Observer for Seen {
    fn died(&mut self, allocation: &Allocation, death: Death, sites: &Sites) {
        match self {
            Seen::Sites(totals) => totals.died(allocation, death, sites),
            Seen::Sizes(totals) => totals.died(allocation, death, sites),
        }
    }

    fn revived(&mut self, allocation: &Allocation, death: Death, sites: &Sites) {
        match self {
            Seen::Sites(totals) => totals.revived(allocation, death, sites),
            Seen::Sizes(totals) => totals.revived(allocation, death, sites),
        }
    }
}

impl Seen {
    fn outstanding(&mut self, allocation: &Allocation, sites: &Sites) {
        match self {
            Seen::Sites(totals) => totals.outstanding(allocation, sites),
            Seen::Sizes(totals) => totals.outstanding(allocation, sites),
        }
    }

    fn parts(&self) -> Vec<Part> {
        match self {
            Seen::Sites(totals) => {
                let parts = totals.iter().map(|(site, totals)| Part {
                    site,
                    class: 0,
                    totals: *totals,
                });
                parts.collect()
            }
            Seen::Sizes(totals) => {
                let parts = totals.iter().map(|(site, class, totals)| Part {
                    site,
                    class,
                    totals: *totals,
                });
                parts.collect()
            }
        }
    }
}

/// What groups are made of: the totals of a site, or of its blocks of one class of sizes.
struct Part {
    site: u32,
    class: usize,
    totals: Totals,
}

/// The figures of a group; of names, those of every stack it is in too.
#[derive(Default)]
struct Group {
    own: Totals,
    /// The least size that its blocks can have.
    least: u64,
    inclusive: Option<Totals>,
}

/// Runs the view.
pub fn run(request: &Request, key: Key, rank: Rank, out: &mut dyn Write) -> anyhow::Result<()> {
    let scale = Scale::of(&request.trace);
    let seen = match key {
        Key::Size => Seen::Sizes(SizeTotals::new(scale)),
        _ => Seen::Sites(SiteTotals::new(scale)),
    };
    let mut replayed = replay(request, seen, key == Key::Thread)?;
    replayed.tell_outstanding(Seen::outstanding);
    let parts = replayed.observer.parts();
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
        let groups = grouped(parts, |part| part.site);
        let cells = |site: &u32| stacks.cells_with_frames(&sites[*site as usize]).to_vec();
        self.write("stack", &WITH_FRAMES, groups, cells, out)
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
        let mut groups = grouped(parts, |part| {
            (domain_of(&sites[part.site as usize]), part.class)
        });
        for ((_, class), group) in &mut groups {
            (group.least, _) = Classes::size_bounds(*class);
        }
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
        let replay = &self.replayed.analysis.replay;
        let inclusive = groups.values().any(|group| group.inclusive.is_some());
        let mut columns = FIGURES.to_vec();
        if inclusive {
            columns.extend(INCLUSIVE);
        }
        columns.extend_from_slice(key_columns);
        let mut ranked: Vec<(K, Group)> = groups
            .into_iter()
            .filter(|(_, group)| {
                let all = group.inclusive.as_ref().unwrap_or(&group.own);
                self.request.large_enough(all.held.bytes.rounded())
            })
            .collect();
        // Among equals the order is that of their keys.
        ranked.sort_by_key(|(_, group)| {
            let rank = |totals: &Totals| self.rank.of(totals);
            Reverse((rank(&group.own), group.inclusive.as_ref().map(rank)))
        });
        let rows = ranked.iter().map(|(key, group)| {
            let own = Cells::of_class(replay, group.own.all.sizes, group.least);
            let mut row = own.pair(&group.own.held).to_vec();
            row.extend(own.pair(&group.own.all));
            if let Some(inclusive) = &group.inclusive {
                row.extend(Cells::new(replay, inclusive.all.sizes).pair(&inclusive.held));
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
        head.estimated = Estimated::of(replay, ESTIMATED, 2);
        write_ranking(self.request, &head, &columns, rows, out)
    }
}

fn grouped<K: Ord>(parts: &[Part], key: impl Fn(&Part) -> K) -> BTreeMap<K, Group> {
    let mut groups: BTreeMap<K, Group> = BTreeMap::new();
    for part in parts {
        groups.entry(key(part)).or_default().own.add(&part.totals);
    }
    groups
}
