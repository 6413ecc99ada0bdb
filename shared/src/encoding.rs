//! Parquet's encodings of values and levels, over whole columns at a time.
//!
//! <https://parquet.apache.org/docs/file-format/data-pages/encodings/>. The parquet crate's own
//! encoders take a value at a time through an interner; columns that hardly ever change, of which a
//! trace has many, cost as much there as addresses do.

use crate::varint::{put_varint, zigzag};

/// Bits that numbers up to `largest` need.
pub(crate) fn bit_width(largest: u64) -> u32 {
    u64::BITS - largest.leading_zeros()
}

/// Appends each number in `width` bits, low bits first, and fills up the last byte.
fn pack(numbers: impl Iterator<Item = u64>, width: u32, out: &mut Vec<u8>) {
    let (mut bits, mut filled) = (0u128, 0);
    for number in numbers {
        bits |= u128::from(number) << filled;
        filled += width;
        if filled >= 64 {
            out.extend_from_slice(&(bits as u64).to_le_bytes());
            bits >>= 64;
            filled -= 64;
        }
    }
    let rest = (bits as u64).to_le_bytes();
    out.extend_from_slice(&rest[..filled.div_ceil(8) as usize]);
}

/// RLE/bit-packing hybrid: long runs as (length, value), the rest packed by eights.
pub(crate) fn hybrid(codes: &[u32], width: u32, out: &mut Vec<u8>) {
    // A run costs some two bytes; shorter ones are better packed.
    let worth = (32 / width.max(1) as usize).max(8);
    let (mut at, mut packed) = (0, 0);
    while at < codes.len() {
        let run = run_length(&codes[at..]);
        if run >= worth {
            put_packed(&codes[packed..at], width, out);
            put_run(run, codes[at], width, out);
            at += run;
            packed = at;
        } else {
            at = (at + 8).min(codes.len());
        }
    }
    put_packed(&codes[packed..], width, out);
}

fn run_length(codes: &[u32]) -> usize {
    let Some((first, rest)) = codes.split_first() else {
        return 0;
    };
    1 + rest.iter().take_while(|code| *code == first).count()
}

pub(crate) fn put_run(length: usize, code: u32, width: u32, out: &mut Vec<u8>) {
    put_varint((length as u64) << 1, out);
    out.extend_from_slice(&code.to_le_bytes()[..width.div_ceil(8) as usize]);
}

fn put_packed(codes: &[u32], width: u32, out: &mut Vec<u8>) {
    if codes.is_empty() {
        return;
    }
    let groups = codes.len().div_ceil(8);
    put_varint((groups as u64) << 1 | 1, out);
    let padding = std::iter::repeat_n(0, groups * 8 - codes.len());
    pack(
        codes.iter().map(|code| u64::from(*code)).chain(padding),
        width,
        out,
    );
}

/// Values in a block of deltas, and in each of its parts with a width of its own.
pub(crate) const BLOCK: usize = 128;
pub(crate) const MINIBLOCK: usize = 32;

/// DELTA_BINARY_PACKED.
pub(crate) fn delta(values: &[i64], out: &mut Vec<u8>) {
    put_varint(BLOCK as u64, out);
    put_varint((BLOCK / MINIBLOCK) as u64, out);
    put_varint(values.len() as u64, out);
    put_varint(zigzag(values.first().copied().unwrap_or(0)), out);
    let mut deltas = [0i64; BLOCK];
    let mut before = values.first().copied().unwrap_or(0);
    for block in values.get(1..).unwrap_or_default().chunks(BLOCK) {
        let deltas = &mut deltas[..block.len()];
        for (delta, value) in deltas.iter_mut().zip(block) {
            *delta = value.wrapping_sub(before);
            before = *value;
        }
        let least = deltas.iter().copied().min().unwrap_or(0);
        put_varint(zigzag(least), out);
        let widths = out.len();
        out.extend_from_slice(&[0; BLOCK / MINIBLOCK]);
        for (index, part) in deltas.chunks(MINIBLOCK).enumerate() {
            let above = |delta: &i64| delta.wrapping_sub(least) as u64;
            let width = bit_width(part.iter().map(above).fold(0, |all, one| all | one));
            out[widths + index] = width as u8;
            let padding = std::iter::repeat_n(0, MINIBLOCK - part.len());
            pack(part.iter().map(above).chain(padding), width, out);
        }
    }
}

/// BYTE_STREAM_SPLIT: first the lowest byte of each value, then the second one of each, and so on.
pub(crate) fn streams<const N: usize>(values: impl Iterator<Item = [u8; N]>, out: &mut Vec<u8>) {
    /// Few enough that all streams of a block stay in the cache.
    const BLOCK: usize = 512;
    let (count, start) = (values.size_hint().0, out.len());
    out.resize(start + count * N, 0);
    let place = &mut out[start..];
    let mut values = values;
    let mut block = [[0; N]; BLOCK];
    let mut done = 0;
    while done < count {
        let size = BLOCK.min(count - done);
        for (slot, value) in block[..size].iter_mut().zip(&mut values) {
            *slot = value;
        }
        for byte in 0..N {
            let stream = &mut place[byte * count + done..][..size];
            for (to, value) in stream.iter_mut().zip(&block[..size]) {
                *to = value[byte];
            }
        }
        done += size;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes a hybrid of `count` codes, as the specification says.
    fn read_hybrid(mut bytes: &[u8], width: u32, count: usize) -> Vec<u32> {
        let mut codes = Vec::new();
        while codes.len() < count {
            let (mut header, mut shift) = (0u64, 0);
            loop {
                let byte = bytes[0];
                bytes = &bytes[1..];
                header |= u64::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            if header & 1 == 0 {
                let size = width.div_ceil(8) as usize;
                let mut value = [0; 4];
                value[..size].copy_from_slice(&bytes[..size]);
                bytes = &bytes[size..];
                let run = std::iter::repeat_n(u32::from_le_bytes(value), (header >> 1) as usize);
                codes.extend(run);
            } else {
                let groups = (header >> 1) as usize;
                for index in 0..groups * 8 {
                    let code = (0..width as usize).fold(0, |code, bit| {
                        let at = index * width as usize + bit;
                        code | u32::from(bytes[at / 8] >> (at % 8) & 1) << bit
                    });
                    codes.push(code);
                }
                bytes = &bytes[groups * width as usize..];
            }
        }
        assert!(bytes.is_empty());
        codes.truncate(count);
        codes
    }

    /// Runs of every length, alone and between others, at every width.
    #[test]
    fn hybrid_round_trip() {
        for width in 1..=20u32 {
            let mut codes = Vec::new();
            let mut state = u64::from(width);
            for length in (1..70).chain([1000]) {
                state = state
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                let code = (state >> 33) as u32 & ((1 << width) - 1);
                codes.extend(std::iter::repeat_n(code, length));
                let mut bytes = Vec::new();
                hybrid(&codes, width, &mut bytes);
                assert_eq!(read_hybrid(&bytes, width, codes.len()), codes, "{width}");
            }
        }
    }

    /// A column that never changes is a few bytes.
    #[test]
    fn constants_are_small() {
        let mut bytes = Vec::new();
        hybrid(&[0; 100_000], 1, &mut bytes);
        assert!(bytes.len() <= 4, "{bytes:?}");
    }
}
