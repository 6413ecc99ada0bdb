//! Record batches to [`Batch`]es.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int32Array, Int64Array, ListArray, RecordBatch, StringArray,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Int32Type};

use crate::batch::Batch;
use crate::describe::{InlinedFunction, Note};
use crate::description_row::DescriptionRow;
use crate::detail::{Detail, has_detail};
use crate::op::Op;
use crate::stack::{FrameId, Stack, StackEnd, StackId};

/// Why rows could not be decoded.
#[derive(Debug)]
pub(crate) enum DecodeError {
    UnknownOp(String),
    /// A sentence without its full stop.
    Malformed(String),
}

impl DecodeError {
    fn column(name: &str, problem: &str) -> DecodeError {
        DecodeError::Malformed(format!("column {name:?} {problem}"))
    }
}

/// The columns of events of some rows.
#[derive(Debug)]
pub(crate) struct Decoded {
    /// Still without notes and details.
    pub batch: Batch,
    /// The rows at which descriptions stand.
    pub described: Vec<usize>,
    /// Whether some may tell more than events in programs do.
    pub has_details: bool,
}

impl Decoded {
    /// `batch`, whose operations are all among `ops`.
    pub(crate) fn new(batch: Batch, mut ops: impl Iterator<Item = Op> + Clone) -> Decoded {
        let describes = ops.clone().any(|op| !op.is_event());
        let described = match describes {
            true => described_in(&batch.ops),
            false => Vec::new(),
        };
        Decoded {
            batch,
            described,
            has_details: ops.any(has_detail),
        }
    }
}

fn described_in(ops: &[Op]) -> Vec<usize> {
    let rows = ops.iter().enumerate();
    rows.filter(|(_, op)| !op.is_event())
        .map(|(row, _)| row)
        .collect()
}

/// The event columns as a batch.
pub(crate) fn events(columns: &RecordBatch) -> Result<Decoded, DecodeError> {
    let (ops, known) = ops(columns)?;
    let mut batch = Batch {
        ops,
        ts: required(int64(columns, "ts")?, "ts")?.values().to_vec(),
        pids: required(int32(columns, "pid")?, "pid")?.values().to_vec(),
        tids: required(int32(columns, "tid")?, "tid")?.values().to_vec(),
        spaces: required(int32(columns, "space")?, "space")?
            .values()
            .to_vec(),
        addrs: unsigned(&required(int64(columns, "addr")?, "addr")?),
        sizes: unsigned(&required(int64(columns, "size")?, "size")?),
        stack_ids: stack_ids(&int32(columns, "stack_id")?),
        stacks: Vec::new(),
        notes: Vec::new(),
        details: Vec::new(),
    };
    batch.stacks = stacks(columns, &batch.stack_ids)?;
    Ok(Decoded::new(batch, known.into_iter().flatten()))
}

/// The rows at which descriptions stand.
pub(crate) fn described(columns: &RecordBatch) -> Result<Vec<usize>, DecodeError> {
    Ok(described_in(&ops(columns)?.0))
}

/// The operation of each row, and those that the names in the column stand for.
fn ops(columns: &RecordBatch) -> Result<(Vec<Op>, Vec<Option<Op>>), DecodeError> {
    let array = typed(columns, "op", &dictionary())?;
    let array = required(array, "op")?;
    let names = array.as_dictionary::<Int32Type>();
    let values = names.values().as_string::<i32>();
    let known: Vec<Option<Op>> = (0..values.len())
        .map(|index| Op::from_name(values.value(index)))
        .collect();
    let keys = names.keys().values();
    let op_of = |key: &i32| {
        known
            .get(*key as usize)
            .copied()
            .flatten()
            .ok_or_else(|| DecodeError::UnknownOp(values.value(*key as usize).to_owned()))
    };
    let ops = keys.iter().map(op_of).collect::<Result<Vec<_>, _>>()?;
    Ok((ops, known))
}

/// Other programs make every column nullable; nulls are an error nonetheless.
fn required<A: Array>(array: A, name: &str) -> Result<A, DecodeError> {
    match array.null_count() {
        0 => Ok(array),
        _ => Err(DecodeError::column(name, "holds null")),
    }
}

fn stack_ids(ids: &Int32Array) -> Vec<i32> {
    match ids.nulls() {
        None => ids.values().to_vec(),
        Some(valid) => ids
            .values()
            .iter()
            .zip(valid.iter())
            .map(|(id, valid)| if valid { *id } else { Batch::NO_STACK })
            .collect(),
    }
}

fn unsigned(values: &Int64Array) -> Vec<u64> {
    values.values().iter().map(|value| *value as u64).collect()
}

fn stacks(columns: &RecordBatch, ids: &[i32]) -> Result<Vec<Stack>, DecodeError> {
    let frames = list(columns, "frames")?;
    if frames.null_count() == frames.len() {
        return Ok(Vec::new());
    }
    let ends = text(columns, "stack_end")?;
    let mut stacks = Vec::with_capacity(frames.len() - frames.null_count());
    for (row, id) in ids.iter().enumerate() {
        if frames.is_null(row) {
            continue;
        }
        let items = frames.value(row);
        let items = items
            .as_primitive_opt::<arrow::datatypes::Int64Type>()
            .ok_or_else(|| DecodeError::column("frames", "does not hold int64"))?;
        let end = ends
            .is_valid(row)
            .then(|| ends.value(row))
            .and_then(StackEnd::from_name);
        stacks.push(Stack {
            id: StackId(*id),
            frames: items.values().iter().map(|frame| FrameId(*frame)).collect(),
            end: end.ok_or_else(|| {
                DecodeError::column("stack_end", "does not say how a stack ended")
            })?,
        });
    }
    Ok(stacks)
}

/// Puts the notes into `batch`. `columns` holds the description columns of the rows `described`.
pub(crate) fn notes(
    batch: &mut Batch,
    described: &[usize],
    columns: &RecordBatch,
) -> Result<(), DecodeError> {
    if columns.num_rows() != described.len() {
        return Err(DecodeError::Malformed(
            "a description has no row".to_owned(),
        ));
    }
    let columns = DescriptionColumns::new(columns)?;
    for (index, &row) in described.iter().enumerate() {
        let stored = DescriptionRow {
            pid: std::mem::take(&mut batch.pids[row]),
            space: std::mem::take(&mut batch.spaces[row]),
            addr: std::mem::take(&mut batch.addrs[row]) as i64,
            size: std::mem::take(&mut batch.sizes[row]) as i64,
            ..columns.row(index)?
        };
        batch.tids[row] = 0;
        batch.stack_ids[row] = Batch::NO_STACK;
        let what = stored
            .into_description(batch.ops[row])
            .map_err(|column| DecodeError::column(column, "lacks the value of a description"))?;
        batch.notes.push((
            row,
            Note {
                ts: batch.ts[row],
                what,
            },
        ));
    }
    Ok(())
}

/// Puts what allocations in the kernel tell into `batch`, whose rows are those of `columns`.
pub(crate) fn details(batch: &mut Batch, columns: &RecordBatch) -> Result<(), DecodeError> {
    if columns.num_rows() != batch.len() {
        return Err(DecodeError::Malformed(
            "an allocation has no row".to_owned(),
        ));
    }
    let size2 = int64(columns, "size2")?;
    let (cache, gfp, comm) = (
        Names::new(columns, "cache")?,
        Names::new(columns, "gfp")?,
        Names::new(columns, "comm")?,
    );
    for (row, op) in batch.ops.iter().enumerate() {
        if has_detail(*op) {
            let detail = Detail {
                size2: int64_at(&size2, row).map_or(batch.sizes[row], |size| size as u64),
                cache: cache.at(row),
                gfp: gfp.at(row),
                comm: comm.at(row),
            };
            batch.details.push((row, detail));
        }
    }
    Ok(())
}

/// A column of few names, each kept once.
struct Names {
    keys: Int32Array,
    values: Vec<Arc<str>>,
}

impl Names {
    fn new(columns: &RecordBatch, name: &str) -> Result<Names, DecodeError> {
        let array = typed(columns, name, &dictionary())?;
        let names = array.as_dictionary::<Int32Type>();
        let values = names.values().as_string::<i32>();
        Ok(Names {
            keys: names.keys().clone(),
            values: values
                .iter()
                .map(|name| name.unwrap_or("").into())
                .collect(),
        })
    }

    fn at(&self, row: usize) -> Option<Arc<str>> {
        let key = int32_at(&self.keys, row)?;
        self.values.get(usize::try_from(key).ok()?).cloned()
    }
}

fn dictionary() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

struct DescriptionColumns {
    size2: Int64Array,
    file_id: Int32Array,
    frame: Int64Array,
    module: StringArray,
    build_id: StringArray,
    function: StringArray,
    function_offset: Int64Array,
    file: StringArray,
    line: Int32Array,
    inlined: ListArray,
    text: StringArray,
}

impl DescriptionColumns {
    fn new(columns: &RecordBatch) -> Result<Self, DecodeError> {
        Ok(DescriptionColumns {
            size2: int64(columns, "size2")?,
            file_id: int32(columns, "file_id")?,
            frame: int64(columns, "frame")?,
            module: text(columns, "module")?,
            build_id: text(columns, "build_id")?,
            function: text(columns, "function")?,
            function_offset: int64(columns, "function_offset")?,
            file: text(columns, "file")?,
            line: int32(columns, "line")?,
            inlined: list(columns, "inlined")?,
            text: text(columns, "text")?,
        })
    }

    fn row(&self, row: usize) -> Result<DescriptionRow, DecodeError> {
        Ok(DescriptionRow {
            size2: int64_at(&self.size2, row),
            file_id: int32_at(&self.file_id, row),
            frame: int64_at(&self.frame, row),
            module: text_at(&self.module, row),
            build_id: text_at(&self.build_id, row),
            function: text_at(&self.function, row),
            function_offset: int64_at(&self.function_offset, row),
            file: text_at(&self.file, row),
            line: int32_at(&self.line, row),
            inlined: inlined_at(&self.inlined, row)?,
            text: text_at(&self.text, row),
            ..DescriptionRow::default()
        })
    }
}

fn inlined_at(lists: &ListArray, row: usize) -> Result<Vec<InlinedFunction>, DecodeError> {
    if lists.is_null(row) {
        return Ok(Vec::new());
    }
    let malformed = || DecodeError::column("inlined", "does not hold functions");
    let items = lists.value(row);
    let items = items.as_struct_opt().ok_or_else(malformed)?;
    let fields = RecordBatch::from(items.clone());
    let (functions, files, lines) = (
        text(&fields, "function")?,
        text(&fields, "file")?,
        int32(&fields, "line")?,
    );
    (0..fields.num_rows())
        .map(|item| {
            Ok(InlinedFunction {
                function: text_at(&functions, item).ok_or_else(malformed)?,
                file: text_at(&files, item),
                line: int32_at(&lines, item).map(|line| line as u32),
            })
        })
        .collect()
}

fn int64_at(array: &Int64Array, row: usize) -> Option<i64> {
    array.is_valid(row).then(|| array.value(row))
}

fn int32_at(array: &Int32Array, row: usize) -> Option<i32> {
    array.is_valid(row).then(|| array.value(row))
}

fn text_at(array: &StringArray, row: usize) -> Option<String> {
    array.is_valid(row).then(|| array.value(row).to_owned())
}

fn int64(columns: &RecordBatch, name: &str) -> Result<Int64Array, DecodeError> {
    Ok(typed(columns, name, &DataType::Int64)?
        .as_primitive()
        .clone())
}

fn int32(columns: &RecordBatch, name: &str) -> Result<Int32Array, DecodeError> {
    Ok(typed(columns, name, &DataType::Int32)?
        .as_primitive()
        .clone())
}

fn text(columns: &RecordBatch, name: &str) -> Result<StringArray, DecodeError> {
    Ok(typed(columns, name, &DataType::Utf8)?.as_string().clone())
}

fn list(columns: &RecordBatch, name: &str) -> Result<ListArray, DecodeError> {
    find(columns, name)?
        .as_list_opt::<i32>()
        .cloned()
        .ok_or_else(|| DecodeError::column(name, "is no list"))
}

fn find<'a>(columns: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, DecodeError> {
    columns
        .column_by_name(name)
        .ok_or_else(|| DecodeError::column(name, "is missing"))
}

/// The column as `kind`: other programs that rewrite a trace may choose another width.
fn typed(columns: &RecordBatch, name: &str, kind: &DataType) -> Result<ArrayRef, DecodeError> {
    let array = find(columns, name)?;
    if array.data_type() == kind {
        return Ok(array.clone());
    }
    // A value that does not fit is an error, not a null.
    let strict = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    cast_with_options(array, kind, &strict)
        .map_err(|error| DecodeError::column(name, &format!("is not {kind}: {error}")))
}
