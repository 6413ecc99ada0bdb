//! The steps that framehop does not take: functions whose caller is found by an expression that
//! reads memory (realigned stacks, signal frames). gimli evaluates them here as the standard says.

use std::ops::Range;

use gimli::{
    BaseAddresses, CfaRule, CieOrFde, EhFrame, Encoding, EvaluationResult, Expression,
    LittleEndian, Location, Register, RegisterRule, UnwindContext, UnwindExpression, UnwindSection,
    Value, X86_64,
};

type Slice<'a> = gimli::EndianSlice<'a, LittleEndian>;

/// What is known of a frame.
#[derive(Clone, Copy, Debug)]
pub struct Registers {
    pub ip: u64,
    pub sp: u64,
    pub bp: u64,
}

/// The caller, and whether it was interrupted by a signal.
pub struct Step {
    pub registers: Registers,
    pub interrupted: bool,
}

/// The functions of a file that need expressions.
#[derive(Clone)]
pub struct Expressions {
    eh_frame: Vec<u8>,
    bases: BaseAddresses,
    functions: Vec<Range<u64>>,
}

impl Expressions {
    pub fn new(eh_frame: Vec<u8>, bases: BaseAddresses) -> Expressions {
        let mut functions = Vec::new();
        let section = EhFrame::new(&eh_frame, LittleEndian);
        let mut entries = section.entries(&bases);
        let mut context = UnwindContext::new();
        while let Some(entry) = entries.next().unwrap() {
            let CieOrFde::Fde(partial) = entry else {
                continue;
            };
            let fde = partial.parse(EhFrame::cie_from_offset).unwrap();
            let mut rows = fde.rows(&section, &bases, &mut context).unwrap();
            while let Ok(Some(row)) = rows.next_row() {
                if matches!(row.cfa(), CfaRule::Expression(_)) {
                    functions.push(fde.initial_address()..fde.end_address());
                    break;
                }
            }
        }
        Expressions {
            eh_frame,
            bases,
            functions,
        }
    }

    /// The caller of the function at `lookup`, an address as the file has it; `None` if it needs no
    /// expression there. `Some(None)` if memory cannot be read.
    pub fn step(
        &self,
        lookup: u64,
        registers: Registers,
        read: &mut impl FnMut(u64) -> Result<u64, ()>,
    ) -> Option<Option<Step>> {
        if !self.functions.iter().any(|range| range.contains(&lookup)) {
            return None;
        }
        let section = EhFrame::new(&self.eh_frame, LittleEndian);
        let fde = section
            .fde_for_address(&self.bases, lookup, EhFrame::cie_from_offset)
            .unwrap();
        let mut context = UnwindContext::new();
        let row = fde
            .unwind_info_for_address(&section, &self.bases, &mut context, lookup)
            .unwrap();
        let CfaRule::Expression(expression) = row.cfa() else {
            return None;
        };
        let encoding = fde.cie().encoding();
        let bytes = |expression: &UnwindExpression<usize>| -> Expression<Slice<'_>> {
            expression.get(&section).unwrap()
        };
        let mut step = || {
            let cfa = evaluate(bytes(expression), encoding, None, registers, read)?;
            let mut value = |register, kept| match row.register(register) {
                None | Some(RegisterRule::SameValue) => Some(kept),
                Some(RegisterRule::Offset(offset)) => read(cfa.wrapping_add_signed(offset)).ok(),
                Some(RegisterRule::Expression(expression)) => {
                    let at = evaluate(bytes(&expression), encoding, Some(cfa), registers, read)?;
                    read(at).ok()
                }
                Some(other) => panic!("{other:?} of {register:?} at {lookup:#x}"),
            };
            Some(Step {
                registers: Registers {
                    ip: value(X86_64::RA, registers.ip)?,
                    sp: value(X86_64::RSP, cfa)?,
                    bp: value(X86_64::RBP, registers.bp)?,
                },
                interrupted: fde.is_signal_trampoline(),
            })
        };
        Some(step())
    }
}

fn evaluate(
    expression: Expression<Slice<'_>>,
    encoding: Encoding,
    initial: Option<u64>,
    registers: Registers,
    read: &mut impl FnMut(u64) -> Result<u64, ()>,
) -> Option<u64> {
    let mut evaluation = expression.evaluation(encoding);
    if let Some(initial) = initial {
        evaluation.set_initial_value(initial);
    }
    let mut result = evaluation.evaluate().unwrap();
    loop {
        result = match result {
            EvaluationResult::Complete => break,
            EvaluationResult::RequiresMemory { address, .. } => evaluation
                .resume_with_memory(Value::Generic(read(address).ok()?))
                .unwrap(),
            EvaluationResult::RequiresRegister { register, .. } => evaluation
                .resume_with_register(Value::Generic(value(register, registers)))
                .unwrap(),
            other => panic!("{other:?}"),
        };
    }
    match evaluation.as_result().first()?.location {
        Location::Address { address } => Some(address),
        ref other => panic!("{other:?}"),
    }
}

fn value(register: Register, registers: Registers) -> u64 {
    match register {
        X86_64::RSP => registers.sp,
        X86_64::RBP => registers.bp,
        X86_64::RA => registers.ip,
        other => panic!("an expression of {other:?}"),
    }
}
