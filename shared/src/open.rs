//! Opens a trace: what kind of file it is, which part of it is readable, and what is wrong with it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use crate::chain::{Chain, Link};
use crate::error::TraceError;
use crate::footer::{HEADER_KEY, PARQUET_MAGIC, TOTALS_KEY};
use crate::group::Group;
use crate::header::{Header, VERSION, Version};
use crate::reader::Condition;
use crate::selection;
use crate::totals::Totals;
use crate::trailer::Summary;

/// A file whose readable part is known.
#[derive(Debug)]
pub(crate) struct Opened {
    pub file: File,
    pub header: Header,
    pub condition: Condition,
    pub totals: Option<Totals>,
    pub rows: u64,
    pub groups: Vec<Group>,
}

pub(crate) fn open(path: &Path) -> Result<Opened, TraceError> {
    let io_error = |source| TraceError::Io {
        path: path.to_owned(),
        doing: "read",
        source,
    };
    let foreign = |reason: &str| TraceError::Foreign {
        path: path.to_owned(),
        reason: reason.into(),
    };
    // Before opening: opening a pipe would wait for its other end.
    let kind = std::fs::metadata(path).map_err(|source| TraceError::Io {
        path: path.to_owned(),
        doing: "open",
        source,
    })?;
    if kind.is_dir() {
        return Err(foreign("it is a directory"));
    }
    if !kind.is_file() {
        return Err(foreign("it is not a regular file"));
    }
    let file = File::open(path).map_err(|source| TraceError::Io {
        path: path.to_owned(),
        doing: "open",
        source,
    })?;
    // The recorder may still be writing: what counts is the length of this moment.
    let length = file.metadata().map_err(io_error)?.len();
    if length == 0 {
        return Err(TraceError::Empty {
            path: path.to_owned(),
        });
    }
    check_magic(&file, length, path)?;
    match Chain::find(&file, length).map_err(io_error)? {
        Some(chain) => by_trailers(path, file, length, chain),
        None => by_footer(path, file, length),
    }
}

/// Says what a file is that does not begin as Parquet does.
fn check_magic(file: &File, length: u64, path: &Path) -> Result<(), TraceError> {
    let mut start = [0; 16];
    let size = start.len().min(length as usize);
    file.read_exact_at(&mut start[..size], 0)
        .map_err(|source| TraceError::Io {
            path: path.to_owned(),
            doing: "read",
            source,
        })?;
    let start = &start[..size];
    if start.starts_with(&PARQUET_MAGIC) {
        return Ok(());
    }
    let reason = if start.starts_with(b"\x7fELF") {
        "it is a program or library (ELF)"
    } else if start.starts_with(&[0x1f, 0x8b]) || start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        "it is compressed; decompress it first"
    } else if start.is_ascii() {
        "it is text"
    } else {
        "it does not begin as a Parquet file does"
    };
    Err(TraceError::Foreign {
        path: path.to_owned(),
        reason: reason.to_owned(),
    })
}

fn by_trailers(path: &Path, file: File, length: u64, chain: Chain) -> Result<Opened, TraceError> {
    let damaged = |reason: &str| TraceError::Damaged {
        path: path.to_owned(),
        reason: reason.into(),
    };
    let last = chain
        .links
        .last()
        .ok_or_else(|| damaged("it has no trailer"))?;
    let header = chain
        .links
        .first()
        .and_then(|link| link.summary.header.clone());
    let header = header.ok_or_else(|| damaged("its first trailer has no header"))?;
    check_version(path, &header)?;
    let (remarks, complete) =
        judge(&file, length, last, chain.rows_known).map_err(|source| TraceError::Io {
            path: path.to_owned(),
            doing: "read",
            source,
        })?;
    let totals = last.summary.totals.clone();
    let readable_bytes = last.end;
    let groups = chain
        .links
        .into_iter()
        .filter(|link| link.tail.data_length > 0)
        .map(|link| Group::Verified {
            offset: link.tail.data_offset,
            length: link.tail.data_length,
            crc: link.tail.data_crc,
            metadata: link.metadata,
        })
        .collect();
    let condition = Condition {
        complete,
        verified: true,
        remarks,
        readable_bytes,
        file_bytes: length,
    };
    let rows = totals.rows();
    Ok(Opened {
        file,
        header,
        condition,
        totals: Some(totals),
        rows,
        groups,
    })
}

/// What is wrong with the file behind its last good trailer, in sentences, and whether nothing is.
fn judge(
    file: &File,
    length: u64,
    last: &Link,
    rows_known: u64,
) -> io::Result<(Vec<String>, bool)> {
    let mut remarks = Vec::new();
    let rows = last.summary.totals.rows();
    if rows_known > rows {
        remarks.push(format!(
            "The file is damaged {} bytes from its start: {} of at least {rows_known} rows behind that are missing.",
            last.end,
            rows_known - rows,
        ));
    }
    let behind = length - last.end;
    let footer = last.tail.footer_length;
    if behind != footer {
        if behind > footer || !last.summary.closed {
            remarks.push(format!(
                "{behind} bytes behind the last whole row group were not read: the file was cut off or damaged there."
            ));
        } else {
            remarks.push(
                "The Parquet footer is cut off: every row is there, but other programs cannot open the file; `memleak-analyze repair` helps."
                    .to_owned(),
            );
        }
    } else if footer > 0 && !footer_is_intact(file, last)? {
        remarks.push(
            "The Parquet footer is damaged: every row is there, but other programs may read nothing or nonsense; `memleak-analyze repair` helps."
                .to_owned(),
        );
    }
    if !last.summary.closed && rows_known <= rows {
        remarks.push(
            "The trace was never closed (the recorder was killed, or is still recording): events of the last second may be missing."
                .to_owned(),
        );
    }
    let complete = remarks.is_empty() && last.summary.closed;
    Ok((remarks, complete))
}

fn footer_is_intact(file: &File, last: &Link) -> io::Result<bool> {
    // Not larger than the file: the caller compared the lengths.
    let mut footer = vec![0; last.tail.footer_length as usize];
    file.read_exact_at(&mut footer, last.end)?;
    Ok(crc32fast::hash(&footer) == last.tail.footer_crc)
}

/// Reads a file without trailers: another program rewrote it, or it is no trace at all.
fn by_footer(path: &Path, file: File, length: u64) -> Result<Opened, TraceError> {
    let metadata = read_footer(&file, length).map_err(|reason| TraceError::Damaged {
        path: path.to_owned(),
        reason: format!("it has neither a whole trailer nor a whole Parquet footer ({reason})"),
    })?;
    let value = |key: &str| {
        let pairs = metadata.file_metadata().key_value_metadata()?;
        pairs.iter().find(|pair| pair.key == key)?.value.as_deref()
    };
    let foreign = |reason: String| TraceError::Foreign {
        path: path.to_owned(),
        reason,
    };
    let json = value(HEADER_KEY).ok_or_else(|| {
        foreign(format!(
            "it is a Parquet file without the metadata {HEADER_KEY:?}; a program that rewrites a trace must keep the metadata"
        ))
    })?;
    let header: Header = serde_json::from_str(json).map_err(|error| {
        version_of(json, path)
            .err()
            .unwrap_or_else(|| foreign(format!("its header is not understood: {error}")))
    })?;
    check_version(path, &header)?;
    let summary: Option<Summary> =
        value(TOTALS_KEY).and_then(|json| serde_json::from_str(json).ok());
    let rows = u64::try_from(metadata.file_metadata().num_rows()).unwrap_or(0);
    let mut remarks = vec![
        "The trace has no checksums (another program rewrote it, or its beginning is damaged): what it says is not verified."
            .to_owned(),
    ];
    if summary
        .as_ref()
        .is_some_and(|summary| summary.totals.rows() != rows)
    {
        remarks.push(format!(
            "The trace has {rows} rows, but its metadata tells another number."
        ));
    }
    let condition = Condition {
        // Without checksums nobody knows.
        complete: false,
        verified: false,
        remarks,
        readable_bytes: length,
        file_bytes: length,
    };
    let metadata = Arc::new(metadata);
    let groups = (0..metadata.num_row_groups())
        .map(|index| Group::Unverified {
            metadata: metadata.clone(),
            index,
        })
        .collect();
    Ok(Opened {
        file,
        header,
        condition,
        totals: summary.map(|summary| summary.totals),
        rows,
        groups,
    })
}

fn read_footer(file: &File, length: u64) -> Result<ParquetMetaData, String> {
    let end = length.checked_sub(8).ok_or("the file is too short")?;
    let mut last = [0; 8];
    file.read_exact_at(&mut last, end)
        .map_err(|error| error.to_string())?;
    let [a, b, c, d, magic @ ..] = last;
    if magic != PARQUET_MAGIC {
        return Err("its end is missing".to_owned());
    }
    let size = u64::from(u32::from_le_bytes([a, b, c, d]));
    let start = end
        .checked_sub(size)
        .ok_or("its footer would be larger than the file")?;
    let mut bytes = vec![0; size as usize];
    file.read_exact_at(&mut bytes, start)
        .map_err(|error| error.to_string())?;
    crate::guard::guarded(|| {
        ParquetMetaDataReader::decode_metadata(&bytes).map_err(|error| error.to_string())
    })
}

fn check_version(path: &Path, header: &Header) -> Result<(), TraceError> {
    newer(path, header.version)?;
    const KNOWN: [&str; 2] = [selection::SIZE_FILTER, selection::SAMPLING];
    let unknown = |name: &&String| !KNOWN.contains(&name.as_str());
    match header.requires.iter().find(unknown) {
        Some(feature) => Err(TraceError::UnknownRequirement {
            path: path.to_owned(),
            feature: feature.clone(),
            found: header.version,
            supported: VERSION,
        }),
        None => Ok(()),
    }
}

fn newer(path: &Path, found: Version) -> Result<(), TraceError> {
    if found.major > VERSION.major {
        return Err(TraceError::NewerVersion {
            path: path.to_owned(),
            found,
            supported: VERSION,
        });
    }
    Ok(())
}

/// Refuses a header of a newer major whose other fields are not known either.
fn version_of(json: &str, path: &Path) -> Result<(), TraceError> {
    #[derive(serde::Deserialize)]
    struct OnlyVersion {
        version: Version,
    }
    match serde_json::from_str::<OnlyVersion>(json) {
        Ok(only) => newer(path, only.version),
        Err(_) => Ok(()),
    }
}
