//! The probes in the kernel: loads and attaches what it has, and reads what they count.

use std::os::fd::AsFd;

use aya::maps::{Array, HashMap, MapData, PerCpuArray, RingBuf};
use aya::programs::{FEntry, FExit, Program, ProgramError, RawTracePoint};
use aya::{Btf, Ebpf, EbpfLoader, include_bytes_aligned};

use super::KernelOptions;
use super::choice::Cgroup;
use super::misses::misses;
use super::table::{Place, ROWS, Row, Tells};
use crate::kernel::KernelError;
use crate::layout::{Counters, Recording};

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/kernel_alloc.bpf.o"));

/// Chosen allocations that can live at once before every free is written: 80 MiB of kernel memory.
const TRACKED: u32 = 1 << 20;

/// What the machine says, beside the request.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    pub page_size: u64,
    /// CPUs that there may be.
    pub possible_cpus: u32,
    /// Address of the variable that holds the address of the first `struct page`; 0: not known.
    pub vmemmap_at: u64,
    pub cgroup: Option<Cgroup>,
}

/// The loaded object, and what of it is attached.
pub struct Probes {
    ebpf: Ebpf,
    attached: Vec<Row>,
    /// What the kernel does not have, in words.
    skipped: Vec<String>,
}

impl Probes {
    /// Loads and attaches; nothing is recorded before [`Probes::set_recording`].
    pub fn attach(
        ring_bytes: u32,
        options: &KernelOptions,
        facts: Facts,
    ) -> Result<Probes, KernelError> {
        let choice = &options.choice;
        let mut comm = [0u8; 16];
        for (to, from) in comm
            .iter_mut()
            .zip(choice.comm.iter().flat_map(|comm| comm.bytes()))
        {
            *to = from;
        }
        let (low, high) = comm.split_at(8);
        let word = |half: &[u8]| {
            half.first_chunk()
                .map_or(0, |word| u64::from_ne_bytes(*word))
        };
        let (low, high) = (word(low), word(high));
        let cgroup = facts.cgroup.unwrap_or_default();
        let flag = |set: bool| u32::from(set);
        let own = std::process::id();
        let (by_pid, by_comm) = (flag(!choice.pids.is_empty()), flag(choice.comm.is_some()));
        let (by_cgroup, stacks) = (flag(facts.cgroup.is_some()), flag(options.stacks));
        let mut ebpf = EbpfLoader::new()
            .map_max_entries("events", ring_bytes)
            .map_max_entries("tracked", if choice.is_made() { TRACKED } else { 1 })
            .override_global("own_tgid", &own, true)
            .override_global("choose_pid", &by_pid, true)
            .override_global("choose_comm", &by_comm, true)
            .override_global("chosen_comm_low", &low, true)
            .override_global("chosen_comm_high", &high, true)
            .override_global("choose_cgroup", &by_cgroup, true)
            .override_global("chosen_cgroup", &cgroup.id, true)
            .override_global("chosen_cgroup_level", &cgroup.level, true)
            .override_global("kernel_stacks", &stacks, true)
            .override_global("possible_cpus", &facts.possible_cpus, true)
            .override_global("vmemmap_at", &facts.vmemmap_at, true)
            .override_global("kernel_page_size", &facts.page_size, true)
            .load(OBJECT)?;
        for pid in &choice.pids {
            let map = ebpf.map_mut("chosen_pids");
            let map = map.ok_or(KernelError::Missing("chosen_pids"))?;
            HashMap::<_, u32, u32>::try_from(map)
                .and_then(|mut pids| pids.insert(*pid as u32, 1, 0))
                .map_err(|source| KernelError::Map {
                    name: "chosen_pids",
                    source,
                })?;
        }
        let btf = Btf::from_sys_fs().ok();
        let mut probes = Probes {
            ebpf,
            attached: Vec::new(),
            skipped: Vec::new(),
        };
        for row in ROWS.into_iter().filter(|row| options.percpu || !row.percpu) {
            match (attach(&mut probes.ebpf, &row, btf.as_ref())?, row.without) {
                (None, _) => probes.attached.push(row),
                (Some(reason), Some(without)) => probes.skipped.push(format!(
                    "{} cannot be probed here ({reason}): {without} are not recorded",
                    row.place.name()
                )),
                (Some(_), None) => {}
            }
        }
        Ok(probes)
    }

    /// The places that are probed.
    pub fn attached(&self) -> &[Row] {
        &self.attached
    }

    /// What is not recorded because the kernel does not have it, a sentence each.
    pub fn skipped(&self) -> &[String] {
        &self.skipped
    }

    /// The ring's reading end; there is one.
    pub fn take_ring(&mut self) -> Result<RingBuf<MapData>, KernelError> {
        let map = self.ebpf.take_map("events");
        let map = map.ok_or(KernelError::Missing("events"))?;
        RingBuf::try_from(map).map_err(|source| KernelError::Map {
            name: "events",
            source,
        })
    }

    /// Opens or closes the recording, for all probes at one instant.
    pub fn set_recording(&mut self, recording: Recording) -> Result<(), KernelError> {
        let map = self.ebpf.map_mut("control");
        let map = map.ok_or(KernelError::Missing("control"))?;
        Array::<_, u32>::try_from(map)
            .and_then(|mut control| control.set(0, recording as u32, 0))
            .map_err(|source| KernelError::Map {
                name: "control",
                source,
            })
    }

    /// What the probes count, summed over the CPUs, and what the kernel did not hand to them.
    pub fn counters(&self) -> Result<Counters, KernelError> {
        let values = self.values()?;
        let value = |index: usize| values.get(index).copied().unwrap_or(0);
        Ok(Counters {
            lost_alloc_ring_full: value(0),
            lost_release_ring_full: value(1),
            lost_alloc_bulk: value(2),
            lost_release_bulk: value(3),
            defect_stack_unpublished: value(4),
            defect_stack_unread: value(5),
            lost_alloc_interrupted: self.misses(Tells::Allocations),
            lost_release_interrupted: self.misses(Tells::Releases),
            ..Counters::default()
        })
    }

    /// Chosen allocations that found no place in the set of those whose frees are awaited: since
    /// the first of them, every free is written.
    pub fn untracked(&self) -> Result<u64, KernelError> {
        Ok(self.values()?.get(6).copied().unwrap_or(0))
    }

    fn values(&self) -> Result<Vec<u64>, KernelError> {
        let name = "kernel_counters";
        let map = self.ebpf.map(name).ok_or(KernelError::Missing(name))?;
        let read = |map| -> Result<Vec<u64>, aya::maps::MapError> {
            let counters = PerCpuArray::<_, u64>::try_from(map)?;
            (0..counters.len())
                .map(|index| Ok(counters.get(&index, 0)?.iter().sum()))
                .collect()
        };
        read(map).map_err(|source| KernelError::Map { name, source })
    }

    /// A program that cannot be asked counts as without misses: the kernel is too old to tell.
    fn misses(&self, tells: Tells) -> u64 {
        let rows = self.attached.iter().filter(|row| row.tells == tells);
        rows.filter_map(|row| {
            let program = self.ebpf.program(row.program)?;
            misses(program.fd().ok()?.as_fd()).ok()
        })
        .sum()
    }
}

/// Loads and attaches a program; the reason if the kernel does not have its place.
fn attach(ebpf: &mut Ebpf, row: &Row, btf: Option<&Btf>) -> Result<Option<String>, KernelError> {
    let name = row.program;
    let program = ebpf.program_mut(name).ok_or(KernelError::Missing(name))?;
    let failed = |source| KernelError::Program { name, source };
    match row.place {
        Place::Tracepoint(tracepoint) => {
            let program: &mut RawTracePoint = program.try_into().map_err(failed)?;
            program.load().map_err(failed)?;
            match program.attach(tracepoint) {
                Ok(_) => Ok(None),
                Err(ProgramError::SyscallError(error)) if is_missing(&error.io_error) => {
                    Ok(Some("the kernel has no such tracepoint".to_owned()))
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
