//! A view's result: rows under named columns, written as they come, as text, JSON or CSV.

use std::io::Write;
use std::rc::Rc;

use serde::Serialize;

use super::text_table::TextTable;
use crate::cli::Format;
use crate::estimate::Interval;
use crate::filter::Shown;
use crate::replay::Replay;
use crate::report::{Frame, Trace};
use crate::units::{show_count, show_duration};

/// What the numbers of a column are. JSON and CSV have them as they are, text in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Bytes,
    Count,
    /// A duration, an age or a moment since the start of the recording: nanoseconds.
    Nanoseconds,
    /// A moment that stands beside close ones: nanoseconds since the start.
    Moment,
    /// A number without a unit, such as a pid.
    Number,
    BytesPerSecond,
    /// 0 to 1.
    Share,
    /// A short name.
    Word,
    /// Text of any length; the last column.
    Text,
    /// A stack, leaf first; below its row as text.
    Frames,
}

/// A column: its name in JSON and CSV, and its unit.
pub type Column = (&'static str, Unit);

/// A cell.
#[derive(Clone, Debug)]
pub enum Value {
    Null,
    Unsigned(u64),
    Signed(i64),
    Real(f64),
    Text(String),
    Frames(Rc<Vec<Frame>>),
    /// A figure that may be an estimate, and its 99.9 % interval.
    Estimate(u64, Interval),
    /// A difference of such figures.
    Difference(i64, (i64, i64)),
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Value::Unsigned(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Value::Signed(value)
    }
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Value::Signed(value.into())
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Value::Real(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Value::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Value::Text(value)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}

/// What stands above the rows.
#[derive(Debug)]
pub struct Head {
    pub view: &'static str,
    /// One line for people.
    pub title: String,
    pub trace: Trace,
    /// The moment, nanoseconds since the start.
    pub at_ns: u64,
    pub filters: Shown,
    pub estimated: Estimated,
}

/// The columns whose figures are estimates, because the trace is a sample; none otherwise. JSON and CSV
/// have the ends of the intervals beside them, as `…_low` and `…_high`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Estimated {
    pub columns: &'static [&'static str],
    /// So many of them, the first ones, have a ± as text.
    pub in_text: usize,
}

impl Estimated {
    /// Of these columns, if the trace is a sample.
    pub fn of(replay: &Replay, columns: &'static [&'static str], in_text: usize) -> Estimated {
        match replay.estimates() {
            Some(_) => Estimated { columns, in_text },
            None => Estimated::default(),
        }
    }

    pub fn has(&self, name: &str, format: Format) -> bool {
        let columns = match format {
            Format::Text => &self.columns[..self.in_text],
            _ => self.columns,
        };
        columns.contains(&name)
    }

    /// The ends of an estimate's interval, with the ends of their columns' names.
    fn ends(&self, name: &str, cell: &Value) -> Option<[(&'static str, Value); 2]> {
        if !self.columns.contains(&name) {
            return None;
        }
        let (low, high) = match cell {
            Value::Estimate(_, (low, high)) => ((*low).into(), (*high).into()),
            Value::Difference(_, (low, high)) => ((*low).into(), (*high).into()),
            _ => (Value::Null, Value::Null),
        };
        Some([("_low", low), ("_high", high)])
    }
}

/// Writes a table.
pub struct TableWriter<'a> {
    format: Format,
    columns: &'a [Column],
    estimated: Estimated,
    text: TextTable<'a>,
    out: &'a mut dyn Write,
    rows: u64,
}

impl<'a> TableWriter<'a> {
    /// Writes what stands above the rows.
    pub fn begin(
        format: Format,
        head: &Head,
        columns: &'a [Column],
        out: &'a mut dyn Write,
    ) -> anyhow::Result<TableWriter<'a>> {
        match format {
            Format::Text => text_head(head, out)?,
            Format::Json => json_head(head, out)?,
            Format::Csv => {
                let names = columns.iter().flat_map(|(name, _)| {
                    let ends = match head.estimated.has(name, format) {
                        true => &["", "_low", "_high"][..],
                        false => &[""],
                    };
                    ends.iter().map(move |end| format!("{name}{end}"))
                });
                csv_line(names, out)?;
            }
        }
        Ok(TableWriter {
            format,
            columns,
            estimated: head.estimated,
            text: TextTable::new(columns, &head.estimated),
            out,
            rows: 0,
        })
    }

    /// Writes a row; its cells stand in the order of the columns.
    pub fn row(&mut self, cells: &[Value]) -> anyhow::Result<()> {
        debug_assert_eq!(cells.len(), self.columns.len());
        match self.format {
            Format::Text => self.text.row(self.columns.iter().zip(cells), self.out)?,
            Format::Json => self.json_row(cells)?,
            Format::Csv => {
                let estimated = self.estimated;
                let named = self.columns.iter().zip(cells);
                let cells = named.flat_map(|((name, _), cell)| {
                    let ends = estimated.ends(name, cell).into_iter().flatten();
                    let ends = ends.map(|(_, end)| csv_cell(&end));
                    std::iter::once(csv_cell(cell)).chain(ends)
                });
                csv_line(cells, self.out)?;
            }
        }
        self.rows += 1;
        Ok(())
    }

    /// A remark below the rows, as text only.
    pub fn remark(&mut self, remark: &str) -> anyhow::Result<()> {
        if self.format == Format::Text {
            self.text.flush(self.out)?;
            writeln!(self.out, "{remark}")?;
        }
        Ok(())
    }

    /// Writes what stands below the rows.
    pub fn finish(mut self) -> anyhow::Result<()> {
        if self.format == Format::Text {
            self.text.flush(self.out)?;
        }
        match self.format {
            Format::Text if self.rows == 0 => writeln!(self.out, "(nothing matches)")?,
            Format::Json if self.rows == 0 => writeln!(self.out, "]\n}}")?,
            Format::Json => writeln!(self.out, "\n  ]\n}}")?,
            _ => {}
        }
        Ok(())
    }

    fn json_row(&mut self, cells: &[Value]) -> anyhow::Result<()> {
        let separator = if self.rows == 0 {
            "\n    {"
        } else {
            ",\n    {"
        };
        write!(self.out, "{separator}")?;
        for (index, ((name, _), cell)) in self.columns.iter().zip(cells).enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(self.out, "{separator}\"{name}\": ")?;
            json_cell(cell, self.out)?;
            for (end, value) in self.estimated.ends(name, cell).into_iter().flatten() {
                write!(self.out, ", \"{name}{end}\": ")?;
                json_cell(&value, self.out)?;
            }
        }
        write!(self.out, "}}")?;
        Ok(())
    }
}

fn json_cell(cell: &Value, out: &mut dyn Write) -> anyhow::Result<()> {
    match cell {
        Value::Null => write!(out, "null")?,
        Value::Unsigned(value) | Value::Estimate(value, _) => write!(out, "{value}")?,
        Value::Signed(value) | Value::Difference(value, _) => write!(out, "{value}")?,
        Value::Real(value) => json(value, out)?,
        Value::Text(value) => json(value, out)?,
        Value::Frames(frames) => json(&**frames, out)?,
    }
    Ok(())
}

fn json(value: &impl Serialize, out: &mut dyn Write) -> anyhow::Result<()> {
    Ok(serde_json::to_writer(out, value).map_err(std::io::Error::from)?)
}

fn json_head(head: &Head, out: &mut dyn Write) -> anyhow::Result<()> {
    write!(out, "{{\n  \"schema\": \"memleak-view/1\",\n  \"view\": ")?;
    json(&head.view, out)?;
    write!(out, ",\n  \"trace\": ")?;
    json(&head.trace, out)?;
    write!(out, ",\n  \"at_ns\": {},\n  \"filters\": ", head.at_ns)?;
    json(&head.filters, out)?;
    Ok(write!(out, ",\n  \"rows\": [")?)
}

fn text_head(head: &Head, out: &mut dyn Write) -> anyhow::Result<()> {
    let trace = &head.trace;
    let complete = if trace.complete {
        "complete"
    } else {
        "INCOMPLETE, the figures end where it does"
    };
    let lost = match trace.lost.total {
        0 if trace.lost.by_cause.is_empty() => "nothing".to_owned(),
        0 => "an unknown number of events".to_owned(),
        total => format!(
            "{} events, figures may be off by as much",
            show_count(total)
        ),
    };
    writeln!(
        out,
        "{}: {} events in {}; {complete}; lost: {lost}",
        trace.path,
        show_count(trace.events),
        show_duration(trace.duration_ns)
    )?;
    if !head.estimated.columns.is_empty() {
        writeln!(
            out,
            "sampled: figures of the heap are estimates of the whole; the truth lies within ± of them at 99.9 %"
        )?;
    } else if trace.selection.sampling.is_some() {
        writeln!(
            out,
            "sampled: these are the recorded ones, each as it was; of those left out nothing is known but their sums, which the other views estimate"
        )?;
    }
    writeln!(out, "{}", head.title)?;
    let filters = head.filters.words();
    if !filters.is_empty() {
        writeln!(out, "filter: allocations {}", filters.join(", "))?;
    }
    Ok(())
}

fn csv_cell(cell: &Value) -> String {
    match cell {
        Value::Null => String::new(),
        Value::Unsigned(value) | Value::Estimate(value, _) => value.to_string(),
        Value::Signed(value) | Value::Difference(value, _) => value.to_string(),
        Value::Real(value) => value.to_string(),
        Value::Text(text) => text.clone(),
        Value::Frames(frames) => {
            let names: Vec<String> = frames.iter().map(Frame::name).collect();
            names.join(";")
        }
    }
}

/// A line of RFC 4180.
pub fn csv_line(cells: impl Iterator<Item = String>, out: &mut dyn Write) -> anyhow::Result<()> {
    for (index, cell) in cells.enumerate() {
        if index > 0 {
            write!(out, ",")?;
        }
        if cell.contains([',', '"', '\n', '\r']) {
            write!(out, "\"{}\"", cell.replace('"', "\"\""))?;
        } else {
            write!(out, "{cell}")?;
        }
    }
    Ok(writeln!(out)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cells with commas, quotes and line breaks are quoted, others stand as they are.
    #[test]
    fn csv_is_quoted() {
        let cells = ["plain", "a,b", "say \"no\"", "two\nlines", ""].map(str::to_owned);
        let mut out = Vec::new();
        csv_line(cells.into_iter(), &mut out).expect("writing to memory");
        let expected = "plain,\"a,b\",\"say \"\"no\"\"\",\"two\nlines\",\n";
        assert_eq!(String::from_utf8(out).expect("UTF-8"), expected);
    }
}
