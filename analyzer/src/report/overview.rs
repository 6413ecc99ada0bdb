//! A line for each stack, before the stacks themselves: what a reader wants first.

use std::io::Write;

use super::own_code::place;
use super::sparkline::sparkline;
use super::{Report, StackReport};
use crate::units::{show_count, show_size};

/// Columns where no terminal says how many it has.
const COLUMNS: usize = 120;
/// Characters left for the functions, however narrow the terminal is.
const NARROWEST: usize = 16;

/// How a column's cells stand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

/// A column of the table: its title, and the cell of a stack with its rank.
struct Column {
    title: &'static str,
    side: Side,
    cell: fn(&Line) -> String,
}

/// What a line is about.
struct Line<'a> {
    rank: usize,
    stack: &'a StackReport,
    at_ns: u64,
    /// Characters of the course.
    course: usize,
}

const RANK: Column = Column {
    title: "#",
    side: Side::Right,
    cell: |line| line.rank.to_string(),
};
const PID: Column = Column {
    title: "pid",
    side: Side::Right,
    cell: |line| line.stack.pid.to_string(),
};
const DOMAIN: Column = Column {
    title: "domain",
    side: Side::Left,
    cell: |line| line.stack.domain.to_owned(),
};
const BYTES: Column = Column {
    title: "bytes",
    side: Side::Right,
    cell: |line| show_size(line.stack.bytes),
};
const COUNT: Column = Column {
    title: "count",
    side: Side::Right,
    cell: |line| show_count(line.stack.count),
};
const TOTAL: Column = Column {
    title: "in all",
    side: Side::Right,
    cell: |line| show_size(line.stack.total_bytes),
};
const GROWTH: Column = Column {
    title: "growth/s",
    side: Side::Right,
    cell: |line| line.stack.verdict_evidence.growth().unwrap_or_default(),
};
const COURSE: Column = Column {
    title: "over time",
    side: Side::Left,
    cell: |line| sparkline(&line.stack.timeline, line.at_ns, line.course),
};
const VERDICT: Column = Column {
    title: "verdict",
    side: Side::Left,
    cell: |line| {
        let verdict = line.stack.verdict.map(|verdict| verdict.name());
        verdict.unwrap_or("too short").to_owned()
    },
};

/// Writes the table. `terminal` is its number of columns; without one, lines have no course.
pub fn write(report: &Report, terminal: Option<usize>, out: &mut dyn Write) -> std::io::Result<()> {
    let shown = report.unsuppressed();
    if shown.is_empty() {
        return Ok(());
    }
    let width = terminal.unwrap_or(COLUMNS);
    let wide = width >= 100;
    let columns = columns(shown, wide, terminal.is_some());
    let ranked = shown.iter().enumerate();
    let ranked = ranked.map(|(index, stack)| (index + 1, stack));
    let further = report.growing_further.iter();
    let further = further.map(|(rank, stack)| (*rank, stack));
    let lines: Vec<Line> = ranked
        .chain(further)
        .map(|(rank, stack)| Line {
            rank,
            stack,
            at_ns: report.at_ns,
            course: if wide { 20 } else { 10 },
        })
        .collect();
    let cells: Vec<Vec<String>> = lines
        .iter()
        .map(|line| columns.iter().map(|column| (column.cell)(line)).collect())
        .collect();
    let widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(index, column)| {
            let cells = cells.iter().map(|row| row[index].chars().count());
            cells.chain([column.title.len()]).max().unwrap_or(0)
        })
        .collect();
    let titles = columns.iter().map(|column| column.title.to_owned());
    let titles: Vec<String> = titles.collect();
    writeln!(out, "{}allocated by", row(&columns, &widths, &titles))?;
    let taken: usize = widths.iter().map(|width| width + 1).sum();
    let room = width.saturating_sub(taken).max(NARROWEST);
    for (index, (line, cells)) in lines.iter().zip(&cells).enumerate() {
        if index == shown.len() {
            writeln!(out, "growing, further down:")?;
        }
        let place = place(&line.stack.frames, room);
        writeln!(out, "{}{place}", row(&columns, &widths, cells))?;
    }
    writeln!(out)
}

/// The columns that tell something here.
fn columns(stacks: &[StackReport], wide: bool, terminal: bool) -> Vec<&'static Column> {
    let first = stacks.first().map(|stack| stack.pid);
    let several = stacks.iter().any(|stack| Some(stack.pid) != first);
    let all = [
        (&RANK, true),
        (&PID, several),
        (&DOMAIN, stacks.iter().any(|stack| stack.domain != "heap")),
        (&BYTES, true),
        (&COUNT, true),
        (&TOTAL, wide),
        (&GROWTH, true),
        (&COURSE, terminal),
        (&VERDICT, true),
    ];
    let told = all.into_iter().filter(|(_, told)| *told);
    told.map(|(column, _)| column).collect()
}

fn row(columns: &[&Column], widths: &[usize], cells: &[String]) -> String {
    let mut line = String::new();
    for ((column, width), cell) in columns.iter().zip(widths).zip(cells) {
        line += &match column.side {
            Side::Left => format!("{cell:<width$} "),
            Side::Right => format!("{cell:>width$} "),
        };
    }
    line
}
