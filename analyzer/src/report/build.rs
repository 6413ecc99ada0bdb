//! Makes the report: figures from the tables, names from the recording.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use memleak_trace::{Domain, wall};

use super::estimates;
use super::frames::frames;
use super::kernel;
use super::label::label;
use super::stack_ends::{self, MISSING};
use super::{
    AgeBin, AllocationReport, AnomalyCounts, Figures, FiguresEstimate, Losses, LostReleases,
    PartReport, ProcessReport, Report, ResidentReport, Selection, StackReport, TimelinePoint,
    Trace, Uncertain, Window,
};
use crate::analysis::Analysis;
use crate::recording::{Process, Tally};
use crate::replay::{Estimated, Estimates};
use crate::tables::{AgeRow, AllocationRow, StackRow, Tables, age_bounds};
use crate::verdict::{Judgement, judge};

/// The report on a replayed trace. `path` is shown as given.
pub fn build(path: &Path, analysis: &Analysis, selection: Selection) -> anyhow::Result<Report> {
    let tables = Tables::new(&analysis.replay, analysis.at, &selection.filter);
    let mut rows = tables.stacks(selection.top, selection.idle)?;
    rows.retain(|row| selection.min_bytes.is_none_or(|min| row.bytes >= min));
    let mut ages: HashMap<u32, Vec<AgeRow>> = HashMap::new();
    if selection.ages {
        for row in tables.ages(&rows) {
            ages.entry(row.site).or_default().push(row);
        }
    }
    let mut allocations: HashMap<u32, Vec<AllocationRow>> = HashMap::new();
    if selection.allocations {
        for row in tables.allocations(&rows) {
            allocations.entry(row.site).or_default().push(row);
        }
    }
    let lost = analysis.recording.lost_releases();
    let mut uncertain: HashMap<u32, Uncertain> = HashMap::new();
    if let Some(lost) = lost {
        for (site, bytes, count) in tables.born_until(&rows, lost.until) {
            uncertain.insert(site, Uncertain { bytes, count });
        }
    }
    let sites: Vec<u32> = rows.iter().map(|row| row.site).collect();
    let judged = judge(&analysis.replay, analysis.at, &sites);
    let stacks = rows.iter().zip(&judged).map(|(row, judgement)| {
        let mut stack = stack(analysis, row, judgement);
        stack.estimated = estimated(analysis, row);
        stack.uncertain = lost.map(|_| uncertain.remove(&row.site).unwrap_or_default());
        stack.age_histogram = ages
            .remove(&row.site)
            .unwrap_or_default()
            .iter()
            .map(|row| age_bin(analysis, row))
            .collect();
        if selection.allocations {
            let own = allocations.remove(&row.site).unwrap_or_default();
            stack.allocations = Some(own.iter().map(allocation).collect());
        }
        stack
    });
    let stacks = stacks.collect();
    Ok(Report {
        schema: "memleak-report/1",
        trace: trace(path, analysis),
        at_ns: since_start(analysis, analysis.at),
        filters: selection.shown,
        domains: domains(analysis),
        stacks,
        at_wall_ns: wall::wall_ns(&analysis.header.clock, analysis.at),
        stacks_outstanding: tables.outstanding_stacks(),
        growing_further: Vec::new(),
    })
}

/// What was recorded, and how good the trace is.
pub fn trace(path: &Path, analysis: &Analysis) -> Trace {
    let recording = &analysis.recording;
    let started = wall::wall_ns(&analysis.header.clock, recording.start());
    let anomalies = analysis.replay.anomalies();
    Trace {
        path: path.display().to_string(),
        parts: parts(analysis),
        started: wall::utc(started),
        duration_ns: since_start(analysis, recording.end()),
        events: recording.events,
        complete: analysis.condition.complete,
        verified: analysis.condition.verified,
        remarks: analysis.condition.remarks.clone(),
        end_reason: recording.closed.as_ref().map(|closed| closed.1.clone()),
        recorder: analysis.header.recorder.clone(),
        kernel: analysis.header.machine.kernel.clone(),
        architecture: analysis.header.machine.architecture.clone(),
        selection: analysis.header.selection,
        processes: processes(analysis),
        lost: losses(analysis, &recording.losses),
        lost_releases: recording.lost_releases().map(|lost| LostReleases {
            until_ns: since_start(analysis, lost.until),
            count: lost.count,
        }),
        defects: losses(analysis, &recording.defects),
        stacks: stack_ends::count(analysis),
        anomalies: AnomalyCounts {
            free_before_attach: anomalies.free_before_attach,
            already_freed: anomalies.already_freed,
            implicit_frees: anomalies.implicit_frees,
            unfinished_reallocations: anomalies.unfinished_reallocations,
            mappings_replaced: anomalies.mappings_replaced,
        },
        inherited_frees: analysis.replay.inherited_frees(),
        resident: resident(analysis),
        kernel_memory: kernel::trace(analysis),
        started_wall_ns: started,
    }
}

/// The files of a recording that was cut into parts; nothing if it was not.
fn parts(analysis: &Analysis) -> Vec<PartReport> {
    let numbered = analysis.files.iter().filter_map(|file| {
        Some(PartReport {
            path: file.path.display().to_string(),
            number: file.number()?,
        })
    });
    numbered.collect()
}

/// Nanoseconds from the start of the recording to a moment; never negative.
fn since_start(analysis: &Analysis, ts: i64) -> u64 {
    u64::try_from(ts.saturating_sub(analysis.recording.start())).unwrap_or(0)
}

/// The processes that the trace tells of, else those that were asked for.
fn processes(analysis: &Analysis) -> Vec<ProcessReport> {
    let told = analysis
        .recording
        .processes
        .values()
        .map(|process| ProcessReport {
            pid: process.pid,
            ppid: process.ppid,
            command: process.command.clone(),
            exit: exit_status(process),
        });
    let told: Vec<ProcessReport> = told.collect();
    if !told.is_empty() {
        return told;
    }
    let asked = analysis.header.targets.iter().map(|target| ProcessReport {
        pid: target.pid,
        ppid: target.ppid,
        command: target.command.join(" "),
        exit: None,
    });
    asked.collect()
}

/// As a shell tells it: the exit code, or 128 and the signal's number.
fn exit_status(process: &Process) -> Option<i32> {
    let status = process.status.filter(|_| process.exited)?;
    Some(if libc::WIFSIGNALED(status) {
        128 + libc::WTERMSIG(status)
    } else {
        libc::WEXITSTATUS(status)
    })
}

fn losses(analysis: &Analysis, tallies: &BTreeMap<String, Tally>) -> Losses {
    let mut losses = Losses::default();
    for (cause, tally) in tallies {
        losses.total += tally.count;
        losses.by_cause.insert(cause.clone(), tally.count);
        let windows = tally.windows.iter().map(|(from, to)| Window {
            from_ns: since_start(analysis, *from),
            to_ns: since_start(analysis, *to),
        });
        losses.windows.insert(cause.clone(), windows.collect());
    }
    losses
}

fn resident(analysis: &Analysis) -> Vec<ResidentReport> {
    let samples = analysis.recording.resident.iter();
    let reports = samples.map(|(pid, (first, last))| ResidentReport {
        pid: *pid,
        now: (*last).into(),
        at_start: (*first).into(),
    });
    reports.collect()
}

fn domains(analysis: &Analysis) -> BTreeMap<&'static str, Figures> {
    let figures = Domain::ALL.into_iter().filter_map(|domain| {
        let account = analysis.replay.account(domain)?;
        let figures = Figures {
            bytes: account.bytes,
            count: account.count,
            total_bytes: account.total_bytes,
            total_count: account.total_count,
            peak_bytes: account.peak_bytes,
            peak_at_ns: since_start(analysis, account.peak_at),
            peak_at: wall::utc(wall::wall_ns(&analysis.header.clock, account.peak_at)),
            estimated: analysis
                .replay
                .estimates()
                .filter(|_| domain == Domain::Heap)
                .map(estimates::heap),
            kernel: kernel::figures(analysis, domain),
        };
        Some((domain.name(), figures))
    });
    figures.collect()
}

/// The intervals of a heap stack's figures, if they are estimates; `outstanding` is missing where
/// nothing is.
fn estimated(analysis: &Analysis, row: &StackRow) -> Option<FiguresEstimate> {
    let (estimates, site) = heap_site(analysis, row.site)?;
    let outstanding = row.estimate.unwrap_or_default();
    Some(estimates::figures(estimates, &outstanding, &site))
}

/// The estimates of a site of a sampled heap.
fn heap_site(analysis: &Analysis, index: u32) -> Option<(&Estimates, Estimated)> {
    let estimates = analysis.replay.estimates()?;
    let site = analysis.replay.sites().as_slice().get(index as usize)?;
    (site.op.domain() == Some(Domain::Heap)).then(|| (estimates, estimates.site(index)))
}

fn stack(analysis: &Analysis, row: &StackRow, judgement: &Judgement) -> StackReport {
    let sites = analysis.replay.sites();
    let site = sites.as_slice()[row.site as usize];
    let stack = site.stack.and_then(|id| analysis.recording.stack_of(id));
    let points = sites.points(row.site);
    let timeline = points.iter().map(|point| TimelinePoint {
        at_ns: since_start(analysis, point.at),
        bytes: point.bytes,
        count: point.count,
    });
    let domain = site.op.domain().map_or("", Domain::name);
    let frames = stack
        .map(|stack| frames(stack, &analysis.recording))
        .unwrap_or_default();
    StackReport {
        id: site.stack.map(|id| id.0),
        pid: site.pid,
        tid: (site.tid != 0).then_some(site.tid),
        domain,
        op: site.op.name(),
        label: label(domain, &frames),
        bytes: row.bytes,
        count: row.count,
        total_bytes: site.total_bytes,
        total_count: site.total_count,
        estimated: None,
        oldest_age_ns: row.oldest_age,
        youngest_age_ns: row.youngest_age,
        uncertain: None,
        suppressed: None,
        kernel: analysis
            .replay
            .kernel()
            .site(row.site)
            .filter(|_| site.op.domain().is_some_and(Domain::is_kernel))
            .map(|known| kernel::stack(known, row.taken)),
        verdict: judgement.verdict,
        verdict_evidence: judgement.evidence,
        end: stack.map_or(MISSING, |stack| stack.end.name()),
        frames,
        age_histogram: Vec::new(),
        timeline: timeline.collect(),
        allocations: None,
    }
}

fn age_bin(analysis: &Analysis, row: &AgeRow) -> AgeBin {
    let (from_ns, to_ns) = age_bounds(row.bin);
    AgeBin {
        from_ns,
        to_ns,
        bytes: row.bytes,
        count: row.count,
        estimated: heap_site(analysis, row.site)
            .zip(row.estimate)
            .map(|((estimates, site), sums)| estimates::age(estimates, &sums, &site)),
    }
}

fn allocation(row: &AllocationRow) -> AllocationReport {
    AllocationReport {
        address: format!("{:#x}", row.addr),
        size: row.size,
        age_ns: row.age,
    }
}
