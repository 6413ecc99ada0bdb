//! The hybrid of run lengths and packed bits, in which levels and numbers of a dictionary's values lie.

use bytes::Bytes;

use super::{Result, Unusual};
use crate::varint::take_varint;

/// Values packed together.
const GROUP: usize = 8;

/// Some values of a hybrid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Run {
    /// So many times the same.
    Same { value: u32, count: usize },
    /// So many packed values from this bit on.
    Packed { bit: usize, count: usize },
}

/// Some values, as they are handed over.
#[derive(Clone, Copy, Debug)]
pub(super) enum Piece<'a> {
    /// So many times the same.
    Same(u32, usize),
    /// Eight or fewer.
    Each(&'a [u32]),
}

/// A hybrid, read from its begin on.
#[derive(Debug)]
pub(super) struct Runs {
    bytes: Bytes,
    /// Where the next run begins.
    at: usize,
    /// Bits of a packed value.
    width: u32,
    run: Run,
}

impl Runs {
    /// One run of the same value.
    pub(super) fn of(value: u32, count: usize) -> Runs {
        Runs {
            bytes: Bytes::new(),
            at: 0,
            width: 0,
            run: Run::Same { value, count },
        }
    }

    /// No values.
    pub(super) fn none() -> Runs {
        Runs::of(0, 0)
    }

    /// Values of `width` bits each.
    pub(super) fn new(bytes: Bytes, width: u32) -> Result<Runs> {
        match width <= u32::BITS {
            true => Ok(Runs {
                bytes,
                width,
                ..Runs::none()
            }),
            false => Err(Unusual),
        }
    }

    /// How many values of the run at hand are left, and which they are, if they are all the same.
    pub(super) fn same(&mut self) -> Result<(u32, usize)> {
        match self.run()? {
            Run::Same { value, count } => Ok((value, count)),
            Run::Packed { .. } => Err(Unusual),
        }
    }

    /// Leaves out values of a run that are all the same.
    pub(super) fn skip(&mut self, values: usize) {
        if let Run::Same { count, .. } = &mut self.run {
            *count = count.saturating_sub(values);
        }
    }

    /// Hands over the next `count` values in pieces.
    pub(super) fn read(
        &mut self,
        count: usize,
        mut take: impl FnMut(Piece<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut done = 0;
        while done < count {
            let (taken, rest) = match self.run()? {
                Run::Same { value, count: left } => {
                    let taken = left.min(count - done);
                    take(Piece::Same(value, taken))?;
                    let count = left - taken;
                    (taken, Run::Same { value, count })
                }
                Run::Packed { bit, count: left } => {
                    let taken = left.min(count - done);
                    self.unpack(bit, taken, &mut take)?;
                    let bit = bit + taken * self.width as usize;
                    let count = left - taken;
                    (taken, Run::Packed { bit, count })
                }
            };
            self.run = rest;
            done += taken;
        }
        Ok(())
    }

    /// The run at hand, of at least one value.
    fn run(&mut self) -> Result<Run> {
        loop {
            match self.run {
                Run::Same { count: 0, .. } | Run::Packed { count: 0, .. } => self.next_run()?,
                run => return Ok(run),
            }
        }
    }

    fn next_run(&mut self) -> Result<()> {
        let header = take_varint(&self.bytes, &mut self.at).ok_or(Unusual)?;
        let count = usize::try_from(header >> 1).map_err(|_| Unusual)?;
        let rest = self.bytes.get(self.at..).ok_or(Unusual)?;
        let length = match header & 1 {
            0 => {
                let length = self.width.div_ceil(8) as usize;
                let mut value = [0; 4];
                value[..length].copy_from_slice(rest.get(..length).ok_or(Unusual)?);
                let value = u32::from_le_bytes(value);
                self.run = Run::Same { value, count };
                length
            }
            _ => {
                let length = count.checked_mul(self.width as usize).ok_or(Unusual)?;
                rest.get(..length).ok_or(Unusual)?;
                let (bit, count) = (self.at * 8, count.saturating_mul(GROUP));
                self.run = Run::Packed { bit, count };
                length
            }
        };
        self.at += length;
        Ok(())
    }

    /// Unpacks values from a bit on, up to eight at a time: so many have at most 64 bits where they have eight each.
    fn unpack(
        &self,
        bit: usize,
        count: usize,
        mut take: impl FnMut(Piece<'_>) -> Result<()>,
    ) -> Result<()> {
        let width = self.width as usize;
        let mask = (1u64 << width) - 1;
        let mut values = [0; GROUP];
        let mut done = 0;
        while done < count {
            let size = GROUP.min(count - done);
            let bit = bit + done * width;
            if width * GROUP + bit % 8 <= u64::BITS as usize {
                let mut bits = load(&self.bytes, bit / 8) >> (bit % 8);
                for value in &mut values {
                    *value = (bits & mask) as u32;
                    bits >>= width;
                }
            } else {
                for (index, value) in values.iter_mut().enumerate() {
                    let bit = bit + index * width;
                    *value = (load(&self.bytes, bit / 8) >> (bit % 8) & mask) as u32;
                }
            }
            take(Piece::Each(&values[..size]))?;
            done += size;
        }
        Ok(())
    }
}

/// Eight bytes from a place on, with zeros behind the end.
#[inline]
pub(super) fn load(bytes: &[u8], at: usize) -> u64 {
    let rest = bytes.get(at..).unwrap_or_default();
    match rest.first_chunk() {
        Some(eight) => u64::from_le_bytes(*eight),
        None => {
            let mut eight = [0; 8];
            eight[..rest.len()].copy_from_slice(rest);
            u64::from_le_bytes(eight)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::hybrid;

    /// The next codes, as one would have them.
    fn read(runs: &mut Runs, count: usize) -> Result<Vec<u32>> {
        let mut codes = Vec::new();
        runs.read(count, |piece| {
            match piece {
                Piece::Same(code, count) => codes.extend(std::iter::repeat_n(code, count)),
                Piece::Each(some) => codes.extend_from_slice(some),
            }
            Ok(())
        })?;
        Ok(codes)
    }

    /// Runs and packed values of every width, read in pieces of any length.
    #[test]
    fn pieces_are_the_whole() {
        let mut state = 1u64;
        let mut next = move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
            state >> 32
        };
        for width in 1..=32u32 {
            let mut codes = Vec::new();
            while codes.len() < 4000 {
                let code = (next() as u32) >> (32 - width);
                let length = [1, 1, 1, 40][next() as usize % 4];
                codes.extend(std::iter::repeat_n(code, length));
            }
            let mut bytes = Vec::new();
            hybrid(&codes, width, &mut bytes);
            let mut runs = Runs::new(Bytes::from(bytes), width).unwrap();
            let mut rest = &codes[..];
            while !rest.is_empty() {
                let (piece, later) = rest.split_at(rest.len().min(next() as usize % 50));
                assert_eq!(read(&mut runs, piece.len()).unwrap(), piece, "{width}");
                rest = later;
            }
        }
    }

    /// Bytes that are no hybrid end, whatever they are.
    #[test]
    fn other_bytes_end() {
        assert_eq!(
            read(&mut Runs::new(Bytes::new(), 3).unwrap(), 1),
            Err(Unusual)
        );
        assert!(Runs::new(Bytes::new(), 33).is_err());
        // A run of no values, a run without its value, packed values that are missing.
        for bytes in [&[0, 7, 0, 7][..], &[8], &[3, 1]] {
            let mut runs = Runs::new(Bytes::copy_from_slice(bytes), 3).unwrap();
            assert_eq!(read(&mut runs, 10_000), Err(Unusual), "{bytes:?}");
        }
    }
}
