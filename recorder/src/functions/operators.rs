//! C++'s operators under the names of C++, and of C as tcmalloc has them.

use memleak_trace::Op;

use super::{Function, Shape, row};
use crate::arguments::{ptr, size};

const fn delete(symbol: &'static str) -> Function {
    row(symbol, Op::Delete, Shape::Free, ptr(1))
}

const fn delete_array(symbol: &'static str) -> Function {
    row(symbol, Op::DeleteArray, Shape::Free, ptr(1))
}

const fn new(symbol: &'static str) -> Function {
    row(symbol, Op::New, Shape::Allocate, size(1))
}

const fn new_array(symbol: &'static str) -> Function {
    row(symbol, Op::NewArray, Shape::Allocate, size(1))
}

/// C++'s operators, probed where the allocator brings its own: libstdc++'s call malloc and free.
pub const OPERATORS: [Function; 20] = [
    delete("_ZdlPv"),
    delete("_ZdlPvm"),
    delete("_ZdlPvRKSt9nothrow_t"),
    delete("_ZdlPvSt11align_val_t"),
    delete("_ZdlPvmSt11align_val_t"),
    delete("_ZdlPvSt11align_val_tRKSt9nothrow_t"),
    delete_array("_ZdaPv"),
    delete_array("_ZdaPvm"),
    delete_array("_ZdaPvRKSt9nothrow_t"),
    delete_array("_ZdaPvSt11align_val_t"),
    delete_array("_ZdaPvmSt11align_val_t"),
    delete_array("_ZdaPvSt11align_val_tRKSt9nothrow_t"),
    new("_Znwm"),
    new("_ZnwmRKSt9nothrow_t"),
    new("_ZnwmSt11align_val_t"),
    new("_ZnwmSt11align_val_tRKSt9nothrow_t"),
    new_array("_Znam"),
    new_array("_ZnamRKSt9nothrow_t"),
    new_array("_ZnamSt11align_val_t"),
    new_array("_ZnamSt11align_val_tRKSt9nothrow_t"),
];

/// tcmalloc's own: the operators under names of C.
pub const TCMALLOC: [Function; 21] = [
    delete("tc_delete"),
    delete("tc_delete_nothrow"),
    delete("tc_delete_sized"),
    delete("tc_delete_aligned"),
    delete("tc_delete_sized_aligned"),
    delete("tc_delete_aligned_nothrow"),
    delete_array("tc_deletearray"),
    delete_array("tc_deletearray_nothrow"),
    delete_array("tc_deletearray_sized"),
    delete_array("tc_deletearray_aligned"),
    delete_array("tc_deletearray_sized_aligned"),
    delete_array("tc_deletearray_aligned_nothrow"),
    new("tc_new"),
    new("tc_new_nothrow"),
    new("tc_new_aligned"),
    new("tc_new_aligned_nothrow"),
    new_array("tc_newarray"),
    new_array("tc_newarray_nothrow"),
    new_array("tc_newarray_aligned"),
    new_array("tc_newarray_aligned_nothrow"),
    row(
        "tc_malloc_skip_new_handler",
        Op::Malloc,
        Shape::Allocate,
        size(1),
    ),
];
