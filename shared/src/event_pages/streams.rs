//! Columns of many distinct values: the lowest bytes of all, then the second ones, and so on (BYTE_STREAM_SPLIT).

use std::ops::{BitOr, Shl};

use bytes::Bytes;

use super::{Result, Unusual};

/// As many values as are put together at once: what is made on the way stays in the first cache.
const BLOCK: usize = 512;

/// A number that is put together from its bytes.
pub(super) trait Joined: Copy {
    /// Puts numbers together, given the bytes of each significance: as many as there are places.
    fn join(streams: &[&[u8]], out: &mut [Self]);
}

impl Joined for u32 {
    fn join(streams: &[&[u8]], out: &mut [u32]) {
        let (mut low, mut high) = ([0u16; BLOCK], [0u16; BLOCK]);
        let (low, high) = (&mut low[..out.len()], &mut high[..out.len()]);
        if let [a, b, c, d] = streams {
            pair(a, b, 8, low);
            pair(c, d, 8, high);
        }
        pair(low, high, 16, out);
    }
}

impl Joined for u64 {
    fn join(streams: &[&[u8]], out: &mut [u64]) {
        let (mut low, mut high) = ([0u32; BLOCK], [0u32; BLOCK]);
        let (low, high) = (&mut low[..out.len()], &mut high[..out.len()]);
        if let Some((first, rest)) = streams.split_first_chunk::<4>() {
            u32::join(first, low);
            u32::join(rest, high);
        }
        pair(low, high, 32, out);
    }
}

/// Puts halves together. A loop as plain as this one is done in vectors.
fn pair<Half, Whole>(low: &[Half], high: &[Half], shift: u32, out: &mut [Whole])
where
    Half: Copy,
    Whole: From<Half> + Shl<u32, Output = Whole> + BitOr<Output = Whole>,
{
    for ((whole, low), high) in out.iter_mut().zip(low).zip(high) {
        *whole = Whole::from(*low) | Whole::from(*high) << shift;
    }
}

/// The streams of a page.
#[derive(Debug, Default)]
pub(super) struct Streams {
    bytes: Bytes,
    /// Values in the page, and those that were handed over.
    count: usize,
    at: usize,
    /// Of each stream, a block of it where all its bytes are the same, as the upper ones of most numbers are: the stream itself need
    /// not be fetched from memory then.
    same: Vec<Option<[u8; BLOCK]>>,
}

impl Streams {
    /// The values of `size` bytes each that `bytes` hold.
    pub(super) fn new(bytes: Bytes, size: usize) -> Result<Streams> {
        let count = bytes.len() / size;
        if count * size != bytes.len() {
            return Err(Unusual);
        }
        let same = |stream: &[u8]| {
            let (first, rest) = stream.split_first()?;
            (rest == &stream[..rest.len()]).then_some([*first; BLOCK])
        };
        Ok(Streams {
            same: bytes.chunks_exact(count.max(1)).map(same).collect(),
            bytes,
            count,
            at: 0,
        })
    }

    /// Values that are left.
    pub(super) fn left(&self) -> usize {
        self.count - self.at
    }

    /// Fills `out` with the next values.
    pub(super) fn fill<T: Joined>(&mut self, out: &mut [T]) -> Result<()> {
        if out.len() > self.left() {
            return Err(Unusual);
        }
        for block in out.chunks_mut(BLOCK) {
            let mut streams = [&[][..]; 8];
            for (byte, (stream, same)) in streams.iter_mut().zip(&self.same).enumerate() {
                *stream = match same {
                    Some(same) => &same[..block.len()],
                    None => &self.bytes[byte * self.count + self.at..][..block.len()],
                };
            }
            T::join(&streams[..size_of::<T>()], block);
            self.at += block.len();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::streams;

    /// Numbers whose upper bytes agree, whose all bytes do, and others; read in pieces.
    #[test]
    fn numbers_are_put_together() {
        for spread in [0u64, 0xff, 0xffff_f0ff, u64::MAX] {
            let numbers: Vec<u64> = (0..3000u64)
                .map(|at| {
                    at.wrapping_mul(0x9e37_79b9_7f4a_7c15) & spread
                        | !spread & 0x55aa_0133_7000_0000
                })
                .collect();
            let mut bytes = Vec::new();
            streams(
                numbers.iter().map(|number| number.to_le_bytes()),
                &mut bytes,
            );
            let mut read = Streams::new(Bytes::from(bytes), 8).unwrap();
            for piece in numbers.chunks(700) {
                let mut found = vec![0u64; piece.len()];
                read.fill(&mut found).unwrap();
                assert_eq!(found, piece);
            }
            assert_eq!(read.fill(&mut [0u64]), Err(Unusual));
            let halves = numbers.iter().map(|number| number.to_le_bytes());
            let halves = halves.map(|[a, b, c, d, ..]| [a, b, c, d]);
            let mut bytes = Vec::new();
            streams(halves, &mut bytes);
            let mut found = vec![0u32; numbers.len()];
            Streams::new(Bytes::from(bytes), 4)
                .unwrap()
                .fill(&mut found)
                .unwrap();
            assert!(
                found
                    .iter()
                    .zip(&numbers)
                    .all(|(found, number)| *found == *number as u32)
            );
        }
        assert!(Streams::new(Bytes::from_static(b"nine byte"), 8).is_err());
    }
}
