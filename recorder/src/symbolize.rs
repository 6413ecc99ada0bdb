//! Names frames while the recording goes on, on a thread of its own.
//!
//! The recording loop only puts requests into a channel and takes rows out of another; neither
//! ever waits. A frame that cannot be named comes back as a row without names.

mod kernel_names;
mod perf_map;
mod resolver;

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryIter, unbounded};
use memleak_trace::FrameId;
use memleak_trace::describe::Symbol;

use crate::memory;
use crate::modules::OpenedFile;
use resolver::Resolver;

/// A frame that needs a name.
#[derive(Clone, Debug)]
pub struct Request {
    pub frame: FrameId,
    /// An address at which the frame was seen.
    pub address: u64,
    /// The process it was seen in: compilers at run time leave their names in a file of that pid.
    pub pid: i32,
    /// Name of the mapping.
    pub module: Option<String>,
    /// The mapped file; `None` where there is none, or it could not be opened.
    pub file: Option<Arc<OpenedFile>>,
}

/// Most frames resolved at once, so that rows come out while many wait.
const BATCH: usize = 1024;

/// What was parsed is forgotten when nobody has asked for so long: debug information of a large program
/// takes tens of megabytes, and most frames are met early.
const IDLE: Duration = Duration::from_secs(5);

/// The thread that names frames.
#[derive(Debug)]
pub struct Symbolizer {
    requests: Sender<Request>,
    symbols: Receiver<Symbol>,
    asked: usize,
    named: usize,
}

impl Symbolizer {
    /// Starts the thread.
    pub fn start() -> io::Result<Self> {
        let (requests, waiting) = unbounded();
        let (done, symbols) = unbounded();
        thread::Builder::new()
            .name("symbolizer".to_owned())
            .spawn(move || work(&waiting, &done))?;
        Ok(Symbolizer {
            requests,
            symbols,
            asked: 0,
            named: 0,
        })
    }

    /// Asks for a frame's name; never waits. Ask once per frame: what is known is not remembered.
    pub fn ask(&mut self, request: Request) {
        // The thread ends only after this sender is gone.
        if self.requests.send(request).is_ok() {
            self.asked += 1;
        }
    }

    /// The rows that are ready; never waits.
    pub fn ready(&mut self) -> Vec<Symbol> {
        let ready: TryIter<'_, Symbol> = self.symbols.try_iter();
        let ready: Vec<Symbol> = ready.collect();
        self.named += ready.len();
        ready
    }

    /// Frames asked for whose rows are still to come.
    pub fn pending(&self) -> usize {
        self.asked - self.named
    }

    /// Takes no more requests. The receiver yields the rows still to come, and ends after the last.
    pub fn close(self) -> Receiver<Symbol> {
        self.symbols
    }
}

/// Resolves what waits, until nobody asks any more.
fn work(waiting: &Receiver<Request>, done: &Sender<Symbol>) {
    let mut resolver = None;
    loop {
        let first = match waiting.recv_timeout(IDLE) {
            Ok(first) => first,
            Err(RecvTimeoutError::Timeout) => {
                if resolver.take().is_some() {
                    memory::give_back();
                }
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let resolver = resolver.get_or_insert_with(Resolver::new);
        let batch = std::iter::once(first)
            .chain(waiting.try_iter().take(BATCH - 1))
            .collect();
        for symbol in resolver.resolve(batch) {
            // Nobody listens any more: the recording failed.
            if done.send(symbol).is_err() {
                return;
            }
        }
    }
}
