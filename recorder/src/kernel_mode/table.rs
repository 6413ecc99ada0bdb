//! The places in the kernel that are probed: one row each.

/// What a place tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tells {
    Allocations,
    Releases,
}

/// Where a program hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A tracepoint, by name.
    Tracepoint(&'static str),
    /// A function's entry: the first of these names that the kernel has.
    Entry(&'static [&'static str]),
    /// A function's return.
    Return(&'static [&'static str]),
}

impl Place {
    /// The tracepoint's name, or the function's as it was first called.
    pub fn name(self) -> &'static str {
        match self {
            Place::Tracepoint(name) => name,
            Place::Entry(names) | Place::Return(names) => names.first().copied().unwrap_or(""),
        }
    }
}

/// A place that is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its program in `bpf/kernel_alloc.h` and `bpf/kernel_bulk.h`.
    pub program: &'static str,
    pub place: Place,
    pub tells: Tells,
    /// What a recording lacks where the kernel does not have it; `None` where nothing.
    pub without: Option<&'static str>,
    /// Only with `--percpu`.
    pub percpu: bool,
}

const fn row(
    program: &'static str,
    place: Place,
    tells: Tells,
    without: Option<&'static str>,
) -> Row {
    Row {
        program,
        place,
        tells,
        without,
        percpu: false,
    }
}

const fn percpu(program: &'static str, place: Place, tells: Tells) -> Row {
    Row {
        program,
        place,
        tells,
        without: Some("percpu memory"),
        percpu: true,
    }
}

/// Releases come first: no block looks leaked whose free had no probe yet. Of the `_node` events,
/// kernels since 6.1 tell the others.
pub const ROWS: [Row; 13] = [
    row(
        "on_kfree",
        Place::Tracepoint("kfree"),
        Tells::Releases,
        Some("frees by kfree"),
    ),
    row(
        "on_cache_free",
        Place::Tracepoint("kmem_cache_free"),
        Tells::Releases,
        Some("frees of cache objects"),
    ),
    row(
        "on_cache_free_bulk",
        Place::Entry(&["kmem_cache_free_bulk"]),
        Tells::Releases,
        Some("frees of many objects at once, those of kfree_rcu among them"),
    ),
    row(
        "on_kfree_rcu",
        Place::Entry(&["__kfree_rcu_sheaf"]),
        Tells::Releases,
        None,
    ),
    row(
        "on_page_free",
        Place::Tracepoint("mm_page_free"),
        Tells::Releases,
        Some("frees of pages"),
    ),
    percpu(
        "on_percpu_free",
        Place::Tracepoint("percpu_free_percpu"),
        Tells::Releases,
    ),
    row(
        "on_kmalloc",
        Place::Tracepoint("kmalloc"),
        Tells::Allocations,
        Some("kmalloc"),
    ),
    row(
        "on_kmalloc_node",
        Place::Tracepoint("kmalloc_node"),
        Tells::Allocations,
        None,
    ),
    row(
        "on_cache_alloc",
        Place::Tracepoint("kmem_cache_alloc"),
        Tells::Allocations,
        Some("allocations of cache objects"),
    ),
    row(
        "on_cache_alloc_node",
        Place::Tracepoint("kmem_cache_alloc_node"),
        Tells::Allocations,
        None,
    ),
    row(
        "on_cache_alloc_bulk",
        Place::Return(&["kmem_cache_alloc_bulk", "kmem_cache_alloc_bulk_noprof"]),
        Tells::Allocations,
        Some("allocations of many objects at once"),
    ),
    row(
        "on_page_alloc",
        Place::Tracepoint("mm_page_alloc"),
        Tells::Allocations,
        Some("pages"),
    ),
    percpu(
        "on_percpu_alloc",
        Place::Tracepoint("percpu_alloc_percpu"),
        Tells::Allocations,
    ),
];
