//! mimalloc's own functions, beside those of C with its prefix.

use memleak_trace::Op;

use super::{Function, Shape, row};
use crate::arguments::{Arguments, ptr, size};

const fn free(symbol: &'static str) -> Function {
    row(symbol, Op::Free, Shape::Free, ptr(1))
}

const fn alloc(symbol: &'static str, arguments: Arguments) -> Function {
    row(symbol, Op::Malloc, Shape::Allocate, arguments)
}

/// Zeroed memory.
const fn zalloc(symbol: &'static str, arguments: Arguments) -> Function {
    row(symbol, Op::Calloc, Shape::Allocate, arguments)
}

const fn aligned(symbol: &'static str, arguments: Arguments) -> Function {
    row(symbol, Op::AlignedAlloc, Shape::Allocate, arguments)
}

const fn realloc(symbol: &'static str, arguments: Arguments) -> Function {
    row(symbol, Op::Realloc, Shape::Reallocate, arguments)
}

const fn new(symbol: &'static str, arguments: Arguments) -> Function {
    row(symbol, Op::New, Shape::Allocate, arguments)
}

/// `mi_heap_destroy` frees a heap's blocks without telling; `mi_strdup` and its kin ask for memory
/// within themselves. Neither is here.
pub const MIMALLOC: [Function; 57] = [
    free("mi_free_size"),
    free("mi_free_aligned"),
    free("mi_free_size_aligned"),
    free("vfree"),
    realloc("mi_reallocn", ptr(1).times(2).size(3)),
    realloc("mi_rezalloc", ptr(1).size(2)),
    realloc("mi_recalloc", ptr(1).times(2).size(3)),
    realloc("mi_expand", ptr(1).size(2)),
    realloc("mi_realloc_aligned", ptr(1).size(2)),
    realloc("mi_realloc_aligned_at", ptr(1).size(2)),
    realloc("mi_rezalloc_aligned", ptr(1).size(2)),
    realloc("mi_rezalloc_aligned_at", ptr(1).size(2)),
    realloc("mi_recalloc_aligned", ptr(1).times(2).size(3)),
    realloc("mi_recalloc_aligned_at", ptr(1).times(2).size(3)),
    realloc("mi_aligned_recalloc", ptr(1).times(2).size(3)),
    realloc("mi_aligned_offset_recalloc", ptr(1).times(2).size(3)),
    realloc("mi_new_realloc", ptr(1).size(2)),
    realloc("mi_new_reallocn", ptr(1).times(2).size(3)),
    realloc("mi_heap_realloc", ptr(2).size(3)),
    realloc("mi_heap_reallocn", ptr(2).times(3).size(4)),
    realloc("mi_heap_reallocf", ptr(2).size(3).failure_frees()),
    realloc("mi_heap_rezalloc", ptr(2).size(3)),
    realloc("mi_heap_recalloc", ptr(2).times(3).size(4)),
    realloc("mi_heap_realloc_aligned", ptr(2).size(3)),
    realloc("mi_heap_realloc_aligned_at", ptr(2).size(3)),
    realloc("mi_heap_rezalloc_aligned", ptr(2).size(3)),
    realloc("mi_heap_rezalloc_aligned_at", ptr(2).size(3)),
    realloc("mi_heap_recalloc_aligned", ptr(2).times(3).size(4)),
    realloc("mi_heap_recalloc_aligned_at", ptr(2).times(3).size(4)),
    alloc("mi_malloc_small", size(1)),
    alloc("mi_mallocn", size(2).times(1)),
    zalloc("mi_zalloc", size(1)),
    zalloc("mi_zalloc_small", size(1)),
    aligned("mi_malloc_aligned", size(1)),
    aligned("mi_malloc_aligned_at", size(1)),
    aligned("mi_zalloc_aligned", size(1)),
    aligned("mi_zalloc_aligned_at", size(1)),
    aligned("mi_calloc_aligned", size(2).times(1)),
    aligned("mi_calloc_aligned_at", size(2).times(1)),
    new("mi_new", size(1)),
    new("mi_new_n", size(2).times(1)),
    new("mi_new_nothrow", size(1)),
    new("mi_new_aligned", size(1)),
    new("mi_new_aligned_nothrow", size(1)),
    alloc("mi_heap_malloc", size(2)),
    alloc("mi_heap_malloc_small", size(2)),
    alloc("mi_heap_mallocn", size(3).times(2)),
    zalloc("mi_heap_zalloc", size(2)),
    zalloc("mi_heap_calloc", size(3).times(2)),
    aligned("mi_heap_malloc_aligned", size(2)),
    aligned("mi_heap_malloc_aligned_at", size(2)),
    aligned("mi_heap_zalloc_aligned", size(2)),
    aligned("mi_heap_zalloc_aligned_at", size(2)),
    aligned("mi_heap_calloc_aligned", size(3).times(2)),
    aligned("mi_heap_calloc_aligned_at", size(3).times(2)),
    new("mi_heap_alloc_new", size(2)),
    new("mi_heap_alloc_new_n", size(3).times(2)),
];
