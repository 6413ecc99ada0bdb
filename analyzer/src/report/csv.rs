//! The stacks of the report as CSV: a line per stack.

use std::io::Write;

use super::{Frame, Report};
use crate::views::table::csv_line;

const HEADER: [&str; 17] = [
    "domain",
    "op",
    "pid",
    "stack_id",
    "bytes",
    "count",
    "total_bytes",
    "total_count",
    "oldest_age_ns",
    "youngest_age_ns",
    "growth_bytes_per_second",
    "growth_low",
    "growth_high",
    "verdict",
    "end",
    "suppressed",
    "frames",
];

/// Writes the stacks; frames are leaf first, with semicolons between them.
pub fn write(report: &Report, out: &mut dyn Write) -> anyhow::Result<()> {
    csv_line(HEADER.into_iter().map(str::to_owned), out)?;
    for stack in &report.stacks {
        let number = |value: Option<u64>| value.map(|n| n.to_string()).unwrap_or_default();
        let real = |value: Option<f64>| value.map(|n| n.to_string()).unwrap_or_default();
        let frames: Vec<String> = stack.frames.iter().map(Frame::name).collect();
        let cells = [
            stack.domain.to_owned(),
            stack.op.to_owned(),
            stack.pid.to_string(),
            stack.id.map(|id| id.to_string()).unwrap_or_default(),
            stack.bytes.to_string(),
            stack.count.to_string(),
            stack.total_bytes.to_string(),
            stack.total_count.to_string(),
            number(stack.oldest_age_ns),
            number(stack.youngest_age_ns),
            real(stack.verdict_evidence.slope_bytes_per_second),
            real(stack.verdict_evidence.slope_low),
            real(stack.verdict_evidence.slope_high),
            stack
                .verdict
                .map_or("", |verdict| verdict.name())
                .to_owned(),
            stack.end.to_owned(),
            stack.suppressed.clone().unwrap_or_default(),
            frames.join(";"),
        ];
        csv_line(cells.into_iter(), out)?;
    }
    Ok(())
}
