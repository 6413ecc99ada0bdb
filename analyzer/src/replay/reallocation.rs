//! Reallocations and failures: what a thread gave up, and what became of it.

use memleak_trace::{Domain, Event, Op};

use super::in_flight::{Released, Unknown, Unmapped};
use super::ranges::Range;
use super::{Allocation, Observer, Replay, block_space};

impl<O: Observer> Replay<O> {
    pub(super) fn release(&mut self, event: &Event, domain: Domain) {
        if let Some((_, older)) = self.threads.take_pending(event.tid, domain) {
            self.settle_unfinished(older);
        }
        if event.addr == 0 {
            return; // realloc(NULL, n) releases nothing
        }
        let released = match domain {
            Domain::Heap | Domain::Pool => match self.heap.remove(block_space(event), event.addr) {
                Some(block) => Released::Block(block),
                None => Released::Unknown(self.classify(block_space(event), event.addr)),
            },
            _ => match self.take_range(event) {
                pieces if pieces.is_empty() => Released::Unknown(self.unknown_in(event.space)),
                pieces => Released::Ranges(pieces),
            },
        };
        self.threads.set_pending(event.tid, domain, released);
    }

    /// What the thread released in this domain. If it released something in the other, the outcome
    /// of that is missing.
    fn take_released(&mut self, tid: i32, domain: Domain) -> Option<Released> {
        let (released_domain, released) = self.threads.take_pending(tid, domain)?;
        if released_domain == domain {
            return Some(released);
        }
        self.settle_unfinished(released);
        None
    }

    fn settle_unfinished(&mut self, released: Released) {
        self.anomalies.unfinished_reallocations += 1;
        self.settle(released);
    }

    pub(super) fn outcome(&mut self, event: &Event, domain: Domain) {
        let released = self.take_released(event.tid, domain);
        // In place, old and new are one block: counting both would invent a peak.
        let (before, after) = match released {
            Some(released) if released.overlaps(event) => (Some(released), None),
            released => (None, released),
        };
        if let Some(released) = before {
            self.settle(released);
        }
        match domain {
            _ if event.addr == 0 => {} // realloc(p, 0) that freed
            Domain::Heap | Domain::Pool => self.allocate_block(event),
            _ => self.map(event),
        }
        if let Some(released) = after {
            self.settle(released);
        }
    }

    /// What was released is freed for good.
    fn settle(&mut self, released: Released) {
        match released {
            Released::Block(block) => {
                // Its address may have been given to another block by now, which stays.
                self.block_is_free(&block);
            }
            Released::Ranges(pieces) => {
                self.drop_pieces(&pieces);
            }
            Released::Unknown(unknown) => self.count_unknown(unknown),
        }
    }

    pub(super) fn restore(&mut self, event: &Event, domain: Domain, unmapped: Option<Unmapped>) {
        if event.op == Op::MunmapFailed {
            if let Some(unmapped) = unmapped {
                self.undo_unmap(unmapped);
            }
        } else if let Some(released) = self.take_released(event.tid, domain) {
            self.put_back(released);
        }
    }

    /// The reallocation failed: the old block is live again, unless its address was given away
    /// meanwhile. That happens only if events are missing; then the younger block is the true one.
    fn put_back(&mut self, released: Released) {
        match released {
            Released::Block(block) if self.heap.get(block.space, block.addr).is_some() => {
                self.anomalies.implicit_frees += 1;
                self.count_block_freed(&block);
            }
            Released::Block(block) => {
                self.heap.insert(block);
            }
            Released::Ranges(pieces) => {
                for piece in pieces {
                    self.put_range_back(piece);
                }
            }
            Released::Unknown(_) => {}
        }
    }

    fn undo_unmap(&mut self, unmapped: Unmapped) {
        match unmapped.unknown {
            Some(Unknown::Inherited) => self.inherited_frees -= 1,
            Some(_) => self.anomalies.free_before_attach -= 1,
            None => {}
        }
        for (piece, whole) in unmapped.pieces.into_iter().zip(unmapped.whole) {
            self.mappings.revive_piece(&piece);
            let count = u64::from(whole);
            self.sites.restore(piece.site, piece.size(), count);
            if whole {
                self.sites.revive(piece.site, unmapped.at - piece.born);
            }
            self.accounts[Domain::Mapping as usize].restore(piece.size(), count, self.now);
            let revived = Allocation::piece(&piece, whole);
            self.observer.revived(&revived, unmapped.death, &self.sites);
            self.put_range_back(piece);
        }
    }

    fn put_range_back(&mut self, piece: Range) {
        let younger = self.mappings.take(piece.space, piece.start, piece.end);
        if younger.is_empty() {
            self.mappings.put_back(piece);
            return;
        }
        for range in younger {
            self.mappings.put_back(range);
        }
        self.anomalies.implicit_frees += 1;
        self.drop_pieces(&[piece]);
    }
}
