//! Encodes one row group in memory, a page of each column at a time.
//!
//! `ArrowWriter` would split row groups by its own rules, buffer under our file, and insist on
//! writing the footer itself; and its column writers take twice the time (`encoding`). The offsets
//! in the metadata start at 0 and are moved to where the bytes are going to lie.

use std::sync::Arc;

use parquet::arrow::ArrowSchemaConverter;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use parquet::file::writer::TrackedWrite;
use parquet::schema::types::SchemaDescPtr;

use crate::chunk::{Chunk, Scratch};
use crate::columns::{COLUMNS, Column, schema};
use crate::op::{Domain, Op};
use crate::rows::Rows;

/// Rows of a page: 1 MiB of addresses. The usual 20,000 rows cost 7–9 % of the size.
pub(crate) const PAGE_ROWS: usize = 1 << 17;

/// Rows go in, the bytes of a row group come out.
pub(crate) struct RowGroupEncoder {
    descriptor: SchemaDescPtr,
    chunks: Vec<Chunk>,
    scratch: Scratch,
    rows: usize,
}

/// A row group: its bytes, and its metadata as if the bytes lay at the start of a file.
pub(crate) struct EncodedGroup {
    pub bytes: Vec<u8>,
    pub metadata: RowGroupMetaData,
}

impl std::fmt::Debug for RowGroupEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowGroupEncoder")
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}

impl RowGroupEncoder {
    pub(crate) fn new() -> Result<Self> {
        let descriptor = Arc::new(ArrowSchemaConverter::new().convert(&schema())?);
        let chunks = descriptor.columns().iter().cloned().map(Chunk::new);
        Ok(RowGroupEncoder {
            chunks: chunks.collect(),
            descriptor,
            scratch: Scratch::new()?,
            rows: 0,
        })
    }

    /// The Parquet schema of the row groups.
    pub(crate) fn descriptor(&self) -> &SchemaDescPtr {
        &self.descriptor
    }

    /// Rows in the row group so far.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Encodes a page of each column.
    pub(crate) fn write(&mut self, rows: &Rows) -> Result<()> {
        let mut leaf = 0;
        for column in COLUMNS {
            leaf += self.column(column, leaf, rows)?;
        }
        self.rows += rows.len();
        Ok(())
    }

    /// Encodes a page of a column, whose first leaf is `leaf`; returns how many it has.
    fn column(&mut self, column: &Column, leaf: usize, rows: &Rows) -> Result<usize> {
        let scratch = &mut self.scratch;
        let chunks = self.chunks.get_mut(leaf..).unwrap_or_default();
        let chunk = chunks
            .first_mut()
            .ok_or_else(|| ParquetError::General("more columns than leaves".to_owned()))?;
        match column.name {
            "ts" => chunk.times(&rows.ts, scratch)?,
            "pid" => chunk.few(&rows.pid, scratch)?,
            "tid" => chunk.few(&rows.tid, scratch)?,
            "op" => chunk.names(&rows.op, Op::all().map(|op| Some(op.name())), scratch)?,
            "domain" => {
                let names = Op::all().map(|op| op.domain().map(Domain::name));
                chunk.names(&rows.op, names, scratch)?;
            }
            "space" => chunk.few(&rows.space, scratch)?,
            "addr" => chunk.many(&rows.addr, scratch)?,
            "size" => chunk.many(&rows.size, scratch)?,
            "stack_id" => chunk.many_or_null(&rows.stack_id, scratch)?,
            _ => {
                let leaves = rows.sparse(column);
                for (chunk, leaf) in chunks.iter_mut().zip(&leaves) {
                    chunk.sparse(leaf, column.layout, scratch)?;
                }
                return Ok(leaves.len());
            }
        }
        Ok(1)
    }

    /// Ends the row group and begins the next one.
    pub(crate) fn finish(&mut self) -> Result<EncodedGroup> {
        let mut group = TrackedWrite::new(Vec::new());
        let columns = self
            .chunks
            .iter_mut()
            .map(|chunk| chunk.finish(&mut group, &mut self.scratch))
            .collect::<Result<Vec<_>>>()?;
        let rows = std::mem::take(&mut self.rows);
        let bytes = columns.iter().map(ColumnChunkMetaData::uncompressed_size);
        let metadata = RowGroupMetaData::builder(self.descriptor.clone())
            .set_num_rows(rows as i64)
            .set_total_byte_size(bytes.sum())
            .set_column_metadata(columns)
            .set_ordinal(0)
            .set_file_offset(0)
            .build()?;
        Ok(EncodedGroup {
            bytes: group.into_inner()?,
            metadata,
        })
    }
}

/// The metadata of a row group whose bytes lie at `offset`, given that of one at the start of a file.
pub(crate) fn moved(group: &RowGroupMetaData, offset: u64) -> Result<RowGroupMetaData> {
    let offset = offset as i64;
    let column = |column: &ColumnChunkMetaData| {
        column
            .clone()
            .into_builder()
            .set_data_page_offset(column.data_page_offset() + offset)
            .set_dictionary_page_offset(column.dictionary_page_offset().map(|at| at + offset))
            .build()
    };
    let columns = group
        .columns()
        .iter()
        .map(column)
        .collect::<Result<Vec<_>>>()?;
    group
        .clone()
        .into_builder()
        .set_column_metadata(columns)
        .set_file_offset(offset)
        .build()
}
