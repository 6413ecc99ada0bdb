//! Sizes, durations and moments, as users write them and as reports show them.

use crate::analysis::Moment;

const SIZE_UNITS: &[(&str, u64)] = &[
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

const DURATION_UNITS: &[(&str, u64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("min", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// Bytes from `4096`, `64KiB`, `1MiB`, `2G`; k, M and G are powers of 1024.
pub fn parse_size(text: &str) -> Result<u64, String> {
    parse(text, SIZE_UNITS).ok_or_else(|| "expected a size such as 4096, 64KiB or 1MiB".to_owned())
}

/// Nanoseconds from `500ms`, `30s`, `5m`, `2h`; a bare number is milliseconds, as in memleak.
pub fn parse_duration(text: &str) -> Result<u64, String> {
    let milliseconds = || parse(text, &[("", 1_000_000)]);
    parse(text, DURATION_UNITS)
        .or_else(milliseconds)
        .ok_or_else(|| "expected a duration such as 500ms, 30s or 5m".to_owned())
}

/// A moment of the recording from `30s` (after its start) or `50%` (of its duration).
pub fn parse_moment(text: &str) -> Result<Moment, String> {
    let wrong = || "expected a moment such as 30s (after the start) or 50%".to_owned();
    if let Some(percent) = text.strip_suffix('%') {
        let percent: f64 = percent.trim().parse().map_err(|_| wrong())?;
        let inside = (0.0..=100.0).contains(&percent);
        return if inside {
            Ok(Moment::Share(percent / 100.0))
        } else {
            Err(wrong())
        };
    }
    let after = parse(text, DURATION_UNITS).and_then(|after| i64::try_from(after).ok());
    after.map(Moment::After).ok_or_else(wrong)
}

/// A number with an optional fraction and a unit, in the table's smallest unit.
fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start().to_ascii_lowercase();
    let factor = units.iter().find(|(name, _)| *name == unit)?.1;
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor);
    }
    let value = number.parse::<f64>().ok()? * factor as f64;
    (value.is_finite() && value < u64::MAX as f64).then_some(value as u64)
}

/// A size for people: `512 B`, `1.5 MiB`.
pub fn show_size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    if unit == "B" {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {unit}")
    }
}

/// A duration for people: `850 ns`, `1.5 ms`, `12.3 s`, `3 min 20 s`, `2 h 5 min`.
pub fn show_duration(ns: u64) -> String {
    let seconds = ns / 1_000_000_000;
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} µs", ns as f64 / 1e3),
        // What would be rounded to 1000.0 ms is told in seconds.
        1_000_000..999_950_000 => format!("{:.1} ms", ns as f64 / 1e6),
        _ if seconds < 60 => format!("{:.1} s", ns as f64 / 1e9),
        _ if seconds < 3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
    }
}

/// A number with its thousands apart: `1,234,567`.
pub fn show_count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes as the command line promises them.
    #[test]
    fn sizes() {
        let cases = [
            ("0", Some(0)),
            ("4096", Some(4096)),
            ("64KiB", Some(65_536)),
            ("1MiB", Some(1 << 20)),
            ("1.5k", Some(1536)),
            ("2 G", Some(2 << 30)),
            ("3m", Some(3 << 20)),
            ("", None),
            ("k", None),
            ("-1", None),
            ("1.2.3", None),
            ("10 apples", None),
            ("99999999999999999999", None),
            ("18446744073709551615G", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_size(text).ok(), expected, "{text:?}");
        }
    }

    /// Durations: a bare number is milliseconds.
    #[test]
    fn durations() {
        let cases = [
            ("500", Some(500_000_000)),
            ("500ms", Some(500_000_000)),
            ("30s", Some(30_000_000_000)),
            ("5m", Some(300_000_000_000)),
            ("0.5h", Some(1_800_000_000_000)),
            ("s", None),
            ("soon", None),
            ("-5s", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_duration(text).ok(), expected, "{text:?}");
        }
    }

    /// Moments: after the start, or a share. A bare number would be ambiguous.
    #[test]
    fn moments() {
        assert_eq!(parse_moment("30s"), Ok(Moment::After(30_000_000_000)));
        assert_eq!(parse_moment("50%"), Ok(Moment::Share(0.5)));
        for wrong in ["30", "101%", "-1%", "%", "later", ""] {
            assert!(parse_moment(wrong).is_err(), "{wrong:?}");
        }
    }

    /// Figures for people.
    #[test]
    fn shown() {
        assert_eq!(show_size(1023), "1023 B");
        assert_eq!(show_size(1536), "1.5 KiB");
        assert_eq!(show_size(5 << 40), "5.0 TiB");
        assert_eq!(show_duration(999_949_999), "999.9 ms");
        assert_eq!(show_duration(999_999_996), "1.0 s");
        assert_eq!(show_duration(12_340_000_000), "12.3 s");
        assert_eq!(show_duration(200_000_000_000), "3 min 20 s");
        assert_eq!(show_duration(7_500_000_000_000), "2 h 5 min");
        assert_eq!(show_count(1_234_567), "1,234,567");
        assert_eq!(show_count(123), "123");
    }
}
