//! Rows on their way to the encoder: events in dense columns, the few others beside them.

use std::mem::take;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, DictionaryArray, Float64Array, Int8Array, Int32Array, Int64Array, ListArray,
    RecordBatch, StringArray, StructArray, new_null_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Int8Type, Schema, SchemaRef};
use arrow::error::ArrowError;

use crate::columns::{COLUMNS, Column, Kind, inlined_fields, list_item};
use crate::describe::{InlinedFunction, Note};
use crate::description_row::DescriptionRow;
use crate::event::Event;
use crate::op::{Domain, Op};
use crate::stack::Stack;

/// Rows in the order in which they were appended.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    ts: Vec<i64>,
    pid: Vec<i32>,
    tid: Vec<i32>,
    op: Vec<i8>,
    space: Vec<i32>,
    addr: Vec<i64>,
    size: Vec<i64>,
    stack_id: Vec<Option<i32>>,
    /// Each with its row, in order.
    stacks: Vec<(usize, Stack)>,
    descriptions: Vec<(usize, DescriptionRow)>,
}

/// The schema of the batches: `op` and `domain` come with their dictionaries, so that the encoder
/// compares a name by its number.
pub(crate) fn batch_schema() -> SchemaRef {
    let field = |column: &Column| {
        let kind = match column.name {
            "op" | "domain" => {
                DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8))
            }
            _ => column.data_type(),
        };
        Field::new(column.name, kind, column.nullable)
    };
    Arc::new(Schema::new(COLUMNS.iter().map(field).collect::<Vec<_>>()))
}

impl Rows {
    pub(crate) fn len(&self) -> usize {
        self.op.len()
    }

    pub(crate) fn push_event(&mut self, event: &Event, stack: Option<&Stack>) {
        if let Some(stack) = stack {
            self.stacks.push((self.len(), stack.clone()));
        }
        self.ts.push(event.ts);
        self.pid.push(event.pid);
        self.tid.push(event.tid);
        self.op.push(event.op as i8);
        self.space.push(event.space.0);
        self.addr.push(event.addr as i64);
        self.size.push(event.size as i64);
        self.stack_id.push(event.stack.map(|stack| stack.0));
    }

    pub(crate) fn push_note(&mut self, note: &Note) {
        let row = DescriptionRow::from(&note.what);
        let index = self.len();
        self.ts.push(note.ts);
        self.pid.push(row.pid);
        self.tid.push(0);
        self.op.push(note.what.op() as i8);
        self.space.push(row.space);
        self.addr.push(row.addr);
        self.size.push(row.size);
        self.stack_id.push(None);
        self.descriptions.push((index, row));
    }

    /// Takes all rows, as one batch of [`batch_schema`].
    pub(crate) fn take(&mut self, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
        let mut rows = std::mem::take(self);
        let capacity = rows.len();
        let arrays = COLUMNS
            .iter()
            .map(|column| rows.array(column))
            .collect::<Result<Vec<_>, _>>()?;
        self.reserve(capacity);
        RecordBatch::try_new(schema.clone(), arrays)
    }

    fn reserve(&mut self, rows: usize) {
        self.ts.reserve(rows);
        self.pid.reserve(rows);
        self.tid.reserve(rows);
        self.op.reserve(rows);
        self.space.reserve(rows);
        self.addr.reserve(rows);
        self.size.reserve(rows);
        self.stack_id.reserve(rows);
    }

    fn array(&mut self, column: &Column) -> Result<ArrayRef, ArrowError> {
        Ok(match column.name {
            "ts" => Arc::new(Int64Array::from(take(&mut self.ts))),
            "pid" => Arc::new(Int32Array::from(take(&mut self.pid))),
            "tid" => Arc::new(Int32Array::from(take(&mut self.tid))),
            "op" => op_names(&self.op)?,
            "domain" => domain_names(&self.op)?,
            "space" => Arc::new(Int32Array::from(take(&mut self.space))),
            "addr" => Arc::new(Int64Array::from(take(&mut self.addr))),
            "size" => Arc::new(Int64Array::from(take(&mut self.size))),
            "stack_id" => Arc::new(Int32Array::from(take(&mut self.stack_id))),
            "frames" => self.frames()?,
            "stack_end" => self.stack_ends(),
            "size2" => self.int64(|row| row.size2),
            "file_id" => self.int32(|row| row.file_id),
            "frame" => self.int64(|row| row.frame),
            "module" => self.text(|row| row.module.as_deref()),
            "build_id" => self.text(|row| row.build_id.as_deref()),
            "function" => self.text(|row| row.function.as_deref()),
            "function_offset" => self.int64(|row| row.function_offset),
            "file" => self.text(|row| row.file.as_deref()),
            "line" => self.int32(|row| row.line),
            "inlined" => self.inlined()?,
            "text" => self.text(|row| row.text.as_deref()),
            "weight" => Arc::new(Float64Array::new_null(self.len())),
            _ => new_null_array(&column.data_type(), self.len()),
        })
    }

    /// Spreads the values of the few over all rows.
    fn spread<'a, T: Copy, V>(
        &self,
        few: &'a [(usize, V)],
        value: impl Fn(&'a V) -> Option<T>,
    ) -> Option<Vec<Option<T>>> {
        let mut found = few
            .iter()
            .filter_map(|(row, item)| Some((*row, value(item)?)))
            .peekable();
        found.peek()?;
        let mut all = vec![None; self.len()];
        for (row, value) in found {
            all[row] = Some(value);
        }
        Some(all)
    }

    fn int64(&self, value: impl Fn(&DescriptionRow) -> Option<i64>) -> ArrayRef {
        match self.spread(&self.descriptions, value) {
            Some(values) => Arc::new(Int64Array::from(values)),
            None => new_null_array(&DataType::Int64, self.len()),
        }
    }

    fn int32(&self, value: impl Fn(&DescriptionRow) -> Option<i32>) -> ArrayRef {
        match self.spread(&self.descriptions, value) {
            Some(values) => Arc::new(Int32Array::from(values)),
            None => new_null_array(&DataType::Int32, self.len()),
        }
    }

    fn text(&self, value: impl Fn(&DescriptionRow) -> Option<&str>) -> ArrayRef {
        match self.spread(&self.descriptions, value) {
            Some(values) => Arc::new(StringArray::from(values)),
            None => new_null_array(&DataType::Utf8, self.len()),
        }
    }

    fn stack_ends(&self) -> ArrayRef {
        match self.spread(&self.stacks, |stack| Some(stack.end.name())) {
            Some(values) => Arc::new(StringArray::from(values)),
            None => new_null_array(&DataType::Utf8, self.len()),
        }
    }

    fn frames(&self) -> Result<ArrayRef, ArrowError> {
        if self.stacks.is_empty() {
            return Ok(new_null_array(
                &DataType::List(list_item(Kind::Int64List)),
                self.len(),
            ));
        }
        let (lengths, valid) = list_shape(
            self.len(),
            self.stacks
                .iter()
                .map(|(row, stack)| (*row, stack.frames.len())),
        );
        let frames = self.stacks.iter().flat_map(|(_, stack)| &stack.frames);
        Ok(Arc::new(ListArray::try_new(
            list_item(Kind::Int64List),
            lengths,
            Arc::new(Int64Array::from_iter_values(frames.map(|frame| frame.0))),
            Some(valid),
        )?))
    }

    fn inlined(&self) -> Result<ArrayRef, ArrowError> {
        let lists = || {
            self.descriptions
                .iter()
                .filter(|(_, row)| !row.inlined.is_empty())
        };
        if lists().next().is_none() {
            return Ok(new_null_array(
                &DataType::List(list_item(Kind::InlinedList)),
                self.len(),
            ));
        }
        let (lengths, valid) = list_shape(
            self.len(),
            lists().map(|(row, item)| (*row, item.inlined.len())),
        );
        let functions: Vec<&InlinedFunction> = lists().flat_map(|(_, row)| &row.inlined).collect();
        let fields: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(
                functions.iter().map(|item| &item.function),
            )),
            Arc::new(StringArray::from_iter(
                functions.iter().map(|item| item.file.as_deref()),
            )),
            Arc::new(Int32Array::from_iter(
                functions
                    .iter()
                    .map(|item| item.line.map(|line| line as i32)),
            )),
        ];
        Ok(Arc::new(ListArray::try_new(
            list_item(Kind::InlinedList),
            lengths,
            Arc::new(StructArray::try_new(inlined_fields(), fields, None)?),
            Some(valid),
        )?))
    }
}

/// Offsets and validity of a list column in which only `filled` rows (row, items) have a list.
fn list_shape(
    rows: usize,
    filled: impl Iterator<Item = (usize, usize)>,
) -> (OffsetBuffer<i32>, NullBuffer) {
    let mut lengths = vec![0; rows];
    let mut valid = vec![false; rows];
    for (row, items) in filled {
        lengths[row] = items;
        valid[row] = true;
    }
    (OffsetBuffer::from_lengths(lengths), NullBuffer::from(valid))
}

fn op_names(ops: &[i8]) -> Result<ArrayRef, ArrowError> {
    let names = StringArray::from_iter_values(Op::all().map(Op::name));
    Ok(Arc::new(DictionaryArray::<Int8Type>::try_new(
        Int8Array::from(ops.to_vec()),
        Arc::new(names),
    )?))
}

fn domain_names(ops: &[i8]) -> Result<ArrayRef, ArrowError> {
    let names = StringArray::from_iter_values(Domain::ALL.map(Domain::name));
    let of_op: Vec<Option<i8>> = Op::all()
        .map(|op| op.domain().map(|domain| domain as i8))
        .collect();
    let keys: Int8Array = ops.iter().map(|op| of_op[*op as usize]).collect();
    Ok(Arc::new(DictionaryArray::<Int8Type>::try_new(
        keys,
        Arc::new(names),
    )?))
}
