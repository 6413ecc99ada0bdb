//! `diff`: what changed between two moments of a trace, or between two traces, by stack.
//!
//! Stacks of two traces are the same if their frames are: by build id and offset in the file, or by
//! function and module. Two recordings differ in length, so rates stand beside the differences.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::Write;
use std::rc::Rc;

use memleak_trace::FrameId;
use memleak_trace::stack::Location;

use super::stacks::{Stacks, domain_of};
use super::table::{Column, Unit, Value};
use super::totals::{SiteTotals, Totals};
use super::{Replayed, Request, replay_with, since, write_ranking};
use crate::analysis::Moment;
use crate::filter;
use crate::recording::Recording;
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
                side(&before, &request.trace)?,
                side(request, &request.trace)?,
            )
        }
        Compared::With(newer) => (side(request, &request.trace)?, side(request, newer)?),
    };
    let length = |replayed: &Replayed<SiteTotals>| {
        let start = replayed.analysis.recording.start();
        since(start, replayed.analysis.at)
    };
    let (a_ns, b_ns) = (length(&a), length(&b));
    let between = matches!(compared, Compared::Since(_));
    let mut groups: BTreeMap<Key, (Side, Side)> = BTreeMap::new();
    for (is_b, replayed) in [(false, &a), (true, &b)] {
        let sites = replayed.analysis.replay.sites().as_slice();
        let recording = &replayed.analysis.recording;
        let mut stacks = Stacks::new(&replayed.analysis);
        for (site, totals) in replayed.observer.iter() {
            let site = &sites[site as usize];
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
            side.frames.get_or_insert(frames);
        }
    }
    let seconds = |ns: u64| ns as f64 / 1e9;
    let rate = |bytes: f64, ns: u64| (ns > 0).then(|| bytes / seconds(ns));
    let mut rows = Vec::new();
    for ((domain, op, _), (a, b)) in groups {
        let delta = b.totals.bytes as i64 - a.totals.bytes as i64;
        let (growth, allocation) = if between {
            let ns = b_ns.saturating_sub(a_ns);
            let allocated = b.totals.total_bytes as f64 - a.totals.total_bytes as f64;
            (rate(delta as f64, ns), rate(allocated, ns))
        } else {
            let difference = |one: u64, other: u64| {
                rate(other as f64, b_ns)
                    .zip(rate(one as f64, a_ns))
                    .map(|(b, a)| b - a)
            };
            (
                difference(a.totals.bytes, b.totals.bytes),
                difference(a.totals.total_bytes, b.totals.total_bytes),
            )
        };
        if a.totals == b.totals || !request.large_enough(delta.unsigned_abs()) {
            continue;
        }
        let row: Vec<Value> = vec![
            delta.into(),
            (b.totals.count as i64 - a.totals.count as i64).into(),
            growth.into(),
            a.totals.bytes.into(),
            a.totals.count.into(),
            b.totals.bytes.into(),
            b.totals.count.into(),
            allocation.into(),
            domain.into(),
            op.into(),
            Value::Frames(b.frames.or(a.frames).unwrap_or_default()),
        ];
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
            "stacks that differ: {} at {} (a), and the newer trace at {} (b); rates are b − a, each per second of its recording",
            request.trace.name().display(),
            show_duration(a_ns),
            show_duration(b_ns)
        )
    };
    let head = b.head(request, "diff", title);
    write_ranking(request, &head, &COLUMNS, rows, out)
}

fn side(request: &Request, trace: &Series) -> anyhow::Result<Replayed<SiteTotals>> {
    let filter = filter::resolve(trace, &request.filters)?;
    let mut replayed = replay_with(trace, request, filter, SiteTotals::default(), false)?;
    let outstanding = replayed.outstanding();
    replayed.observer.add_outstanding(&outstanding);
    Ok(replayed)
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
