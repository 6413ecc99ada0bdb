//! Decodes the records of the ring. The contract is `bpf/memleak.h`; a test here reads that file.

use memleak_trace::{FrameId, Op, StackEnd};

use crate::kernel_mode::wire::{self as kernel, RawCache, RawDetail};

/// A record as the probes sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    Event(RawEvent),
    Stack(RawStack),
    Exec(RawExec),
    Fork(RawFork),
    Exit(RawExit),
    KernelAlloc(RawEvent, RawDetail),
    Cache(RawCache),
}

/// An event whose stack is still a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawEvent {
    pub op: Op,
    pub space: u32,
    pub pid: u32,
    pub tid: u32,
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub ts: u64,
    pub addr: u64,
    pub size: u64,
    /// Hash of the stack; `None` where the event has none or it could not be told.
    pub stack: Option<StackHash>,
}

/// A process executed another program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawExec {
    pub pid: u32,
    pub ppid: u32,
    /// The new address space.
    pub space: u32,
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub ts: u64,
}

/// A process was forked: it has a copy of its parent's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawFork {
    pub pid: u32,
    pub ppid: u32,
    /// The new address space, and the one it is a copy of.
    pub space: u32,
    pub parent_space: u32,
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub ts: u64,
}

/// A process has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawExit {
    pub pid: u32,
    pub space: u32,
    /// As waitpid(2) tells it.
    pub status: i32,
    /// Whether the OOM killer chose it.
    pub out_of_memory: bool,
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub ts: u64,
}

/// The probes' name for a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StackHash(pub u64);

/// A stack, told before its first use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawStack {
    pub hash: StackHash,
    pub pid: u32,
    pub space: u32,
    pub end: StackEnd,
    /// The address at which the walk stopped early; 0 for a whole stack.
    pub stopped_at: u64,
    pub frames: Vec<FrameId>,
}

/// What a walk started from, shipped behind its stack so that a test can walk the same bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawSample {
    /// Of the stack that the walk came to.
    pub hash: StackHash,
    pub rip: u64,
    pub rsp: u64,
    pub rbp: u64,
    /// The stack's bytes from `rsp` upwards.
    pub stack: Vec<u8>,
}

/// Bytes that are no record: kernel side and user side differ, which is a bug.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum WireError {
    #[error("a record of {0} bytes is too short")]
    Short(usize),
    #[error("a record of unknown shape {0}")]
    Shape(u16),
    #[error("a record with unknown operation {0}")]
    Op(u16),
    #[error("a stack with unknown end {0}")]
    StackEnd(u16),
}

/// Operations by their number in `enum ml_op`, from 1.
const OPS: [Op; 30] = [
    Op::Malloc,
    Op::Calloc,
    Op::PosixMemalign,
    Op::AlignedAlloc,
    Op::Memalign,
    Op::Valloc,
    Op::Pvalloc,
    Op::Free,
    Op::ReallocRelease,
    Op::Realloc,
    Op::Reallocarray,
    Op::ReallocFailed,
    Op::Mmap,
    Op::Munmap,
    Op::MunmapInner,
    Op::MunmapFailed,
    Op::MremapRelease,
    Op::Mremap,
    Op::MremapFailed,
    Op::New,
    Op::NewArray,
    Op::Delete,
    Op::DeleteArray,
    Op::Brk,
    Op::BrkShrink,
    Op::PoolAlloc,
    Op::PoolFree,
    Op::PoolReallocRelease,
    Op::PoolRealloc,
    Op::PoolReallocFailed,
];

/// Ends of a walk by their number in `enum ml_stack_end`.
const ENDS: [StackEnd; 5] = StackEnd::ALL;

const RECORD_POINT: u16 = 1;
const RECORD_RANGE: u16 = 2;
const RECORD_ALLOC: u16 = 3;
const RECORD_STACK: u16 = 4;
const RECORD_SAMPLE: u16 = 5;
const RECORD_EXEC: u16 = 6;
const RECORD_FORK: u16 = 7;
const RECORD_EXIT: u16 = 8;

const POINT_BYTES: usize = 32;
const RANGE_BYTES: usize = 40;
const ALLOC_BYTES: usize = 48;
const STACK_HEAD_BYTES: usize = 32;
const SAMPLE_HEAD_BYTES: usize = 40;

/// The number of `op` in `enum ml_op`, which is also in its probes' cookie; `None` for descriptions.
pub fn op_number(op: Op) -> Option<u16> {
    OPS.iter()
        .position(|known| *known == op)
        .map(|index| index as u16 + 1)
}

/// Decodes one record.
pub fn decode(bytes: &[u8]) -> Result<Record, WireError> {
    match u16_at(bytes, 0)? {
        RECORD_POINT if bytes.len() >= POINT_BYTES => Ok(Record::Event(event(bytes, 0, 0)?)),
        RECORD_RANGE if bytes.len() >= RANGE_BYTES => {
            Ok(Record::Event(event(bytes, u64_at(bytes, 32)?, 0)?))
        }
        RECORD_ALLOC if bytes.len() >= ALLOC_BYTES => Ok(Record::Event(event(
            bytes,
            u64_at(bytes, 32)?,
            u64_at(bytes, 40)?,
        )?)),
        RECORD_STACK if bytes.len() >= STACK_HEAD_BYTES => stack(bytes).map(Record::Stack),
        RECORD_EXEC if bytes.len() >= POINT_BYTES => Ok(Record::Exec(RawExec {
            pid: u32_at(bytes, 8)?,
            ppid: u64_at(bytes, 24)? as u32,
            space: u32_at(bytes, 4)?,
            ts: u64_at(bytes, 16)?,
        })),
        RECORD_FORK if bytes.len() >= POINT_BYTES => Ok(Record::Fork(RawFork {
            pid: u32_at(bytes, 8)?,
            ppid: u32_at(bytes, 12)?,
            space: u32_at(bytes, 4)?,
            parent_space: u64_at(bytes, 24)? as u32,
            ts: u64_at(bytes, 16)?,
        })),
        RECORD_EXIT if bytes.len() >= POINT_BYTES => Ok(Record::Exit(RawExit {
            pid: u32_at(bytes, 8)?,
            space: u32_at(bytes, 4)?,
            status: u64_at(bytes, 24)? as i32,
            out_of_memory: u16_at(bytes, 2)? != 0,
            ts: u64_at(bytes, 16)?,
        })),
        RECORD_POINT..=RECORD_STACK | RECORD_EXEC..=RECORD_EXIT => {
            Err(WireError::Short(bytes.len()))
        }
        kernel::RECORD_ALLOC if bytes.len() >= kernel::ALLOC_BYTES => {
            let (event, detail) = kernel::allocation(bytes)?;
            Ok(Record::KernelAlloc(event, detail))
        }
        kernel::RECORD_FREE if bytes.len() >= kernel::SLOT_BYTES => {
            kernel::event(bytes).map(Record::Event)
        }
        kernel::RECORD_CACHE if bytes.len() >= kernel::CACHE_BYTES => {
            kernel::cache(bytes).map(Record::Cache)
        }
        kernel::RECORD_ALLOC..=kernel::RECORD_FREE => Err(WireError::Short(bytes.len())),
        other => Err(WireError::Shape(other)),
    }
}

/// When a record of the ring was made; `None` for what has no time.
pub fn time_of(record: &[u8]) -> Option<u64> {
    match u16_at(record, 0) {
        Ok(RECORD_POINT..=RECORD_ALLOC | RECORD_EXEC..=RECORD_EXIT) => u64_at(record, 16).ok(),
        _ => None,
    }
}

/// Whether a record of the ring is a stack or a name that events of the kernel refer to.
pub fn describes_kernel(record: &[u8]) -> bool {
    match u16_at(record, 0) {
        Ok(RECORD_STACK) => u32_at(record, 12) == Ok(kernel::SPACE),
        Ok(kernel::RECORD_CACHE) => true,
        _ => false,
    }
}

fn event(bytes: &[u8], size: u64, stack: u64) -> Result<RawEvent, WireError> {
    let number = u16_at(bytes, 2)?;
    let op = OPS
        .get(usize::from(number).wrapping_sub(1))
        .copied()
        .ok_or(WireError::Op(number))?;
    Ok(RawEvent {
        op,
        space: u32_at(bytes, 4)?,
        pid: u32_at(bytes, 8)?,
        tid: u32_at(bytes, 12)?,
        ts: u64_at(bytes, 16)?,
        addr: u64_at(bytes, 24)?,
        size,
        stack: (stack != 0).then_some(StackHash(stack)),
    })
}

fn stack(bytes: &[u8]) -> Result<RawStack, WireError> {
    let end = u16_at(bytes, 2)?;
    let count = u32_at(bytes, 4)? as usize;
    let frames = bytes
        .get(STACK_HEAD_BYTES..)
        .and_then(|rest| rest.get(..count.checked_mul(8)?))
        .ok_or(WireError::Short(bytes.len()))?
        .as_chunks::<8>()
        .0
        .iter()
        .map(|word| FrameId(i64::from_ne_bytes(*word)))
        .collect();
    Ok(RawStack {
        hash: StackHash(u64_at(bytes, 16)?),
        pid: u32_at(bytes, 8)?,
        space: u32_at(bytes, 12)?,
        end: *ENDS.get(usize::from(end)).ok_or(WireError::StackEnd(end))?,
        stopped_at: u64_at(bytes, 24)?,
        frames,
    })
}

/// Decodes a sample; `None` for every other record. (No recording has samples, so [`decode`] knows
/// none.)
pub fn decode_sample(bytes: &[u8]) -> Option<RawSample> {
    if u16_at(bytes, 0) != Ok(RECORD_SAMPLE) {
        return None;
    }
    let word = |at| u64_at(bytes, at).ok();
    let length = u32_at(bytes, 4).ok()? as usize;
    Some(RawSample {
        hash: StackHash(word(8)?),
        rip: word(16)?,
        rsp: word(24)?,
        rbp: word(32)?,
        stack: bytes.get(SAMPLE_HEAD_BYTES..)?.get(..length)?.to_vec(),
    })
}

pub(crate) fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], WireError> {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk::<N>())
        .copied()
        .ok_or(WireError::Short(bytes.len()))
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Result<u16, WireError> {
    bytes_at(bytes, at).map(u16::from_ne_bytes)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Result<u32, WireError> {
    bytes_at(bytes, at).map(u32::from_ne_bytes)
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Result<u64, WireError> {
    bytes_at(bytes, at).map(u64::from_ne_bytes)
}

#[cfg(test)]
mod tests;
