//! The columns of a trace: name, type, nullability, encoding, and why that encoding.
//!
//! `schemas/trace-v1.md` is the normative table; a test holds this file to it.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Int32,
    Int64,
    Float64,
    Text,
    /// Frame ids.
    Int64List,
    /// Inlined functions: `struct<function, file, line>`.
    InlinedList,
}

/// How the values of a column are laid out before compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Neighbours differ little: times.
    Delta,
    /// Many distinct values whose upper bytes agree. A dictionary here doubles the size and
    /// triples the CPU time.
    ByteStreamSplit,
    /// Few distinct values.
    Dictionary,
}

/// One column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    pub name: &'static str,
    pub kind: Kind,
    pub nullable: bool,
    pub layout: Layout,
}

const REQUIRED: bool = false;
const NULLABLE: bool = true;

const fn column(name: &'static str, kind: Kind, nullable: bool, layout: Layout) -> Column {
    Column {
        name,
        kind,
        nullable,
        layout,
    }
}

/// Every column, in file order. Integers are signed: Spark refuses unsigned byte streams.
pub const COLUMNS: &[Column] = &[
    column("ts", Kind::Int64, REQUIRED, Layout::Delta),
    column("pid", Kind::Int32, REQUIRED, Layout::Dictionary),
    column("tid", Kind::Int32, REQUIRED, Layout::Dictionary),
    column("op", Kind::Text, REQUIRED, Layout::Dictionary),
    column("domain", Kind::Text, NULLABLE, Layout::Dictionary),
    column("space", Kind::Int32, REQUIRED, Layout::Dictionary),
    column("addr", Kind::Int64, REQUIRED, Layout::ByteStreamSplit),
    column("size", Kind::Int64, REQUIRED, Layout::ByteStreamSplit),
    column("size2", Kind::Int64, NULLABLE, Layout::Dictionary),
    column("stack_id", Kind::Int32, NULLABLE, Layout::ByteStreamSplit),
    column("frames", Kind::Int64List, NULLABLE, Layout::Dictionary),
    column("stack_end", Kind::Text, NULLABLE, Layout::Dictionary),
    column("file_id", Kind::Int32, NULLABLE, Layout::Dictionary),
    column("frame", Kind::Int64, NULLABLE, Layout::ByteStreamSplit),
    column("module", Kind::Text, NULLABLE, Layout::Dictionary),
    column("build_id", Kind::Text, NULLABLE, Layout::Dictionary),
    column("function", Kind::Text, NULLABLE, Layout::Dictionary),
    column("function_offset", Kind::Int64, NULLABLE, Layout::Dictionary),
    column("file", Kind::Text, NULLABLE, Layout::Dictionary),
    column("line", Kind::Int32, NULLABLE, Layout::Dictionary),
    column("inlined", Kind::InlinedList, NULLABLE, Layout::Dictionary),
    column("text", Kind::Text, NULLABLE, Layout::Dictionary),
    column("weight", Kind::Float64, NULLABLE, Layout::Dictionary),
    column("cache", Kind::Text, NULLABLE, Layout::Dictionary),
    column("gfp", Kind::Text, NULLABLE, Layout::Dictionary),
    column("comm", Kind::Text, NULLABLE, Layout::Dictionary),
];

/// Columns that every row may use.
pub const EVENT_COLUMNS: &[&str] = &[
    "ts",
    "pid",
    "tid",
    "op",
    "space",
    "addr",
    "size",
    "stack_id",
    "frames",
    "stack_end",
];

/// Columns that allocations in the kernel use beside those.
pub const DETAIL_COLUMNS: &[&str] = &["size2", "cache", "gfp", "comm"];

/// Columns that descriptions use beside those.
pub const DESCRIPTION_COLUMNS: &[&str] = &[
    "size2",
    "file_id",
    "frame",
    "module",
    "build_id",
    "function",
    "function_offset",
    "file",
    "line",
    "inlined",
    "text",
];

/// The fields of an inlined function.
pub fn inlined_fields() -> Fields {
    Fields::from(vec![
        Field::new("function", DataType::Utf8, false),
        Field::new("file", DataType::Utf8, true),
        Field::new("line", DataType::Int32, true),
    ])
}

/// The item of the list column `frames`, and of `inlined`.
pub fn list_item(kind: Kind) -> Arc<Field> {
    let item = match kind {
        Kind::InlinedList => DataType::Struct(inlined_fields()),
        _ => DataType::Int64,
    };
    Arc::new(Field::new("element", item, false))
}

impl Column {
    /// The type in memory.
    pub fn data_type(&self) -> DataType {
        match self.kind {
            Kind::Int32 => DataType::Int32,
            Kind::Int64 => DataType::Int64,
            Kind::Float64 => DataType::Float64,
            Kind::Text => DataType::Utf8,
            Kind::Int64List | Kind::InlinedList => DataType::List(list_item(self.kind)),
        }
    }
}

/// The schema of the file.
pub fn schema() -> SchemaRef {
    let fields: Vec<Field> = COLUMNS
        .iter()
        .map(|column| Field::new(column.name, column.data_type(), column.nullable))
        .collect();
    Arc::new(Schema::new(fields))
}
