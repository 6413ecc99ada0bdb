//! Finds the trailers of a trace: by their links from the end, or, if the end is damaged, by their
//! magic.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::footer::PARQUET_MAGIC;
use crate::trailer::{MAGIC, Summary, TAIL_BYTES, Tail, decode_body};

/// A trailer that was found intact.
#[derive(Debug)]
pub(crate) struct Link {
    pub tail: Tail,
    /// Offset of its end.
    pub end: u64,
    pub summary: Summary,
    /// Thrift metadata of its row group.
    pub metadata: Vec<u8>,
}

/// The trailers from the first one on, without a gap.
#[derive(Debug)]
pub(crate) struct Chain {
    pub links: Vec<Link>,
    /// Rows that an intact trailer behind the gap tells of.
    pub rows_known: u64,
}

/// Bytes searched at a time.
const WINDOW: usize = 1 << 20;

impl Chain {
    /// The longest chain in a file of `length` bytes; `None` if there is not even a first trailer.
    pub(crate) fn find(file: &File, length: u64) -> io::Result<Option<Chain>> {
        for end in likely_ends(file, length)? {
            if let Some(links) = walk_back(file, end)? {
                let rows_known = links.last().map_or(0, |link| link.summary.totals.rows());
                return Ok(Some(Chain { links, rows_known }));
            }
        }
        search(file, length)
    }
}

/// Where the last trailer ends if the file is as a writer leaves it: at the end or before a footer.
fn likely_ends(file: &File, length: u64) -> io::Result<Vec<u64>> {
    let mut ends = vec![length];
    if let Some(at) = length.checked_sub(8) {
        let mut last = [0; 8];
        file.read_exact_at(&mut last, at)?;
        let (size, magic) = last.split_at(4);
        if magic == PARQUET_MAGIC {
            let size = size
                .iter()
                .rev()
                .fold(0, |size, byte| size << 8 | u64::from(*byte));
            ends.extend(at.checked_sub(size));
        }
    }
    Ok(ends)
}

/// The trailer that ends at `end`, if there is one and it is intact.
fn read_link(file: &File, end: u64) -> io::Result<Option<Link>> {
    let Some(tail_start) = end.checked_sub(TAIL_BYTES as u64) else {
        return Ok(None);
    };
    let mut bytes = [0; TAIL_BYTES];
    file.read_exact_at(&mut bytes, tail_start)?;
    let Some(tail) = Tail::decode(&bytes) else {
        return Ok(None);
    };
    // Lengths are compared with what lies before: a body is never larger than the file.
    let Some(body_start) = tail_start.checked_sub(u64::from(tail.body_length)) else {
        return Ok(None);
    };
    let data_end = tail.data_offset.checked_add(tail.data_length);
    let in_place = tail.data_length == 0
        || (tail.data_offset >= tail.previous_end && data_end.is_some_and(|end| end <= body_start));
    if !in_place || tail.previous_end > body_start {
        return Ok(None);
    }
    let mut body = vec![0; tail.body_length as usize];
    file.read_exact_at(&mut body, body_start)?;
    if crc32fast::hash(&body) != tail.body_crc {
        return Ok(None);
    }
    Ok(decode_body(&body).map(|(summary, metadata)| Link {
        tail,
        end,
        metadata: metadata.to_vec(),
        summary,
    }))
}

/// All trailers from the first to the one that ends at `end`; `None` if one of them is damaged.
fn walk_back(file: &File, end: u64) -> io::Result<Option<Vec<Link>>> {
    let mut links = Vec::new();
    let mut next = (end, None);
    loop {
        let Some(link) = read_link(file, next.0)? else {
            return Ok(None);
        };
        if next.1.is_some_and(|crc| crc != link.tail.tail_crc) {
            return Ok(None);
        }
        let (previous_end, previous_crc) = (link.tail.previous_end, link.tail.previous_crc);
        let is_first = link.summary.header.is_some();
        links.push(link);
        if is_first {
            links.reverse();
            return Ok(Some(links));
        }
        // `read_link` saw that `previous_end` lies before this trailer: the walk ends.
        next = (previous_end, Some(previous_crc));
    }
}

/// Looks at every occurrence of the magic.
fn search(file: &File, length: u64) -> io::Result<Option<Chain>> {
    // Ends of the trailers from which the first one can be reached, with their checksums.
    let mut reached: HashMap<u64, u32> = HashMap::new();
    let mut best: Option<(u64, u64)> = None;
    let mut rows_known = 0;
    for end in magic_ends(file, length)? {
        let Some(link) = read_link(file, end)? else {
            continue;
        };
        let rows = link.summary.totals.rows();
        rows_known = rows_known.max(rows);
        let linked = link.summary.header.is_some()
            || reached.get(&link.tail.previous_end) == Some(&link.tail.previous_crc);
        if linked {
            reached.insert(end, link.tail.tail_crc);
            if best.is_none_or(|(most, _)| rows >= most) {
                best = Some((rows, end));
            }
        }
    }
    let Some((_, end)) = best else {
        return Ok(None);
    };
    Ok(walk_back(file, end)?.map(|links| Chain { links, rows_known }))
}

/// Offsets after each occurrence of the magic, ascending.
fn magic_ends(file: &File, length: u64) -> io::Result<Vec<u64>> {
    let mut ends = Vec::new();
    let mut window = vec![0; WINDOW + MAGIC.len() - 1];
    let mut start = 0;
    while start < length {
        let size = window.len().min((length - start) as usize);
        file.read_exact_at(&mut window[..size], start)?;
        let found = window[..size].windows(MAGIC.len()).enumerate();
        ends.extend(
            found
                .filter(|(_, bytes)| *bytes == MAGIC)
                .map(|(at, _)| start + (at + MAGIC.len()) as u64),
        );
        start += WINDOW as u64;
    }
    Ok(ends)
}
