//! The report as data. A reporter ([`text`], [`json`], [`csv`]) renders it and decides nothing.
//!
//! `schemas/report-v1.json` describes the fields and their units.

mod build;
pub mod csv;
mod estimates;
mod frames;
pub mod json;
mod kernel;
mod label;
mod overview;
mod own_code;
mod resident;
mod sparkline;
mod stack_ends;
mod summary;
pub mod text;

use std::collections::BTreeMap;

use memleak_trace::wall;
use serde::Serialize;

pub use build::{build, trace};
pub use frames::{Frame, frames, frames_of};
pub use kernel::{CacheReport, KernelFigures, KernelStack, KernelTrace};
pub use stack_ends::StackEnds;

use crate::estimate::Interval;
use crate::filter::{Filter, Shown};
use crate::recording::Resident;
use crate::verdict::{Evidence, Verdict};

/// What a report shows.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    pub filter: Filter,
    /// The filter as the report tells it.
    pub shown: Shown,
    /// Only stacks that hold so many bytes.
    pub min_bytes: Option<u64>,
    /// At most so many stacks.
    pub top: Option<u32>,
    /// Stacks with nothing outstanding too.
    pub idle: bool,
    /// Each outstanding allocation.
    pub allocations: bool,
    /// The age histogram of each stack.
    pub ages: bool,
}

/// Growing stacks told of although they are behind the cut.
const FURTHER: usize = 3;

impl Report {
    /// Puts what was suppressed last, and leaves out all but the first `top` of the others; the first growing
    /// ones among these are kept apart.
    pub fn cut(&mut self, top: Option<u32>) {
        let (suppressed, mut stacks): (Vec<_>, Vec<_>) = std::mem::take(&mut self.stacks)
            .into_iter()
            .partition(|stack| stack.suppressed.is_some());
        self.stacks_outstanding -= suppressed.iter().filter(|stack| stack.count > 0).count();
        let top = top.map_or(stacks.len(), |top| stacks.len().min(top as usize));
        let further = (top + 1..).zip(stacks.drain(top..));
        let growing = further.filter(|(_, stack)| stack.verdict == Some(Verdict::Growing));
        self.growing_further = growing.take(FURTHER).collect();
        stacks.extend(suppressed);
        self.stacks = stacks;
    }

    /// The stacks shown in full: those that are not suppressed, which stand first.
    fn unsuppressed(&self) -> &[StackReport] {
        let suppressed = self
            .stacks
            .iter()
            .position(|stack| stack.suppressed.is_some());
        &self.stacks[..suppressed.unwrap_or(self.stacks.len())]
    }
}

/// A report on one trace at one moment. Times are nanoseconds since the start of the recording.
#[derive(Debug, Serialize)]
pub struct Report {
    pub schema: &'static str,
    pub trace: Trace,
    pub at_ns: u64,
    pub filters: Shown,
    /// By name of the domain.
    pub domains: BTreeMap<&'static str, Figures>,
    pub stacks: Vec<StackReport>,
    /// Wall clock of the moment, nanoseconds since 1970.
    #[serde(skip)]
    pub at_wall_ns: i64,
    /// Stacks with something outstanding that passes the filters, before the cut.
    #[serde(skip)]
    pub stacks_outstanding: usize,
    /// Stacks behind the cut that grow, with their ranks.
    #[serde(skip)]
    pub growing_further: Vec<(usize, StackReport)>,
}

#[derive(Debug, Serialize)]
pub struct Trace {
    pub path: String,
    /// The files, where the recording was cut into parts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<PartReport>,
    pub started: String,
    pub duration_ns: u64,
    pub events: u64,
    pub complete: bool,
    pub verified: bool,
    pub remarks: Vec<String>,
    pub end_reason: Option<String>,
    pub recorder: String,
    pub kernel: String,
    pub architecture: String,
    /// Which heap blocks were recorded.
    #[serde(skip_serializing_if = "memleak_trace::Selection::is_everything")]
    pub selection: memleak_trace::Selection,
    pub processes: Vec<ProcessReport>,
    pub lost: Losses,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost_releases: Option<LostReleases>,
    pub defects: Losses,
    pub stacks: StackEnds,
    pub anomalies: AnomalyCounts,
    #[serde(skip_serializing_if = "is_zero")]
    pub inherited_frees: u64,
    pub resident: Vec<ResidentReport>,
    /// `None` if the kernel was not recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel_memory: Option<KernelTrace>,
    #[serde(skip)]
    pub started_wall_ns: i64,
}

/// A part of the recording that was read.
#[derive(Debug, Serialize)]
pub struct PartReport {
    pub path: String,
    pub number: u32,
}

#[derive(Debug, Serialize)]
pub struct ProcessReport {
    pub pid: i32,
    pub ppid: i32,
    pub command: String,
    pub exit: Option<i32>,
}

#[derive(Debug, Default, Serialize)]
pub struct Losses {
    pub total: u64,
    pub by_cause: BTreeMap<String, u64>,
    pub windows: BTreeMap<String, Vec<Window>>,
}

#[derive(Debug, Serialize)]
pub struct Window {
    pub from_ns: u64,
    pub to_ns: u64,
}

#[derive(Debug, Serialize)]
pub struct AnomalyCounts {
    pub free_before_attach: u64,
    pub already_freed: u64,
    pub implicit_frees: u64,
    pub unfinished_reallocations: u64,
    pub mappings_replaced: u64,
}

/// Whether a figure that most traces do not have is left out.
fn is_zero(count: &u64) -> bool {
    *count == 0
}

#[derive(Debug, Serialize)]
pub struct ResidentReport {
    pub pid: i32,
    #[serde(flatten)]
    pub now: ResidentBytes,
    pub at_start: ResidentBytes,
}

#[derive(Debug, Serialize)]
pub struct ResidentBytes {
    pub anonymous_bytes: u64,
    pub file_bytes: u64,
    pub shared_bytes: u64,
}

impl From<Resident> for ResidentBytes {
    fn from(resident: Resident) -> Self {
        ResidentBytes {
            anonymous_bytes: resident.anonymous,
            file_bytes: resident.file,
            shared_bytes: resident.shared,
        }
    }
}

impl ResidentBytes {
    /// Bytes of all kinds.
    pub fn total(&self) -> u64 {
        self.anonymous_bytes + self.file_bytes + self.shared_bytes
    }
}

/// The figures of a domain; filters do not change them.
#[derive(Debug, Serialize)]
pub struct Figures {
    pub bytes: u64,
    pub count: u64,
    pub total_bytes: u64,
    pub total_count: u64,
    pub peak_bytes: u64,
    pub peak_at_ns: u64,
    /// The same moment on the wall clock, in UTC.
    pub peak_at: String,
    /// Of a sample; `None`: the figures are exact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated: Option<DomainEstimate>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<KernelFigures>,
}

/// Where the figures are estimates: intervals that hold the true ones with the
/// probability [`crate::estimate::CONFIDENCE`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct DomainEstimate {
    #[serde(flatten)]
    pub figures: FiguresEstimate,
    pub peak_bytes: Interval,
}

/// Blocks that were recorded, and intervals of the figures estimated from them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct FiguresEstimate {
    pub sampled_count: u64,
    pub sampled_total_count: u64,
    pub bytes: Interval,
    pub count: Interval,
    pub total_bytes: Interval,
    pub total_count: Interval,
}

#[derive(Debug, Serialize)]
pub struct StackReport {
    pub id: Option<i32>,
    pub pid: i32,
    /// Where threads are told apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tid: Option<i32>,
    pub domain: &'static str,
    pub op: &'static str,
    /// What the memory is for, where the stack says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<&'static str>,
    pub bytes: u64,
    pub count: u64,
    pub total_bytes: u64,
    pub total_count: u64,
    /// Of a sample; `None`: the figures are exact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated: Option<FiguresEstimate>,
    pub oldest_age_ns: Option<u64>,
    pub youngest_age_ns: Option<u64>,
    /// What may be freed: allocated before the last free that was lost. `None`: no free was lost.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub uncertain: Option<Uncertain>,
    /// Why it does not count: as its suppression says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suppressed: Option<String>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<KernelStack>,
    /// `None`: too little was seen, see the evidence.
    pub verdict: Option<Verdict>,
    pub verdict_evidence: Evidence,
    /// Why the stack ends where it does.
    pub end: &'static str,
    /// Leaf first.
    pub frames: Vec<Frame>,
    pub age_histogram: Vec<AgeBin>,
    pub timeline: Vec<TimelinePoint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allocations: Option<Vec<AllocationReport>>,
}

/// Outstanding allocations whose free may be among the events lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Uncertain {
    #[serde(rename = "uncertain_bytes")]
    pub bytes: u64,
    #[serde(rename = "uncertain_count")]
    pub count: u64,
}

/// Until when frees were lost, and how many at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LostReleases {
    pub until_ns: u64,
    /// `None`: nobody knows.
    pub count: Option<u64>,
}

#[derive(Debug, Serialize)]
pub struct AgeBin {
    pub from_ns: u64,
    /// `None`: open.
    pub to_ns: Option<u64>,
    pub bytes: u64,
    pub count: u64,
    /// Of a sample; `None`: the figures are exact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated: Option<AgeEstimate>,
}

/// As [`FiguresEstimate`], of what is outstanding.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct AgeEstimate {
    pub sampled_count: u64,
    pub bytes: Interval,
    pub count: Interval,
}

#[derive(Debug, Serialize)]
pub struct TimelinePoint {
    pub at_ns: u64,
    pub bytes: u64,
    pub count: u64,
}

#[derive(Debug, Serialize)]
pub struct AllocationReport {
    pub address: String,
    pub size: u64,
    pub age_ns: u64,
}
