//! The kernel's memory: slab objects and percpu blocks by address, pages by range. The domains are
//! kept apart: slab caches get their memory as pages.
//!
//! Frees that nobody saw are no fault here (blocks older than the recording, bulk calls without a
//! tracepoint): they are counted per domain.

use std::collections::HashMap;
use std::sync::Arc;

use memleak_trace::{Detail, Domain, Effect, Event};

use super::ranges::Ranges;
use super::sites::Sites;
use super::{Account, Allocation, Death, Observer};

/// What could not be paired in a domain of the kernel; each is a count of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelAnomalies {
    /// Frees of what was never seen allocated.
    pub unknown_frees: u64,
    /// Allocations where something was still live: its free was not seen.
    pub implicit_frees: u64,
}

/// A live block.
#[derive(Clone, Copy, Debug)]
struct Object {
    size: u64,
    taken: u64,
    /// Nanoseconds of the trace's clock.
    born: i64,
    site: u32,
    /// Index of its cache among those of the site.
    cache: u32,
}

impl Object {
    fn at(&self, addr: u64) -> Allocation {
        Allocation {
            addr,
            size: self.size,
            taken: self.taken,
            born: self.born,
            site: self.site,
            count: 1,
        }
    }
}

/// What a site holds of a slab cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheFigures {
    pub name: Arc<str>,
    /// Bytes outstanding, and objects.
    pub bytes: u64,
    pub count: u64,
}

/// What a site tells beside its figures.
#[derive(Clone, Debug, Default)]
pub struct KernelSite {
    /// In order of first use.
    pub caches: Vec<CacheFigures>,
    /// Name of the thread that allocated there first.
    pub comm: Option<Arc<str>>,
    /// Flags of its first allocation.
    pub gfp: Option<Arc<str>>,
}

const NO_CACHE: u32 = u32::MAX;

/// The live memory of the kernel.
#[derive(Debug, Default)]
pub struct KernelMemory {
    slab: HashMap<u64, Object>,
    percpu: HashMap<u64, Object>,
    pages: Ranges,
    /// By number of the site; sites of user space have none.
    sites: Vec<KernelSite>,
    /// Bytes that what is outstanding takes, by domain.
    taken: [u64; Domain::ALL.len()],
    anomalies: [KernelAnomalies; Domain::ALL.len()],
}

/// What an event of the kernel changes beside the kernel's memory.
pub struct Books<'a, O> {
    pub sites: &'a mut Sites,
    /// Of the event's domain.
    pub account: &'a mut Account,
    /// Largest timestamp so far.
    pub now: i64,
    /// Sites are told apart by thread too.
    pub by_thread: bool,
    /// What a death that the event causes is told with.
    pub death: Death,
    pub observer: &'a mut O,
}

impl<O: Observer> Books<'_, O> {
    fn site_of(&mut self, event: &Event) -> u32 {
        let tid = if self.by_thread { event.tid } else { 0 };
        self.sites.find(event.stack, event.op, event.pid, tid)
    }

    fn born(&mut self, allocation: &Allocation) {
        self.sites.allocate(allocation.site, allocation.size);
        self.account.allocate(allocation.size, self.now);
        self.observer.born(allocation, self.sites);
    }

    fn died(&mut self, allocation: &Allocation) {
        let count = u64::from(allocation.count);
        self.sites.free(allocation.site, allocation.size, count);
        if count > 0 {
            self.sites
                .lived(allocation.site, self.now - allocation.born);
        }
        self.account.free(allocation.size, count);
        self.observer.died(allocation, self.death, self.sites);
    }
}

impl KernelMemory {
    /// Replays an event of `domain`, one of the kernel's.
    pub fn event<O: Observer>(
        &mut self,
        event: &Event,
        domain: Domain,
        detail: Option<&Detail>,
        mut books: Books<'_, O>,
    ) {
        let is_new = event.op.effect() == Effect::Allocate;
        match (domain, is_new) {
            (Domain::Page, true) => self.allocate_pages(event, detail, &mut books),
            (Domain::Page, false) => {
                if !self.free_pages(event.addr, event.size, &mut books) {
                    self.anomalies[domain as usize].unknown_frees += 1;
                }
            }
            (_, true) => self.allocate(event, domain, detail, &mut books),
            (_, false) => match self.objects(domain).remove(&event.addr) {
                Some(object) => self.freed(event.addr, &object, domain, &mut books),
                None => self.anomalies[domain as usize].unknown_frees += 1,
            },
        }
    }

    /// What a site tells beside its figures; `None` for sites of user space.
    pub fn site(&self, site: u32) -> Option<&KernelSite> {
        self.sites.get(site as usize)
    }

    /// Bytes that what is outstanding in a domain takes.
    pub fn taken(&self, domain: Domain) -> u64 {
        self.taken[domain as usize]
    }

    pub fn anomalies(&self, domain: Domain) -> KernelAnomalies {
        self.anomalies[domain as usize]
    }

    /// Everything that is outstanding.
    pub fn outstanding(&self) -> impl Iterator<Item = Allocation> {
        let objects = self.slab.iter().chain(&self.percpu);
        let objects = objects.map(|(addr, object)| object.at(*addr));
        let mut blocks_seen = std::collections::HashSet::new();
        let pages = self
            .pages
            .iter()
            .map(move |range| Allocation::piece(range, blocks_seen.insert(range.mapping)));
        objects.chain(pages)
    }

    fn objects(&mut self, domain: Domain) -> &mut HashMap<u64, Object> {
        match domain {
            Domain::Percpu => &mut self.percpu,
            _ => &mut self.slab,
        }
    }

    fn allocate<O: Observer>(
        &mut self,
        event: &Event,
        domain: Domain,
        detail: Option<&Detail>,
        books: &mut Books<'_, O>,
    ) {
        let site = books.site_of(event);
        let cache = self.describe(site, detail);
        let object = Object {
            size: event.size,
            taken: detail.map_or(event.size, |detail| detail.size2),
            born: event.ts,
            site,
            cache,
        };
        if let Some(older) = self.objects(domain).insert(event.addr, object) {
            self.anomalies[domain as usize].implicit_frees += 1;
            self.freed(event.addr, &older, domain, books);
        }
        if let Some(figures) = self.cache_figures(&object) {
            figures.bytes += object.size;
            figures.count += 1;
        }
        self.taken[domain as usize] += object.taken;
        books.born(&object.at(event.addr));
    }

    fn freed<O: Observer>(
        &mut self,
        addr: u64,
        object: &Object,
        domain: Domain,
        books: &mut Books<'_, O>,
    ) {
        if let Some(figures) = self.cache_figures(object) {
            figures.bytes -= object.size;
            figures.count -= 1;
        }
        self.taken[domain as usize] -= object.taken;
        books.died(&object.at(addr));
    }

    fn allocate_pages<O: Observer>(
        &mut self,
        event: &Event,
        detail: Option<&Detail>,
        books: &mut Books<'_, O>,
    ) {
        if self.free_pages(event.addr, event.size, books) {
            self.anomalies[Domain::Page as usize].implicit_frees += 1;
        }
        let site = books.site_of(event);
        self.describe(site, detail);
        let end = event.addr.saturating_add(event.size);
        if event.addr < end {
            let size = end - event.addr;
            self.pages.insert(0, event.addr, end, event.ts, site);
            self.taken[Domain::Page as usize] += size;
            books.born(&Allocation {
                addr: event.addr,
                size,
                taken: size,
                born: event.ts,
                site,
                count: 1,
            });
        }
    }

    /// Frees what lies in a range of pages; false if nothing does.
    fn free_pages<O: Observer>(&mut self, addr: u64, size: u64, books: &mut Books<'_, O>) -> bool {
        let pieces = self.pages.take(0, addr, addr.saturating_add(size));
        for piece in &pieces {
            let last = self.pages.drop_piece(piece);
            self.taken[Domain::Page as usize] -= piece.size();
            books.died(&Allocation::piece(piece, last));
        }
        !pieces.is_empty()
    }

    /// Keeps what an allocation tells of its site; returns the index of its cache there.
    fn describe(&mut self, site: u32, detail: Option<&Detail>) -> u32 {
        let index = site as usize;
        if index >= self.sites.len() {
            self.sites.resize(index + 1, KernelSite::default());
        }
        let (Some(known), Some(detail)) = (self.sites.get_mut(index), detail) else {
            return NO_CACHE;
        };
        if known.comm.is_none() {
            known.comm.clone_from(&detail.comm);
            known.gfp.clone_from(&detail.gfp);
        }
        let Some(name) = &detail.cache else {
            return NO_CACHE;
        };
        let place = known.caches.iter().position(|cache| cache.name == *name);
        let place = place.unwrap_or_else(|| {
            known.caches.push(CacheFigures {
                name: name.clone(),
                bytes: 0,
                count: 0,
            });
            known.caches.len() - 1
        });
        place as u32
    }

    fn cache_figures(&mut self, object: &Object) -> Option<&mut CacheFigures> {
        let site = self.sites.get_mut(object.site as usize)?;
        site.caches.get_mut(object.cache as usize)
    }
}
