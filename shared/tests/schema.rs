//! `schemas/trace-v1.md` is normative: the code says the same.

use memleak_trace::columns::{COLUMNS, Kind, Layout};
use memleak_trace::header::VERSION;
use memleak_trace::{Domain, Effect, Op, StackEnd};

const DOCUMENT: &str = include_str!("../../schemas/trace-v1.md");

/// The cells of the rows of the table whose header begins with `first`, without backticks.
fn table(first: &str) -> Vec<Vec<String>> {
    let start = format!("| {first} |");
    let rows: Vec<Vec<String>> = DOCUMENT
        .lines()
        .skip_while(|line| !line.starts_with(&start))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells = line.trim_matches('|').split('|');
            cells.map(|cell| cell.trim().replace('`', "")).collect()
        })
        .collect();
    assert!(!rows.is_empty(), "no table {first:?}");
    rows
}

/// The document names the version that is written.
#[test]
fn version() {
    assert!(DOCUMENT.starts_with(&format!("# The trace, version {VERSION}\n")));
}

/// Every column with its type, nullability and encoding, in file order.
#[test]
fn columns() {
    let expected: Vec<[String; 4]> = COLUMNS
        .iter()
        .map(|column| {
            let kind = match column.kind {
                Kind::Int32 => "int32",
                Kind::Int64 => "int64",
                Kind::Float64 => "double",
                Kind::Text => "string",
                Kind::Int64List => "list<int64>",
                Kind::InlinedList => "list<struct<function: string, file: string, line: int32>>",
            };
            let layout = match column.layout {
                Layout::Delta => "delta",
                Layout::ByteStreamSplit => "byte stream split",
                Layout::Dictionary => "dictionary",
            };
            let null = if column.nullable { "yes" } else { "no" };
            [column.name, kind, null, layout].map(str::to_owned)
        })
        .collect();
    let told: Vec<Vec<String>> = table("column")
        .into_iter()
        .map(|cells| cells[..4].to_vec())
        .collect();
    assert_eq!(told, expected);
}

/// Every operation with its domain and effect.
#[test]
fn operations() {
    let effect = |effect| match effect {
        Effect::Allocate => "allocate",
        Effect::Free => "free",
        Effect::FreeInner => "free_inner",
        Effect::Release => "release",
        Effect::Outcome => "outcome",
        Effect::Restore => "restore",
        Effect::Describe => "describe",
    };
    let expected: Vec<[String; 3]> = Op::all()
        .map(|op| {
            let domain = op.domain().map_or("–", Domain::name);
            [op.name(), domain, effect(op.effect())].map(str::to_owned)
        })
        .collect();
    let told: Vec<Vec<String>> = table("op")
        .into_iter()
        .map(|cells| cells[..3].to_vec())
        .collect();
    assert_eq!(told, expected);
    let explained: Vec<String> = table("effect")
        .into_iter()
        .map(|cells| cells[0].clone())
        .collect();
    let all = [
        Effect::Allocate,
        Effect::Free,
        Effect::FreeInner,
        Effect::Release,
        Effect::Outcome,
        Effect::Restore,
        Effect::Describe,
    ];
    assert_eq!(explained, all.map(effect));
}

/// Every way a stack can end.
#[test]
fn stack_ends() {
    let told: Vec<String> = table("stack_end")
        .into_iter()
        .map(|cells| cells[0].clone())
        .collect();
    assert_eq!(told, StackEnd::ALL.map(|end| end.name().to_owned()));
}

/// Each name in the reference query is an operation, and no event is forgotten there.
#[test]
fn reference_query() {
    let query = include_str!("../../schemas/outstanding.sql");
    for op in Op::all().filter(|op| op.is_event() && *op != Op::Free) {
        assert!(query.contains(&format!("'{}'", op.name())), "{}", op.name());
    }
}
