//! Lets the probes read words of the kernel's memory by single instructions, where the kernel can
//! (`bpf/kernel_read.h`): since 6.2 it has a function by which a program says what lies at an address.
//!
//! aya loads no object that calls functions of the kernel. So the object calls a helper of a number that
//! no helper has, and here that becomes the call of the function.

use aya::Btf;
use aya_obj::btf::BtfKind;

/// `bpf_rdonly_cast` in `bpf/kernel_read.h`.
const PLACEHOLDER: u32 = 0x0ca5_7000;
const CALL: u8 = 0x85;
/// In the registers of a call: the number is that of a function of the kernel.
const OF_KERNEL: u8 = 2 << 4;

/// How the kernel's types number what the probes need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cast {
    function: u32,
    /// A struct that begins with a word.
    pub word_type: u32,
}

impl Cast {
    /// As this kernel has it; `None` where it does not.
    pub fn find() -> Option<Cast> {
        let btf = Btf::from_sys_fs().ok()?;
        let number = |name, kind| btf.id_by_type_name_kind(name, kind).ok();
        Some(Cast {
            function: number("bpf_rdonly_cast", BtfKind::Func)?,
            word_type: number("pt_regs", BtfKind::Struct)?,
        })
    }
}

/// An object with the calls put in.
pub struct Patched {
    /// Words: their alignment is what a parser of objects expects.
    words: Vec<u64>,
    bytes: usize,
}

impl Patched {
    /// `None`: the object as it is.
    pub fn new(object: &[u8], cast: Option<Cast>) -> Patched {
        let words = object.chunks(8).map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            match (word, cast) {
                ([CALL, 0, 0, 0, number @ ..], Some(cast))
                    if number == PLACEHOLDER.to_le_bytes() =>
                {
                    word[1] = OF_KERNEL;
                    word[4..].copy_from_slice(&cast.function.to_le_bytes());
                }
                _ => {}
            }
            u64::from_ne_bytes(word)
        });
        Patched {
            words: words.collect(),
            bytes: object.len(),
        }
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: so many bytes of the words were made of the object's.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr().cast(), self.bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls of the placeholder become calls of the function; nothing else changes.
    #[test]
    fn puts_calls_in() {
        let header = include_str!("../../../bpf/kernel_read.h");
        assert!(header.contains(&format!("(void *)0x{PLACEHOLDER:08x};")));
        let mut object = vec![CALL, 0, 0, 0, 0, 0x70, 0xa5, 0x0c];
        object.extend([CALL, 0, 0, 0, 14, 0, 0, 0, 1, 2, 3]);
        assert_eq!(Patched::new(&object, None).bytes(), object);
        let cast = Cast {
            function: 0x1234,
            word_type: 1,
        };
        let patched = Patched::new(&object, Some(cast));
        assert_eq!(patched.bytes()[..8], [CALL, 0x20, 0, 0, 0x34, 0x12, 0, 0]);
        assert_eq!(patched.bytes()[8..], object[8..]);
    }
}
