//! Keeps the books of the sites on a thread of its own, while the replay goes on.

use std::thread::{Builder, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::books::{Books, Entries};

/// Entries of a kind that are handed over together: enough that handing them over costs nothing, few enough for a cache.
pub const HANDED_OVER: usize = 8192;
/// Entries that wait; more would only take memory.
const WAITING: usize = 4;

/// The thread, which begins with empty books.
#[derive(Debug)]
pub struct Bookkeeper {
    entries: Sender<Entries>,
    /// Booked entries come back, to be filled again.
    booked: Receiver<Entries>,
    thread: JoinHandle<Books>,
}

impl Bookkeeper {
    /// `None`: the system has no thread for it.
    pub fn start() -> Option<Bookkeeper> {
        let (entries, to_book) = bounded::<Entries>(WAITING);
        let (back, booked) = bounded(WAITING);
        let work = move || {
            let mut books = Books::default();
            for mut entries in to_book {
                books.book(&mut entries);
                // Where nobody wants them any more, they are not needed.
                let _ = back.try_send(entries);
            }
            books
        };
        let thread = Builder::new().name("bookkeeper".into()).spawn(work).ok()?;
        Some(Bookkeeper {
            entries,
            booked,
            thread,
        })
    }

    /// Hands entries over; they are empty then.
    pub fn hand_over(&self, entries: &mut Entries) {
        let empty = self.booked.try_recv().unwrap_or_default();
        // It fails if the thread has ended by a bug, which `finish` tells.
        let _ = self.entries.send(std::mem::replace(entries, empty));
    }

    /// The books, once all is booked.
    pub fn finish(self) -> Books {
        drop(self.entries);
        match self.thread.join() {
            Ok(books) => books,
            // As if there were no other thread.
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}
