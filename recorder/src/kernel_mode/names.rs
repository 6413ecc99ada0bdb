//! Names that many events share, each kept once: slab caches, threads, allocation flags.

use std::collections::HashMap;
use std::sync::Arc;

use memleak_trace::Detail;

use super::gfp;
use super::wire::{RawCache, RawDetail, text};

/// What was told so far.
#[derive(Debug, Default)]
pub struct Names {
    /// By the cache's number.
    caches: HashMap<u32, Arc<str>>,
    threads: HashMap<[u8; 16], Arc<str>>,
    flags: HashMap<u32, Arc<str>>,
}

impl Names {
    /// A cache told its name.
    pub fn tell(&mut self, cache: RawCache) {
        self.caches.insert(cache.cache, cache.name.into());
    }

    /// The columns of an allocation.
    pub fn detail(&mut self, raw: &RawDetail) -> Detail {
        let thread = self.threads.entry(raw.comm);
        let thread = thread.or_insert_with(|| text(&raw.comm).into());
        let flags = self.flags.entry(raw.gfp);
        let flags = flags.or_insert_with(|| gfp::names(raw.gfp).into());
        Detail {
            size2: raw.size2,
            cache: self.caches.get(&raw.cache).cloned(),
            // percpu allocations of kernels before 5.19 tell none
            gfp: (raw.gfp != 0).then(|| flags.clone()),
            comm: Some(thread.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each number has a name; what the kernel does not tell is not made up.
    #[test]
    fn details() {
        let mut names = Names::default();
        let raw = |cache, gfp| RawDetail {
            size2: 64,
            cache,
            gfp,
            comm: *b"kworker/0:1\0\0\0\0\0",
        };
        for (cache, name) in [(6, "old"), (7, "dentry")] {
            let name = name.to_owned();
            names.tell(RawCache { cache, name });
        }
        let detail = names.detail(&raw(7, 0xcc0));
        assert_eq!(detail.cache.as_deref(), Some("dentry"));
        assert_eq!(detail.gfp.as_deref(), Some("GFP_KERNEL"));
        assert_eq!(detail.comm.as_deref(), Some("kworker/0:1"));
        let detail = names.detail(&raw(0, 0));
        assert_eq!((detail.cache, detail.gfp), (None, None));
    }
}
