//! The functions that are probed: one row each.

mod mimalloc;
mod operators;

use memleak_trace::Op;

use crate::arguments::{Arguments, out, ptr, size};
use mimalloc::MIMALLOC;
use operators::{OPERATORS, TCMALLOC};

/// A function of an allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    pub symbol: &'static str,
    pub kind: Kind,
}

/// What a function does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    pub op: Op,
    pub shape: Shape,
    pub arguments: Arguments,
}

/// How a function takes its arguments and tells its result: which programs probe it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Allocates; the address is known at return.
    Allocate,
    /// Releases at entry, allocates at return.
    Reallocate,
    /// Makes a block larger or smaller in its place; the result is its size.
    Resize,
    /// Releases at entry.
    Free,
    /// mmap and its kin: ranges, and the caller decides whether they are the program's.
    Map,
    /// brk and sbrk: likewise.
    Break,
    /// As `Allocate`, of a pool: its chunks are allocations of their own.
    AllocateInPool,
    ReallocateInPool,
    FreeInPool,
    /// The loader's word that libraries were opened: no event.
    Loader,
}

impl Shape {
    /// The program at the function's entry, by its name in `bpf/memleak.bpf.c`.
    pub fn enter_program(self) -> &'static str {
        match self {
            Shape::Allocate => "enter_alloc",
            Shape::Reallocate | Shape::Resize => "enter_realloc",
            Shape::Free => "enter_free",
            Shape::Map => "enter_map",
            Shape::Break => "enter_break",
            Shape::AllocateInPool => "enter_pool_alloc",
            Shape::ReallocateInPool => "enter_pool_realloc",
            Shape::FreeInPool => "enter_pool_free",
            Shape::Loader => LOADER_PROGRAMS[0],
        }
    }

    /// Whether it belongs to a pool.
    pub fn is_pool(self) -> bool {
        matches!(
            self,
            Shape::AllocateInPool | Shape::ReallocateInPool | Shape::FreeInPool
        )
    }

    /// Whether it takes blocks back, and nothing else.
    pub fn is_release(self) -> bool {
        matches!(self, Shape::Free | Shape::FreeInPool)
    }

    /// The program at its return.
    pub fn leave_program(self) -> Option<&'static str> {
        match self {
            Shape::Allocate | Shape::Reallocate => Some("leave_alloc"),
            Shape::Resize => Some("leave_resize"),
            Shape::Free | Shape::FreeInPool | Shape::Loader => None,
            Shape::Map | Shape::Break => Some("leave_map"),
            Shape::AllocateInPool | Shape::ReallocateInPool => Some("leave_pool_alloc"),
        }
    }
}

/// The programs that nearly every target needs. The others are loaded when a function needs them: the
/// kernel checks the walk of the stack anew for each that records one.
pub const USUAL_PROGRAMS: [&str; 7] = [
    "enter_alloc",
    "enter_realloc",
    "enter_free",
    "enter_map",
    "enter_break",
    "leave_alloc",
    "leave_map",
];

/// The programs of [`Shape::Loader`]: the first is for kernels since 6.0.
pub const LOADER_PROGRAMS: [&str; 2] = ["maps_changed", "maps_changed_busy"];

const fn row(symbol: &'static str, op: Op, shape: Shape, arguments: Arguments) -> Function {
    Function {
        symbol,
        kind: Kind {
            op,
            shape,
            arguments,
        },
    }
}

/// What allocators put before the names of C, where they do not take their place.
pub const PREFIXES: [&str; 4] = ["", "je_", "tc_", "mi_"];

/// Functions that make a file an allocator, with any prefix.
pub const ALLOCATOR: [&str; 2] = ["malloc", "free"];

/// The names of C, with and without prefix.
pub const STANDARD: [Function; 14] = [
    row("free", Op::Free, Shape::Free, ptr(1)),
    row("cfree", Op::Free, Shape::Free, ptr(1)),
    row("free_sized", Op::Free, Shape::Free, ptr(1)),
    row("free_aligned_sized", Op::Free, Shape::Free, ptr(1)),
    row("realloc", Op::Realloc, Shape::Reallocate, ptr(1).size(2)),
    row(
        "reallocf",
        Op::Realloc,
        Shape::Reallocate,
        ptr(1).size(2).failure_frees(),
    ),
    row(
        "reallocarray",
        Op::Reallocarray,
        Shape::Reallocate,
        ptr(1).size(2).times(3),
    ),
    row("malloc", Op::Malloc, Shape::Allocate, size(1)),
    row("calloc", Op::Calloc, Shape::Allocate, size(1).times(2)),
    row(
        "posix_memalign",
        Op::PosixMemalign,
        Shape::Allocate,
        out(1).size(3),
    ),
    row("aligned_alloc", Op::AlignedAlloc, Shape::Allocate, size(2)),
    row("memalign", Op::Memalign, Shape::Allocate, size(2)),
    row("valloc", Op::Valloc, Shape::Allocate, size(1)),
    row("pvalloc", Op::Pvalloc, Shape::Allocate, size(1)),
];

/// jemalloc's own, with its prefix and without.
const JEMALLOC: [Function; 5] = [
    row("dallocx", Op::Free, Shape::Free, ptr(1)),
    row("sdallocx", Op::Free, Shape::Free, ptr(1)),
    row("rallocx", Op::Realloc, Shape::Reallocate, ptr(1).size(2)),
    row("xallocx", Op::Realloc, Shape::Resize, ptr(1).size(2)),
    row("mallocx", Op::Malloc, Shape::Allocate, size(1)),
];

/// Of the system, beside the allocator in the C library.
const MAPPINGS: [Function; 6] = [
    row("munmap", Op::Munmap, Shape::Map, ptr(1).size(2)),
    row("mremap", Op::Mremap, Shape::Map, ptr(1).size(3)),
    row("mmap", Op::Mmap, Shape::Map, ptr(1).size(2)),
    row("mmap64", Op::Mmap, Shape::Map, ptr(1).size(2)),
    row("brk", Op::Brk, Shape::Break, ptr(1)),
    row("sbrk", Op::Brk, Shape::Break, size(1)),
];

/// A function to look for.
#[derive(Clone, Debug)]
pub struct Name {
    pub name: String,
    pub kind: Kind,
    /// An allocator's own: of no use unless another file speaks of it. There are many, and each probe
    /// takes time to attach and to detach.
    pub is_own: bool,
}

/// Every function by its whole name; `prefix` is looked for besides the usual ones. Where several names
/// share one address, the first one names it.
pub fn functions(prefix: Option<&str>) -> Vec<Name> {
    let prefixed = |prefix: &str, rows: &[Function], is_own: bool| -> Vec<Name> {
        rows.iter()
            .map(|function| Name {
                name: format!("{prefix}{}", function.symbol),
                kind: function.kind,
                is_own,
            })
            .collect()
    };
    let told = prefix.filter(|prefix| !prefix.is_empty());
    let mut all = prefixed("", &STANDARD, false);
    if let Some(prefix) = told {
        all.extend(prefixed(prefix, &STANDARD, false));
        all.extend(prefixed(prefix, &JEMALLOC, false));
    }
    let others = PREFIXES
        .into_iter()
        .skip(1)
        .filter(|prefix| Some(*prefix) != told);
    for prefix in others.clone() {
        all.extend(prefixed(prefix, &STANDARD, true));
    }
    for prefix in [""]
        .into_iter()
        .chain(others.filter(|prefix| *prefix == "je_"))
    {
        all.extend(prefixed(prefix, &JEMALLOC, true));
    }
    for rows in [&OPERATORS[..], &TCMALLOC, &MIMALLOC] {
        all.extend(prefixed("", rows, true));
    }
    all.extend(prefixed("", &MAPPINGS, false));
    all
}

/// The order of attaching: releases first, so that no block looks leaked whose free had no probe
/// yet; the loader's last, since what it tells needs the others.
pub fn rank(op: Option<Op>, shape: Shape) -> u8 {
    match (shape, op) {
        (Shape::Free | Shape::FreeInPool, _) | (Shape::Map, Some(Op::Munmap)) => 0,
        (Shape::Reallocate | Shape::Resize | Shape::ReallocateInPool, _)
        | (Shape::Map, Some(Op::Mremap)) => 1,
        (Shape::Allocate | Shape::Map | Shape::Break | Shape::AllocateInPool, _) => 2,
        (Shape::Loader, _) => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::path::Path;

    /// No name stands for two functions, and every program a row asks for exists.
    #[test]
    fn names_and_programs() {
        let all = functions(Some("my_"));
        let names: HashSet<&str> = all.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names.len(), all.len());
        assert!(names.contains("my_sdallocx") && names.contains("mi_posix_memalign"));
        let sources = ["memleak.bpf.c", "mappings.h", "maps_changed.h"].map(|name| {
            let path = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../bpf")
                .join(name);
            std::fs::read_to_string(path).unwrap()
        });
        let exists = |program: &str| {
            let head = format!("int {program}(struct pt_regs *regs)");
            sources.iter().any(|source| source.contains(&head))
        };
        assert!(
            USUAL_PROGRAMS
                .into_iter()
                .chain(LOADER_PROGRAMS)
                .all(exists)
        );
        for Name { name, kind, .. } in &all {
            assert!(exists(kind.shape.enter_program()), "{name}");
            assert!(kind.shape.leave_program().is_none_or(exists), "{name}");
            assert_ne!(kind.arguments.cookie(), 0, "{name}");
        }
        assert_eq!(functions(Some("je_")).len(), functions(None).len());
    }
}
