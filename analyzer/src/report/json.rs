//! The report as JSON, described by `schemas/report-v1.json`.

use std::io::Write;

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

use super::Report;

/// Writes the reports of several recordings (`schemas/reports-v1.json`); that of one as it is.
pub fn write_all(reports: &[Report], out: &mut dyn Write) -> anyhow::Result<()> {
    #[derive(Serialize)]
    struct Document<'a> {
        schema: &'static str,
        reports: &'a [Report],
    }
    match reports {
        [report] => write(report, out),
        reports => write_document(
            &Document {
                schema: "memleak-reports/1",
                reports,
            },
            out,
        ),
    }
}

/// Writes the report as one JSON document, with a line per stack: there can be many.
pub fn write(report: &Report, out: &mut dyn Write) -> anyhow::Result<()> {
    write_document(report, out)
}

fn write_document(document: &impl Serialize, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut serializer = Serializer::with_formatter(&mut *out, Lines::default());
    document
        .serialize(&mut serializer)
        .map_err(std::io::Error::from)?;
    writeln!(out)?;
    Ok(())
}

/// Breaks lines down to this depth; what lies deeper shares a line.
const DEPTH: usize = 2;

#[derive(Default)]
struct Lines {
    depth: usize,
}

impl Lines {
    fn open<W: ?Sized + Write>(&mut self, out: &mut W, bracket: &[u8]) -> std::io::Result<()> {
        self.depth += 1;
        out.write_all(bracket)
    }

    fn close<W: ?Sized + Write>(&mut self, out: &mut W, bracket: &[u8]) -> std::io::Result<()> {
        self.depth -= 1;
        if self.depth < DEPTH {
            self.break_line(out)?;
        }
        out.write_all(bracket)
    }

    fn next<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> std::io::Result<()> {
        if !first {
            out.write_all(b",")?;
        }
        if self.depth <= DEPTH {
            self.break_line(out)
        } else if first {
            Ok(())
        } else {
            out.write_all(b" ")
        }
    }

    fn break_line<W: ?Sized + Write>(&self, out: &mut W) -> std::io::Result<()> {
        out.write_all(b"\n")?;
        (0..self.depth).try_for_each(|_| out.write_all(b"  "))
    }
}

impl Formatter for Lines {
    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> std::io::Result<()> {
        self.open(out, b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> std::io::Result<()> {
        self.close(out, b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        self.next(out, first)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> std::io::Result<()> {
        self.open(out, b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> std::io::Result<()> {
        self.close(out, b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        self.next(out, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> std::io::Result<()> {
        out.write_all(b": ")
    }
}
