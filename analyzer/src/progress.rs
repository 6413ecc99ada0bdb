//! Progress of a long analysis, on a terminal only.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Nothing is shown for an analysis shorter than this.
const QUIET: Duration = Duration::from_secs(1);
const INTERVAL: Duration = Duration::from_millis(200);

/// A line on stderr that is rewritten in place.
#[derive(Debug)]
pub struct Progress {
    doing: &'static str,
    rows: u64,
    done: u64,
    began: Instant,
    shown: Option<Instant>,
    terminal: bool,
}

impl Progress {
    /// `rows` in all; `doing` says what is done with them.
    pub fn new(doing: &'static str, rows: u64) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Progress {
            doing,
            rows,
            done: 0,
            began: Instant::now(),
            shown: None,
            terminal,
        }
    }

    /// So many rows more are done.
    pub fn advance(&mut self, rows: u64) {
        self.done += rows;
        let now = Instant::now();
        let due = self
            .shown
            .map_or(self.began + QUIET, |shown| shown + INTERVAL);
        if self.terminal && now >= due {
            self.shown = Some(now);
            let line = line(self.doing, self.done, self.rows, now - self.began);
            // Progress that cannot be shown is not worth an error.
            let _ = write!(std::io::stderr(), "\r{line}\x1b[K");
        }
    }

    /// Clears the line.
    pub fn finish(self) {
        if self.shown.is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

/// Percent, speed and the time that remains at this speed.
fn line(doing: &str, done: u64, rows: u64, elapsed: Duration) -> String {
    let share = (done as f64 / rows.max(1) as f64).min(1.0);
    let speed = done as f64 / elapsed.as_secs_f64().max(1e-9);
    let remaining = rows.saturating_sub(done) as f64 / speed.max(1.0);
    format!(
        "{doing} {:3.0} %  {:.1} M rows/s  {remaining:.0} s remaining",
        share * 100.0,
        speed / 1e6,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The line tells share, speed and remaining time, also where the rows are not known.
    #[test]
    fn line_is_plausible() {
        let two_seconds = Duration::from_secs(2);
        assert_eq!(
            line("analyzing", 10_000_000, 40_000_000, two_seconds),
            "analyzing  25 %  5.0 M rows/s  6 s remaining"
        );
        assert_eq!(
            line("analyzing", 10, 0, two_seconds),
            "analyzing 100 %  0.0 M rows/s  0 s remaining"
        );
    }
}
