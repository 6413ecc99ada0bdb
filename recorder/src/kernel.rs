//! The kernel side: loads the object, attaches its probes, fills its maps.

mod load;

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use aya::maps::{Map, MapData, RingBuf};
use aya::programs::raw_trace_point::RawTracePointLinkId;
use aya::programs::uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeScope};
use aya::programs::{ProgramError, RawTracePoint, UProbe};
use aya::{Ebpf, EbpfError};
use memleak_trace::Op;

use crate::elf::SymbolTable;
use crate::functions::Shape;
use crate::kernel_mode::buffers::{Buffers, Sizes};
use crate::kernel_mode::places::Places;
use crate::layout::{
    COOKIE_EVERYWHERE, Counters, EMPTY_TABLE, Exit, MAX_MAPPINGS, MappingRow, MappingTable,
    Recording, SPACE_FORKED, SPACE_OWN, Space, Tally,
};
use crate::object::{self, program};
use crate::openings::Openings;
use crate::row_arena::RowArena;
use crate::stops::{Stops, keys};
use crate::{bpf_map, bpf_program};

pub use load::LoadOptions;

/// What the kernel refused.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    #[error("the kernel does not accept the probes: {0}")]
    Load(#[from] EbpfError),
    #[error("the kernel does not accept the program {name}: {source}")]
    Program {
        name: &'static str,
        source: ProgramError,
    },
    #[error("cannot probe {function} in {object}: {source}")]
    Attach {
        function: Box<str>,
        object: Box<str>,
        source: ProgramError,
    },
    #[error(
        "this kernel lets only CAP_SYS_ADMIN probe programs; run memleak-record with sudo, or allow it for every user with: sudo setcap cap_sys_admin,cap_sys_ptrace=ep $(command -v memleak-record)"
    )]
    NotAllowed,
    #[error("the probes have no {0}: build and object differ")]
    Missing(&'static str),
    #[error("cannot use the map {name}: {source}")]
    Map {
        name: &'static str,
        source: aya::maps::MapError,
    },
    #[error("cannot use the map {0}: {1}")]
    Descriptor(&'static str, std::io::Error),
    #[error("cannot tell the probes of a process: {0}")]
    Settle(std::io::Error),
    #[error("cannot map the unwind rows: {0}")]
    Rows(std::io::Error),
    #[error(
        "the target has {found} executable mappings, this version follows {limit}: frames in the others end a stack"
    )]
    TooManyMappings { found: usize, limit: usize },
}

/// A function to be probed, and where.
#[derive(Clone, Debug)]
pub struct ProbePoint {
    pub symbol: String,
    /// How it was found.
    pub table: SymbolTable,
    /// What a call of it is in the trace; `None` if it is no event.
    pub op: Option<Op>,
    pub shape: Shape,
    /// What its programs are told.
    pub cookie: u64,
    /// The object's path for messages.
    pub object: String,
    /// A path by which this process can open the object.
    pub open_path: std::path::PathBuf,
    /// Offset of the function in the file.
    pub file_offset: u64,
    /// Bytes from there to the probed instruction.
    pub displacement: u64,
    /// Names of which another file must speak; `None`: it is probed in any case.
    pub if_mentioned: Option<Vec<String>>,
}

/// The loaded object.
pub struct Kernel {
    ebpf: Ebpf,
    rows: RowArena,
    /// Number of the last mapping table written.
    table_generation: u32,
    /// Whether the second table of a slot is the one in use.
    second_table: HashMap<u32, bool>,
    /// Sees children return from fork.
    return_hook: Option<RawTracePointLinkId>,
    /// The one of [`crate::functions::LOADER_PROGRAMS`] that this kernel takes.
    loader_program: &'static str,
    /// In the kernel; nothing where it is not recorded.
    places: Places,
    /// What the probes there fill.
    buffers: Option<Sizes>,
}

/// Whose calls a probe sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Those of the process that this living thread belongs to.
    ProcessOf(NonZeroU32),
    /// Every process's.
    Everywhere,
}

/// Where the probes keep what they know of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its pair of mapping tables.
    pub slot: u32,
    pub pid: u32,
    pub space: u32,
}

impl Kernel {
    /// Loads a program that is attached to functions, if it is not loaded yet.
    pub fn load_program(&mut self, name: &'static str) -> Result<(), KernelError> {
        let program = program::<UProbe>(&mut self.ebpf, name)?;
        match program.fd() {
            Ok(_) => Ok(()),
            Err(_) => program
                .load()
                .map_err(|source| KernelError::Program { name, source }),
        }
    }

    /// Probes a function: entry, and return where its shape asks for it.
    pub fn attach(&mut self, point: &ProbePoint, scope: Scope) -> Result<(), KernelError> {
        // The return first: a call that is entered in between then has no entry, and is no event.
        let programs = point.shape.leave_program().into_iter();
        let enter = match point.shape {
            Shape::Loader => self.loader_program,
            other => other.enter_program(),
        };
        for name in programs.chain([enter]) {
            let at = UProbeAttachPoint {
                location: UProbeAttachLocation::AbsoluteOffset(
                    point.file_offset + point.displacement,
                ),
                cookie: Some(match scope {
                    Scope::Everywhere if point.op.is_some() => point.cookie | COOKIE_EVERYWHERE,
                    _ => point.cookie,
                }),
            };
            let scope = match scope {
                Scope::ProcessOf(task) => UProbeScope::OneProcess(task),
                Scope::Everywhere => UProbeScope::AllProcesses,
            };
            self.load_program(name)?;
            program::<UProbe>(&mut self.ebpf, name)?
                .attach(at, Path::new(&point.open_path), scope)
                .map_err(|source| attach_error(point, source))?;
        }
        Ok(())
    }

    /// Probes the kernel itself; only where it was loaded with that.
    pub fn attach_places(&mut self, percpu: bool) -> Result<&Places, KernelError> {
        self.places = Places::attach(&mut self.ebpf, percpu)?;
        Ok(&self.places)
    }

    /// What they fill; `None` where the kernel is not recorded.
    pub fn map_buffers(&self) -> Result<Option<Buffers>, KernelError> {
        let buffers = self.buffers.map(|sizes| Buffers::of(&self.ebpf, sizes));
        buffers.transpose()
    }

    /// Watches how recorded processes end. Without OOM kills where the kernel does not tell them.
    pub fn attach_exits(&mut self) -> Result<(), KernelError> {
        self.attach_raw("on_exit", "sched_process_exit")?;
        let _ = self.attach_raw("on_oom", "mark_victim");
        Ok(())
    }

    /// How a process ended; `None` if it has not, or nobody saw it.
    pub fn exit_of(&self, pid: i32) -> Option<Exit> {
        let descriptor = self.map_descriptor("exits").ok()?;
        let exit: Exit = bpf_map::lookup(descriptor, pid as u32)?;
        (exit.ended != 0).then_some(exit)
    }

    /// The stops of the recorded processes.
    pub fn stops(&self) -> Result<Stops, KernelError> {
        let own = |name| {
            let descriptor = self.map_descriptor(name)?.try_clone_to_owned();
            descriptor.map_err(|error| KernelError::Descriptor(name, error))
        };
        Ok(Stops::new(own("stops")?, own("continued")?))
    }

    fn map_descriptor(&self, name: &'static str) -> Result<BorrowedFd<'_>, KernelError> {
        match self.ebpf.map(name) {
            Some(Map::HashMap(map) | Map::LruHashMap(map)) => Ok(map.fd().as_fd()),
            _ => Err(KernelError::Missing(name)),
        }
    }

    /// The ring's reading end; there is one.
    pub fn take_ring(&mut self) -> Result<RingBuf<MapData>, KernelError> {
        object::take_ring(&mut self.ebpf, "events")
    }

    /// The threads that wait because they opened a library; there is one.
    pub fn take_openings(&mut self) -> Result<Openings, KernelError> {
        const ANSWERS: &str = "map_answers";
        let ring = object::take_ring(&mut self.ebpf, "map_changes")?;
        let answers = match self.ebpf.map(ANSWERS) {
            Some(Map::Array(map)) => map.fd().as_fd().try_clone_to_owned(),
            _ => return Err(KernelError::Missing(ANSWERS)),
        };
        let answers = answers.map_err(|error| KernelError::Descriptor(ANSWERS, error))?;
        Ok(Openings::new(ring, answers))
    }

    /// Opens or closes the recording, for all probes at one instant.
    pub fn set_recording(&mut self, recording: Recording) -> Result<(), KernelError> {
        object::set_number(&mut self.ebpf, "control", recording as u32)
    }

    /// Tells the probes how many address spaces have numbers; fork and exec give the next ones. Call
    /// it before [`Kernel::attach_births`].
    pub fn set_spaces(&mut self, count: u32) -> Result<(), KernelError> {
        object::set_number(&mut self.ebpf, "last_space", count)
    }

    /// The unwind rows of the probes.
    pub fn rows(&mut self) -> &mut RowArena {
        &mut self.rows
    }

    /// Makes a process known to the probes, with no mappings.
    pub fn introduce(&mut self, pid: u32, space: Space) -> Result<(), KernelError> {
        bpf_map::update(self.map_descriptor("spaces")?, pid, &space)
            .map_err(|error| KernelError::Descriptor("spaces", error))
    }

    /// A process as the probes know it; `None` if they do not, or it has ended.
    pub fn space_of(&self, pid: u32) -> Option<Space> {
        bpf_map::lookup(self.map_descriptor("spaces").ok()?, pid)
    }

    /// The processes that the probes know.
    pub fn known_processes(&self) -> Vec<u32> {
        self.map_descriptor("spaces")
            .map(|map| keys(map).collect())
            .unwrap_or_default()
    }

    /// The probes forget a process: what it does is not recorded.
    pub fn forget(&mut self, pid: u32) {
        if let Ok(map) = self.map_descriptor("spaces") {
            bpf_map::delete(map, pid);
        }
    }

    /// Tells the probes the executable mappings of the process in `place` (below
    /// [`crate::layout::MAX_PROCESSES`]), sorted by address, and that these flags of it are over.
    /// Mappings beyond the limit are left out, with an error that says so after the others are in
    /// force. Nothing changes if its address space is another one by now.
    pub fn set_mappings(
        &mut self,
        place: Place,
        mappings: &[MappingRow],
        over: u32,
    ) -> Result<(), KernelError> {
        let Place { slot, pid, space } = place;
        let kept = mappings.len().min(MAX_MAPPINGS);
        self.table_generation += 1;
        // Two tables: walks under way still use the other one.
        let second = self.second_table.entry(slot).or_default();
        *second = !*second;
        let index = EMPTY_TABLE + 1 + 2 * slot + u32::from(*second);
        self.set_table(index, self.table_generation, &mappings[..kept])?;
        let program = program::<RawTracePoint>(&mut self.ebpf, "settle")?;
        let program = program.fd().map_err(|source| KernelError::Program {
            name: "settle",
            source,
        })?;
        bpf_program::run(
            program.as_fd(),
            &[pid.into(), space.into(), index.into(), over.into()],
        )
        .map_err(KernelError::Settle)?;
        if mappings.len() > kept {
            return Err(KernelError::TooManyMappings {
                found: mappings.len(),
                limit: kept,
            });
        }
        Ok(())
    }

    fn set_table(
        &mut self,
        index: u32,
        generation: u32,
        mappings: &[MappingRow],
    ) -> Result<(), KernelError> {
        let mut table = Box::new(MappingTable {
            count: mappings.len() as u32,
            generation,
            rows: [MappingRow::default(); MAX_MAPPINGS],
        });
        table.rows[..mappings.len()].copy_from_slice(mappings);
        object::array::<MappingTable>(&mut self.ebpf, "mapping_tables")?
            .set(index, *table, 0)
            .map_err(|source| KernelError::Map {
                name: "mapping_tables",
                source,
            })
    }

    /// Watches where address spaces begin: fork and exec. `follow` as it was when loaded.
    pub fn attach_births(&mut self, follow: bool) -> Result<(), KernelError> {
        if follow {
            object::set_number(&mut self.ebpf, "child_flags", SPACE_OWN | SPACE_FORKED)?;
            self.return_hook = Some(self.attach_raw("on_return", "sys_exit")?);
        }
        self.attach_raw("on_fork", "sched_process_fork")?;
        self.attach_raw("on_exec", "sched_process_exec")?;
        Ok(())
    }

    /// From here on children have no probes of their own: they are recorded from their first
    /// instruction by probes that fire everywhere, and need not be held.
    pub fn share_with_children(&mut self) -> Result<(), KernelError> {
        object::set_number(&mut self.ebpf, "child_flags", 0)
    }

    /// Once no child is held at its return from fork any more, system calls need not pay for it.
    pub fn leave_returns_alone(&mut self) -> Result<(), KernelError> {
        let known = self.known_processes();
        let is_awaited = |pid: &u32| {
            let space = self.space_of(*pid);
            space.is_some_and(|space| space.flags & SPACE_FORKED != 0)
        };
        if self.return_hook.is_none() || known.iter().any(is_awaited) {
            return Ok(());
        }
        let Some(hook) = self.return_hook.take() else {
            return Ok(());
        };
        const NAME: &str = "on_return";
        program::<RawTracePoint>(&mut self.ebpf, NAME)?
            .detach(hook)
            .map_err(|source| KernelError::Program { name: NAME, source })
    }

    fn attach_raw(
        &mut self,
        name: &'static str,
        event: &str,
    ) -> Result<RawTracePointLinkId, KernelError> {
        program::<RawTracePoint>(&mut self.ebpf, name)?
            .attach(event)
            .map_err(|source| KernelError::Program { name, source })
    }

    /// What was counted instead of recorded, summed over the CPUs.
    pub fn tallies(&self) -> Result<Vec<Tally>, KernelError> {
        object::sums(&self.ebpf, "tallies", |cpus: &[Tally]| {
            cpus.iter().fold(Tally::default(), |sum, cpu| Tally {
                count: sum.count + cpu.count,
                bytes: sum.bytes + cpu.bytes,
            })
        })
    }

    /// The counters, summed over the CPUs.
    pub fn counters(&self) -> Result<Counters, KernelError> {
        let values = object::counters(&self.ebpf, "counters")?;
        let mut counters = Counters::from_values(&values);
        if !self.places.attached().is_empty() {
            self.places.count(&self.ebpf, &mut counters)?;
        }
        Ok(counters)
    }
}

/// Kernels differ in what they demand for a uprobe: 6.18 wants CAP_SYS_ADMIN, where CAP_PERFMON is
/// the documented capability.
fn attach_error(point: &ProbePoint, source: ProgramError) -> KernelError {
    match &source {
        ProgramError::SyscallError(error)
            if error.io_error.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            KernelError::NotAllowed
        }
        _ => KernelError::Attach {
            function: point.symbol.as_str().into(),
            object: point.object.as_str().into(),
            source,
        },
    }
}
