//! The live status line: what is being recorded, rewritten in place on a terminal.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// What the line shows. Counts are totals since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    pub elapsed: Duration,
    pub events: u64,
    /// Events that happened and are not in the trace.
    pub lost: u64,
    /// Bytes of the ring that wait to be read, and all of them.
    pub ring_used: u64,
    pub ring_bytes: u64,
    /// Bytes of the trace so far.
    pub file_bytes: u64,
}

/// At most five lines a second.
const INTERVAL: Duration = Duration::from_millis(200);

/// Writes the line, and takes it away again. Silent where stderr is no terminal.
#[derive(Debug)]
pub struct StatusLine {
    terminal: bool,
    /// When the last line was written, and the progress it showed.
    shown: Option<(Instant, Progress)>,
}

impl StatusLine {
    /// A line on stderr, if that is a terminal.
    pub fn on_stderr() -> Self {
        StatusLine {
            terminal: io::stderr().is_terminal(),
            shown: None,
        }
    }

    /// Whether [`StatusLine::show`] would write now: ask before collecting the figures.
    pub fn is_due(&self) -> bool {
        self.terminal && self.shown.is_none_or(|(at, _)| at.elapsed() >= INTERVAL)
    }

    /// Rewrites the line if it is due.
    pub fn show(&mut self, progress: &Progress) {
        if !self.is_due() {
            return;
        }
        let before = self.shown.map(|(_, progress)| progress).unwrap_or_default();
        let text = line(progress, rate(&before, progress));
        // A terminal that is gone must not end the recording.
        let _ = write!(io::stderr(), "\r\x1b[K{}", cut(&text, terminal_columns()));
        self.shown = Some((Instant::now(), *progress));
    }

    /// Removes the line, so that other output starts on a clean one.
    pub fn clear(&mut self) {
        if self.shown.take().is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

impl Drop for StatusLine {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Events per second between two moments.
fn rate(before: &Progress, now: &Progress) -> f64 {
    let seconds = now.elapsed.saturating_sub(before.elapsed).as_secs_f64();
    let events = now.events.saturating_sub(before.events);
    if seconds > 0.0 {
        events as f64 / seconds
    } else {
        0.0
    }
}

/// `00:12  1.2 M events  98.3 k/s  0 lost  ring 3 %  file 4.1 MiB`
fn line(progress: &Progress, per_second: f64) -> String {
    let fill = progress.ring_used as f64 * 100.0 / progress.ring_bytes.max(1) as f64;
    format!(
        "{}  {} events  {}/s  {} lost  ring {fill:.0} %  file {}",
        clock(progress.elapsed),
        count(progress.events as f64),
        count(per_second),
        count(progress.lost as f64),
        size(progress.file_bytes),
    )
}

/// `02:05`, or `1:00:00` from an hour on.
pub fn clock(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes:02}:{seconds:02}"),
        _ => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

/// `12.3 MiB`; whole below 1 KiB.
pub fn size(bytes: u64) -> String {
    scaled(bytes as f64, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB"])
}

/// `1.2 M`; whole below a thousand.
pub fn count(number: f64) -> String {
    scaled(number, 1000.0, &["", "k", "M", "G", "T"])
}

/// The largest unit in which the number is at least 1 after rounding to one digit.
fn scaled(number: f64, step: f64, units: &[&str]) -> String {
    let mut value = number.round();
    let mut unit = 0;
    while unit + 1 < units.len() && (value >= step || format!("{value:.1}") == format!("{step:.1}"))
    {
        value /= step;
        unit += 1;
    }
    match unit {
        0 => format!("{value:.0} {}", units[0]).trim_end().to_owned(),
        _ => format!("{value:.1} {}", units[unit]),
    }
}

/// A line that wraps cannot be rewritten.
fn cut(text: &str, columns: usize) -> &str {
    let end = text
        .char_indices()
        .nth(columns.saturating_sub(1))
        .map(|(index, _)| index);
    &text[..end.unwrap_or(text.len())]
}

/// Columns of the terminal on stderr; 80 if it does not say.
fn terminal_columns() -> usize {
    // SAFETY: the kernel fills the struct, which is plain integers, or leaves it alone.
    let columns = unsafe {
        let mut window: libc::winsize = std::mem::zeroed();
        libc::ioctl(libc::STDERR_FILENO, libc::TIOCGWINSZ, &mut window);
        window.ws_col
    };
    if columns == 0 {
        80
    } else {
        usize::from(columns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes by powers of 1024, with one digit; rounding never shows 1024.0 of a unit.
    #[test]
    fn sizes() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (12_897_485, "12.3 MiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (u64::MAX, "16777216.0 TiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    /// Counts by powers of 1000.
    #[test]
    fn counts() {
        for (number, text) in [
            (0.0, "0"),
            (999.4, "999"),
            (999.6, "1.0 k"),
            (1_234_567.0, "1.2 M"),
            (999_999.0, "1.0 M"),
        ] {
            assert_eq!(count(number), text);
        }
    }

    /// The whole line, with the rate since the line before.
    #[test]
    fn whole_line() {
        let before = Progress {
            elapsed: Duration::from_secs(10),
            events: 1_000_000,
            ..Progress::default()
        };
        let now = Progress {
            elapsed: Duration::from_secs(12),
            events: 1_196_600,
            lost: 17,
            ring_used: 2 << 20,
            ring_bytes: 64 << 20,
            file_bytes: 4_299_162,
        };
        assert_eq!(
            line(&now, rate(&before, &now)),
            "00:12  1.2 M events  98.3 k/s  17 lost  ring 3 %  file 4.1 MiB"
        );
        assert_eq!(clock(Duration::from_secs(3725)), "1:02:05");
        assert_eq!(rate(&now, &now), 0.0);
    }

    /// A line is cut below the terminal's width, at a character.
    #[test]
    fn cut_to_width() {
        assert_eq!(cut("abcdef", 4), "abc");
        assert_eq!(cut("äöü", 3), "äö");
        assert_eq!(cut("abc", 80), "abc");
    }
}
