//! Chooses the instruction of a function at which a probe is cheap.
//!
//! The kernel emulates a push of a register, a jump and a one-byte nop (about 0.6 µs per hit); any
//! other instruction it single-steps out of line (4–6 µs in a VM). A few instructions into the
//! function there often is a cheap one, while the arguments and the stack pointer are still those of
//! the entry; then the return probe works there too.

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, OpAccess,
    Register,
};

/// Registers that hold what the probes read: the arguments, and the stack pointer.
const KEPT: [Register; 7] = [
    Register::RDI,
    Register::RSI,
    Register::RDX,
    Register::RCX,
    Register::R8,
    Register::R9,
    Register::RSP,
];

/// Bytes from the start of the function `code` to the instruction to probe; 0 if none is better.
pub fn displacement(code: &[u8]) -> u64 {
    let mut decoder = Decoder::with_ip(64, code, 0, DecoderOptions::NONE);
    let mut info = InstructionInfoFactory::new();
    let mut found = 0;
    for instruction in &mut decoder {
        if instruction.is_invalid() {
            return 0;
        }
        if is_emulated(&instruction) {
            found = instruction.ip();
            break;
        }
        let goes_on = instruction.flow_control() == FlowControl::Next;
        let keeps = info.info(&instruction).used_registers().iter().all(|used| {
            matches!(
                used.access(),
                OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess
            ) || !KEPT.contains(&used.register().full_register())
        });
        if !goes_on || !keeps {
            return 0;
        }
    }
    if found != 0 && is_branch_target(code, found) {
        0
    } else {
        found
    }
}

/// Where the direct calls and jumps in `code` lead, which lies at `start`.
pub fn near_targets(code: &[u8], start: u64) -> impl Iterator<Item = u64> {
    Decoder::with_ip(64, code, start, DecoderOptions::NONE)
        .into_iter()
        .filter(|instruction| {
            instruction.is_call_near()
                || instruction.is_jmp_short_or_near()
                || instruction.is_jcc_short_or_near()
        })
        .map(|instruction| instruction.near_branch_target())
}

/// Whether the kernel emulates the instruction: arch/x86/kernel/uprobes.c, `push_setup_xol_ops` and
/// `branch_setup_xol_ops`.
fn is_emulated(instruction: &Instruction) -> bool {
    let is_push = matches!(instruction.code(), Code::Push_r64) && instruction.len() <= 2;
    let is_jump = instruction.is_jcc_short_or_near() || instruction.is_jmp_short_or_near();
    is_push
        || is_jump
        || matches!(instruction.code(), Code::Nopd | Code::Nopq) && instruction.len() == 1
}

/// Whether a jump within the function goes to `target`: a probe there would fire more than once.
fn is_branch_target(code: &[u8], target: u64) -> bool {
    Decoder::with_ip(64, code, 0, DecoderOptions::NONE)
        .iter()
        .any(|instruction| {
            (instruction.is_jcc_short_or_near()
                || instruction.is_jmp_short_or_near()
                || instruction.is_loop()
                || instruction.is_loopcc()
                || instruction.is_jcx_short())
                && instruction.near_branch_target() == target
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Prologues as compilers write them, and where the probe belongs.
    #[test]
    fn chooses_the_first_emulated_instruction() {
        let cases: [(&str, &[u8], u64); 9] = [
            ("push r12 at once", &[0x41, 0x54, 0x55, 0xc3], 0),
            (
                "endbr64; push rbp",
                &[0xf3, 0x0f, 0x1e, 0xfa, 0x55, 0xc3],
                4,
            ),
            (
                "test rdi,rdi; je",
                &[0x48, 0x85, 0xff, 0x74, 0x01, 0x90, 0xc3],
                3,
            ),
            (
                "sub rsp: the stack pointer moves",
                &[0x48, 0x83, 0xec, 0x08, 0x74, 0x00, 0xc3],
                0,
            ),
            (
                "mov edi,eax: an argument is lost",
                &[0x89, 0xc7, 0x55, 0xc3],
                0,
            ),
            ("mov rax,rdi; push rbx", &[0x48, 0x89, 0xf8, 0x53, 0xc3], 3),
            ("a call comes first", &[0xe8, 0, 0, 0, 0, 0x55, 0xc3], 0),
            (
                "test; push; a loop jumps back to the push",
                &[0x48, 0x85, 0xff, 0x53, 0xeb, 0xfd],
                0,
            ),
            ("ret before any", &[0x48, 0x85, 0xff, 0xc3, 0x55], 0),
        ];
        for (name, code, expected) in cases {
            assert_eq!(displacement(code), expected, "{name}");
        }
    }

    /// No bytes make it fail.
    #[test]
    fn accepts_any_bytes() {
        for first in 0..=255u8 {
            for second in 0..=255u8 {
                let _ = displacement(&[first, second, 0x0f, 0x05, 0x55, 0x66]);
            }
        }
        assert_eq!(displacement(&[]), 0);
    }
}
