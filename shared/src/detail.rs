//! What an allocation in the kernel tells beside its size.

use std::sync::Arc;

use crate::op::{Effect, Op};

/// The columns that only allocations in the kernel fill.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    /// Bytes that the allocation takes: of the slab cache's objects, of whole pages, or on all CPUs
    /// that there may be (percpu).
    pub size2: u64,
    /// The slab cache, where the kernel tells it.
    pub cache: Option<Arc<str>>,
    /// How the memory was asked for: flags as the kernel names them.
    pub gfp: Option<Arc<str>>,
    /// Name of the thread that allocated.
    pub comm: Option<Arc<str>>,
}

/// Whether events of this operation have a [`Detail`].
pub fn has_detail(op: Op) -> bool {
    op.effect() == Effect::Allocate && op.domain().is_some_and(|domain| domain.is_kernel())
}
