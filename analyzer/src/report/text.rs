//! The report as text, in memleak's own form, below a few lines on what was recorded.

use std::collections::BTreeMap;
use std::io::Write;

use super::{Frame, Report, StackReport, overview, summary, wall};
use crate::units::{show_duration, show_size};

/// How the text is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Only memleak's lines per stack: no ages, no verdict.
    pub combined_only: bool,
    /// Columns of the terminal that it is for.
    pub terminal: Option<usize>,
}

/// Writes the reports of several recordings, an empty line between two.
pub fn write_all(reports: &[Report], style: Style, out: &mut dyn Write) -> anyhow::Result<()> {
    for (index, report) in reports.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        write(report, style, out)?;
    }
    Ok(())
}

/// Writes the report.
pub fn write(report: &Report, style: Style, out: &mut dyn Write) -> anyhow::Result<()> {
    for line in summary::lines(report) {
        writeln!(out, "{line}")?;
    }
    writeln!(out)?;
    let shown = report.unsuppressed().len();
    if !style.combined_only {
        overview::write(report, style.terminal, out)?;
    }
    for note in summary::notes(report) {
        writeln!(out, "{note}")?;
    }
    writeln!(out)?;
    let (hour, minute, second) = wall::local_time(report.at_wall_ns);
    writeln!(
        out,
        "[{hour:02}:{minute:02}:{second:02}] Top {} stacks with outstanding allocations:",
        shown
    )?;
    for stack in &report.stacks[..shown] {
        self::stack(stack, style, out)?;
    }
    let hidden = report.stacks_outstanding.saturating_sub(shown);
    if hidden > 0 {
        writeln!(
            out,
            "({hidden} more stacks; --top {} shows all)",
            report.stacks_outstanding
        )?;
    }
    suppressed(&report.stacks[shown..], out)
}

/// A line per reason.
fn suppressed(stacks: &[StackReport], out: &mut dyn Write) -> anyhow::Result<()> {
    let mut reasons: BTreeMap<&str, (u64, u64, usize)> = BTreeMap::new();
    for stack in stacks {
        let reason = stack.suppressed.as_deref().unwrap_or_default();
        let (bytes, count, number) = reasons.entry(reason).or_default();
        *bytes += stack.bytes;
        *count += stack.count;
        *number += 1;
    }
    for (reason, (bytes, count, number)) in reasons {
        writeln!(
            out,
            "suppressed: {bytes} bytes in {count} allocations of {number} stacks: {reason}"
        )?;
    }
    Ok(())
}

fn stack(stack: &StackReport, style: Style, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(
        out,
        "\t{} bytes in {} allocations from stack",
        stack.bytes, stack.count
    )?;
    for allocation in stack.allocations.iter().flatten() {
        writeln!(
            out,
            "\t\taddr = {} size = {}",
            allocation.address, allocation.size
        )?;
    }
    frames(&stack.frames, out)?;
    if stack.frames.is_empty() {
        writeln!(out, "\t      (the stack is not in the trace)")?;
    }
    if !style.combined_only {
        writeln!(out, "\t      {}", remarks(stack))?;
    }
    Ok(())
}

/// A line for each frame, leaf first; inlined ones have no number of their own.
pub fn frames(frames: &[Frame], out: &mut dyn Write) -> std::io::Result<()> {
    let mut index = 0;
    for frame in frames {
        writeln!(out, "\t{}", self::frame(frame, index))?;
        index += usize::from(!frame.inlined);
    }
    Ok(())
}

/// `    0 [<00005f43f8a37212>] leak_with_loop+0x1f [module] file.c:12`. An inlined function has no
/// address of its own: it stands above the frame that holds it.
pub fn frame(frame: &Frame, index: usize) -> String {
    let mut line = match frame.address_value {
        _ if frame.inlined => " ".repeat(26),
        Some(address) => format!("{index:>5} [<{address:016x}>] "),
        None => format!("{index:>5} [<{:>16}>] ", "?"),
    };
    let module = frame.module.as_deref();
    match (&frame.function, frame.offset, frame.module_offset) {
        (Some(function), Some(offset), _) => line += &format!("{function}+{offset:#x}"),
        (Some(function), None, _) => line += function,
        (None, _, Some(offset)) => line += &format!("{}+{offset:#x}", module.unwrap_or("unknown")),
        (None, _, None) => line += "unknown",
    }
    if frame.inlined {
        line += " (inlined)";
    }
    match module {
        // A name in brackets is none of a file: [kernel], [ext4], [vdso].
        Some(module) if module.starts_with('[') => line += &format!(" {module}"),
        Some(module) => line += &format!(" [{module}]"),
        None => {}
    }
    match (&frame.file, frame.line) {
        (Some(file), Some(number)) => line += &format!(" {file}:{number}"),
        (Some(file), None) => line += &format!(" {file}"),
        (None, _) => {}
    }
    line
}

/// What memleak does not tell, in one line.
fn remarks(stack: &StackReport) -> String {
    let mut remarks = vec![match stack.domain {
        "heap" => stack.op.to_owned(),
        domain => format!("{} (domain {domain})", stack.op),
    }];
    remarks.extend(stack.label.map(str::to_owned));
    remarks.push(format!(
        "{} of {} allocated, {} in all",
        stack.count,
        stack.total_count,
        show_size(stack.total_bytes)
    ));
    if let Some(estimated) = &stack.estimated {
        let (low, high) = estimated.bytes;
        remarks.push(format!(
            "estimated from {} sampled: {low} to {high} bytes at 99.9 %",
            estimated.sampled_count
        ));
    }
    if let Some(kernel) = &stack.kernel {
        remarks.extend(super::kernel::remarks(
            stack.domain,
            stack.bytes,
            stack.pid,
            kernel,
        ));
    }
    match (stack.oldest_age_ns, stack.youngest_age_ns) {
        (Some(oldest), Some(youngest)) if stack.count > 1 => remarks.push(format!(
            "oldest {}, youngest {}",
            show_duration(oldest),
            show_duration(youngest)
        )),
        (Some(oldest), _) => remarks.push(format!("age {}", show_duration(oldest))),
        _ => {}
    }
    if let Some(uncertain) = stack.uncertain.filter(|uncertain| uncertain.count > 0) {
        remarks.push(format!(
            "{} bytes in {} may be freed (frees were lost)",
            uncertain.bytes, uncertain.count
        ));
    }
    if let Some(verdict) = stack.verdict {
        let evidence = stack.verdict_evidence.in_words();
        remarks.push(format!("{}: {evidence}", verdict.name()));
    }
    if !stack.frames.is_empty() && stack.end != memleak_trace::StackEnd::Complete.name() {
        remarks.push(format!("stack cut short: {}", stack.end));
    }
    remarks.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each kind of frame, in memleak's form.
    #[test]
    fn frames() {
        let full = Frame {
            function: Some("leak_with_loop".into()),
            offset: Some(0x1f),
            module: Some("prog".into()),
            module_offset: Some(0x1212),
            address_value: Some(0x5f43_f8a3_7212),
            ..Frame::default()
        };
        let lined = Frame {
            file: Some("a.c".into()),
            line: Some(12),
            ..full.clone()
        };
        let inlined = Frame {
            function: Some("grow".into()),
            offset: None,
            inlined: true,
            ..lined.clone()
        };
        let unnamed = Frame {
            function: None,
            offset: None,
            ..full.clone()
        };
        let nothing = Frame::default();
        let cases = [
            (
                full,
                "    0 [<00005f43f8a37212>] leak_with_loop+0x1f [prog]",
            ),
            (
                lined,
                "    0 [<00005f43f8a37212>] leak_with_loop+0x1f [prog] a.c:12",
            ),
            (
                inlined,
                "                          grow (inlined) [prog] a.c:12",
            ),
            (unnamed, "    0 [<00005f43f8a37212>] prog+0x1212 [prog]"),
            (nothing, "    0 [<               ?>] unknown"),
        ];
        for (frame, expected) in cases {
            assert_eq!(super::frame(&frame, 0), expected);
        }
    }
}
