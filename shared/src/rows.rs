//! Rows on their way to the encoder: events in dense columns, the few others beside them.

use crate::columns::Column;
use crate::describe::{InlinedFunction, Note};
use crate::description_row::DescriptionRow;
use crate::detail::Detail;
use crate::event::Event;
use crate::levels::{Levels, Sparse, Values, lists, scalar};
use crate::stack::Stack;

/// Rows in the order in which they were appended.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub ts: Vec<i64>,
    pub pid: Vec<i32>,
    pub tid: Vec<i32>,
    pub op: Vec<i8>,
    pub space: Vec<i32>,
    pub addr: Vec<i64>,
    pub size: Vec<i64>,
    pub stack_id: Vec<Option<i32>>,
    /// Of sampled blocks, each with its row, in order.
    weights: Vec<(usize, f64)>,
    /// Each with its row, in order.
    stacks: Vec<(usize, Stack)>,
    descriptions: Vec<(usize, DescriptionRow)>,
    /// What allocations in the kernel tell, each with its row, in order.
    details: Vec<(usize, Detail)>,
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

    /// The weight of the event that was pushed last.
    pub(crate) fn push_weight(&mut self, weight: f64) {
        self.weights.push((self.len().saturating_sub(1), weight));
    }

    /// Appends an allocation in the kernel.
    pub(crate) fn push_detailed(&mut self, event: &Event, stack: Option<&Stack>, detail: Detail) {
        self.details.push((self.len(), detail));
        self.push_event(event, stack);
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

    /// Moves the rows of `other` behind these; `other` keeps its memory.
    pub(crate) fn append(&mut self, other: &mut Rows) {
        let before = self.len();
        self.ts.append(&mut other.ts);
        self.pid.append(&mut other.pid);
        self.tid.append(&mut other.tid);
        self.op.append(&mut other.op);
        self.space.append(&mut other.space);
        self.addr.append(&mut other.addr);
        self.size.append(&mut other.size);
        self.stack_id.append(&mut other.stack_id);
        let weights = other.weights.drain(..);
        self.weights
            .extend(weights.map(|(row, weight)| (before + row, weight)));
        let stacks = other.stacks.drain(..);
        self.stacks
            .extend(stacks.map(|(row, stack)| (before + row, stack)));
        let descriptions = other.descriptions.drain(..);
        self.descriptions
            .extend(descriptions.map(|(row, what)| (before + row, what)));
        let details = other.details.drain(..);
        self.details
            .extend(details.map(|(row, detail)| (before + row, detail)));
    }

    /// Forgets all rows; the memory is kept.
    pub(crate) fn clear(&mut self) {
        self.ts.clear();
        self.pid.clear();
        self.tid.clear();
        self.op.clear();
        self.space.clear();
        self.addr.clear();
        self.size.clear();
        self.stack_id.clear();
        self.weights.clear();
        self.stacks.clear();
        self.descriptions.clear();
        self.details.clear();
    }

    /// The leaf columns of a column that most rows leave empty.
    pub(crate) fn sparse(&self, column: &Column) -> Vec<Sparse<'_>> {
        match column.name {
            "frames" => vec![self.frames()],
            "inlined" => self.inlined(),
            "stack_end" => {
                let ends = self
                    .stacks
                    .iter()
                    .map(|(row, stack)| (*row, stack.end.name()));
                vec![flat(scalar(self.len(), ends), Values::Text)]
            }
            "size2" => vec![self.second_sizes()],
            "file_id" => self.described(|row| row.file_id, Values::Int32),
            "frame" => self.described(|row| row.frame, Values::Int64),
            "module" => self.described(|row| row.module.as_deref(), Values::Text),
            "build_id" => self.described(|row| row.build_id.as_deref(), Values::Text),
            "function" => self.described(|row| row.function.as_deref(), Values::Text),
            "function_offset" => self.described(|row| row.function_offset, Values::Int64),
            "file" => self.described(|row| row.file.as_deref(), Values::Text),
            "line" => self.described(|row| row.line, Values::Int32),
            "text" => self.described(|row| row.text.as_deref(), Values::Text),
            "weight" => {
                let weights = self.weights.iter().copied();
                vec![flat(scalar(self.len(), weights), Values::Double)]
            }
            "cache" => self.detailed(|detail| detail.cache.as_deref()),
            "gfp" => self.detailed(|detail| detail.gfp.as_deref()),
            "comm" => self.detailed(|detail| detail.comm.as_deref()),
            _ => self.described(|_| None, Values::Text),
        }
    }

    fn described<'a, T>(
        &'a self,
        value: impl Fn(&'a DescriptionRow) -> Option<T>,
        values: impl Fn(Vec<T>) -> Values<'a>,
    ) -> Vec<Sparse<'a>> {
        let some = self.descriptions.iter();
        let some = some.filter_map(|(row, what)| Some((*row, value(what)?)));
        vec![flat(scalar(self.len(), some), values)]
    }

    /// A column of allocations in the kernel alone.
    fn detailed<'a>(&'a self, value: impl Fn(&'a Detail) -> Option<&'a str>) -> Vec<Sparse<'a>> {
        let some = self.details.iter();
        let some = some.filter_map(|(row, detail)| Some((*row, value(detail)?)));
        vec![flat(scalar(self.len(), some), Values::Text)]
    }

    /// Of descriptions and of allocations in the kernel, by row.
    fn second_sizes(&self) -> Sparse<'_> {
        let described = self.descriptions.iter();
        let described = described.filter_map(|(row, what)| Some((*row, what.size2?)));
        let detailed = self.details.iter();
        let mut some: Vec<(usize, i64)> = detailed
            .map(|(row, detail)| (*row, detail.size2 as i64))
            .chain(described)
            .collect();
        some.sort_unstable_by_key(|(row, _)| *row);
        flat(scalar(self.len(), some.into_iter()), Values::Int64)
    }

    fn frames(&self) -> Sparse<'_> {
        let some = self.stacks.iter();
        let some = some.map(|(row, stack)| (*row, stack.frames.as_slice()));
        let (repetition, definition) = lists(self.len(), some, |_| 2);
        let frames = self.stacks.iter().flat_map(|(_, stack)| &stack.frames);
        Sparse {
            repetition,
            definition,
            values: Values::Int64(frames.map(|frame| frame.0).collect()),
        }
    }

    /// Function, file and line of the inlined functions.
    fn inlined(&self) -> Vec<Sparse<'_>> {
        let filled = || {
            let all = self.descriptions.iter();
            all.map(|(row, what)| (*row, what.inlined.as_slice()))
                .filter(|(_, inlined)| !inlined.is_empty())
        };
        let items = || filled().flat_map(|(_, inlined)| inlined);
        let leaf = |level: fn(&InlinedFunction) -> u32, values| {
            let (repetition, definition) = lists(self.len(), filled(), level);
            Sparse {
                repetition,
                definition,
                values,
            }
        };
        let functions = items().map(|item| item.function.as_str());
        let files = items().filter_map(|item| item.file.as_deref());
        let lines = items().filter_map(|item| item.line.map(|line| line as i32));
        vec![
            leaf(|_| 2, Values::Text(functions.collect())),
            leaf(
                |item| 2 + u32::from(item.file.is_some()),
                Values::Text(files.collect()),
            ),
            leaf(
                |item| 2 + u32::from(item.line.is_some()),
                Values::Int32(lines.collect()),
            ),
        ]
    }
}

/// A column without lists.
fn flat<'a, T>(
    (definition, some): (Levels, Vec<T>),
    values: impl Fn(Vec<T>) -> Values<'a>,
) -> Sparse<'a> {
    Sparse {
        repetition: Levels::default(),
        definition,
        values: values(some),
    }
}
