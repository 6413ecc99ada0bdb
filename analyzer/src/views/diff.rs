//! `diff`: what changed between two moments of a trace, or between two traces, by stack.
//!
//! Stacks of two traces are the same if their frames are: by build id and offset in the file, or by
//! function and module. Two recordings differ in length, so rates stand beside the differences.
//!
//! Of samples, the difference has an interval of its own. Blocks of one trace that are outstanding at
//! both moments cancel out, whether they were recorded or not, so it is made of the others.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::rc::Rc;

use memleak_trace::FrameId;
use memleak_trace::stack::Location;

use super::scaled::{Amount, Cells, differences};
use super::stacks::{Stacks, domain_of};
use super::table::{Column, Estimated, Unit, Value};
use super::totals::{SiteTotals, Totals, replay_totals};
use super::{Replayed, Request, since, write_ranking};
use crate::analysis::Moment;
use crate::estimate::Sum;
use crate::filter;
use crate::recording::Recording;
use crate::replay::Allocation;
use crate::report::Frame;
use crate::series::Series;
use crate::units::show_duration;

/// What makes two stacks the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Match {
    /// Functions and modules by name: also between two builds.
    #[default]
    Names,
    /// Build id and offset in the file: exact, within one build.
    Offsets,
}

/// What is compared.
#[derive(Clone, Copy, Debug)]
pub enum Compared<'a> {
    /// The moment of the request and an earlier one.
    Since(Moment),
    /// The trace of the request with this newer one.
    With(&'a Series),
}

type Key = (&'static str, &'static str, Vec<String>);

#[derive(Default)]
struct Side {
    totals: Totals,
    /// What of it is not outstanding on the other side, too.
    apart: Amount,
    frames: Option<Rc<Vec<Frame>>>,
}

const COLUMNS: [Column; 11] = [
    ("delta_bytes", Unit::Bytes),
    ("delta_count", Unit::Count),
    ("delta_bytes_per_s", Unit::BytesPerSecond),
    ("a_bytes", Unit::Bytes),
    ("a_count", Unit::Count),
    ("b_bytes", Unit::Bytes),
    ("b_count", Unit::Count),
    ("allocated_bytes_per_s", Unit::BytesPerSecond),
    ("domain", Unit::Word),
    ("op", Unit::Word),
    ("frames", Unit::Frames),
];

const ESTIMATED: &[&str] = &[
    "delta_bytes",
    "delta_count",
    "a_bytes",
    "a_count",
    "b_bytes",
    "b_count",
];

/// Runs the view.
pub fn run(
    request: &Request,
    compared: Compared,
    by: Match,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let (a, b) = match compared {
        Compared::Since(earlier) => {
            let before = Request {
                filters: filter::Options {
                    to: Some(earlier),
                    ..request.filters.clone()
                },
                ..request.clone()
            };
            (
                replay_totals(&before, &request.trace)?,
                replay_totals(request, &request.trace)?,
            )
        }
        Compared::With(newer) => (
            replay_totals(request, &request.trace)?,
            replay_totals(request, newer)?,
        ),
    };
    let length = |side: &Replayed<SiteTotals>| {
        let start = side.analysis.recording.start();
        since(start, side.analysis.at)
    };
    let (a_ns, b_ns) = (length(&a), length(&b));
    let (between, newer) = match compared {
        Compared::Since(_) => (true, &request.trace),
        Compared::With(newer) => (false, newer),
    };
    let mut both = HashSet::new();
    let is_sampled = |side: &Replayed<SiteTotals>| side.analysis.replay.estimates().is_some();
    let is_sampled = is_sampled(&a) || is_sampled(&b);
    if between && is_sampled {
        let at_a: HashSet<Block> = a.outstanding().iter().map(block).collect();
        let at_b = b.outstanding();
        both.extend(at_b.iter().map(block).filter(|block| at_a.contains(block)));
    }
    let mut groups: BTreeMap<Key, (Side, Side)> = BTreeMap::new();
    let sides = [&a, &b];
    for (is_b, replayed) in [false, true].into_iter().zip(sides) {
        let sites = replayed.analysis.replay.sites().as_slice();
        let recording = &replayed.analysis.recording;
        let mut stacks = Stacks::new(&replayed.analysis);
        let apart = apart(replayed, &both);
        for (index, totals) in replayed.observer.iter() {
            let site = &sites[index as usize];
            let frames = stacks.frames(site.stack);
            let ids = site.stack.and_then(|id| recording.stack_of(id));
            let identity = match by {
                Match::Names => frames.iter().map(named).collect(),
                Match::Offsets => {
                    let ids = ids.iter().flat_map(|stack| &stack.frames);
                    ids.map(|id| placed(*id, recording)).collect()
                }
            };
            let group = groups
                .entry((domain_of(site), site.op.name(), identity))
                .or_default();
            let side = if is_b { &mut group.1 } else { &mut group.0 };
            side.totals.add(totals);
            side.apart.add(&apart[index as usize]);
            side.frames.get_or_insert(frames);
        }
    }
    // What is known of one trace's blocks is best known at the later moment.
    let known = if between { [&b, &b] } else { sides };
    let seconds = |ns: u64| ns as f64 / 1e9;
    let rate = |bytes: f64, ns: u64| (ns > 0).then(|| bytes / seconds(ns));
    let mut rows = Vec::new();
    for ((domain, op, _), (a, b)) in groups {
        let (a_bytes, b_bytes) = (a.totals.held.bytes.rounded(), b.totals.held.bytes.rounded());
        let delta = b_bytes as i64 - a_bytes as i64;
        let (growth, allocation) = if between {
            let ns = b_ns.saturating_sub(a_ns);
            let allocated = b.totals.all.bytes.estimate() - a.totals.all.bytes.estimate();
            (rate(delta as f64, ns), rate(allocated, ns))
        } else {
            let difference = |one: Sum, other: Sum| {
                rate(other.estimate(), b_ns)
                    .zip(rate(one.estimate(), a_ns))
                    .map(|(b, a)| b - a)
            };
            (
                difference(a.totals.held.bytes, b.totals.held.bytes),
                difference(a.totals.all.bytes, b.totals.all.bytes),
            )
        };
        if a.totals == b.totals || !request.large_enough(delta.unsigned_abs()) {
            continue;
        }
        // A block that one side lacks may be as large as those of the other.
        let mut sizes = a.totals.all.sizes;
        sizes.merge(b.totals.all.sizes);
        let cells = known.map(|side| Cells::new(&side.analysis.replay, sizes));
        let delta_count =
            b.totals.held.count.rounded() as i64 - a.totals.held.count.rounded() as i64;
        let [bytes, count] = differences((&b.apart, cells[1]), (&a.apart, cells[0]));
        let mut row = vec![
            Value::Difference(delta, bytes),
            Value::Difference(delta_count, count),
            growth.into(),
        ];
        row.extend(cells[0].pair(&a.totals.held));
        row.extend(cells[1].pair(&b.totals.held));
        row.extend([
            allocation.into(),
            domain.into(),
            op.into(),
            Value::Frames(b.frames.or(a.frames).unwrap_or_default()),
        ]);
        rows.push((delta, row));
    }
    // What grew most first, what shrank most last; the map's order among equals.
    rows.sort_by_key(|(delta, _)| Reverse(*delta));
    let rows = rows.into_iter().map(|(_, row)| row).collect();
    let title = if between {
        format!(
            "stacks that changed between {} (a) and {} (b) after the start",
            show_duration(a_ns),
            show_duration(b_ns)
        )
    } else {
        format!(
            "stacks that differ: {} at {} (a), and {} at {} (b); rates are b − a, each per second of its recording",
            request.trace.name().display(),
            show_duration(a_ns),
            newer.name().display(),
            show_duration(b_ns)
        )
    };
    // What stands above the rows is about the newer one.
    let about = Request {
        trace: newer.clone(),
        ..request.clone()
    };
    let mut head = b.head(&about, "diff", title);
    if is_sampled {
        head.estimated = Estimated {
            columns: ESTIMATED,
            in_text: 2,
        };
    }
    write_ranking(request, &head, &COLUMNS, rows, out)
}

/// What of each site is outstanding, without the blocks that are so on both sides.
fn apart(side: &Replayed<SiteTotals>, both: &HashSet<Block>) -> Vec<Amount> {
    let sites = side.analysis.replay.sites();
    let mut apart = vec![Amount::default(); sites.as_slice().len()];
    for allocation in side.outstanding() {
        if !both.contains(&block(&allocation)) {
            let amount = side.observer.scale().amount(&allocation, sites);
            apart[allocation.site as usize].add(&amount);
        }
    }
    apart
}

/// A block within one trace: its site (numbered in order of first use, so the same up to whichever
/// moment the trace is replayed), address and birth.
type Block = (u32, u64, i64);

fn block(allocation: &Allocation) -> Block {
    (allocation.site, allocation.addr, allocation.born)
}

fn named(frame: &Frame) -> String {
    let module = frame.module.as_deref().unwrap_or_default();
    format!("{}\0{module}", frame.name())
}

/// Build id (else path) and offset; an address where no file is.
fn placed(id: FrameId, recording: &Recording) -> String {
    match id.location() {
        Location::File { file, offset } => {
            let module = recording.module_of(file);
            let build = module.map(|module| module.build_id.as_ref().unwrap_or(&module.path));
            format!("{}+{offset:#x}", build.map_or("?", |build| build))
        }
        Location::Anonymous { address, .. } | Location::Kernel { address } => {
            format!("{address:#x}")
        }
    }
}
