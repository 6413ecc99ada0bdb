//! The places in the kernel that are probed: attaches the programs of a loaded object, says which it
//! has, and reads what they count.

use std::os::fd::AsFd;

use aya::programs::{FEntry, FExit, Program, ProgramError, RawTracePoint};
use aya::{Btf, Ebpf};
use aya_obj::btf::BtfKind;
use memleak_trace::header;

use super::kallsyms::KERNEL;
use super::misses::misses;
use super::table::{Place, ROWS, Row, Tells};
use crate::kernel::KernelError;
use crate::layout::Counters;
use crate::object;
use crate::talk::say;

/// What is attached of an object that has `bpf/kernel_alloc.h` and `bpf/kernel_bulk.h`.
#[derive(Debug, Default)]
pub struct Places {
    attached: Vec<Row>,
    /// What the kernel does not have, in words.
    skipped: Vec<String>,
}

impl Places {
    /// Attaches; nothing is recorded before the recording is opened.
    pub fn attach(ebpf: &mut Ebpf, percpu: bool) -> Result<Places, KernelError> {
        let btf = Btf::from_sys_fs().ok();
        let mut places = Places::default();
        for row in ROWS.into_iter().filter(|row| percpu || !row.percpu) {
            match (attach(ebpf, &row, btf.as_ref())?, row.without) {
                (None, _) => places.attached.push(row),
                (Some(reason), Some(without)) => places.skipped.push(format!(
                    "{} cannot be probed here ({reason}): {without} are not recorded",
                    row.place.name()
                )),
                (Some(_), None) => {}
            }
        }
        Ok(places)
    }

    /// The places that are probed.
    pub fn attached(&self) -> &[Row] {
        &self.attached
    }

    /// What is not recorded because the kernel does not have it, a sentence each.
    pub fn skipped(&self) -> &[String] {
        &self.skipped
    }

    /// Adds what the probes count, summed over the CPUs, and what the kernel did not hand to them.
    pub fn count(&self, ebpf: &Ebpf, counters: &mut Counters) -> Result<(), KernelError> {
        let values = values(ebpf)?;
        let value = |index: usize| values.get(index).copied().unwrap_or(0);
        counters.lost_alloc_ring_full += value(0);
        counters.lost_release_ring_full += value(1);
        counters.lost_alloc_bulk += value(2);
        counters.lost_release_bulk += value(3);
        counters.defect_stack_unpublished += value(4);
        counters.defect_stack_unread += value(5);
        counters.defect_stack_mistaken += value(7);
        counters.lost_alloc_interrupted += self.misses(ebpf, Tells::Allocations);
        counters.lost_release_interrupted += self.misses(ebpf, Tells::Releases);
        Ok(())
    }

    /// A program that cannot be asked counts as without misses: the kernel is too old to tell.
    fn misses(&self, ebpf: &Ebpf, tells: Tells) -> u64 {
        let rows = self.attached.iter().filter(|row| row.tells == tells);
        rows.filter_map(|row| {
            let program = ebpf.program(row.program)?;
            misses(program.fd().ok()?.as_fd()).ok()
        })
        .sum()
    }

    /// As the trace's header has them.
    pub fn probes(&self) -> impl Iterator<Item = header::Probe> {
        self.attached.iter().map(|row| header::Probe {
            pid: 0,
            object: KERNEL.to_owned(),
            function: row.place.name().to_owned(),
            file_offset: 0,
            displacement: 0,
            returns: matches!(row.place, Place::Return(_)),
        })
    }

    /// Says on stderr what is probed, and what the kernel does not have.
    pub fn print(&self) {
        let names = |tracepoints: bool| -> Vec<&str> {
            let rows = self.attached.iter();
            rows.filter(|row| matches!(row.place, Place::Tracepoint(_)) == tracepoints)
                .map(|row| row.place.name())
                .collect()
        };
        say(format_args!(
            "probing the kernel's tracepoints {}",
            names(true).join(" ")
        ));
        if !names(false).is_empty() {
            say(format_args!(
                "probing the kernel's functions {}",
                names(false).join(" ")
            ));
        }
        for sentence in &self.skipped {
            say(format_args!("memleak-record: {sentence}"));
        }
    }
}

/// Chosen allocations that found no place in the set of those whose frees are awaited: since the
/// first of them, every free is written.
pub fn untracked(ebpf: &Ebpf) -> Result<u64, KernelError> {
    Ok(values(ebpf)?.get(6).copied().unwrap_or(0))
}

fn values(ebpf: &Ebpf) -> Result<Vec<u64>, KernelError> {
    object::counters(ebpf, "kernel_counters")
}

/// Loads and attaches a program; the reason if the kernel does not have its place.
fn attach(ebpf: &mut Ebpf, row: &Row, btf: Option<&Btf>) -> Result<Option<String>, KernelError> {
    let name = row.program;
    let program = ebpf.program_mut(name).ok_or(KernelError::Missing(name))?;
    let failed = |source| KernelError::Program { name, source };
    match row.place {
        Place::Tracepoint(tracepoint) => {
            let missing = || Some("the kernel has no such tracepoint".to_owned());
            // Asked first: verifying a program for nothing takes the kernel half a second.
            if btf.is_some_and(|btf| !has_tracepoint(btf, tracepoint)) {
                return Ok(missing());
            }
            let program: &mut RawTracePoint = program.try_into().map_err(failed)?;
            program.load().map_err(failed)?;
            match program.attach(tracepoint) {
                Ok(_) => Ok(None),
                Err(ProgramError::SyscallError(error)) if is_missing(&error.io_error) => {
                    Ok(missing())
                }
                Err(source) => Err(failed(source)),
            }
        }
        Place::Entry(names) | Place::Return(names) => {
            // Optional everywhere: kernels without trampolines have the tracepoints all the same.
            let mut reason = "the kernel does not describe its functions".to_owned();
            for (function, btf) in names.iter().zip(btf.into_iter().cycle()) {
                match probe(program, function, btf) {
                    Ok(()) => return Ok(None),
                    Err(error) => reason = in_short(&error),
                }
            }
            Ok(Some(reason))
        }
    }
}

/// Whether the kernel's types have the tracepoint: each is declared with a `btf_trace_NAME` (the
/// kernel's `include/trace/bpf_probe.h`).
fn has_tracepoint(btf: &Btf, name: &str) -> bool {
    btf.id_by_type_name_kind(&format!("btf_trace_{name}"), BtfKind::Typedef)
        .is_ok()
}

/// What the kernel said, without the log of its verifier.
fn in_short(error: &ProgramError) -> String {
    match error {
        ProgramError::LoadError { io_error, .. } => io_error.to_string(),
        ProgramError::SyscallError(error) => error.io_error.to_string(),
        ProgramError::Btf(_) => "the kernel has no such function".to_owned(),
        other => other.to_string(),
    }
}

fn probe(program: &mut Program, function: &str, btf: &Btf) -> Result<(), ProgramError> {
    match program {
        Program::FEntry(entry) => {
            let entry: &mut FEntry = entry;
            entry.load(function, btf)?;
            entry.attach().map(drop)
        }
        Program::FExit(exit) => {
            let exit: &mut FExit = exit;
            exit.load(function, btf)?;
            exit.attach().map(drop)
        }
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

fn is_missing(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::NotFound
}
