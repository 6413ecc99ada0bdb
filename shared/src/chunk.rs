//! One column of a row group: its pages, compressed, and the dictionary before them.

use std::collections::HashMap;
use std::io::Write;

use bytes::Bytes;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::column::page::{CompressedPage, Page, PageWriter};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::statistics::Statistics;
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;

use crate::columns::Layout;
use crate::compress::Compressor;
use crate::encoding::{bit_width, delta, hybrid, streams};
use crate::levels::{Sparse, Values, with_length};

/// Compression of every page.
const ZSTD_LEVEL: i32 = 1;

/// Memory that all columns use in turn.
pub(crate) struct Scratch {
    compressor: Compressor,
    page: Vec<u8>,
    codes: Vec<u32>,
}

impl Scratch {
    pub(crate) fn new() -> Result<Self> {
        Ok(Scratch {
            compressor: Compressor::new(ZSTD_LEVEL)?,
            page: Vec::new(),
            codes: Vec::new(),
        })
    }

    /// The page, compressed; it ends with `count` byte streams of `length` bytes each.
    fn compress(&mut self, count: usize, length: usize) -> Result<Bytes> {
        Ok(self.compressor.compress(&self.page, count, length)?)
    }
}

/// Values by number, in order of appearance.
#[derive(Debug, Default)]
struct Dictionary {
    numbers: HashMap<i64, u32>,
    texts: HashMap<String, u32>,
    /// The values as a dictionary page has them.
    plain: Vec<u8>,
    count: u32,
}

impl Dictionary {
    fn number(&mut self, value: i64, plain: &[u8]) -> u32 {
        *self.numbers.entry(value).or_insert_with(|| {
            self.plain.extend_from_slice(plain);
            self.count += 1;
            self.count - 1
        })
    }

    fn text(&mut self, value: &str) -> u32 {
        if let Some(code) = self.texts.get(value) {
            return *code;
        }
        with_length(&mut self.plain, |plain| {
            plain.extend_from_slice(value.as_bytes());
        });
        self.texts.insert(value.to_owned(), self.count);
        self.count += 1;
        self.count - 1
    }
}

/// A number that a column can hold.
pub(crate) trait Number: Copy + PartialEq {
    type Bytes: AsRef<[u8]>;
    fn plain(self) -> Self::Bytes;
    /// A different number for each value.
    fn key(self) -> i64;
}

impl Number for i32 {
    type Bytes = [u8; 4];
    fn plain(self) -> [u8; 4] {
        self.to_le_bytes()
    }
    fn key(self) -> i64 {
        i64::from(self)
    }
}

impl Number for i64 {
    type Bytes = [u8; 8];
    fn plain(self) -> [u8; 8] {
        self.to_le_bytes()
    }
    fn key(self) -> i64 {
        self
    }
}

impl Number for f64 {
    type Bytes = [u8; 8];
    fn plain(self) -> [u8; 8] {
        self.to_le_bytes()
    }
    fn key(self) -> i64 {
        self.to_bits() as i64
    }
}

/// A column of the row group that is being made.
pub(crate) struct Chunk {
    descriptor: ColumnDescPtr,
    pages: TrackedWrite<Vec<u8>>,
    dictionary: Dictionary,
    /// Of the data pages: values with nulls, and bytes before compression.
    values: u64,
    uncompressed: usize,
    encodings: Vec<Encoding>,
    /// Smallest and largest value, for the one column that tells.
    range: Option<(i64, i64)>,
}

impl Chunk {
    pub(crate) fn new(descriptor: ColumnDescPtr) -> Self {
        Chunk {
            descriptor,
            pages: TrackedWrite::new(Vec::new()),
            dictionary: Dictionary::default(),
            values: 0,
            uncompressed: 0,
            encodings: Vec::new(),
            range: None,
        }
    }

    /// A page of times.
    pub(crate) fn times(&mut self, values: &[i64], scratch: &mut Scratch) -> Result<()> {
        scratch.page.clear();
        delta(values, &mut scratch.page);
        for ts in values {
            let (least, most) = self.range.unwrap_or((*ts, *ts));
            self.range = Some((least.min(*ts), most.max(*ts)));
        }
        self.put_page(values.len(), Encoding::DELTA_BINARY_PACKED, scratch)
    }

    /// A page of many distinct values.
    pub(crate) fn many(&mut self, values: &[i64], scratch: &mut Scratch) -> Result<()> {
        scratch.page.clear();
        streams(
            values.iter().map(|value| value.to_le_bytes()),
            &mut scratch.page,
        );
        self.put_streams(values.len(), 8, values.len(), scratch)
    }

    /// A page of many distinct values between nulls.
    pub(crate) fn many_or_null(
        &mut self,
        values: &[Option<i32>],
        scratch: &mut Scratch,
    ) -> Result<()> {
        let Scratch { page, codes, .. } = scratch;
        page.clear();
        codes.clear();
        codes.extend(values.iter().map(|value| u32::from(value.is_some())));
        with_length(page, |page| hybrid(codes, 1, page));
        let some: Vec<i32> = values.iter().copied().flatten().collect();
        streams(some.iter().map(|value| value.to_le_bytes()), page);
        self.put_streams(values.len(), 4, some.len(), scratch)
    }

    /// A page of few distinct values.
    pub(crate) fn few<T: Number>(&mut self, values: &[T], scratch: &mut Scratch) -> Result<()> {
        scratch.page.clear();
        self.number_codes(values, &mut scratch.codes);
        self.put_codes(values.len(), scratch)
    }

    /// A page of names: `number` of each row says which of `names`, or none if the column may be null.
    pub(crate) fn names<'a>(
        &mut self,
        numbers: &[i8],
        names: impl Iterator<Item = Option<&'a str>>,
        scratch: &mut Scratch,
    ) -> Result<()> {
        let mut codes: Vec<Option<u32>> = vec![None; 256];
        let names: Vec<Option<&str>> = names.collect();
        let mut is_used = [false; 256];
        numbers
            .iter()
            .for_each(|number| is_used[usize::from(*number as u8)] = true);
        for (index, name) in names.iter().enumerate().take(256) {
            if is_used[index] {
                codes[index] = name.map(|name| self.dictionary.text(name));
            }
        }
        let code = |number: &i8| codes[usize::from(*number as u8)];
        scratch.page.clear();
        let Scratch { page, codes, .. } = scratch;
        if self.descriptor.max_def_level() > 0 {
            codes.clear();
            codes.extend(
                numbers
                    .iter()
                    .map(|number| u32::from(code(number).is_some())),
            );
            with_length(page, |page| hybrid(codes, 1, page));
        }
        codes.clear();
        codes.extend(numbers.iter().filter_map(code));
        self.put_codes(numbers.len(), scratch)
    }

    /// A page of a column in which most rows have no value.
    pub(crate) fn sparse(
        &mut self,
        sparse: &Sparse,
        layout: Layout,
        scratch: &mut Scratch,
    ) -> Result<()> {
        let Scratch { page, codes, .. } = scratch;
        page.clear();
        sparse
            .repetition
            .encode(self.descriptor.max_rep_level(), page);
        sparse
            .definition
            .encode(self.descriptor.max_def_level(), page);
        let count = sparse.definition.len();
        if sparse.values.is_empty() {
            return self.put_page(count, Encoding::PLAIN, scratch);
        }
        match (&sparse.values, layout) {
            (Values::Int64(values), Layout::ByteStreamSplit) => {
                streams(values.iter().map(|value| value.to_le_bytes()), page);
                return self.put_streams(count, 8, values.len(), scratch);
            }
            (Values::Int32(values), _) => self.number_codes(values, codes),
            (Values::Int64(values), _) => self.number_codes(values, codes),
            (Values::Double(values), _) => self.number_codes(values, codes),
            (Values::Text(values), _) => {
                codes.clear();
                codes.extend(values.iter().map(|text| self.dictionary.text(text)));
            }
        }
        self.put_codes(count, scratch)
    }

    /// Fills `codes` with the numbers of the values in the dictionary.
    fn number_codes<T: Number>(&mut self, values: &[T], codes: &mut Vec<u32>) {
        /// Values met lately: threads take turns.
        const RECENT: usize = 64;
        codes.clear();
        codes.reserve(values.len());
        let mut recent: [Option<(i64, u32)>; RECENT] = [None; RECENT];
        for value in values {
            let key = value.key();
            let slot = &mut recent[key as usize % RECENT];
            codes.push(match slot {
                Some((known, code)) if *known == key => *code,
                _ => {
                    let code = self.dictionary.number(key, value.plain().as_ref());
                    *slot = Some((key, code));
                    code
                }
            });
        }
    }

    /// Ends a page, which has its levels, with the codes.
    fn put_codes(&mut self, count: usize, scratch: &mut Scratch) -> Result<()> {
        let largest = u64::from(self.dictionary.count.saturating_sub(1));
        let width = bit_width(largest).max(1);
        scratch.page.push(width as u8);
        hybrid(&scratch.codes, width, &mut scratch.page);
        self.put_page(count, Encoding::RLE_DICTIONARY, scratch)
    }

    /// Ends a page of `count` rows, which ends with `streams` byte streams of `length` values.
    fn put_streams(
        &mut self,
        count: usize,
        streams: usize,
        length: usize,
        scratch: &mut Scratch,
    ) -> Result<()> {
        let compressed = scratch.compress(streams, length)?;
        self.put_compressed(count, Encoding::BYTE_STREAM_SPLIT, compressed, scratch)
    }

    fn put_page(&mut self, count: usize, encoding: Encoding, scratch: &mut Scratch) -> Result<()> {
        let compressed = scratch.compress(0, 0)?;
        self.put_compressed(count, encoding, compressed, scratch)
    }

    fn put_compressed(
        &mut self,
        count: usize,
        encoding: Encoding,
        compressed: Bytes,
        scratch: &mut Scratch,
    ) -> Result<()> {
        let page = Page::DataPage {
            buf: compressed,
            num_values: u32::try_from(count).map_err(ParquetError::from)?,
            encoding,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        let page = CompressedPage::new(page, scratch.page.len());
        let spec = SerializedPageWriter::new(&mut self.pages).write_page(page)?;
        self.uncompressed += spec.uncompressed_size;
        self.values += count as u64;
        if !self.encodings.contains(&encoding) {
            self.encodings.push(encoding);
        }
        Ok(())
    }

    /// Puts the column behind the bytes of `group`, and begins a new one.
    pub(crate) fn finish(
        &mut self,
        group: &mut TrackedWrite<Vec<u8>>,
        scratch: &mut Scratch,
    ) -> Result<ColumnChunkMetaData> {
        let start = group.bytes_written();
        let mut encodings = std::mem::take(&mut self.encodings);
        encodings.push(Encoding::RLE);
        let mut uncompressed = self.uncompressed;
        let mut dictionary_at = None;
        if self.dictionary.count > 0 {
            dictionary_at = Some(start as i64);
            encodings.push(Encoding::PLAIN);
            std::mem::swap(&mut scratch.page, &mut self.dictionary.plain);
            let page = Page::DictionaryPage {
                buf: scratch.compress(0, 0)?,
                num_values: self.dictionary.count,
                encoding: Encoding::PLAIN,
                is_sorted: false,
            };
            let page = CompressedPage::new(page, scratch.page.len());
            uncompressed += SerializedPageWriter::new(group)
                .write_page(page)?
                .uncompressed_size;
        }
        let data_at = group.bytes_written();
        self.pages.flush()?;
        group.write_all(self.pages.inner())?;
        let mut metadata = ColumnChunkMetaData::builder(self.descriptor.clone())
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
            .set_encodings(encodings)
            .set_num_values(self.values as i64)
            .set_total_compressed_size((group.bytes_written() - start) as i64)
            .set_total_uncompressed_size(uncompressed as i64)
            .set_data_page_offset(data_at as i64)
            .set_dictionary_page_offset(dictionary_at);
        if let Some((least, most)) = self.range {
            let statistics = Statistics::int64(Some(least), Some(most), None, Some(0), false);
            metadata = metadata.set_statistics(statistics);
        }
        // The pages' memory is kept for the next row group.
        let mut pages =
            std::mem::replace(&mut self.pages, TrackedWrite::new(Vec::new())).into_inner()?;
        pages.clear();
        *self = Chunk {
            pages: TrackedWrite::new(pages),
            ..Chunk::new(self.descriptor.clone())
        };
        metadata.build()
    }
}
