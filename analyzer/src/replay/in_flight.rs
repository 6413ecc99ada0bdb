//! What threads have under way: reallocations entered but not returned, and the last munmap.

use std::collections::HashMap;

use memleak_trace::{Domain, Event};

use super::blocks::Block;
use super::observer::Death;
use super::ranges::Range;

/// Why a freed address is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// Never seen allocated.
    BeforeAttach,
    /// Seen allocated and freed before.
    AlreadyFreed,
    /// A copy of what a parent has allocated.
    Inherited,
}

/// What a reallocation gave up at its entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Released {
    Block(Block),
    Ranges(Vec<Range>),
    /// Nothing that was live.
    Unknown(Unknown),
}

impl Released {
    /// Whether the outcome lies where the old block lay.
    pub fn overlaps(&self, outcome: &Event) -> bool {
        let end = outcome.addr.saturating_add(outcome.size);
        match self {
            Released::Block(block) => block.addr == outcome.addr,
            Released::Ranges(pieces) => pieces
                .iter()
                .any(|piece| piece.start < end && outcome.addr < piece.end),
            Released::Unknown(_) => false,
        }
    }
}

/// What the last munmap of a thread freed: a failure, told next, takes it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmapped {
    pub pieces: Vec<Range>,
    /// Of each piece, whether its mapping ended with it.
    pub whole: Vec<bool>,
    /// Set where nothing was freed.
    pub unknown: Option<Unknown>,
    /// With which the pieces were told to be dead.
    pub death: Death,
    /// The replay's clock then, which lifetimes end by: nanoseconds.
    pub at: i64,
}

/// The thread, and whether it is in a pool's function: that may reallocate a chunk meanwhile.
type Key = (i32, bool);
type Pending = (Domain, Released);

/// By thread. Only threads with something under way have an entry, so that the lookup for each
/// event mostly finds empty tables.
#[derive(Debug, Default)]
pub struct InFlight {
    /// One that is pending: mostly the only one, and then nothing need be looked up.
    one: Option<(Key, Pending)>,
    /// The others.
    pending: HashMap<Key, Pending>,
    unmapped: HashMap<i32, Unmapped>,
}

impl InFlight {
    /// For a thread that has nothing pending in this domain.
    pub fn set_pending(&mut self, tid: i32, domain: Domain, released: Released) {
        let key = (tid, domain == Domain::Pool);
        match &self.one {
            None => self.one = Some((key, (domain, released))),
            Some(_) => drop(self.pending.insert(key, (domain, released))),
        }
    }

    pub fn take_pending(&mut self, tid: i32, domain: Domain) -> Option<Pending> {
        let key = (tid, domain == Domain::Pool);
        if let Some((_, pending)) = self.one.take_if(|(of, _)| *of == key) {
            return Some(pending);
        }
        match self.pending.is_empty() {
            true => None,
            false => self.pending.remove(&key),
        }
    }

    pub fn set_unmapped(&mut self, tid: i32, unmapped: Unmapped) {
        self.unmapped.insert(tid, unmapped);
    }

    /// The thread goes on: what its previous event unmapped did not fail.
    #[inline]
    pub fn forget_unmapped(&mut self, tid: i32) {
        if !self.unmapped.is_empty() {
            self.unmapped.remove(&tid);
        }
    }

    /// What the thread's previous event unmapped; forgotten with the call, as only the very next
    /// event can tell of its failure.
    #[inline]
    pub fn take_unmapped(&mut self, tid: i32) -> Option<Unmapped> {
        if self.unmapped.is_empty() {
            None
        } else {
            self.unmapped.remove(&tid)
        }
    }

    /// What is pending.
    fn released(&self) -> impl Iterator<Item = &Released> {
        let one = self.one.iter().map(|(_, pending)| pending);
        one.chain(self.pending.values())
            .map(|(_, released)| released)
    }

    /// Blocks that are pending: they still count.
    pub fn pending_blocks(&self) -> impl Iterator<Item = &Block> {
        self.released().filter_map(|released| match released {
            Released::Block(block) => Some(block),
            _ => None,
        })
    }

    /// Ranges that are pending: they still count.
    pub fn pending_ranges(&self) -> impl Iterator<Item = &Range> {
        let pieces = self.released().filter_map(|released| match released {
            Released::Ranges(pieces) => Some(pieces),
            _ => None,
        });
        pieces.flatten()
    }
}
