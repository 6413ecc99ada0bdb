//! The trailer: what stands after each row group, so that a file without a footer can be read.
//!
//! A trailer is a body and a tail of fixed size. All numbers are little-endian.
//!
//! Body: `u32` length of the JSON, the JSON ([`Summary`]), then the Thrift `FileMetaData` of the row
//! groups since the previous trailer (empty if there are none). Tail: see [`Tail`].

use serde::{Deserialize, Serialize};

use crate::header::Header;
use crate::totals::Totals;

/// The last bytes of every trailer.
pub(crate) const MAGIC: [u8; 8] = *b"MEMLEAK1";

/// Bytes of a tail.
pub(crate) const TAIL_BYTES: usize = 64;

/// The JSON of a trailer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Summary {
    /// In the first trailer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<Header>,
    /// Sums over the rows up to here.
    pub totals: Totals,
    /// Whether this is the last trailer of a trace that was closed properly.
    pub closed: bool,
}

/// The fixed end of a trailer, in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tail {
    /// Offset of the row group's first byte, and its bytes (0: no row group).
    pub data_offset: u64,
    pub data_length: u64,
    /// CRC-32 of these bytes.
    pub data_crc: u32,
    /// Bytes of the body, which lies directly before the tail, and their CRC-32.
    pub body_length: u32,
    pub body_crc: u32,
    /// Offset of the end of the previous trailer (0: this is the first), and its `tail_crc`.
    pub previous_end: u64,
    pub previous_crc: u32,
    /// Bytes of the Parquet footer that follows (0: none), from the metadata to `PAR1`, and their
    /// CRC-32.
    pub footer_length: u64,
    pub footer_crc: u32,
    /// CRC-32 of the tail up to here. Then follows the magic.
    pub tail_crc: u32,
}

/// Encodes a trailer; lengths and checksums of the body and the tail are filled in.
pub(crate) fn encode(
    mut tail: Tail,
    summary: &Summary,
    metadata: &[u8],
) -> serde_json::Result<Vec<u8>> {
    let json = serde_json::to_vec(summary)?;
    let mut bytes = Vec::with_capacity(4 + json.len() + metadata.len() + TAIL_BYTES);
    bytes.extend_from_slice(&(json.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&json);
    bytes.extend_from_slice(metadata);
    tail.body_length = bytes.len() as u32;
    tail.body_crc = crc32fast::hash(&bytes);
    let start = bytes.len();
    bytes.extend_from_slice(&tail.data_offset.to_le_bytes());
    bytes.extend_from_slice(&tail.data_length.to_le_bytes());
    bytes.extend_from_slice(&tail.data_crc.to_le_bytes());
    bytes.extend_from_slice(&tail.body_length.to_le_bytes());
    bytes.extend_from_slice(&tail.body_crc.to_le_bytes());
    bytes.extend_from_slice(&tail.previous_end.to_le_bytes());
    bytes.extend_from_slice(&tail.previous_crc.to_le_bytes());
    bytes.extend_from_slice(&tail.footer_length.to_le_bytes());
    bytes.extend_from_slice(&tail.footer_crc.to_le_bytes());
    tail.tail_crc = crc32fast::hash(&bytes[start..]);
    bytes.extend_from_slice(&tail.tail_crc.to_le_bytes());
    bytes.extend_from_slice(&MAGIC);
    Ok(bytes)
}

/// The checksum of the trailer at the end of `bytes`; 0 if none is there.
pub(crate) fn tail_crc(bytes: &[u8]) -> u32 {
    bytes
        .last_chunk()
        .and_then(Tail::decode)
        .map_or(0, |tail| tail.tail_crc)
}

impl Tail {
    /// Reads a tail; `None` if these bytes are none, or damaged.
    pub(crate) fn decode(bytes: &[u8; TAIL_BYTES]) -> Option<Tail> {
        let (numbers, magic) = bytes.split_at(TAIL_BYTES - MAGIC.len());
        let mut rest = numbers;
        let tail = Tail {
            data_offset: take_u64(&mut rest)?,
            data_length: take_u64(&mut rest)?,
            data_crc: take_u32(&mut rest)?,
            body_length: take_u32(&mut rest)?,
            body_crc: take_u32(&mut rest)?,
            previous_end: take_u64(&mut rest)?,
            previous_crc: take_u32(&mut rest)?,
            footer_length: take_u64(&mut rest)?,
            footer_crc: take_u32(&mut rest)?,
            tail_crc: take_u32(&mut rest)?,
        };
        let intact =
            magic == MAGIC && crc32fast::hash(&numbers[..numbers.len() - 4]) == tail.tail_crc;
        intact.then_some(tail)
    }
}

/// Splits a body, whose checksum was verified, into its JSON and its metadata.
pub(crate) fn decode_body(body: &[u8]) -> Option<(Summary, &[u8])> {
    let (length, rest) = body.split_first_chunk::<4>()?;
    let (json, metadata) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    Some((serde_json::from_slice(json).ok()?, metadata))
}

fn take_u64(bytes: &mut &[u8]) -> Option<u64> {
    let (number, rest) = bytes.split_first_chunk::<8>()?;
    *bytes = rest;
    Some(u64::from_le_bytes(*number))
}

fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    *bytes = rest;
    Some(u32::from_le_bytes(*number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Tail, Summary) {
        let tail = Tail {
            data_offset: 4,
            data_length: 5,
            ..Tail::default()
        };
        (
            tail,
            Summary {
                header: None,
                totals: Totals::default(),
                closed: true,
            },
        )
    }

    /// A trailer reads back as it was written.
    #[test]
    fn round_trip() {
        let (tail, summary) = sample();
        let encoded = encode(tail, &summary, b"thrift").unwrap();
        let (body, end) = encoded.split_last_chunk::<TAIL_BYTES>().unwrap();
        let read = Tail::decode(end).unwrap();
        assert_eq!((read.data_offset, read.data_length), (4, 5));
        assert_eq!(read.body_crc, crc32fast::hash(body));
        assert_eq!(decode_body(body), Some((summary, &b"thrift"[..])));
    }

    /// Every flipped bit of a tail is noticed.
    #[test]
    fn damage_is_noticed() {
        let (tail, summary) = sample();
        let encoded = encode(tail, &summary, b"").unwrap();
        let (_, end) = encoded.split_last_chunk::<TAIL_BYTES>().unwrap();
        for bit in 0..TAIL_BYTES * 8 {
            let mut damaged = *end;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Tail::decode(&damaged), None, "bit {bit}");
        }
    }
}
