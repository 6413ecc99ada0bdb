//! The report as JSON, described by `schemas/report-v1.json`.

use std::io::Write;

use super::Report;

/// Writes the report as one indented JSON document.
pub fn write(report: &Report, out: &mut dyn Write) -> anyhow::Result<()> {
    serde_json::to_writer_pretty(&mut *out, report).map_err(std::io::Error::from)?;
    writeln!(out)?;
    Ok(())
}
