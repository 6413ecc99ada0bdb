//! Encodes one row group in memory.
//!
//! The column writers of `ArrowRowGroupWriterFactory` are used directly: `ArrowWriter` would split
//! row groups by its own rules, buffer under our file, and insist on writing the footer itself. The
//! offsets in the metadata start at 0 and are moved to where the bytes are going to lie.

use std::io;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use parquet::file::properties::WriterPropertiesPtr;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter, TrackedWrite};
use parquet::schema::types::SchemaDescPtr;

use crate::columns::writer_properties;
use crate::rows::batch_schema;

/// Batches go in, the bytes of a row group come out.
pub(crate) struct RowGroupEncoder {
    schema: SchemaRef,
    descriptor: SchemaDescPtr,
    properties: WriterPropertiesPtr,
    factory: ArrowRowGroupWriterFactory,
    columns: Vec<ArrowColumnWriter>,
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
        let schema = batch_schema();
        let properties = Arc::new(writer_properties()?);
        let root = ArrowSchemaConverter::new()
            .convert(&schema)?
            .root_schema_ptr();
        // Only the factory is of interest; nothing is written through this writer.
        let writer = SerializedFileWriter::new(io::sink(), root, properties.clone())?;
        let descriptor = Arc::new(writer.schema_descr().clone());
        let factory = ArrowRowGroupWriterFactory::new(&writer, schema.clone());
        let columns = factory.create_column_writers(0)?;
        Ok(RowGroupEncoder {
            schema,
            descriptor,
            properties,
            factory,
            columns,
            rows: 0,
        })
    }

    /// The schema of the batches.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The Parquet schema of the row groups.
    pub(crate) fn descriptor(&self) -> &SchemaDescPtr {
        &self.descriptor
    }

    /// Rows in the row group so far.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut columns = self.columns.iter_mut();
        for (field, array) in self.schema.fields().iter().zip(batch.columns()) {
            for leaf in compute_leaves(field, array)? {
                let column = columns.next().ok_or_else(|| {
                    ParquetError::General("more leaf columns than column writers".to_owned())
                })?;
                column.write(&leaf)?;
            }
        }
        self.rows += batch.num_rows();
        Ok(())
    }

    /// Ends the row group and begins the next one.
    pub(crate) fn finish(&mut self) -> Result<EncodedGroup> {
        let columns = std::mem::replace(&mut self.columns, self.factory.create_column_writers(0)?);
        self.rows = 0;
        let mut sink = TrackedWrite::new(Vec::new());
        let mut group = SerializedRowGroupWriter::new(
            self.descriptor.clone(),
            self.properties.clone(),
            &mut sink,
            0,
            None,
        );
        for column in columns {
            column.close()?.append_to_row_group(&mut group)?;
        }
        let metadata = Arc::unwrap_or_clone(group.close()?);
        Ok(EncodedGroup {
            bytes: sink.into_inner()?,
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
