//! Reads the columns of events as this project writes them, a batch at a time.
//!
//! The parquet crate reads the metadata; what is in the pages is decoded here, in the layouts that
//! [`encoding`](crate::encoding) makes. The crate's own decoders go through builders, bitmaps of nulls and Arrow arrays, which
//! takes most of their time for columns that hardly ever change, or that are next to empty.
//!
//! Only the usual is read here: whatever is laid out otherwise, because another program rewrote the trace or
//! because it is damaged, is [`Unusual`], and the crate reads on from there.

mod codes;
mod column;
mod deltas;
mod numbers;
mod page_header;
mod pages;
mod runs;
mod stacks;
mod streams;

use parquet::file::metadata::RowGroupMetaData;
use zstd::bulk::Decompressor;

use crate::batch::Batch;
use crate::decode::Decoded;
use crate::group::GroupBytes;
use crate::op::Op;

use codes::Codes;
use column::Column;
use deltas::Times;
use numbers::{Numbers, StackIds};
use pages::Pages;
use stacks::Stacks;

/// What is not laid out as we write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unusual;

type Result<T> = std::result::Result<T, Unusual>;

/// The columns of events of a row group, from its first row on.
pub(crate) struct EventPages {
    decompressor: Decompressor<'static>,
    ts: Times,
    pid: Codes<i32>,
    tid: Codes<i32>,
    op: Codes<Op>,
    space: Codes<i32>,
    addr: Numbers,
    size: Numbers,
    stack_id: StackIds,
    stacks: Stacks,
}

impl EventPages {
    /// The columns of a row group, whose bytes are `source`.
    pub(crate) fn open(source: &GroupBytes, group: &RowGroupMetaData) -> Result<EventPages> {
        let pages = |name: &str| Pages::open(source, group, name);
        Ok(EventPages {
            decompressor: Decompressor::new().map_err(|_| Unusual)?,
            ts: Times::new(pages("ts")?)?,
            pid: Codes::new(pages("pid")?)?,
            tid: Codes::new(pages("tid")?)?,
            op: Codes::new(pages("op")?)?,
            space: Codes::new(pages("space")?)?,
            addr: Numbers::new(pages("addr")?)?,
            size: Numbers::new(pages("size")?)?,
            stack_id: StackIds::new(pages("stack_id")?)?,
            stacks: Stacks::new(pages("frames.list.element")?, pages("stack_end")?)?,
        })
    }

    /// The next `rows` rows, in the memory of `batch`. After what is unusual nothing more can be read here: the columns
    /// stand at different rows.
    pub(crate) fn next_rows(&mut self, rows: usize, mut batch: Batch) -> Result<Decoded> {
        let decompressor = &mut self.decompressor;
        fill(&mut self.op, &mut batch.ops, rows, Op::Open, decompressor)?;
        fill(&mut self.ts, &mut batch.ts, rows, 0, decompressor)?;
        fill(&mut self.pid, &mut batch.pids, rows, 0, decompressor)?;
        fill(&mut self.tid, &mut batch.tids, rows, 0, decompressor)?;
        fill(&mut self.space, &mut batch.spaces, rows, 0, decompressor)?;
        fill(&mut self.addr, &mut batch.addrs, rows, 0, decompressor)?;
        fill(&mut self.size, &mut batch.sizes, rows, 0, decompressor)?;
        fill(
            &mut self.stack_id,
            &mut batch.stack_ids,
            rows,
            0,
            decompressor,
        )?;
        batch.stacks = self.stacks.take(&batch.stack_ids, decompressor)?;
        batch.notes.clear();
        batch.details.clear();
        Ok(Decoded::new(batch, self.op.values().iter().copied()))
    }
}

/// Makes `values` the next `rows` rows of a column; `any` is a value to begin with.
fn fill<T: Copy>(
    column: &mut impl Column<T>,
    values: &mut Vec<T>,
    rows: usize,
    any: T,
    decompressor: &mut Decompressor<'_>,
) -> Result<()> {
    values.resize(rows, any);
    column.fill(values, decompressor)
}
