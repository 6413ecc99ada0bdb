//! Mends the checksums of a mutated trace, so that what lies behind them is reached too. The layout
//! is that of `schemas/trace-v1.md`, "Trailers".

const MAGIC: &[u8] = b"MEMLEAK1";
const TAIL: usize = 64;

fn number<const N: usize>(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word[..N].copy_from_slice(&bytes[at..at + N]);
    u64::from_le_bytes(word)
}

fn put(bytes: &mut [u8], at: usize, crc: u32) {
    bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
}

/// Recomputes the checksums of every trailer, in file order, as far as its lengths make sense.
pub fn reseal(bytes: &mut [u8]) {
    let mut from = 0;
    while let Some(found) = bytes[from..]
        .windows(MAGIC.len())
        .position(|window| window == MAGIC)
    {
        let end = from + found + MAGIC.len();
        from = end;
        if let Some(tail) = end.checked_sub(TAIL) {
            mend(bytes, tail, end);
        }
    }
}

fn mend(bytes: &mut [u8], tail: usize, end: usize) {
    let slice = |bytes: &[u8], start: u64, length: u64| -> Option<u32> {
        let start = usize::try_from(start).ok()?;
        let stop = start.checked_add(usize::try_from(length).ok()?)?;
        Some(crc32fast::hash(bytes.get(start..stop)?))
    };
    let data = slice(
        bytes,
        number::<8>(bytes, tail),
        number::<8>(bytes, tail + 8),
    );
    if let Some(crc) = data {
        put(bytes, tail + 16, crc);
    }
    let body_length = number::<4>(bytes, tail + 20);
    let body = (tail as u64)
        .checked_sub(body_length)
        .and_then(|start| slice(bytes, start, body_length));
    if let Some(crc) = body {
        put(bytes, tail + 24, crc);
    }
    // The trailer before it was mended already.
    let previous = usize::try_from(number::<8>(bytes, tail + 28)).unwrap_or(usize::MAX);
    if (TAIL..=tail).contains(&previous) {
        let crc = number::<4>(bytes, previous - MAGIC.len() - 4) as u32;
        put(bytes, tail + 36, crc);
    }
    let footer = slice(bytes, end as u64, number::<8>(bytes, tail + 40));
    if let Some(crc) = footer {
        put(bytes, tail + 48, crc);
    }
    let crc = crc32fast::hash(&bytes[tail..tail + 52]);
    put(bytes, tail + 52, crc);
}
