//! Mappings: ranges that are mapped, and unmapped whole or in pieces.

use memleak_trace::{Domain, Event};

use super::in_flight::Unmapped;
use super::ranges::Range;
use super::{Allocation, Observer, Replay};

impl<O: Observer> Replay<O> {
    pub(super) fn map(&mut self, event: &Event) {
        let covered = self.take_range(event);
        if !covered.is_empty() {
            self.anomalies.mappings_replaced += 1;
            self.drop_pieces(&covered);
        }
        let site = self.site_of(event);
        let end = event.addr.saturating_add(event.size);
        if event.addr < end {
            self.mappings
                .insert(event.space.0, event.addr, end, event.ts, site);
            let bytes = end - event.addr;
            self.sites.allocate(site, bytes);
            self.accounts[Domain::Mapping as usize].allocate(bytes, self.now);
            let born = Allocation {
                addr: event.addr,
                size: bytes,
                taken: bytes,
                born: event.ts,
                site,
                count: 1,
            };
            self.observer.born(&born, &self.sites);
        }
    }

    pub(super) fn unmap(&mut self, event: &Event) {
        let pieces = self.take_range(event);
        let unknown = pieces.is_empty().then(|| self.unknown_in(event.space));
        if let Some(unknown) = unknown {
            self.count_unknown(unknown);
        }
        let whole = self.drop_pieces(&pieces);
        self.threads.set_unmapped(
            event.tid,
            Unmapped {
                pieces,
                whole,
                unknown,
                death: self.present,
                at: self.now,
            },
        );
    }

    pub(super) fn take_range(&mut self, event: &Event) -> Vec<Range> {
        self.mappings.take(
            event.space.0,
            event.addr,
            event.addr.saturating_add(event.size),
        )
    }

    /// Pieces that were taken out are freed; tells of each whether it was the last of its mapping.
    pub(super) fn drop_pieces(&mut self, pieces: &[Range]) -> Vec<bool> {
        let drop = |piece: &Range| {
            let last = self.mappings.drop_piece(piece);
            self.sites.free(piece.site, piece.size(), u64::from(last));
            if last {
                self.sites.lived(piece.site, self.now - piece.born);
            }
            self.accounts[Domain::Mapping as usize].free(piece.size(), u64::from(last));
            let died = Allocation::piece(piece, last);
            self.observer.died(&died, self.present, &self.sites);
            last
        };
        pieces.iter().map(drop).collect()
    }
}
