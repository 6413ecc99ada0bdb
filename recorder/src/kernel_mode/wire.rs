//! Decodes what the probes in the kernel send. The contract is `bpf/kernel_records.h`; a test here
//! reads that file.

use memleak_trace::Op;

use crate::wire::{WireError, bytes_at, u32_at, u64_at};

/// An allocation in the kernel, beside what every event has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawDetail {
    /// Bytes that it takes.
    pub size2: u64,
    /// Address of its slab cache; 0 where the kernel does not tell it.
    pub cache: u64,
    pub gfp: u32,
    /// Name of the thread, filled up with zeros.
    pub comm: [u8; 16],
}

/// The name of a slab cache, told before its first use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawCache {
    /// Its address.
    pub cache: u64,
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

pub const RECORD_KERNEL_ALLOC: u16 = 1024;
pub const RECORD_CACHE: u16 = 1025;
pub const KERNEL_ALLOC_BYTES: usize = 88;
pub const CACHE_BYTES: usize = 64;
const CACHE_NAME_AT: usize = 16;

/// The operation of this number; `None` for those of user space.
pub fn op(number: u16) -> Option<Op> {
    OPS.get(usize::from(number.checked_sub(FIRST_OP)?)).copied()
}

/// What stands behind the size and the stack of an allocation.
pub fn detail(bytes: &[u8]) -> Result<RawDetail, WireError> {
    Ok(RawDetail {
        size2: u64_at(bytes, 48)?,
        cache: u64_at(bytes, 56)?,
        gfp: u32_at(bytes, 64)?,
        comm: bytes_at(bytes, 72)?,
    })
}

/// The name of a cache.
pub fn cache(bytes: &[u8]) -> Result<RawCache, WireError> {
    let name: [u8; CACHE_BYTES - CACHE_NAME_AT] = bytes_at(bytes, CACHE_NAME_AT)?;
    Ok(RawCache {
        cache: u64_at(bytes, 8)?,
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
            format!("ML_RECORD_KERNEL_ALLOC = {RECORD_KERNEL_ALLOC},"),
            format!("ML_RECORD_CACHE = {RECORD_CACHE},"),
            format!("ML_SIZE(struct ml_kernel_alloc, {KERNEL_ALLOC_BYTES});"),
            format!("ML_SIZE(struct ml_cache, {CACHE_BYTES});"),
            format!("#define ML_CACHE_NAME {}", CACHE_BYTES - CACHE_NAME_AT),
        ] {
            assert!(
                HEADER
                    .lines()
                    .any(|known| known.trim().starts_with(line.as_str())),
                "{line}"
            );
        }
    }

    fn allocation() -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(RECORD_KERNEL_ALLOC.to_ne_bytes());
        bytes.extend(1025u16.to_ne_bytes());
        for word in [0u32, 20, 21] {
            bytes.extend(word.to_ne_bytes());
        }
        for word in [
            7u64,
            0xffff_8880_0000_1000,
            200,
            99,
            256,
            0xffff_8880_0010_0000,
        ] {
            bytes.extend(word.to_ne_bytes());
        }
        for word in [0xcc0u32, 0] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(b"find\0\0\0\0\0\0\0\0\0\0\0\0");
        bytes
    }

    /// An allocation keeps every field, one of its bytes less is an error.
    #[test]
    fn decodes_an_allocation() {
        let bytes = allocation();
        assert_eq!(bytes.len(), KERNEL_ALLOC_BYTES);
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
            (256, 0xffff_8880_0010_0000, 0xcc0, "find".to_owned())
        );
        assert_eq!(decode(&bytes[..87]), Err(WireError::Short(87)));
    }

    /// A cache's name ends at its first zero.
    #[test]
    fn decodes_a_cache() {
        let mut bytes = vec![0; CACHE_BYTES];
        bytes[..2].copy_from_slice(&RECORD_CACHE.to_ne_bytes());
        bytes[8] = 5;
        bytes[16..22].copy_from_slice(b"dentry");
        assert_eq!(
            decode(&bytes),
            Ok(Record::Cache(RawCache {
                cache: 5,
                name: "dentry".to_owned()
            }))
        );
        assert_eq!(decode(&bytes[..63]), Err(WireError::Short(63)));
    }

    /// A free has the shape of those of user space; numbers of neither side are refused.
    #[test]
    fn decodes_a_free() {
        let mut bytes = allocation()[..32].to_vec();
        bytes[..2].copy_from_slice(&1u16.to_ne_bytes());
        bytes[2..4].copy_from_slice(&1027u16.to_ne_bytes());
        let Ok(Record::Event(event)) = decode(&bytes) else {
            panic!("no event")
        };
        assert_eq!((event.op, event.size), (Op::Kfree, 0));
        bytes[2..4].copy_from_slice(&1035u16.to_ne_bytes());
        assert_eq!(decode(&bytes), Err(WireError::Op(1035)));
    }
}
