//! Definition and repetition levels: where a column has values, and where its lists begin.

use crate::encoding::put_run;

/// Levels of one kind, as runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Levels {
    runs: Vec<(u32, usize)>,
    count: usize,
}

impl Levels {
    pub(crate) fn push(&mut self, level: u32, count: usize) {
        if count == 0 {
            return;
        }
        self.count += count;
        match self.runs.last_mut() {
            Some((last, length)) if *last == level => *length += count,
            _ => self.runs.push((level, count)),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Appends the levels (up to `largest`) as a data page has them: behind their length in bytes.
    pub(crate) fn encode(&self, largest: i16, out: &mut Vec<u8>) {
        if largest > 0 {
            let width = crate::encoding::bit_width(largest as u64);
            with_length(out, |out| {
                for (level, count) in &self.runs {
                    put_run(*count, *level, width, out);
                }
            });
        }
    }
}

/// Appends what `encode` appends, behind its length.
pub(crate) fn with_length(out: &mut Vec<u8>, encode: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    encode(out);
    let length = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

/// The values of a column in which most rows have none.
#[derive(Clone, Debug)]
pub(crate) struct Sparse<'a> {
    pub repetition: Levels,
    pub definition: Levels,
    pub values: Values<'a>,
}

/// Values without the nulls between them.
#[derive(Clone, Debug)]
pub(crate) enum Values<'a> {
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Double(Vec<f64>),
    Text(Vec<&'a str>),
}

impl Values<'_> {
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Values::Int32(values) => values.is_empty(),
            Values::Int64(values) => values.is_empty(),
            Values::Double(values) => values.is_empty(),
            Values::Text(values) => values.is_empty(),
        }
    }
}

/// A column of `rows` rows of which `some` (row, value), in order, have a value.
pub(crate) fn scalar<T>(rows: usize, some: impl Iterator<Item = (usize, T)>) -> (Levels, Vec<T>) {
    let (mut definition, mut values) = (Levels::default(), Vec::new());
    for (row, value) in some {
        definition.push(0, row - definition.len());
        definition.push(1, 1);
        values.push(value);
    }
    definition.push(0, rows - definition.len());
    (definition, values)
}

/// As [`scalar`], for a column of lists: repetition, definition, and the lists' items one after the
/// other. `level` says how far an item is defined: 2 for a value, less for a null in its place.
pub(crate) fn lists<'a, T: 'a>(
    rows: usize,
    some: impl Iterator<Item = (usize, &'a [T])>,
    level: impl Fn(&T) -> u32,
) -> (Levels, Levels) {
    let (mut repetition, mut definition) = (Levels::default(), Levels::default());
    let mut next = 0;
    for (row, items) in some {
        repetition.push(0, row - next + 1);
        repetition.push(1, items.len().saturating_sub(1));
        definition.push(0, row - next);
        if items.is_empty() {
            definition.push(1, 1);
        }
        for item in items {
            definition.push(level(item), 1);
        }
        next = row + 1;
    }
    repetition.push(0, rows - next);
    definition.push(0, rows - next);
    (repetition, definition)
}
