//! The functions that are probed: one row each.

use memleak_trace::Op;

/// A function of an allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    pub symbol: &'static str,
    pub op: Op,
    pub shape: Shape,
}

/// How a function takes its arguments and tells its result: which programs probe it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Allocates; the address is known at return.
    Allocate,
    /// Releases at entry, allocates at return.
    Reallocate,
    /// Releases at entry.
    Free,
    /// mmap and its kin: ranges, and the caller decides whether they are the program's.
    Map,
    /// The loader's word that libraries were opened: no event.
    Loader,
}

impl Shape {
    /// The program at the function's entry, by its name in `bpf/memleak.bpf.c`.
    pub fn enter_program(self) -> &'static str {
        match self {
            Shape::Allocate => "enter_alloc",
            Shape::Reallocate => "enter_realloc",
            Shape::Free => "enter_free",
            Shape::Map => "enter_map",
            Shape::Loader => "maps_changed",
        }
    }

    /// The program at its return.
    pub fn leave_program(self) -> Option<&'static str> {
        match self {
            Shape::Allocate | Shape::Reallocate => Some("leave_alloc"),
            Shape::Free | Shape::Loader => None,
            Shape::Map => Some("leave_map"),
        }
    }
}

/// Every program of the object.
pub const PROGRAMS: [&str; 7] = [
    "enter_alloc",
    "enter_realloc",
    "enter_free",
    "enter_map",
    "leave_alloc",
    "leave_map",
    "maps_changed",
];

const fn row(symbol: &'static str, op: Op, shape: Shape) -> Function {
    Function { symbol, op, shape }
}

/// Where two names share one address (memalign and aligned_alloc in glibc), the first row names it.
/// Releases come first: they are attached first, so that no block looks leaked whose free had no
/// probe yet.
pub const FUNCTIONS: [Function; 15] = [
    row("free", Op::Free, Shape::Free),
    row("cfree", Op::Free, Shape::Free),
    row("munmap", Op::Munmap, Shape::Map),
    row("realloc", Op::Realloc, Shape::Reallocate),
    row("reallocarray", Op::Reallocarray, Shape::Reallocate),
    row("mremap", Op::Mremap, Shape::Map),
    row("malloc", Op::Malloc, Shape::Allocate),
    row("calloc", Op::Calloc, Shape::Allocate),
    row("posix_memalign", Op::PosixMemalign, Shape::Allocate),
    row("aligned_alloc", Op::AlignedAlloc, Shape::Allocate),
    row("memalign", Op::Memalign, Shape::Allocate),
    row("valloc", Op::Valloc, Shape::Allocate),
    row("pvalloc", Op::Pvalloc, Shape::Allocate),
    row("mmap", Op::Mmap, Shape::Map),
    row("mmap64", Op::Mmap, Shape::Map),
];
