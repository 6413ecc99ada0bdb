//! Takes the frames of tracing and of the allocator's own functions off the leaf of a stack:
//! `frames[0]` is who called the allocator.
//!
//! Slab and percpu tracepoints tell the call site, and the probes begin the stack there. What is
//! left for this is pages, and kernels that tell no call site.

use std::ops::Range;

use memleak_trace::FrameId;
use memleak_trace::stack::Location;

use super::kallsyms::Kallsyms;

/// Functions whose names begin so are the tracepoint's or the probe's.
const TRACING: [&str; 7] = [
    "bpf_prog_",
    "bpf_trace_run",
    "__bpf_trace_",
    "__traceiter_",
    "bpf_get_stack",
    "bpf_trampoline_",
    "__bpf_prog_",
];

/// The allocator's own functions, without the suffixes that compiler and kernel add.
const ALLOCATOR: [&str; 36] = [
    "__alloc_pages",
    "__alloc_pages_nodemask",
    "__alloc_frozen_pages",
    "alloc_pages",
    "alloc_pages_mpol",
    "alloc_pages_vma",
    "alloc_pages_node",
    "alloc_pages_current",
    "alloc_page_interleave",
    "alloc_pages_preferred_many",
    "alloc_frozen_pages",
    "alloc_frozen_pages_nolock",
    "alloc_pages_exact",
    "__get_free_pages",
    "get_free_pages",
    "get_zeroed_page",
    "folio_alloc",
    "folio_alloc_mpol",
    "__folio_alloc",
    "vma_alloc_folio",
    "kmalloc_trace",
    "__kmalloc",
    "__kmalloc_node",
    "__kmalloc_cache",
    "__kmalloc_cache_node",
    "__kmalloc_node_track_caller",
    "kmalloc_large",
    "kmalloc_large_node",
    "kmem_cache_alloc",
    "kmem_cache_alloc_node",
    "kmem_cache_alloc_lru",
    "kmem_cache_alloc_bulk",
    "pcpu_alloc",
    "__alloc_percpu",
    "__alloc_percpu_gfp",
    "alloc_slab_page",
];

/// Where the machinery's code lies.
#[derive(Debug, Default)]
pub struct LeafCut {
    /// By address.
    code: Vec<Range<u64>>,
}

impl LeafCut {
    /// As the symbols have it; nothing is cut where they are not known.
    pub fn new(symbols: Option<&Kallsyms>) -> LeafCut {
        let code = symbols
            .into_iter()
            .flat_map(Kallsyms::functions)
            .filter(|(symbol, _)| is_machinery(symbol.name))
            .map(|(symbol, end)| symbol.address..end);
        LeafCut {
            code: code.collect(),
        }
    }

    /// Cuts the leaf of a kernel stack; a stack of nothing else stays as it is.
    pub fn cut(&self, frames: &mut Vec<FrameId>) {
        let own = frames
            .iter()
            .take_while(|frame| self.is_own(**frame))
            .count();
        if own < frames.len() {
            frames.drain(..own);
        }
    }

    fn is_own(&self, frame: FrameId) -> bool {
        let Location::Kernel { address } = frame.location() else {
            return false;
        };
        // A return address: the call lies before it.
        let call = address.saturating_sub(1);
        let behind = self.code.partition_point(|range| range.start <= call);
        behind > 0 && self.code[behind - 1].contains(&call)
    }
}

fn is_machinery(name: &str) -> bool {
    let base = name.split('.').next().unwrap_or(name);
    let base = base.strip_suffix("_noprof").unwrap_or(base);
    TRACING.iter().any(|prefix| name.starts_with(prefix)) || ALLOCATOR.contains(&base)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Leading frames of the machinery go, in whatever version; the same functions further out stay.
    #[test]
    fn cuts() {
        let text = "ffffffff81000000 T bpf_trace_run4\nffffffff81000100 T __alloc_pages_noprof\n\
            ffffffff81000200 T folio_alloc_noprof.cold\nffffffff81000300 T do_anonymous_page\n\
            ffffffff81000400 t bpf_prog_1234_on_page_alloc\t[bpf]\n";
        let symbols = Kallsyms::parse(text.to_owned()).unwrap();
        let cut = LeafCut::new(Some(&symbols));
        let frame = |low: i64| FrameId(0xffff_ffff_8100_0000_u64 as i64 + low);
        let (caller, allocator) = (frame(0x310), frame(0x100 + 0x80));
        let mut frames = vec![
            frame(0x450),
            frame(0x20),
            allocator,
            frame(0x280),
            caller,
            allocator,
        ];
        cut.cut(&mut frames);
        assert_eq!(frames, [caller, allocator]);
        // A return address right behind a function's end belongs to the function.
        let mut frames = vec![frame(0x100), caller];
        cut.cut(&mut frames);
        assert_eq!(frames, [caller]);
        let mut all = vec![allocator];
        cut.cut(&mut all);
        assert_eq!(all, [allocator]);
        let mut frames = vec![allocator, caller];
        LeafCut::new(None).cut(&mut frames);
        assert_eq!(frames, [allocator, caller]);
    }
}
