//! What the probes in the kernel send: slots of buffers, and names in the ring. The contract is `bpf/kernel_records.h`; a test here
//! reads that file.

use memleak_trace::Op;
use memleak_trace::op::Effect;

use crate::wire::{RawEvent, StackHash, WireError, bytes_at, u16_at, u32_at, u64_at};

/// An allocation in the kernel, beside what every event has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawDetail {
    /// Bytes that it takes.
    pub size2: u64,
    /// Number of its slab cache; 0 where the kernel does not tell it.
    pub cache: u32,
    pub gfp: u32,
    /// Name of the thread.
    pub comm: Comm,
}

/// The name of a slab cache, told before its first use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawCache {
    /// Its number.
    pub cache: u32,
    pub name: String,
}

/// Operations by their number in `enum ml_kernel_op`, from [`FIRST_OP`].
const OPS: [Op; 11] = [
    Op::Kmalloc,
    Op::KmemCacheAlloc,
    Op::KmemCacheAllocBulk,
    Op::Kfree,
    Op::KmemCacheFree,
    Op::KmemCacheFreeBulk,
    Op::KfreeRcu,
    Op::PageAlloc,
    Op::PageFree,
    Op::PercpuAlloc,
    Op::PercpuFree,
];
const FIRST_OP: u16 = 1024;

/// Address space of the kernel.
pub const SPACE: u32 = 0;

/// What the drain makes of the slot of an allocation: the slot, and the thread's name behind.
pub const RECORD_ALLOC: u16 = 1024;
pub const RECORD_CACHE: u16 = 1025;
/// Of that of a free: the slot.
pub const RECORD_FREE: u16 = 1026;
pub const SLOT_BYTES: usize = 64;
pub const ALLOC_BYTES: usize = SLOT_BYTES + size_of::<Comm>();
pub const CACHE_BYTES: usize = 56;
const CACHE_NAME_AT: usize = 8;

/// A thread's name, filled up with zeros.
pub type Comm = [u8; 16];
/// `ML_KERNEL_PROGRAMS`.
pub const PROGRAMS: usize = 8;
/// `ML_OP_NAME`.
pub const OP_NAME: u16 = 1023;

/// `struct ml_kernel_slot`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    pub ready: u64,
    pub ts: u64,
    pub addr: u64,
    pub size: u64,
    pub stack: u64,
    pub slack: u32,
    pub cache: u32,
    pub gfp: u32,
    pub pid: u32,
    pub tid: u32,
    pub op: u16,
    pub program: u16,
}

const _: () = assert!(size_of::<Slot>() == SLOT_BYTES);

impl Slot {
    /// The name, if this tells one.
    pub fn name(&self) -> Option<Comm> {
        (self.op == OP_NAME).then(|| {
            let mut name = [0; 16];
            name[..8].copy_from_slice(&self.addr.to_ne_bytes());
            name[8..].copy_from_slice(&self.size.to_ne_bytes());
            name
        })
    }

    /// Hands the record of this event to `push`.
    pub fn record(mut self, name: Comm, push: impl FnOnce(&[u8])) {
        let allocates = op(self.op).is_some_and(|op| op.effect() == Effect::Allocate);
        let record = if allocates { RECORD_ALLOC } else { RECORD_FREE };
        self.ready = record.into();
        // SAFETY: integers without padding, as large as the array.
        let slot: [u8; SLOT_BYTES] = unsafe { std::mem::transmute(self) };
        if !allocates {
            return push(&slot);
        }
        let mut bytes = [0; ALLOC_BYTES];
        bytes[..SLOT_BYTES].copy_from_slice(&slot);
        bytes[SLOT_BYTES..].copy_from_slice(&name);
        push(&bytes);
    }
}

/// The operation of this number; `None` for those of user space.
pub fn op(number: u16) -> Option<Op> {
    OPS.get(usize::from(number.checked_sub(FIRST_OP)?)).copied()
}

/// The event of a slot.
pub fn event(bytes: &[u8]) -> Result<RawEvent, WireError> {
    let number = u16_at(bytes, 60)?;
    let stack = u64_at(bytes, 32)?;
    Ok(RawEvent {
        op: op(number).ok_or(WireError::Op(number))?,
        space: SPACE,
        pid: u32_at(bytes, 52)?,
        tid: u32_at(bytes, 56)?,
        ts: u64_at(bytes, 8)?,
        addr: u64_at(bytes, 16)?,
        size: u64_at(bytes, 24)?,
        stack: (stack != 0).then_some(StackHash(stack)),
    })
}

/// The same of an allocation, and what else is known of it.
pub fn allocation(bytes: &[u8]) -> Result<(RawEvent, RawDetail), WireError> {
    let event = event(bytes)?;
    let detail = RawDetail {
        size2: event.size + u64::from(u32_at(bytes, 40)?),
        cache: u32_at(bytes, 44)?,
        gfp: u32_at(bytes, 48)?,
        comm: bytes_at(bytes, SLOT_BYTES)?,
    };
    Ok((event, detail))
}

/// The name of a cache.
pub fn cache(bytes: &[u8]) -> Result<RawCache, WireError> {
    let name: [u8; CACHE_BYTES - CACHE_NAME_AT] = bytes_at(bytes, CACHE_NAME_AT)?;
    Ok(RawCache {
        cache: u32_at(bytes, 4)?,
        name: text(&name),
    })
}

/// Text up to the first zero.
pub fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{RawEvent, Record, StackHash, decode};

    const HEADER: &str = include_str!("../../../bpf/kernel_records.h");

    /// The numbers here are those of the header that the probes are compiled with.
    #[test]
    fn numbers_are_those_of_the_contract() {
        for (number, op) in (FIRST_OP..).zip(OPS) {
            let line = format!("ML_OP_{} = {number},", op.name().to_uppercase());
            assert!(HEADER.lines().any(|known| known.trim() == line), "{line}");
        }
        for line in [
            format!("ML_RECORD_CACHE = {RECORD_CACHE},"),
            format!("ML_SIZE(struct ml_kernel_slot, {SLOT_BYTES});"),
            format!("ML_SIZE(struct ml_cache, {CACHE_BYTES});"),
            format!("#define ML_CACHE_NAME {}", CACHE_BYTES - CACHE_NAME_AT),
            format!("#define ML_COMM {}", size_of::<Comm>()),
            format!("#define ML_KERNEL_PROGRAMS {PROGRAMS}"),
            format!("#define ML_KERNEL_SPACE {SPACE}"),
            format!("#define ML_OP_NAME {OP_NAME}"),
        ] {
            assert!(
                HEADER
                    .lines()
                    .any(|known| known.trim().starts_with(line.as_str())),
                "{line}"
            );
        }
    }

    const SLOT: Slot = Slot {
        ready: 5,
        ts: 7,
        addr: 0xffff_8880_0000_1000,
        size: 200,
        stack: 99,
        slack: 56,
        cache: 3,
        gfp: 0xcc0,
        pid: 20,
        tid: 21,
        op: 1025,
        program: 2,
    };

    fn bytes_of(slot: Slot) -> Vec<u8> {
        let mut bytes = Vec::new();
        slot.record(*b"find\0\0\0\0\0\0\0\0\0\0\0\0", |record| {
            bytes = record.to_vec()
        });
        bytes
    }

    /// An allocation keeps every field, one of its bytes less is an error.
    #[test]
    fn decodes_an_allocation() {
        let bytes = bytes_of(SLOT);
        assert_eq!(bytes.len(), ALLOC_BYTES);
        let Ok(Record::KernelAlloc(event, detail)) = decode(&bytes) else {
            panic!("no allocation")
        };
        assert_eq!(
            event,
            RawEvent {
                op: Op::KmemCacheAlloc,
                space: 0,
                pid: 20,
                tid: 21,
                ts: 7,
                addr: 0xffff_8880_0000_1000,
                size: 200,
                stack: Some(StackHash(99)),
            }
        );
        assert_eq!(
            (detail.size2, detail.cache, detail.gfp, text(&detail.comm)),
            (256, 3, 0xcc0, "find".to_owned())
        );
        assert_eq!(decode(&bytes[..79]), Err(WireError::Short(79)));
    }

    /// A cache's name ends at its first zero.
    #[test]
    fn decodes_a_cache() {
        let mut bytes = vec![0; CACHE_BYTES];
        bytes[..2].copy_from_slice(&RECORD_CACHE.to_ne_bytes());
        bytes[4] = 5;
        bytes[8..14].copy_from_slice(b"dentry");
        assert_eq!(
            decode(&bytes),
            Ok(Record::Cache(RawCache {
                cache: 5,
                name: "dentry".to_owned()
            }))
        );
        assert_eq!(decode(&bytes[..55]), Err(WireError::Short(55)));
    }

    /// A free has neither stack nor details; an operation of neither side is refused.
    #[test]
    fn decodes_a_free() {
        let free = |op| {
            bytes_of(Slot {
                op,
                size: 0,
                stack: 0,
                ..SLOT
            })
        };
        let Ok(Record::Event(event)) = decode(&free(1027)) else {
            panic!("no event")
        };
        assert_eq!((event.op, event.size, event.stack), (Op::Kfree, 0, None));
        assert_eq!((event.pid, event.tid, event.ts), (20, 21, 7));
        assert_eq!(decode(&free(1027)[..63]), Err(WireError::Short(63)));
        assert_eq!(decode(&free(1035)), Err(WireError::Op(1035)));
    }
}
