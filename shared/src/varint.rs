//! Numbers in base 128, low bits first, as Thrift and Parquet's encodings have them.

/// Appends a number.
pub(crate) fn put_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// A number that stands at `at`, which moves behind it; `None` where the bytes end before, or it is longer than 64 bits can be.
pub(crate) fn take_varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// A number with a sign as one without, small ones small.
pub(crate) fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

/// The number that [`zigzag`] made this of.
pub(crate) fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every number comes back, however many bytes it takes, and what is cut off or too long does not.
    #[test]
    fn round_trip() {
        for bits in 0..64 {
            for number in [
                1i64 << bits,
                (1i64 << bits).wrapping_neg(),
                (1i64 << bits) - 1,
            ] {
                let (mut bytes, mut at) = (Vec::new(), 0);
                put_varint(zigzag(number), &mut bytes);
                let taken = take_varint(&bytes, &mut at).map(unzigzag);
                assert_eq!((taken, at), (Some(number), bytes.len()));
                assert_eq!(take_varint(&bytes[..bytes.len() - 1], &mut 0), None);
            }
        }
        assert_eq!(take_varint(&[0x80; 11], &mut 0), None);
    }
}
