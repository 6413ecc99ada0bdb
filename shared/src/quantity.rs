//! Sizes and durations as users write them, in every program alike.

use std::time::Duration;

/// Why a size or a duration was not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error(
        "a size is a number of bytes such as 4096, 64KiB, 1MiB or 2G (k, M and G are powers of 1024)"
    )]
    Size,
    #[error("a duration is a number with a unit, such as 500ms, 30s, 5m or 2h")]
    Duration,
    #[error("the number is too large")]
    TooLarge,
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

/// Unit by its lower-case spelling, in nanoseconds.
const DURATIONS: &[(&str, u64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("min", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// Bytes: `4096`, `64KiB`, `1.5MiB`, `2G`.
pub fn parse_size(text: &str) -> Result<u64, QuantityError> {
    parse(text, SIZES, QuantityError::Size)
}

/// `500ms`, `30s`, `1.5m`, `2h`. A bare number is refused: what it means depends on the option.
pub fn parse_duration(text: &str) -> Result<Duration, QuantityError> {
    parse(text, DURATIONS, QuantityError::Duration).map(Duration::from_nanos)
}

/// A number with an optional fraction and a unit, in the table's smallest unit.
fn parse(text: &str, units: &[(&str, u64)], wrong: QuantityError) -> Result<u64, QuantityError> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start().to_ascii_lowercase();
    let factor = units
        .iter()
        .find_map(|(name, factor)| (*name == unit).then_some(*factor))
        .ok_or(wrong)?;
    if !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit()) {
        return number
            .parse::<u64>()
            .ok()
            .and_then(|whole| whole.checked_mul(factor))
            .ok_or(QuantityError::TooLarge);
    }
    let value = number.parse::<f64>().map_err(|_| wrong)? * factor as f64;
    if value < u64::MAX as f64 {
        Ok(value as u64)
    } else {
        Err(QuantityError::TooLarge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every spelling named in the manuals, and the powers of 1024.
    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("64KiB", 65_536),
            ("64 kib", 65_536),
            ("1.5MiB", 3 << 19),
            ("3k", 3072),
            ("3M", 3 << 20),
            ("2g", 2 << 30),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "k", "-1", ".", "1x", "1 M x", "1.2.3k"] {
            assert_eq!(parse_size(text), Err(QuantityError::Size), "{text}");
        }
        for text in ["99999999999g", "99999999999999999999", "99999999999.5g"] {
            assert_eq!(parse_size(text), Err(QuantityError::TooLarge), "{text}");
        }
    }

    /// A duration needs its unit.
    #[test]
    fn durations() {
        for (text, milliseconds) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("1.5m", 90_000),
            ("5min", 300_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
        ] {
            let expected = Duration::from_millis(milliseconds);
            assert_eq!(parse_duration(text), Ok(expected), "{text}");
        }
        for text in ["", "30", "s", "1y", "-1s"] {
            assert_eq!(parse_duration(text), Err(QuantityError::Duration), "{text}");
        }
    }
}
