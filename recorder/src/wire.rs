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
        kernel::RECORD_KERNEL_ALLOC if bytes.len() >= kernel::KERNEL_ALLOC_BYTES => {
            let event = event(bytes, u64_at(bytes, 32)?, u64_at(bytes, 40)?)?;
            Ok(Record::KernelAlloc(event, kernel::detail(bytes)?))
        }
        kernel::RECORD_CACHE if bytes.len() >= kernel::CACHE_BYTES => {
            kernel::cache(bytes).map(Record::Cache)
        }
        kernel::RECORD_KERNEL_ALLOC | kernel::RECORD_CACHE => Err(WireError::Short(bytes.len())),
        other => Err(WireError::Shape(other)),
    }
}

fn event(bytes: &[u8], size: u64, stack: u64) -> Result<RawEvent, WireError> {
    let number = u16_at(bytes, 2)?;
    let op = OPS
        .get(usize::from(number).wrapping_sub(1))
        .copied()
        .or_else(|| kernel::op(number))
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

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, WireError> {
    bytes_at(bytes, at).map(u16::from_ne_bytes)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Result<u32, WireError> {
    bytes_at(bytes, at).map(u32::from_ne_bytes)
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Result<u64, WireError> {
    bytes_at(bytes, at).map(u64::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = include_str!("../../bpf/memleak.h");

    /// Value of a constant or enumerator in the contract.
    fn contract(name: &str) -> u64 {
        let after = HEADER
            .lines()
            .find_map(|line| {
                line.trim_start()
                    .strip_prefix("#define ")
                    .unwrap_or(line.trim_start())
                    .strip_prefix(name)?
                    .strip_prefix([' ', '='])
            })
            .unwrap_or_else(|| panic!("{name} is not in bpf/memleak.h"));
        let digits: String = after
            .chars()
            .skip_while(|c| !c.is_ascii_digit())
            .take_while(char::is_ascii_digit)
            .collect();
        digits.parse().unwrap()
    }

    /// The numbers here are those of the header that the probes are compiled with.
    #[test]
    fn numbers_are_those_of_the_contract() {
        for (index, op) in OPS.iter().enumerate() {
            let name = format!("ML_OP_{}", op.name().to_uppercase());
            assert_eq!(contract(&name), index as u64 + 1, "{name}");
        }
        for (index, end) in ENDS.iter().enumerate() {
            let name = format!("ML_END_{}", end.name().to_uppercase());
            assert_eq!(contract(&name), index as u64, "{name}");
        }
        let shapes = [
            ("ML_RECORD_POINT", RECORD_POINT),
            ("ML_RECORD_RANGE", RECORD_RANGE),
            ("ML_RECORD_ALLOC", RECORD_ALLOC),
            ("ML_RECORD_STACK", RECORD_STACK),
            ("ML_RECORD_EXEC", RECORD_EXEC),
            ("ML_RECORD_FORK", RECORD_FORK),
            ("ML_RECORD_EXIT", RECORD_EXIT),
            ("ML_RECORD_SAMPLE", RECORD_SAMPLE),
        ];
        for (name, value) in shapes {
            assert_eq!(contract(name), u64::from(value), "{name}");
        }
        assert_eq!(contract("ML_STACK_HEAD"), STACK_HEAD_BYTES as u64);
        assert_eq!(contract("ML_SAMPLE_HEAD"), SAMPLE_HEAD_BYTES as u64);
        assert_eq!(
            contract("ML_FRAME_OFFSET_BITS"),
            u64::from(memleak_trace::stack::OFFSET_BITS)
        );
    }

    fn head(record: u16, op: u16) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(record.to_ne_bytes());
        bytes.extend(op.to_ne_bytes());
        for word in [1u32, 20, 21] {
            bytes.extend(word.to_ne_bytes());
        }
        for word in [1_000_000_007u64, 0x7f00_0000_1000] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes
    }

    /// An allocation keeps every field.
    #[test]
    fn decodes_an_allocation() {
        let mut bytes = head(RECORD_ALLOC, 1);
        bytes.extend(4096u64.to_ne_bytes());
        bytes.extend(99u64.to_ne_bytes());
        assert_eq!(bytes.len(), ALLOC_BYTES);
        assert_eq!(
            decode(&bytes),
            Ok(Record::Event(RawEvent {
                op: Op::Malloc,
                space: 1,
                pid: 20,
                tid: 21,
                ts: 1_000_000_007,
                addr: 0x7f00_0000_1000,
                size: 4096,
                stack: Some(StackHash(99)),
            }))
        );
    }

    /// A stack has exactly as many frames as it says.
    #[test]
    fn decodes_a_stack() {
        let mut bytes = Vec::new();
        bytes.extend(RECORD_STACK.to_ne_bytes());
        bytes.extend(2u16.to_ne_bytes());
        for word in [2u32, 20, 1] {
            bytes.extend(word.to_ne_bytes());
        }
        for word in [7u64, 0xdead, 1 << 40, 2 << 40] {
            bytes.extend(word.to_ne_bytes());
        }
        let Ok(Record::Stack(stack)) = decode(&bytes) else {
            panic!("no stack")
        };
        assert_eq!(stack.frames, [FrameId(1 << 40), FrameId(2 << 40)]);
        assert_eq!(stack.end, StackEnd::NoUnwindInfo);
        assert_eq!(decode(&bytes[..bytes.len() - 1]), Err(WireError::Short(47)));
    }

    /// A sample has as many bytes of stack as it says; other records are none.
    #[test]
    fn decodes_a_sample() {
        let mut bytes = Vec::new();
        bytes.extend(RECORD_SAMPLE.to_ne_bytes());
        bytes.extend([0; 2]);
        bytes.extend(3u32.to_ne_bytes());
        for word in [7u64, 0x401000, 0x7ffe_0000, 0x7ffe_0010] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(b"abcdef");
        let sample = decode_sample(&bytes).unwrap();
        assert_eq!(
            (sample.hash, sample.rip, sample.rsp, sample.rbp),
            (StackHash(7), 0x401000, 0x7ffe_0000, 0x7ffe_0010)
        );
        assert_eq!(sample.stack, b"abc");
        assert_eq!(decode_sample(&bytes[..42]), None);
        assert_eq!(decode_sample(&head(RECORD_POINT, 8)), None);
    }

    /// Valid records with changed, missing and added bytes: an error or a record, never a panic.
    #[test]
    fn takes_any_bytes() {
        let mut stack = head(RECORD_STACK, 0);
        stack[4..8].copy_from_slice(&20u32.to_ne_bytes());
        stack.resize(STACK_HEAD_BYTES + 20 * 8, 7);
        let mut alloc = head(RECORD_ALLOC, 1);
        alloc.resize(ALLOC_BYTES, 9);
        let records = [
            head(RECORD_POINT, 8),
            alloc,
            stack,
            head(RECORD_EXEC, 0),
            head(RECORD_FORK, 0),
            head(RECORD_EXIT, 1),
        ];
        // SplitMix64; the seed is any number.
        let mut state = 2026u64;
        let mut random = |limit: usize| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) % limit as u64) as usize
        };
        let mut decoded = 0;
        for _ in 0..200_000 {
            let mut bytes = records[random(records.len())].clone();
            for _ in 0..random(4) {
                let at = random(bytes.len());
                bytes[at] = [0, 1, 0x7f, 0xff, random(256) as u8][random(5)];
            }
            bytes.resize(random(bytes.len() + 16), 0xff);
            decoded += usize::from(decode(&bytes).is_ok());
            let _ = decode_sample(&bytes);
        }
        assert!(decoded > 1000, "{decoded}");
    }

    /// A fork has both processes and both address spaces; an exit has the status.
    #[test]
    fn decodes_processes() {
        let mut fork = head(RECORD_FORK, 0);
        fork[24..].copy_from_slice(&7u64.to_ne_bytes());
        assert_eq!(
            decode(&fork),
            Ok(Record::Fork(RawFork {
                pid: 20,
                ppid: 21,
                space: 1,
                parent_space: 7,
                ts: 1_000_000_007,
            }))
        );
        let mut exit = head(RECORD_EXIT, 1);
        exit[24..].copy_from_slice(&(3u64 << 8).to_ne_bytes());
        assert_eq!(
            decode(&exit),
            Ok(Record::Exit(RawExit {
                pid: 20,
                space: 1,
                status: 3 << 8,
                out_of_memory: true,
                ts: 1_000_000_007,
            }))
        );
    }

    /// No bytes panic; what is no record is an error.
    #[test]
    fn refuses_what_is_no_record() {
        assert_eq!(decode(&[]), Err(WireError::Short(0)));
        assert_eq!(decode(&[9; 64]), Err(WireError::Shape(0x0909)));
        assert_eq!(decode(&head(RECORD_POINT, 0)), Err(WireError::Op(0)));
        assert_eq!(decode(&head(RECORD_POINT, 31)), Err(WireError::Op(31)));
        assert_eq!(decode(&head(RECORD_ALLOC, 1)), Err(WireError::Short(32)));
        for length in 0..200 {
            for shape in 0..10u8 {
                let mut bytes = vec![0xff; length];
                if let Some(first) = bytes.first_chunk_mut::<2>() {
                    *first = [shape, 0];
                }
                let _ = decode(&bytes);
            }
        }
    }
}
