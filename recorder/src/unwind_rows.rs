//! Turns `.eh_frame` and `.debug_frame` into the rows by which the probes unwind (`struct ml_unwind_row`).
//!
//! A row holds from its pc to the next one's. Where nothing is known the row says so, and the walk
//! follows the frame pointer.

use gimli::{
    BaseAddresses, CfaRule, CieOrFde, DebugFrame, EhFrame, EvaluationResult, FrameDescriptionEntry,
    LittleEndian, Register, RegisterRule, UnwindContext, UnwindOffset, UnwindSection, Value,
    X86_64,
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
const SP_FAR: u16 = 6;

/// Bits of `rule` that say the kind.
const KIND_BITS: u32 = 3;

/// The rows of a file, sorted by pc; empty if it has no unwind information.
pub fn unwind_rows<'data, R: ReadRef<'data>>(elf: &Elf<'data, R>) -> Vec<UnwindRow> {
    let bases = BaseAddresses::default()
        .set_text(elf.section_address(".text"))
        .set_got(elf.section_address(".got"));
    let mut ranges = Vec::new();
    if let Some((address, data)) = elf.section(".eh_frame") {
        let bases = bases.clone().set_eh_frame(address);
        read(elf, &EhFrame::new(&data, LittleEndian), &bases, &mut ranges);
    }
    // Behind the other: where both know a function, they agree, and the first one counts.
    if let Some((_, data)) = elf.section(".debug_frame") {
        read(
            elf,
            &DebugFrame::new(&data, LittleEndian),
            &bases,
            &mut ranges,
        );
    }
    if let Some(entry) = elf.entry().and_then(|entry| u32::try_from(entry).ok()) {
        ranges.extend(start_code(entry, &ranges));
    }
    flatten(ranges)
}

/// The code at a program's entry, which has no caller, where nothing else describes it: ld.so's is
/// such, and everything that a library allocates when it is loaded is called from there.
fn start_code(entry: u32, ranges: &[Range]) -> Option<Range> {
    /// ld.so's is as long, and nobody's is much longer.
    const LENGTH: u32 = 64;
    let start = |range: &Range| range.rows.first().map(|row| row.pc);
    let described = ranges
        .iter()
        .any(|range| entry < range.end && start(range).is_some_and(|start| start <= entry));
    if described {
        return None;
    }
    let next = ranges
        .iter()
        .filter_map(start)
        .filter(|start| *start > entry);
    let end = next
        .min()
        .unwrap_or(u32::MAX)
        .min(entry.checked_add(LENGTH)?);
    let rule = END;
    let rows = vec![UnwindRow {
        pc: entry,
        cfa_offset: 0,
        rule,
    }];
    Some(Range { end, rows })
}

/// Adds the functions of a section.
fn read<'data, 'section, R, S>(
    elf: &Elf<'data, R>,
    section: &S,
    bases: &BaseAddresses,
    ranges: &mut Vec<Range>,
) where
    R: ReadRef<'data>,
    S: UnwindSection<Slice<'section>>,
    S::Offset: UnwindOffset<usize>,
{
    let mut context = UnwindContext::new();
    let mut entries = section.entries(bases);
    // A broken entry ends the section: its length, too, is in doubt.
    while let Ok(Some(entry)) = entries.next() {
        let CieOrFde::Fde(partial) = entry else {
            continue;
        };
        let Ok(fde) = partial.parse(S::cie_from_offset) else {
            continue;
        };
        let Some(start) = elf.file_offset(fde.initial_address()) else {
            continue;
        };
        // Addresses and file offsets differ by a constant within a function.
        let shift = start.wrapping_sub(fde.initial_address());
        let Ok(end) = u32::try_from(fde.end_address().wrapping_add(shift)) else {
            continue;
        };
        let rows = rows(&fde, section, bases, &mut context, shift).unwrap_or_default();
        ranges.push(Range { end, rows });
    }
}

/// The rows of a function; `None` if a part of them cannot be read, for then the rest is in doubt.
fn rows<'section, S: UnwindSection<Slice<'section>>>(
    fde: &FrameDescriptionEntry<Slice<'section>>,
    section: &S,
    bases: &BaseAddresses,
    context: &mut UnwindContext<usize>,
    shift: u64,
) -> Option<Vec<UnwindRow>> {
    let encoding = fde.cie().encoding();
    let mut rows = Vec::new();
    let mut table = fde.rows(section, bases, context).ok()?;
    while let Some(row) = table.next_row().ok()? {
        let pc = |address: u64| u32::try_from(address.wrapping_add(shift)).ok();
        let (cfa_offset, rule) = if fde.is_signal_trampoline() {
            (0, SIGNAL)
        } else if let Some(expression) = stub_expression(row, section) {
            let addresses = row.start_address()..row.end_address().min(fde.end_address());
            for (address, offset) in stub_offsets(expression, encoding, addresses) {
                let (cfa_offset, rule) = offset.map_or((0, NONE), |offset| (offset, SP));
                rows.push(UnwindRow {
                    pc: pc(address)?,
                    cfa_offset,
                    rule,
                });
            }
            continue;
        } else {
            rule(row, section, encoding)
        };
        rows.push(UnwindRow {
            pc: pc(row.start_address())?,
            cfa_offset,
            rule,
        });
    }
    Some(rows)
}

/// The expression of a row whose cfa depends on where in the stub the pc is (`DW_OP_breg16` is in
/// it): linkage stubs (.plt) push at a place that repeats with every stub.
fn stub_expression<'section, S: UnwindSection<Slice<'section>>>(
    row: &gimli::UnwindTableRow<usize>,
    section: &S,
) -> Option<gimli::Expression<Slice<'section>>> {
    const BREG16: u8 = 0x80;
    let CfaRule::Expression(expression) = row.cfa() else {
        return None;
    };
    let expression = expression.get(section).ok()?;
    let uses_pc = expression.0.slice().contains(&BREG16);
    uses_pc.then_some(expression)
}

/// The addresses at which the cfa's distance from rsp changes, with what it is from there on, in
/// words; `None` where it cannot be told.
fn stub_offsets(
    expression: gimli::Expression<Slice<'_>>,
    encoding: gimli::Encoding,
    addresses: std::ops::Range<u64>,
) -> Vec<(u64, Option<u16>)> {
    /// A table of stubs is shorter; anything longer is no such table.
    const MOST: u64 = 4 << 20;
    let mut offsets: Vec<(u64, Option<u16>)> = Vec::new();
    for address in addresses.clone().take(MOST as usize) {
        let offset = stub_offset(expression, encoding, address);
        if offsets.last().is_none_or(|(_, last)| *last != offset) {
            offsets.push((address, offset));
        }
    }
    if addresses.end.saturating_sub(addresses.start) > MOST {
        offsets.push((addresses.start + MOST, None));
    }
    offsets
}

fn stub_offset(
    expression: gimli::Expression<Slice<'_>>,
    encoding: gimli::Encoding,
    pc: u64,
) -> Option<u16> {
    const SOME_RSP: u64 = 1 << 40;
    let mut evaluation = expression.evaluation(encoding);
    let mut result = evaluation.evaluate().ok()?;
    while let EvaluationResult::RequiresRegister { register, .. } = result {
        let value = match register {
            X86_64::RSP => SOME_RSP,
            X86_64::RA => pc,
            _ => return None,
        };
        result = evaluation
            .resume_with_register(Value::Generic(value))
            .ok()?;
    }
    if result != EvaluationResult::Complete {
        return None;
    }
    match evaluation.as_result().first()?.location {
        gimli::Location::Address { address } => words(address.wrapping_sub(SOME_RSP) as i64),
        _ => None,
    }
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
fn rule<'section, S: UnwindSection<Slice<'section>>>(
    row: &gimli::UnwindTableRow<usize>,
    section: &S,
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
        // The last instructions of a function that realigned its stack: rbp is the caller's again,
        // though the rule that found it by itself was never taken back.
        Some(RegisterRule::Expression(_)) if kind == SP => Some(0),
        _ => None,
    };
    match (words(offset), saved) {
        (Some(offset), Some(saved)) if saved < 1 << (16 - KIND_BITS) => {
            (offset, kind | saved << KIND_BITS)
        }
        (None, Some(saved)) if kind == SP => far(offset, saved).unwrap_or(UNKNOWN),
        _ => UNKNOWN,
    }
}

/// A frame of 512 KiB and more: the offset's upper bits lie in the rule, and rbp is saved in the
/// first seven words or not at all.
fn far(offset: i64, saved: u16) -> Option<(u16, u16)> {
    let words = (offset % 8 == 0).then(|| u32::try_from(offset / 8).ok())??;
    let upper = (words >> 16) as u16;
    let fits = upper < 1 << (16 - 2 * KIND_BITS) && saved < 1 << KIND_BITS;
    fits.then_some((
        words as u16,
        SP_FAR | saved << KIND_BITS | upper << (2 * KIND_BITS),
    ))
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

    /// A program starts in a function of its own, up to the next one that is known.
    #[test]
    fn start_code_has_no_caller() {
        let function = |pc, end| Range {
            end,
            rows: vec![row(pc, 1)],
        };
        let found = |ranges: &[Range]| start_code(100, ranges).map(|range| range.end);
        assert_eq!(found(&[]), Some(164));
        assert_eq!(found(&[function(20, 100), function(130, 140)]), Some(130));
        assert_eq!(found(&[function(90, 101)]), None);
    }

    /// A large frame keeps all bits of its offset, in two parts.
    #[test]
    fn splits_large_offsets() {
        let (low, rule) = far((3 << 20) + 40, 2).unwrap();
        assert_eq!(rule & 7, SP_FAR);
        assert_eq!(rule >> 3 & 7, 2);
        let words = u32::from(low) | u32::from(rule >> 6) << 16;
        assert_eq!(words, ((3 << 20) + 40) / 8);
        assert_eq!(far(8 << 26, 2), None);
        assert_eq!(far(3 << 20, 8), None);
        assert_eq!(far((3 << 20) + 4, 2), None);
    }

    /// Stubs of 16 bytes that push one word at byte 11, as the linker describes them.
    #[test]
    fn splits_stubs() {
        let expression = [0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22];
        let expression = gimli::Expression(gimli::EndianSlice::new(&expression, LittleEndian));
        let encoding = gimli::Encoding {
            address_size: 8,
            format: gimli::Format::Dwarf32,
            version: 1,
        };
        assert_eq!(
            stub_offsets(expression, encoding, 0x1020..0x1040),
            [
                (0x1020, Some(1)),
                (0x102b, Some(2)),
                (0x1030, Some(1)),
                (0x103b, Some(2))
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
