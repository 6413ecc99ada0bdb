//! Pages as zstd frames. Where a page is made of parts of different nature, each part gets blocks of
//! its own.
//!
//! zstd gives each block of 128 KiB one table of how frequent each byte is. The streams of a page in
//! BYTE_STREAM_SPLIT are as different as bytes can be, and only in a page of exactly 131,072 rows do
//! streams and blocks begin together. So a block is ended at the end of each stream: any decoder reads it,
//! and columns of addresses and sizes become 5 to 15 % smaller.

use std::io;

use bytes::Bytes;
use zstd::stream::raw::{Encoder, InBuffer, Operation, OutBuffer};

/// A table of frequencies costs some hundred bytes: shorter parts are not worth one.
const MIN_PART: usize = 2048;

/// Bytes that a block which was ended early may add.
const BLOCK_OVERHEAD: usize = 64;

/// Compresses pages, one after the other.
pub(crate) struct Compressor {
    whole: zstd::bulk::Compressor<'static>,
    parts: Encoder<'static>,
    out: Vec<u8>,
}

impl Compressor {
    pub(crate) fn new(level: i32) -> io::Result<Self> {
        Ok(Compressor {
            whole: zstd::bulk::Compressor::new(level)?,
            parts: Encoder::new(level)?,
            out: Vec::new(),
        })
    }

    /// The page as one frame. Its last `count` parts have `length` bytes each; none if it has no parts.
    pub(crate) fn compress(
        &mut self,
        page: &[u8],
        count: usize,
        length: usize,
    ) -> io::Result<Bytes> {
        self.out.clear();
        self.out
            .reserve(zstd::zstd_safe::compress_bound(page.len()) + count * BLOCK_OVERHEAD);
        match page.len().checked_sub(count * length) {
            Some(before) if count > 0 && length >= MIN_PART => {
                let (before, parts) = page.split_at(before);
                self.in_parts(before, parts.chunks(length), page.len())?;
            }
            _ => {
                self.whole.compress_to_buffer(page, &mut self.out)?;
            }
        }
        Ok(Bytes::copy_from_slice(&self.out))
    }

    fn in_parts<'a>(
        &mut self,
        before: &'a [u8],
        parts: impl Iterator<Item = &'a [u8]>,
        length: usize,
    ) -> io::Result<()> {
        self.parts.reinit()?;
        self.parts.set_pledged_src_size(Some(length as u64))?;
        let mut out = OutBuffer::around(&mut self.out);
        for part in std::iter::once(before).chain(parts) {
            let mut input = InBuffer::around(part);
            while input.pos() < part.len() {
                self.parts.run(&mut input, &mut out)?;
                has_room(&out)?;
            }
            while self.parts.flush(&mut out)? > 0 {
                has_room(&out)?;
            }
        }
        while self.parts.finish(&mut out, true)? > 0 {
            has_room(&out)?;
        }
        Ok(())
    }
}

/// The buffer is as large as any frame can become; if it were not, flushing would never end.
fn has_room(out: &OutBuffer<'_, Vec<u8>>) -> io::Result<()> {
    match out.pos() < out.capacity() {
        true => Ok(()),
        false => Err(io::Error::other(
            "a compressed page is larger than it can be",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the parts, the frame is the page again, and says how long it is.
    #[test]
    fn frames_hold_the_page() {
        let mut compressor = Compressor::new(1).unwrap();
        let mut state = 1u64;
        let noise: Vec<u8> = (0..300_000)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        for (length, count, part) in [
            (0, 0, 0),
            (100, 8, 10),
            (300_000, 0, 0),
            (300_000, 8, 37_500),
            (300_000, 4, 70_000),
            (299_999, 2, 140_000),
            (16_384, 8, 2048),
        ] {
            let frame = compressor.compress(&noise[..length], count, part).unwrap();
            assert_eq!(zstd::decode_all(&frame[..]).unwrap(), noise[..length]);
            let told = zstd::zstd_safe::get_frame_content_size(&frame).unwrap();
            assert_eq!(told, Some(length as u64));
        }
    }

    /// Parts that differ are smaller with blocks of their own.
    #[test]
    fn parts_of_different_nature_are_worth_it() {
        let mut compressor = Compressor::new(1).unwrap();
        let mut state = 1u64;
        let mut page = Vec::new();
        for spread in [255u64, 15, 3] {
            page.extend((0..20_000).map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
                (spread as u8).wrapping_add((state >> 33) as u8 & spread as u8)
            }));
        }
        let whole = compressor.compress(&page, 0, 0).unwrap().len();
        let parts = compressor.compress(&page, 3, 20_000).unwrap().len();
        assert!(parts * 20 < whole * 19, "{parts} of {whole}");
    }
}
