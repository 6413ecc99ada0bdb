//! `--trace`: a line per event on stdout, as the trace gets it.
//!
//! Lines are made where events are encoded and written by a thread of their own: a slow reader of
//! stdout must not hold up the recording. What it cannot take is left out, and the number of lines
//! left out is told in their place. When nobody reads any more (`| head`), lines end, quietly, and
//! the recording goes on.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, TrySendError};
use memleak_trace::header::Clock;
use memleak_trace::wall::{local_time, wall_ns};
use memleak_trace::{Description, Effect, Event, FrameId, Note, Stack, StackId};

/// Lines are handed on in pieces of about so many bytes, or when there are no more events.
const PIECE_BYTES: usize = 64 * 1024;
/// So many pieces wait for stdout at most: 16 MiB.
const WAITING_PIECES: usize = 256;
/// Frames of a stack that are named in its lines.
const NAMED_FRAMES: usize = 3;

/// Makes the lines.
#[derive(Debug)]
pub struct Live {
    clock: Clock,
    /// Names that are known by now.
    names: HashMap<FrameId, String>,
    /// The first frames of each stack.
    stacks: HashMap<StackId, Vec<FrameId>>,
    /// The second of the last line, and as a time of day.
    second: (i64, String),
    text: String,
    lines: u64,
    left_out: u64,
    pieces: Option<Sender<String>>,
    printer: Option<JoinHandle<()>>,
}

impl Live {
    /// Starts the thread that writes to stdout. `clock` is that of the trace.
    pub fn start(clock: Clock) -> std::io::Result<Live> {
        let (pieces, waiting) = crossbeam_channel::bounded::<String>(WAITING_PIECES);
        let printer = std::thread::Builder::new()
            .name("print".to_owned())
            .spawn(move || {
                let mut out = std::io::stdout();
                for piece in waiting {
                    if out
                        .write_all(piece.as_bytes())
                        .and_then(|()| out.flush())
                        .is_err()
                    {
                        return; // nobody listens
                    }
                }
            })?;
        Ok(Live {
            clock,
            names: HashMap::new(),
            stacks: HashMap::new(),
            second: (i64::MIN, String::new()),
            text: String::new(),
            lines: 0,
            left_out: 0,
            pieces: Some(pieces),
            printer: Some(printer),
        })
    }

    /// Learns names of frames: lines that follow have them.
    pub fn note(&mut self, note: &Note) {
        if let Description::Symbol(symbol) = &note.what
            && let Some(function) = &symbol.function
        {
            self.names.insert(symbol.frame, function.clone());
        }
    }

    /// Makes the line of an event; `definition` is its stack on the first use.
    pub fn event(&mut self, event: &Event, definition: Option<&Stack>) {
        if let Some(stack) = definition {
            let first = stack.frames.iter().take(NAMED_FRAMES);
            self.stacks.insert(stack.id, first.copied().collect());
        }
        if self.pieces.is_none() {
            return;
        }
        self.line(event);
        self.lines += 1;
        if self.text.len() >= PIECE_BYTES {
            self.flush();
        }
    }

    /// `17:09:35.123456 1234/1235 malloc 0x55d0c0ffee00 64 bytes, stack 7: leaf < caller < main`
    fn line(&mut self, event: &Event) {
        let wall = wall_ns(&self.clock, event.ts);
        let second = wall.div_euclid(1_000_000_000);
        if self.second.0 != second {
            let (hour, minute, second_of_minute) = local_time(wall);
            self.second = (
                second,
                format!("{hour:02}:{minute:02}:{second_of_minute:02}"),
            );
        }
        let micros = wall.rem_euclid(1_000_000_000) / 1000;
        let text = &mut self.text;
        // Writing into a string cannot fail.
        let _ = write!(
            text,
            "{}.{micros:06} {}/{} {} {:#x}",
            self.second.1,
            event.pid,
            event.tid,
            event.op.name(),
            event.addr
        );
        let allocates = matches!(event.op.effect(), Effect::Allocate | Effect::Outcome);
        if event.size > 0 || allocates {
            let _ = write!(text, " {} bytes", event.size);
        }
        if let Some(id) = event.stack {
            let _ = write!(text, ", stack {}", id.0);
            let frames = self.stacks.get(&id).map(Vec::as_slice).unwrap_or_default();
            let names = frames.iter().map_while(|frame| self.names.get(frame));
            for (index, name) in names.enumerate() {
                text.push_str(if index == 0 { ": " } else { " < " });
                text.push_str(name);
            }
        }
        text.push('\n');
    }

    /// Hands the lines on. Call it when there are no more events for now.
    pub fn flush(&mut self) {
        let Some(pieces) = &self.pieces else {
            return;
        };
        if self.text.is_empty() {
            return;
        }
        if self.left_out > 0 {
            let told = format!(
                "({} events are not shown: they come faster than this output is read)\n",
                self.left_out
            );
            self.text.insert_str(0, &told);
        }
        match pieces.try_send(std::mem::take(&mut self.text)) {
            Ok(()) => self.left_out = 0,
            Err(TrySendError::Full(_)) => self.left_out += self.lines,
            Err(TrySendError::Disconnected(_)) => self.pieces = None,
        }
        self.lines = 0;
    }

    /// Waits until the last lines are written.
    pub fn finish(mut self) {
        self.flush();
        drop(self.pieces.take());
        if let Some(printer) = self.printer.take() {
            // It has no panicking path; without it there are just no more lines.
            let _ = printer.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use memleak_trace::describe::Symbol;
    use memleak_trace::{Op, SpaceId, StackEnd};

    fn live() -> (Live, crossbeam_channel::Receiver<String>) {
        let (pieces, waiting) = crossbeam_channel::bounded(1);
        let live = Live {
            clock: Clock {
                monotonic_ns: 0,
                realtime_ns: 0,
            },
            names: HashMap::new(),
            stacks: HashMap::new(),
            second: (i64::MIN, String::new()),
            text: String::new(),
            lines: 0,
            left_out: 0,
            pieces: Some(pieces),
            printer: None,
        };
        (live, waiting)
    }

    fn event(op: Op, addr: u64, size: u64, stack: Option<i32>) -> Event {
        Event {
            ts: 1_000_002_000,
            pid: 20,
            tid: 21,
            op,
            space: SpaceId(1),
            addr,
            size,
            stack: stack.map(StackId),
        }
    }

    /// A line with time, thread, operation, address, size and the frames that have names by now.
    #[test]
    fn lines() {
        let (mut live, waiting) = live();
        let frames = vec![FrameId(5), FrameId(6)];
        let stack = Stack {
            id: StackId(0),
            frames,
            end: StackEnd::Complete,
        };
        live.event(&event(Op::Malloc, 0x10, 0, Some(0)), Some(&stack));
        live.note(&Note {
            ts: 0,
            what: Description::Symbol(Symbol {
                frame: FrameId(5),
                function: Some("leaf".to_owned()),
                ..Symbol::default()
            }),
        });
        live.event(&event(Op::Realloc, 0x10, 64, Some(0)), None);
        live.event(&event(Op::Free, 0x10, 0, None), None);
        live.flush();
        let text = waiting.recv().expect("lines");
        let lines: Vec<&str> = text.lines().filter_map(|line| line.get(8..)).collect();
        assert_eq!(
            lines,
            [
                ".000002 20/21 malloc 0x10 0 bytes, stack 0",
                ".000002 20/21 realloc 0x10 64 bytes, stack 0: leaf",
                ".000002 20/21 free 0x10",
            ]
        );
    }

    /// What finds no room is counted and told with the next lines; a reader that went away ends it.
    #[test]
    fn a_slow_reader_is_told() {
        let (mut live, waiting) = live();
        for addr in 1..4 {
            live.event(&event(Op::Free, addr, 0, None), None);
            live.flush();
        }
        waiting.recv().expect("the first line");
        live.event(&event(Op::Free, 4, 0, None), None);
        live.flush();
        let text = waiting.recv().expect("the fourth");
        assert!(text.starts_with("(2 events are not shown"), "{text}");
        assert!(text.ends_with("free 0x4\n"), "{text}");
        drop(waiting);
        live.event(&event(Op::Free, 5, 0, None), None);
        live.flush();
        assert!(live.pieces.is_none());
    }
}
