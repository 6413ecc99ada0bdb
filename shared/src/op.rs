//! The operations a trace can hold, by name, and what each does to memory.
//!
//! `schemas/trace-v1.md` is the normative table; a test holds this file to it.

/// Where memory comes from. Domains are never summed: slab pages are also page allocations, and
/// heap blocks lie in mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Domain {
    /// Blocks of a user-space allocator, keyed by address.
    Heap,
    /// Address ranges from mmap, in whole pages, and from brk; kept by range.
    Mapping,
    /// Blocks of a pool that the user named, keyed by address. They lie in heap blocks or mappings.
    Pool,
    /// Objects of the kernel's slab allocator, keyed by address, whichever function frees them.
    Slab,
    /// Page frames of the kernel, kept by range: a block may be freed piece by piece. An address is
    /// the frame's number times the page size.
    Page,
    /// The kernel's memory per CPU, keyed by pointer: a block takes its size on every CPU.
    Percpu,
}

impl Domain {
    pub const ALL: [Domain; 6] = [
        Domain::Heap,
        Domain::Mapping,
        Domain::Pool,
        Domain::Slab,
        Domain::Page,
        Domain::Percpu,
    ];

    /// The name used in traces and reports.
    pub fn name(self) -> &'static str {
        match self {
            Domain::Heap => "heap",
            Domain::Mapping => "mapping",
            Domain::Pool => "pool",
            Domain::Slab => "slab",
            Domain::Page => "page",
            Domain::Percpu => "percpu",
        }
    }

    /// Whether the memory is the kernel's, whose address space has the number 0.
    #[inline]
    pub fn is_kernel(self) -> bool {
        matches!(self, Domain::Slab | Domain::Page | Domain::Percpu)
    }
}

/// What an operation does to memory when it is replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// `[addr, addr + size)` is allocated.
    Allocate,
    /// The block at `addr` is freed (heap, pool, slab, percpu), or the range `[addr, addr + size)`
    /// is (mapping, page).
    Free,
    /// As [`Effect::Free`], called by an allocator or the loader: what it does not know is theirs.
    FreeInner,
    /// A reallocation was entered: the block at `addr` (mapping: the range) is *pending*. Its
    /// address is free for others, its bytes still count. The thread's next [`Effect::Outcome`] or
    /// [`Effect::Restore`] decides.
    Release,
    /// A reallocation returned: what the thread released is freed, and `[addr, addr + size)` is
    /// allocated unless `addr` is 0 (`realloc(p, 0)` that freed).
    Outcome,
    /// A call failed: what the thread released (or freed, for munmap) is as it was.
    Restore,
    /// Describes the recording; no memory changes.
    Describe,
}

/// One operation. The trace stores its name, never a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Op {
    Malloc,
    Calloc,
    PosixMemalign,
    AlignedAlloc,
    Memalign,
    Valloc,
    Pvalloc,
    Free,
    ReallocRelease,
    Realloc,
    Reallocarray,
    ReallocFailed,
    Mmap,
    Munmap,
    MunmapInner,
    MunmapFailed,
    MremapRelease,
    Mremap,
    MremapFailed,
    Kmalloc,
    KmemCacheAlloc,
    KmemCacheAllocBulk,
    Kfree,
    KmemCacheFree,
    KmemCacheFreeBulk,
    KfreeRcu,
    PageAlloc,
    PageFree,
    PercpuAlloc,
    PercpuFree,
    New,
    NewArray,
    Delete,
    DeleteArray,
    Brk,
    BrkShrink,
    PoolAlloc,
    PoolFree,
    PoolReallocRelease,
    PoolRealloc,
    PoolReallocFailed,
    Open,
    Close,
    Process,
    Fork,
    Exit,
    Module,
    Symbol,
    Rss,
    Loss,
    Defect,
}

const HEAP: Option<Domain> = Some(Domain::Heap);
const MAPPING: Option<Domain> = Some(Domain::Mapping);
const SLAB: Option<Domain> = Some(Domain::Slab);
const PAGE: Option<Domain> = Some(Domain::Page);
const PERCPU: Option<Domain> = Some(Domain::Percpu);
const POOL: Option<Domain> = Some(Domain::Pool);

/// One row per operation, at the index of its discriminant: name, domain, effect.
const TABLE: &[(Op, &str, Option<Domain>, Effect)] = &[
    (Op::Malloc, "malloc", HEAP, Effect::Allocate),
    (Op::Calloc, "calloc", HEAP, Effect::Allocate),
    (Op::PosixMemalign, "posix_memalign", HEAP, Effect::Allocate),
    (Op::AlignedAlloc, "aligned_alloc", HEAP, Effect::Allocate),
    (Op::Memalign, "memalign", HEAP, Effect::Allocate),
    (Op::Valloc, "valloc", HEAP, Effect::Allocate),
    (Op::Pvalloc, "pvalloc", HEAP, Effect::Allocate),
    (Op::Free, "free", HEAP, Effect::Free),
    (Op::ReallocRelease, "realloc_release", HEAP, Effect::Release),
    (Op::Realloc, "realloc", HEAP, Effect::Outcome),
    (Op::Reallocarray, "reallocarray", HEAP, Effect::Outcome),
    (Op::ReallocFailed, "realloc_failed", HEAP, Effect::Restore),
    (Op::Mmap, "mmap", MAPPING, Effect::Allocate),
    (Op::Munmap, "munmap", MAPPING, Effect::Free),
    (Op::MunmapInner, "munmap_inner", MAPPING, Effect::FreeInner),
    (Op::MunmapFailed, "munmap_failed", MAPPING, Effect::Restore),
    (
        Op::MremapRelease,
        "mremap_release",
        MAPPING,
        Effect::Release,
    ),
    (Op::Mremap, "mremap", MAPPING, Effect::Outcome),
    (Op::MremapFailed, "mremap_failed", MAPPING, Effect::Restore),
    (Op::Kmalloc, "kmalloc", SLAB, Effect::Allocate),
    (
        Op::KmemCacheAlloc,
        "kmem_cache_alloc",
        SLAB,
        Effect::Allocate,
    ),
    (
        Op::KmemCacheAllocBulk,
        "kmem_cache_alloc_bulk",
        SLAB,
        Effect::Allocate,
    ),
    (Op::Kfree, "kfree", SLAB, Effect::Free),
    (Op::KmemCacheFree, "kmem_cache_free", SLAB, Effect::Free),
    (
        Op::KmemCacheFreeBulk,
        "kmem_cache_free_bulk",
        SLAB,
        Effect::Free,
    ),
    (Op::KfreeRcu, "kfree_rcu", SLAB, Effect::Free),
    (Op::PageAlloc, "page_alloc", PAGE, Effect::Allocate),
    (Op::PageFree, "page_free", PAGE, Effect::Free),
    (Op::PercpuAlloc, "percpu_alloc", PERCPU, Effect::Allocate),
    (Op::PercpuFree, "percpu_free", PERCPU, Effect::Free),
    (Op::New, "new", HEAP, Effect::Allocate),
    (Op::NewArray, "new_array", HEAP, Effect::Allocate),
    (Op::Delete, "delete", HEAP, Effect::Free),
    (Op::DeleteArray, "delete_array", HEAP, Effect::Free),
    (Op::Brk, "brk", MAPPING, Effect::Allocate),
    (Op::BrkShrink, "brk_shrink", MAPPING, Effect::FreeInner),
    (Op::PoolAlloc, "pool_alloc", POOL, Effect::Allocate),
    (Op::PoolFree, "pool_free", POOL, Effect::Free),
    (
        Op::PoolReallocRelease,
        "pool_realloc_release",
        POOL,
        Effect::Release,
    ),
    (Op::PoolRealloc, "pool_realloc", POOL, Effect::Outcome),
    (
        Op::PoolReallocFailed,
        "pool_realloc_failed",
        POOL,
        Effect::Restore,
    ),
    (Op::Open, "open", None, Effect::Describe),
    (Op::Close, "close", None, Effect::Describe),
    (Op::Process, "process", None, Effect::Describe),
    (Op::Fork, "fork", None, Effect::Describe),
    (Op::Exit, "exit", None, Effect::Describe),
    (Op::Module, "module", None, Effect::Describe),
    (Op::Symbol, "symbol", None, Effect::Describe),
    (Op::Rss, "rss", None, Effect::Describe),
    (Op::Loss, "loss", None, Effect::Describe),
    (Op::Defect, "defect", None, Effect::Describe),
];

impl Op {
    /// Every operation, in the order of the table.
    pub fn all() -> impl Iterator<Item = Op> {
        TABLE.iter().map(|row| row.0)
    }

    /// The name stored in the trace and shown in reports.
    #[inline]
    pub fn name(self) -> &'static str {
        TABLE[self as usize].1
    }

    /// The domain of an event; `None` for a description.
    #[inline]
    pub fn domain(self) -> Option<Domain> {
        TABLE[self as usize].2
    }

    /// What the replay does.
    #[inline]
    pub fn effect(self) -> Effect {
        TABLE[self as usize].3
    }

    /// Whether this is an event (not a description).
    #[inline]
    pub fn is_event(self) -> bool {
        self.effect() != Effect::Describe
    }

    /// The operation of this name, if this version knows it.
    pub fn from_name(name: &str) -> Option<Op> {
        TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
    }
}

/// Some operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpSet(u64);

impl OpSet {
    /// Those with this effect in this domain.
    pub const fn of(effect: Effect, domain: Domain) -> OpSet {
        assert!(TABLE.len() <= u64::BITS as usize);
        let (mut bits, mut row) = (0, 0);
        while row < TABLE.len() {
            let is_in_domain = matches!(TABLE[row].2, Some(found) if found as u8 == domain as u8);
            if is_in_domain && TABLE[row].3 as u8 == effect as u8 {
                bits |= 1 << row;
            }
            row += 1;
        }
        OpSet(bits)
    }

    #[inline]
    pub const fn contains(self, op: Op) -> bool {
        self.0 >> op as u8 & 1 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table is indexed by discriminant: each row must stand at its own place.
    #[test]
    fn table_is_in_order_and_names_are_unique() {
        for (index, row) in TABLE.iter().enumerate() {
            assert_eq!(row.0 as usize, index);
            assert_eq!(Op::from_name(row.1), Some(row.0));
        }
    }

    /// A set holds what the table says, and nothing else.
    #[test]
    fn sets_are_those_of_the_table() {
        let frees = OpSet::of(Effect::Free, Domain::Heap);
        for op in Op::all() {
            let belongs = op.effect() == Effect::Free && op.domain() == Some(Domain::Heap);
            assert_eq!(frees.contains(op), belongs, "{op:?}");
        }
        assert!(frees.contains(Op::Free) && !frees.contains(Op::Munmap));
    }
}
