//! Sizes and durations as users write them.

use std::time::Duration;

/// Why a size or a duration was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(
        "a size is a number of bytes such as 4096, 64KiB, 1MiB or 2g (k, m, g are powers of 1024)"
    )]
    Size,
    #[error("a duration is a number with a unit, such as 500ms, 30s, 5m or 2h")]
    Duration,
    #[error("the number is too large")]
    TooLarge,
    #[error("the ring must be a power of two between 4096 and 2GiB, for example {0}")]
    RingSize(&'static str),
}

/// Unit by its lower-case spelling, in bytes. `k`, `m`, `g` mean powers of 1024, as in memleak.
const SIZES: &[(&str, u64)] = &[
    ("", 1),
    ("b", 1),
    ("k", 1 << 10),
    ("kb", 1 << 10),
    ("kib", 1 << 10),
    ("m", 1 << 20),
    ("mb", 1 << 20),
    ("mib", 1 << 20),
    ("g", 1 << 30),
    ("gb", 1 << 30),
    ("gib", 1 << 30),
];

/// Unit by its spelling, in milliseconds.
const DURATIONS: &[(&str, u64)] = &[("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];

/// Bytes: `4096`, `64KiB`, `1MiB`, `2g`.
pub fn parse_size(text: &str) -> Result<u64, Error> {
    let (number, unit) = split(text).ok_or(Error::Size)?;
    let scale = lookup(SIZES, &unit.to_ascii_lowercase()).ok_or(Error::Size)?;
    scaled(number, scale)
}

/// `500ms`, `30s`, `5m`, `2h`.
pub fn parse_duration(text: &str) -> Result<Duration, Error> {
    let (number, unit) = split(text).ok_or(Error::Duration)?;
    let scale = lookup(DURATIONS, unit).ok_or(Error::Duration)?;
    scaled(number, scale).map(Duration::from_millis)
}

/// Bytes of a ring: what the kernel accepts is a power of two of at least a page that fits 32 bits.
pub fn parse_ring_size(text: &str) -> Result<u32, Error> {
    let bytes = parse_size(text)?;
    u32::try_from(bytes)
        .ok()
        .filter(|bytes| bytes.is_power_of_two() && *bytes >= 4096)
        .ok_or(Error::RingSize("64MiB"))
}

/// A number and the unit behind it.
fn split(text: &str) -> Option<(&str, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    (end > 0).then(|| (&text[..end], text[end..].trim_start()))
}

fn lookup(units: &[(&str, u64)], unit: &str) -> Option<u64> {
    units.iter().find(|row| row.0 == unit).map(|row| row.1)
}

fn scaled(number: &str, scale: u64) -> Result<u64, Error> {
    let number: u64 = number.parse().map_err(|_| Error::TooLarge)?;
    number.checked_mul(scale).ok_or(Error::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every spelling named in the manual, and the powers of 1024.
    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("64KiB", 65_536),
            ("64 kib", 65_536),
            ("1MiB", 1 << 20),
            ("3k", 3072),
            ("3M", 3 << 20),
            ("2g", 2 << 30),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "k", "-1", "1.5M", "1x", "1 M x"] {
            assert_eq!(parse_size(text), Err(Error::Size), "{text}");
        }
        assert_eq!(parse_size("99999999999g"), Err(Error::TooLarge));
        assert_eq!(parse_size("99999999999999999999"), Err(Error::TooLarge));
    }

    /// A duration needs its unit: a bare number is ambiguous between memleak's options.
    #[test]
    fn durations() {
        for (text, milliseconds) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("5m", 300_000),
            ("2h", 7_200_000),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
        for text in ["", "30", "s", "1d", "-1s"] {
            assert_eq!(parse_duration(text), Err(Error::Duration), "{text}");
        }
    }

    /// The kernel refuses a ring that is no power of two, less than a page, or past 32 bits.
    #[test]
    fn ring_sizes() {
        assert_eq!(parse_ring_size("64MiB"), Ok(64 << 20));
        assert_eq!(parse_ring_size("2GiB"), Ok(1 << 31));
        for text in ["0", "2048", "3MiB", "4GiB"] {
            assert!(
                matches!(parse_ring_size(text), Err(Error::RingSize(_))),
                "{text}"
            );
        }
    }
}
