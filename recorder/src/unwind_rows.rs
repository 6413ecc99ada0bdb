//! Turns `.eh_frame` into the rows by which the probes unwind (`struct ml_unwind_row`).
//!
//! A row holds from its pc to the next one's. Where nothing is known the row says so, and the walk
//! follows the frame pointer.

use gimli::{
    BaseAddresses, CfaRule, CieOrFde, EhFrame, LittleEndian, Register, RegisterRule, UnwindContext,
    UnwindSection, X86_64,
};
use object::ReadRef;

use crate::elf::Elf;

/// `struct ml_unwind_row`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnwindRow {
    /// Offset in the file.
    pub pc: u32,
    /// In 8-byte words.
    pub cfa_offset: u16,
    /// Low 3 bits the kind, others where rbp is saved: `cfa - 8n`, 0 = kept.
    pub rule: u16,
}

const NONE: u16 = 0;
const SP: u16 = 1;
const BP: u16 = 2;
const BP_DEREF: u16 = 3;
const END: u16 = 4;
const SIGNAL: u16 = 5;

/// Bits of `rule` that say the kind.
const KIND_BITS: u32 = 3;

/// The rows of a file, sorted by pc; empty if it has no unwind information.
pub fn unwind_rows<'data, R: ReadRef<'data>>(elf: &Elf<'data, R>) -> Vec<UnwindRow> {
    let Some((address, data)) = elf.section(".eh_frame") else {
        return Vec::new();
    };
    let bases = BaseAddresses::default()
        .set_eh_frame(address)
        .set_text(elf.section_address(".text"))
        .set_got(elf.section_address(".got"));
    let section = EhFrame::new(&data, LittleEndian);
    let mut context = UnwindContext::new();
    let mut ranges: Vec<Range> = Vec::new();
    let mut entries = section.entries(&bases);
    // A broken entry ends the section: its length, too, is in doubt.
    while let Ok(Some(entry)) = entries.next() {
        let CieOrFde::Fde(partial) = entry else {
            continue;
        };
        let Ok(fde) = partial.parse(EhFrame::cie_from_offset) else {
            continue;
        };
        let Some(start) = elf.file_offset(fde.initial_address()) else {
            continue;
        };
        // Addresses and file offsets differ by a constant within a function.
        let shift = start.wrapping_sub(fde.initial_address());
        let end = fde.end_address().wrapping_add(shift);
        let mut rows = Vec::new();
        if let Ok(mut table) = fde.rows(&section, &bases, &mut context) {
            while let Ok(Some(row)) = table.next_row() {
                let (cfa_offset, rule) = if fde.is_signal_trampoline() {
                    (0, SIGNAL)
                } else {
                    rule(row, &section, fde.cie().encoding())
                };
                if let Ok(pc) = u32::try_from(row.start_address().wrapping_add(shift)) {
                    rows.push(UnwindRow {
                        pc,
                        cfa_offset,
                        rule,
                    });
                }
            }
        }
        if let Ok(end) = u32::try_from(end) {
            ranges.push(Range { end, rows });
        }
    }
    flatten(ranges)
}

/// The rows of one function.
struct Range {
    /// First file offset behind it.
    end: u32,
    rows: Vec<UnwindRow>,
}

/// Smaller gaps between functions are padding, where nothing runs.
const ALIGNMENT: u32 = 16;

/// Sorts, closes gaps between functions with a row that knows nothing, drops repetitions.
fn flatten(mut ranges: Vec<Range>) -> Vec<UnwindRow> {
    ranges.retain(|range| !range.rows.is_empty());
    ranges.sort_by_key(|range| range.rows[0].pc);
    let mut flat: Vec<UnwindRow> = Vec::new();
    let mut covered = 0;
    for range in ranges {
        let start = range.rows[0].pc;
        if start < covered {
            continue; // overlaps the one before it: one of them is wrong
        }
        if covered > 0 && start - covered >= ALIGNMENT {
            flat.push(UnwindRow {
                pc: covered,
                cfa_offset: 0,
                rule: NONE,
            });
        }
        for row in range.rows {
            let repeats = flat
                .last()
                .is_some_and(|last| (last.cfa_offset, last.rule) == (row.cfa_offset, row.rule));
            if !repeats {
                flat.push(row);
            }
        }
        covered = range.end;
    }
    if covered > 0 {
        flat.push(UnwindRow {
            pc: covered,
            cfa_offset: 0,
            rule: NONE,
        });
    }
    flat
}

type Slice<'a> = gimli::EndianSlice<'a, LittleEndian>;

/// Offset of the cfa in words, and the rule.
fn rule(
    row: &gimli::UnwindTableRow<usize>,
    section: &EhFrame<Slice<'_>>,
    encoding: gimli::Encoding,
) -> (u16, u16) {
    const UNKNOWN: (u16, u16) = (0, NONE);
    match row.register(X86_64::RA) {
        Some(RegisterRule::Undefined) => return (0, END),
        Some(RegisterRule::Offset(-8)) => {}
        _ => return UNKNOWN,
    }
    let (kind, offset) = match row.cfa() {
        CfaRule::RegisterAndOffset { register, offset } => match *register {
            X86_64::RSP => (SP, *offset),
            X86_64::RBP => (BP, *offset),
            _ => return UNKNOWN,
        },
        CfaRule::Expression(expression) => {
            let offset = expression
                .get(section)
                .ok()
                .and_then(|expression| bp_deref(expression, encoding));
            return offset
                .and_then(|offset| words(-offset))
                .map_or(UNKNOWN, |offset| (offset, BP_DEREF));
        }
    };
    let saved = match row.register(X86_64::RBP) {
        None | Some(RegisterRule::Undefined | RegisterRule::SameValue) => Some(0),
        Some(RegisterRule::Offset(offset)) => words(-offset),
        _ => None,
    };
    match (words(offset), saved) {
        (Some(offset), Some(saved)) if saved < 1 << (16 - KIND_BITS) => {
            (offset, kind | saved << KIND_BITS)
        }
        _ => UNKNOWN,
    }
}

/// A length in 8-byte words.
fn words(bytes: i64) -> Option<u16> {
    (bytes % 8 == 0)
        .then(|| u16::try_from(bytes / 8).ok())
        .flatten()
}

/// The offset of `DW_OP_breg6 offset; DW_OP_deref`: how gcc finds the cfa of a function that
/// realigns its stack.
fn bp_deref(expression: gimli::Expression<Slice<'_>>, encoding: gimli::Encoding) -> Option<i64> {
    let mut operations = expression.operations(encoding);
    let first = operations.next().ok()??;
    let second = operations.next().ok()??;
    let ends = operations.next().ok()?.is_none();
    match (first, second) {
        (
            gimli::Operation::RegisterOffset {
                register: Register(6),
                offset,
                ..
            },
            gimli::Operation::Deref { size: 8, .. },
        ) if ends => Some(offset),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(pc: u32, cfa_offset: u16) -> UnwindRow {
        UnwindRow {
            pc,
            cfa_offset,
            rule: SP,
        }
    }

    /// Gaps say that nothing is known; equal neighbours become one.
    #[test]
    fn flattens_functions() {
        let ranges = vec![
            Range {
                end: 60,
                rows: vec![row(50, 1), row(51, 2)],
            },
            Range {
                end: 30,
                rows: vec![row(10, 1), row(12, 1)],
            },
            Range {
                end: 70,
                rows: vec![row(63, 3)],
            },
        ];
        let none = |pc| UnwindRow {
            pc,
            cfa_offset: 0,
            rule: NONE,
        };
        assert_eq!(
            flatten(ranges),
            [
                row(10, 1),
                none(30),
                row(50, 1),
                row(51, 2),
                row(63, 3),
                none(70)
            ]
        );
    }

    /// The running program's own file: every row in order, and most of them of use.
    #[test]
    fn reads_a_real_file() {
        let bytes = std::fs::read("/proc/self/exe").unwrap();
        let rows = unwind_rows(&Elf::parse(&bytes[..]).unwrap());
        assert!(rows.len() > 1000, "{} rows", rows.len());
        assert!(rows.is_sorted_by_key(|row| row.pc));
        let known = rows.iter().filter(|row| row.rule & 7 != NONE).count();
        assert!(
            known * 10 > rows.len() * 9,
            "{known} of {} rows",
            rows.len()
        );
    }
}
