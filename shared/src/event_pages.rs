//! Reads the columns of events as this project writes them, a batch at a time.
//!
//! The parquet crate reads the metadata; what is in the pages is decoded here, in the layouts that
//! [`encoding`](crate::encoding) makes. The crate's own decoders go through builders, bitmaps of nulls and Arrow arrays, which
//! takes most of their time for columns that hardly ever change, or that are next to empty.
//!
//! Only the usual is read here: whatever is laid out otherwise, because another program rewrote the trace or
//! because it is damaged, is [`Unusual`], and the crate reads on from there.

mod codes;
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
use crate::decode::Rows;
use crate::group::GroupBytes;
use crate::op::Op;

use codes::Codes;
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
    pub(crate) fn next_rows(&mut self, rows: usize, mut batch: Batch) -> Result<Rows> {
        let decompressor = &mut self.decompressor;
        batch.ops.resize(rows, Op::Open);
        self.op.fill(&mut batch.ops, decompressor)?;
        batch.ts.resize(rows, 0);
        self.ts.fill(&mut batch.ts, decompressor)?;
        for (column, values) in [
            (&mut self.pid, &mut batch.pids),
            (&mut self.tid, &mut batch.tids),
            (&mut self.space, &mut batch.spaces),
        ] {
            values.resize(rows, 0);
            column.fill(values, decompressor)?;
        }
        for (column, values) in [
            (&mut self.addr, &mut batch.addrs),
            (&mut self.size, &mut batch.sizes),
        ] {
            values.resize(rows, 0);
            column.fill(values, decompressor)?;
        }
        batch.stack_ids.resize(rows, 0);
        self.stack_id.fill(&mut batch.stack_ids, decompressor)?;
        batch.stacks = self.stacks.take(&batch.stack_ids, decompressor)?;
        batch.notes.clear();
        batch.details.clear();
        Ok(Rows::new(batch, self.op.values().iter().copied()))
    }
}
