//! A view's table as text: columns as wide as what stands in them.

use std::io::Write;
use std::rc::Rc;

use super::table::{Column, Estimated, Unit, Value};
use crate::cli::Format;
use crate::report::{Frame, text};
use crate::units::{show_count, show_duration, show_size};

/// So many rows are looked at before the first is written. Those that come later stand out where they need
/// more room.
const LOOKED_AT: usize = 1000;

/// A row: the cells of each column that is one, and the stacks below it.
struct Row {
    cells: Vec<String>,
    stacks: Vec<Rc<Vec<Frame>>>,
}

/// Writes rows as they come, once enough of them are known.
pub struct TextTable<'a> {
    /// Each visible column; whether a ± follows it, which is a column of its own here.
    columns: Vec<(&'a Column, bool)>,
    widths: Vec<usize>,
    waiting: Vec<Row>,
    begun: bool,
}

impl<'a> TextTable<'a> {
    pub fn new(columns: &'a [Column], estimated: &Estimated) -> TextTable<'a> {
        let visible = columns.iter().filter(|(_, unit)| *unit != Unit::Frames);
        let columns: Vec<_> = visible
            .map(|column| (column, estimated.has(column.0, Format::Text)))
            .collect();
        let mut table = TextTable {
            columns,
            widths: Vec::new(),
            waiting: Vec::new(),
            begun: false,
        };
        table.widths = table.titles().iter().map(|title| width(title)).collect();
        table
    }

    /// The columns' names for people: units are told in the cells.
    fn titles(&self) -> Vec<String> {
        let titles = self.columns.iter().flat_map(|((name, _), has_error)| {
            let title = name.trim_end_matches("_ns").replace('_', " ");
            std::iter::once(title).chain(has_error.then(String::new))
        });
        titles.collect()
    }

    /// Adds a row; `named` are its cells with their columns.
    pub fn row<'v>(
        &mut self,
        named: impl Iterator<Item = (&'v Column, &'v Value)>,
        out: &mut dyn Write,
    ) -> anyhow::Result<()> {
        let mut row = Row {
            cells: Vec::with_capacity(self.widths.len()),
            stacks: Vec::new(),
        };
        let mut errors = self.columns.iter().map(|(_, has_error)| *has_error);
        for ((_, unit), cell) in named {
            match cell {
                Value::Frames(frames) => row.stacks.push(frames.clone()),
                _ if *unit == Unit::Frames => {}
                _ => {
                    row.cells.push(text_cell(*unit, cell));
                    if errors.next() == Some(true) {
                        row.cells.push(error(cell));
                    }
                }
            }
        }
        if self.begun {
            return self.write(&row, out);
        }
        for (width, cell) in self.widths.iter_mut().zip(&row.cells) {
            *width = self::width(cell).max(*width);
        }
        self.waiting.push(row);
        match self.waiting.len() {
            LOOKED_AT => self.flush(out),
            _ => Ok(()),
        }
    }

    /// Writes the titles and all that waits.
    pub fn flush(&mut self, out: &mut dyn Write) -> anyhow::Result<()> {
        if !self.begun {
            self.begun = true;
            writeln!(out)?;
            writeln!(out, "{}", self.line(&self.titles()))?;
        }
        for row in std::mem::take(&mut self.waiting) {
            self.write(&row, out)?;
        }
        Ok(())
    }

    fn write(&self, row: &Row, out: &mut dyn Write) -> anyhow::Result<()> {
        writeln!(out, "{}", self.line(&row.cells))?;
        for frames in &row.stacks {
            text::frames(frames, out)?;
            if frames.is_empty() {
                writeln!(out, "\t      (the stack is not in the trace)")?;
            }
        }
        Ok(())
    }

    /// Numbers to the right, names to the left.
    fn line(&self, cells: &[String]) -> String {
        let mut line = String::new();
        let mut cells = cells.iter().zip(&self.widths);
        for ((_, unit), has_error) in &self.columns {
            if let Some((cell, width)) = cells.next() {
                line += &match unit {
                    Unit::Word | Unit::Text | Unit::Frames => format!("{cell:<width$}  "),
                    _ => format!("{cell:>width$}  "),
                };
            }
            if let Some((cell, width)) = has_error.then(|| cells.next()).flatten() {
                line += &format!("{cell:<width$}  ");
            }
        }
        line.trim_end().to_owned()
    }
}

/// Columns of a terminal that a text takes.
fn width(text: &str) -> usize {
    text.chars().count()
}

/// `± 1,234`: the farther end of the interval. Empty where the figure is exact.
fn error(cell: &Value) -> String {
    let error = match cell {
        Value::Estimate(figure, (low, high)) => figure.abs_diff(*low).max(figure.abs_diff(*high)),
        Value::Difference(figure, (low, high)) => figure.abs_diff(*low).max(figure.abs_diff(*high)),
        _ => 0,
    };
    match error {
        0 => String::new(),
        error => format!("± {}", show_count(error)),
    }
}

fn text_cell(unit: Unit, cell: &Value) -> String {
    let signed = |value: i64| {
        let sign = ["-", "", "+"][(value.signum() + 1) as usize];
        format!("{sign}{}", show_count(value.unsigned_abs()))
    };
    match (unit, cell) {
        (Unit::Nanoseconds, Value::Unsigned(ns)) => show_duration(*ns),
        (Unit::Moment, Value::Unsigned(ns)) => {
            let micros = ns / 1000;
            format!("{}.{:06} s", micros / 1_000_000, micros % 1_000_000)
        }
        (Unit::Number, Value::Unsigned(value)) => value.to_string(),
        (Unit::Number, Value::Signed(value)) => value.to_string(),
        (Unit::Share, Value::Real(share)) => format!("{:.1} %", share * 100.0),
        (Unit::BytesPerSecond, Value::Real(rate)) => {
            let bytes = rate.abs().round() as u64;
            let sign = match bytes {
                0 => "",
                _ if *rate < 0.0 => "-",
                _ => "+",
            };
            format!("{sign}{}/s", show_size(bytes))
        }
        (_, Value::Unsigned(value) | Value::Estimate(value, _)) => show_count(*value),
        (_, Value::Signed(value) | Value::Difference(value, _)) => signed(*value),
        (_, Value::Real(value)) => format!("{value:.3}"),
        (_, Value::Text(text)) => text.clone(),
        (_, Value::Null) => "-".to_owned(),
        (_, Value::Frames(_)) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each unit, for people.
    #[test]
    fn cells_for_people() {
        let cases = [
            (Unit::Bytes, Value::from(1_234_567u64), "1,234,567"),
            (Unit::Bytes, Value::from(-1_234i64), "-1,234"),
            (Unit::Bytes, Value::from(5i64), "+5"),
            (Unit::Nanoseconds, Value::from(1_500_000u64), "1.5 ms"),
            (Unit::Bytes, Value::from(0i64), "0"),
            (Unit::Moment, Value::from(9_000_012_345u64), "9.000012 s"),
            (Unit::Number, Value::from(-3), "-3"),
            (Unit::Number, Value::from(1_234_567u64), "1234567"),
            (Unit::Share, Value::from(0.5), "50.0 %"),
            (Unit::BytesPerSecond, Value::from(2.5), "+3 B/s"),
            (Unit::BytesPerSecond, Value::from(-2048.0), "-2.0 KiB/s"),
            (Unit::Word, Value::from("heap"), "heap"),
            (Unit::Count, Value::Null, "-"),
            (Unit::Bytes, Value::Estimate(10, (5, 1010)), "10"),
            (Unit::Bytes, Value::Difference(-10, (-20, 5)), "-10"),
        ];
        for (unit, cell, expected) in cases {
            assert_eq!(text_cell(unit, &cell), expected, "{unit:?} {cell:?}");
        }
        assert_eq!(error(&Value::Estimate(10, (5, 1010))), "± 1,000");
        assert_eq!(error(&Value::Difference(-10, (-20, 5))), "± 15");
        assert_eq!(error(&Value::Estimate(10, (10, 10))), "");
    }

    /// Columns are as wide as the widest of titles and cells; a row that comes late may need more, and no
    /// row is lost or told twice.
    #[test]
    fn columns_fit() {
        let columns = [
            ("op", Unit::Word),
            ("size", Unit::Bytes),
            ("at_ns", Unit::Nanoseconds),
        ];
        let estimated = Estimated {
            columns: &["size"],
            in_text: 1,
        };
        let mut table = TextTable::new(&columns, &estimated);
        let mut out = Vec::new();
        for index in 0..LOOKED_AT as u64 + 1 {
            let op = if index == 7 {
                "kmem_cache_alloc"
            } else {
                "free"
            };
            let size = Value::Estimate(index, (index, index + 1000 * (index % 2)));
            let row = [op.into(), size, 1_500_u64.into()];
            table
                .row(columns.iter().zip(&row), &mut out)
                .expect("memory");
        }
        table.flush(&mut out).expect("memory");
        let text = String::from_utf8(out).expect("UTF-8");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), LOOKED_AT + 3);
        assert_eq!(lines[1], "op                size               at");
        assert_eq!(lines[2], "free                 0           1.5 µs");
        assert_eq!(lines[9], "kmem_cache_alloc     7  ± 1,000  1.5 µs");
        assert_eq!(
            lines[LOOKED_AT + 2],
            "free              1,000           1.5 µs"
        );
    }
}
