//! What stands above the stacks: what was recorded, whether it is whole, and how to read it.

use memleak_trace::selection::Sampling;

use super::stack_ends::MISSING;
use super::{DomainEstimate, Figures, Losses, Report, kernel, resident, wall};
use crate::units::{show_count, show_duration, show_size};

/// Processes named; the rest is told as a number.
const PROCESSES: usize = 5;

/// What must be read before any figure, and the figures of the domains.
pub fn lines(report: &Report) -> Vec<String> {
    let mut lines = recorded(report);
    lines.extend(processes(report));
    lines.push(condition(report));
    lines.extend(
        report
            .trace
            .remarks
            .iter()
            .map(|remark| format!("  {remark}")),
    );
    lines.push(lost(&report.trace.lost));
    lines.extend(tallies(&report.trace.lost));
    lines.extend(touched(report));
    lines.extend(selection(&report.trace.selection));
    for (domain, figures) in &report.domains {
        lines.extend(self::figures(report, domain, figures));
        lines.extend(figures.estimated.as_ref().map(estimated));
    }
    lines.extend(resident::lines(report));
    lines.extend(moment(report));
    lines.extend(filters(report));
    lines
}

/// What helps to judge the figures, and is no loss.
pub fn notes(report: &Report) -> Vec<String> {
    let mut notes = vec![stacks(report)];
    notes.extend(defects(&report.trace.defects));
    notes.extend(anomalies(report));
    notes.extend(unpaired(report));
    notes.extend(coverage(report));
    notes
}

fn processes(report: &Report) -> Vec<String> {
    let all = &report.trace.processes;
    let named = all.iter().take(PROCESSES).map(|process| {
        let exit = process
            .exit
            .map(|exit| format!(", exited with {exit}"))
            .unwrap_or_default();
        format!(
            "process {}: {}{exit}",
            process.pid,
            one_line(&process.command)
        )
    });
    let mut lines: Vec<String> = named.collect();
    if let Some(more) = all.len().checked_sub(PROCESSES).filter(|more| *more > 0) {
        lines.push(format!("(and {more} more processes; JSON names them all)"));
    }
    lines
}

/// Characters of a command that are shown; JSON has it whole.
const COMMAND: usize = 150;

/// A command in one line: a script may stand among its arguments.
fn one_line(command: &str) -> String {
    let line = command.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(COMMAND) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn recorded(report: &Report) -> Vec<String> {
    let trace = &report.trace;
    let ended = trace
        .end_reason
        .as_deref()
        .map(|reason| format!(" ({reason})"))
        .unwrap_or_default();
    let (hour, minute, second) = wall::local_time(trace.started_wall_ns);
    vec![
        format!(
            "{}: {} events in {}{ended}",
            trace.path,
            show_count(trace.events),
            show_duration(trace.duration_ns),
        ),
        format!(
            "started {} ({hour:02}:{minute:02}:{second:02} here), kernel {} {}",
            trace.started, trace.kernel, trace.architecture,
        ),
    ]
}

fn condition(report: &Report) -> String {
    match (report.trace.complete, report.trace.verified) {
        (true, true) => "trace: complete".to_owned(),
        (true, false) => "trace: complete, but not verified by checksums".to_owned(),
        (false, _) => "trace: INCOMPLETE, the figures end where it does".to_owned(),
    }
}

fn lost(losses: &Losses) -> String {
    match losses.total {
        0 if losses.by_cause.is_empty() => "lost: nothing".to_owned(),
        0 => "lost: an unknown number of events; the figures may be off".to_owned(),
        total => format!(
            "lost: {} events happened and are not in the trace; figures may be off by as much",
            show_count(total)
        ),
    }
}

/// Which conclusions the losses touch.
fn touched(report: &Report) -> Option<String> {
    let lost = report.trace.lost_releases?;
    let number = match lost.count {
        Some(count) => format!("up to {} of them are", show_count(count)),
        None => "an unknown number of them is".to_owned(),
    };
    Some(format!(
        "  blocks allocated in the first {} may be freed by now ({number}); the stacks below say how much that is; younger blocks are certain",
        show_duration(lost.until_ns)
    ))
}

/// Which blocks were recorded, if not all were.
fn selection(selection: &memleak_trace::Selection) -> Vec<String> {
    let bounds = [
        selection.min_size.map(|size| format!("at least {size}")),
        selection.max_size.map(|size| format!("at most {size}")),
    ];
    let bounds: Vec<String> = bounds.into_iter().flatten().collect();
    let mut lines = Vec::new();
    if !bounds.is_empty() {
        lines.push(format!(
            "filter: heap blocks of {} bytes were recorded, no others; mappings of any size",
            bounds.join(" and ")
        ));
    }
    if let Some(sampling) = selection.sampling {
        let how = match sampling {
            Sampling::OneIn(count) => format!("one heap block in {}", show_count(count.into())),
            Sampling::Bytes(bytes) => {
                format!("one heap block per {} allocated", show_size(bytes.into()))
            }
        };
        lines.push(format!(
            "sampled: {how} was recorded, by chance; the heap's figures are ESTIMATES, and what is said of them at 99.9 % fails once in a thousand times"
        ));
    }
    if !lines.is_empty() {
        lines.push("  (frees of blocks that were not recorded are not in the trace)".to_owned());
    }
    lines
}

/// The intervals of a sampled heap.
fn estimated(heap: &DomainEstimate) -> String {
    let figures = &heap.figures;
    let size = |(low, high)| format!("{} to {}", show_size(low), show_size(high));
    let count = |(low, high)| format!("{} to {}", show_count(low), show_count(high));
    format!(
        "  at 99.9 %: outstanding {} in {}; at most {}; in all {} in {} (from {} and {} sampled blocks)",
        size(figures.bytes),
        count(figures.count),
        size(heap.peak_bytes),
        size(figures.total_bytes),
        count(figures.total_count),
        show_count(figures.sampled_count),
        show_count(figures.sampled_total_count),
    )
}

/// A line per cause, with when it happened.
fn tallies(losses: &Losses) -> Vec<String> {
    let line = |(cause, count): (&String, &u64)| {
        let windows = losses
            .windows
            .get(cause)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let when = match windows {
            [] => String::new(),
            [first, .., last] => format!(
                ", in {} intervals between {} and {} after the start",
                windows.len(),
                show_duration(first.from_ns),
                show_duration(last.to_ns)
            ),
            [only] => format!(
                ", between {} and {} after the start",
                show_duration(only.from_ns),
                show_duration(only.to_ns)
            ),
        };
        let number = match count {
            0 => "an unknown number".to_owned(),
            count => show_count(*count),
        };
        format!("  {cause}: {number}{when}")
    };
    losses.by_cause.iter().map(line).collect()
}

fn defects(defects: &Losses) -> Vec<String> {
    if defects.total == 0 {
        return Vec::new();
    }
    let mut lines = vec![format!(
        "kept with a defect: {} events",
        show_count(defects.total)
    )];
    lines.extend(tallies(defects));
    lines
}

/// `99.8 % of 1,234 allocations have their whole stack; 0.2 % (2) stopped in libfoo.so: no_unwind_info`
fn stacks(report: &Report) -> String {
    /// Modules named; the rest is told as a sum.
    const NAMED: usize = 3;
    let ends = &report.trace.stacks;
    let all = ends.complete + ends.incomplete.values().sum::<u64>();
    if all == 0 {
        return "stacks: no allocation was recorded".to_owned();
    }
    let share = |count: u64| {
        let percent = count as f64 * 100.0 / all as f64;
        format!("{percent:.1} % ({})", show_count(count))
    };
    let mut line = format!(
        "stacks: {:.1} % of {} allocations have their whole stack",
        ends.complete as f64 * 100.0 / all as f64,
        show_count(all)
    );
    for stopped in ends.stopped_in.iter().take(NAMED) {
        let module = stopped.module.as_deref().unwrap_or("code without a file");
        line += &format!(
            "; {} stopped in {module}: {}",
            share(stopped.count),
            stopped.end
        );
    }
    let others = ends.stopped_in.iter().skip(NAMED);
    let others: u64 = others.map(|stopped| stopped.count).sum();
    if others > 0 {
        line += &format!("; {} stopped elsewhere", share(others));
    }
    if let Some(missing) = ends.incomplete.get(MISSING) {
        line += &format!("; {}: {MISSING}", share(*missing));
    }
    line
}

fn anomalies(report: &Report) -> Vec<String> {
    let anomalies = &report.trace.anomalies;
    let words = [
        (
            report.trace.inherited_frees,
            "frees of blocks that a child has inherited",
            "they are counted in the process that allocated them",
        ),
        (
            anomalies.free_before_attach,
            "frees of blocks allocated before recording began",
            "those blocks are not in these figures",
        ),
        (
            anomalies.already_freed,
            "second frees of a block",
            "glibc empties a thread's cache when the thread ends; harmless",
        ),
        (
            anomalies.implicit_frees,
            "allocations at an address still in use",
            "its free was not seen; the older block was taken for freed",
        ),
        (
            anomalies.unfinished_reallocations,
            "reallocations without an outcome",
            "their old blocks were taken for freed",
        ),
        (
            anomalies.mappings_replaced,
            "mappings put over live ones",
            "which that ended; no error",
        ),
    ];
    let met = words.into_iter().filter(|(count, _, _)| *count > 0);
    met.map(|(count, what, meaning)| format!("{what}: {} ({meaning})", show_count(count)))
        .collect()
}

fn figures(report: &Report, domain: &str, figures: &Figures) -> [String; 2] {
    let taken = figures
        .kernel
        .as_ref()
        .map(|known| kernel::show_taken(domain, figures.bytes, known.taken_bytes))
        .filter(|words| !words.is_empty())
        .map_or_else(String::new, |words| format!(" ({words})"));
    let peak_at = i64::try_from(figures.peak_at_ns).unwrap_or(i64::MAX);
    let peak_wall = report.trace.started_wall_ns.saturating_add(peak_at);
    let (hour, minute, second) = wall::local_time(peak_wall);
    [
        format!(
            "{domain}: {} bytes in {} allocations outstanding{taken}",
            figures.bytes, figures.count,
        ),
        format!(
            "  at most {} at {hour:02}:{minute:02}:{second:02} (after {}); {} in {} allocations in all",
            show_size(figures.peak_bytes),
            show_duration(figures.peak_at_ns),
            show_size(figures.total_bytes),
            show_count(figures.total_count),
        ),
    ]
}

/// What could not be paired in the kernel, by domain.
fn unpaired(report: &Report) -> Vec<String> {
    let domains = report.domains.iter();
    domains
        .filter_map(|(domain, figures)| Some((*domain, figures.kernel.as_ref()?)))
        .flat_map(|(domain, kernel)| kernel::show_anomalies(domain, kernel))
        .collect()
}

/// What a recording of the kernel can and cannot see.
fn coverage(report: &Report) -> Vec<String> {
    let kernel = report.trace.kernel_memory.iter();
    let sentences = kernel.flat_map(|kernel| &kernel.coverage);
    sentences
        .map(|sentence| format!("coverage: {sentence}"))
        .collect()
}

fn moment(report: &Report) -> Option<String> {
    let earlier = report.at_ns < report.trace.duration_ns;
    earlier.then(|| format!("moment: {} after the start", show_duration(report.at_ns)))
}

fn filters(report: &Report) -> Option<String> {
    let words = report.filters.words();
    (!words.is_empty()).then(|| {
        format!(
            "filter: the stacks below show outstanding allocations {}",
            words.join(", ")
        )
    })
}
