//! An event: one call of an allocation function, as the kernel side saw it.

use crate::op::Op;
use crate::stack::StackId;

/// An address-space epoch: a pid cannot tell fork, vfork and exec apart. Numbered from 1 by the
/// recorder in the order in which address spaces are met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpaceId(pub i32);

/// One event. Order in the file is causal order within an address space; `ts` is not: threads read
/// the clock before they take their place in the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Nanoseconds of `CLOCK_MONOTONIC`, read in the probe.
    pub ts: i64,
    /// Process (thread group), as the recorder sees it.
    pub pid: i32,
    /// Thread, as the recorder sees it.
    pub tid: i32,
    pub op: Op,
    pub space: SpaceId,
    /// Address of the block or range; 0 only for an outcome that allocated nothing.
    pub addr: u64,
    /// Bytes asked for (mappings: rounded up to whole pages); 0 where the operation has no size.
    pub size: u64,
    /// The stack of an allocation; `None` for releases, and where its publication was lost.
    pub stack: Option<StackId>,
}
