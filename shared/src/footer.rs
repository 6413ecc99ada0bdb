//! The Parquet footer: metadata of row groups, and the header as small JSON beside them.

use parquet::errors::Result;
use parquet::file::metadata::{
    FileMetaData, KeyValue, ParquetMetaData, ParquetMetaDataWriter, RowGroupMetaData,
};
use parquet::schema::types::SchemaDescPtr;

/// First and last bytes of a Parquet file.
pub(crate) const PARQUET_MAGIC: [u8; 4] = *b"PAR1";

/// The key of the [`crate::Header`] in the footer's metadata.
pub const HEADER_KEY: &str = "memleak";

/// The key of the totals (the JSON of the last trailer) in the footer's metadata.
pub const TOTALS_KEY: &str = "memleak.totals";

/// A whole footer: the metadata, its length, and the magic.
pub(crate) fn encode(
    descriptor: &SchemaDescPtr,
    groups: Vec<RowGroupMetaData>,
    key_values: &[(&str, &str)],
) -> Result<Vec<u8>> {
    let rows = groups.iter().map(RowGroupMetaData::num_rows).sum();
    let key_values = key_values
        .iter()
        .map(|(key, value)| KeyValue::new(key.to_string(), value.to_string()))
        .collect();
    let created_by = concat!("memleak-trace ", env!("CARGO_PKG_VERSION")).to_owned();
    let file = FileMetaData::new(
        1,
        rows,
        Some(created_by),
        Some(key_values),
        descriptor.clone(),
        None,
    );
    let mut bytes = Vec::new();
    ParquetMetaDataWriter::new(&mut bytes, &ParquetMetaData::new(file, groups)).finish()?;
    Ok(bytes)
}

/// The Thrift metadata of one row group alone, as a trailer holds it.
pub(crate) fn encode_group(
    descriptor: &SchemaDescPtr,
    group: &RowGroupMetaData,
) -> Result<Vec<u8>> {
    let mut bytes = encode(descriptor, vec![group.clone()], &[])?;
    bytes.truncate(bytes.len() - 8);
    Ok(bytes)
}

/// How many bytes of footers may be written.
///
/// A footer is written again after every row group and grows with their number: unchecked, the
/// footers of a long trace would outweigh its rows.
#[derive(Debug)]
pub(crate) struct FooterBudget {
    written: u64,
    /// Bytes of the last footer for each of its row groups.
    per_group: u64,
}

/// Free of charge, for short traces.
const FREE_BYTES: u64 = 4 << 20;
/// One byte of footers for so many bytes of rows.
const SHARE: u64 = 16;
/// Footers of a trace that hardly grows, in bytes a second.
const BYTES_PER_SECOND: u64 = 8 << 10;

impl FooterBudget {
    pub(crate) fn new() -> Self {
        FooterBudget {
            written: 0,
            per_group: 4096,
        }
    }

    /// Whether a footer for `groups` may be written to a trace of `file_bytes`, `seconds` old.
    /// Its size is estimated from the last one: encoding it is what is to be spared.
    pub(crate) fn allows(&self, groups: usize, file_bytes: u64, seconds: u64) -> bool {
        self.written + self.per_group * groups as u64
            <= FREE_BYTES + file_bytes / SHARE + seconds * BYTES_PER_SECOND
    }

    pub(crate) fn spend(&mut self, bytes: u64, groups: usize) {
        self.written += bytes;
        if bytes > 0 && groups > 0 {
            self.per_group = bytes / groups as u64;
        }
    }
}
