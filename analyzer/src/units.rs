//! Ages and moments as users write them; sizes, durations and counts as reports show them.

use std::time::Duration;

use memleak_trace::quantity::{QuantityError, parse_duration};

use crate::analysis::Moment;

/// Nanoseconds from `500ms`, `30s`, `5m`, `2h`; a bare number is milliseconds, as in memleak.
pub fn parse_age(text: &str) -> Result<u64, QuantityError> {
    let duration = match text.parse::<u64>() {
        Ok(milliseconds) => Duration::from_millis(milliseconds),
        Err(_) => parse_duration(text)?,
    };
    u64::try_from(duration.as_nanos()).map_err(|_| QuantityError::TooLarge)
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
    let after = parse_duration(text).map_err(|_| wrong())?;
    i64::try_from(after.as_nanos())
        .map(Moment::After)
        .map_err(|_| wrong())
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

    /// Durations: a bare number is milliseconds.
    #[test]
    fn ages() {
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
            assert_eq!(parse_age(text).ok(), expected, "{text:?}");
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
