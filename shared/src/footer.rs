//! The Parquet footer: metadata of row groups, and the header as small JSON beside them.

use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{
    FileMetaData, KeyValue, ParquetMetaData, ParquetMetaDataWriter, RowGroupMetaData,
};
use parquet::schema::types::SchemaDescPtr;

use crate::thrift;

/// First and last bytes of a Parquet file.
pub(crate) const PARQUET_MAGIC: [u8; 4] = *b"PAR1";

/// The key of the [`crate::Header`] in the footer's metadata.
pub const HEADER_KEY: &str = "memleak";

/// The key of the totals (the JSON of the last trailer) in the footer's metadata.
pub const TOTALS_KEY: &str = "memleak.totals";

/// The row groups of a file as a footer has them, one after the other.
///
/// Kept in memory for every row group, their metadata would outgrow all else in a long recording.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    rows: u64,
    count: u64,
    thrift: Vec<u8>,
}

impl Groups {
    /// Adds a row group with so many rows, given its metadata alone as [`encode_group`] makes it.
    pub(crate) fn add(&mut self, rows: u64, alone: &[u8]) -> Result<()> {
        let metadata = split(alone)?;
        self.rows += rows;
        self.count += 1;
        self.thrift.extend_from_slice(metadata.groups);
        Ok(())
    }
}

/// A whole footer: the metadata, its length, and the magic.
pub(crate) fn encode(
    descriptor: &SchemaDescPtr,
    groups: &Groups,
    key_values: &[(&str, &str)],
) -> Result<Vec<u8>> {
    let empty = encode_metadata(descriptor, Vec::new(), key_values)?;
    let mut bytes = split(&empty)?.with(groups.rows, groups.count, &groups.thrift);
    let length = u32::try_from(bytes.len()).map_err(ParquetError::from)?;
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&PARQUET_MAGIC);
    Ok(bytes)
}

fn split(metadata: &[u8]) -> Result<thrift::FileMetaData<'_>> {
    thrift::FileMetaData::split(metadata).ok_or_else(|| {
        ParquetError::General("the metadata just written is not understood".to_owned())
    })
}

/// The metadata alone, as the Parquet library encodes it.
fn encode_metadata(
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
    // Its length and the magic follow.
    bytes.truncate(bytes.len() - 8);
    Ok(bytes)
}

/// The Thrift metadata of one row group alone, as a trailer holds it.
pub(crate) fn encode_group(
    descriptor: &SchemaDescPtr,
    group: &RowGroupMetaData,
) -> Result<Vec<u8>> {
    encode_metadata(descriptor, vec![group.clone()], &[])
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row_group::{RowGroupEncoder, moved};
    use crate::rows::Rows;

    /// A footer put together from row groups is, to the byte, the one that the Parquet library writes for
    /// all of them; 15 and more are counted in another way than fewer.
    #[test]
    fn footers_are_those_of_the_library() {
        let mut encoder = RowGroupEncoder::new().unwrap();
        let key_values = [(HEADER_KEY, "{}"), (TOTALS_KEY, "")];
        for count in [0, 1, 14, 15, 16, 200] {
            let (mut metadata, mut groups) = (Vec::new(), Groups::default());
            for index in 0..count {
                let mut rows = Rows::default();
                for ts in 0..=index {
                    rows.push_note(&crate::Note {
                        ts,
                        what: crate::Description::Open,
                    });
                }
                encoder.write(&rows).unwrap();
                let group =
                    moved(&encoder.finish().unwrap().metadata, 1000 * index as u64).unwrap();
                let alone = encode_group(encoder.descriptor(), &group).unwrap();
                groups.add(rows.len() as u64, &alone).unwrap();
                metadata.push(group);
            }
            let whole = encode_metadata(encoder.descriptor(), metadata, &key_values).unwrap();
            let ours = encode(encoder.descriptor(), &groups, &key_values).unwrap();
            assert_eq!(ours[..ours.len() - 8], whole, "{count} row groups");
        }
    }

    /// Two days of a checkpoint twice a second, merged each minute: what footers take stays small, and
    /// one is written at least every half hour.
    #[test]
    fn footers_of_two_days() {
        const GROUP_BYTES: u64 = 4096;
        let mut budget = FooterBudget::new();
        let (mut last, mut widest) = (0, 0);
        for checkpoint in 0..2 * 24 * 3600 * 2u64 {
            let groups = (checkpoint / 120 + checkpoint % 120) as usize;
            let (seconds, file_bytes) = (checkpoint / 2, 50 * checkpoint);
            if budget.allows(groups, file_bytes, seconds) {
                budget.spend(groups as u64 * GROUP_BYTES, groups);
                widest = widest.max(seconds - last);
                last = seconds;
            }
        }
        let most = FREE_BYTES + 2 * 24 * 3600 * (BYTES_PER_SECOND + 100 / SHARE);
        assert!(budget.written <= most, "{}", budget.written);
        assert!(widest <= 1800, "{widest} s");
    }
}
