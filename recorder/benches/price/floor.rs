//! Probes that do nothing, on malloc and free: what no recorder of this kind can go below.

use std::num::NonZeroU32;

use anyhow::Context;
use aya::programs::UProbe;
use aya::programs::uprobe::UProbeScope;
use aya::{Ebpf, include_bytes_aligned};
use memleak_record::discover::Discovery;
use memleak_record::modules::Modules;
use memleak_trace::{Op, SpaceId};

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/empty.bpf.o"));

/// Where the probes sit.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// At the functions' first instruction.
    Start,
    /// Where the recorder puts them.
    Ours,
}

/// Attached as long as it lives.
pub struct Floor {
    _ebpf: Ebpf,
    /// Holds the probed files open.
    _modules: Modules,
}

impl Floor {
    pub fn attach(pid: u32, place: Place) -> anyhow::Result<Floor> {
        let mut ebpf = Ebpf::load(OBJECT)?;
        let programs = Programs {
            enter_malloc: "enter_nothing",
            leave_malloc: "leave_nothing",
            enter_free: "enter_nothing",
        };
        let modules = attach(&mut ebpf, &programs, pid, place)?;
        Ok(Floor {
            _ebpf: ebpf,
            _modules: modules,
        })
    }
}

/// Names of the programs of an object.
pub struct Programs {
    pub enter_malloc: &'static str,
    pub leave_malloc: &'static str,
    pub enter_free: &'static str,
}

/// Attaches an object's programs to malloc and free of a process. What is returned holds the
/// probed files open.
pub fn attach(
    ebpf: &mut Ebpf,
    programs: &Programs,
    pid: u32,
    place: Place,
) -> anyhow::Result<Modules> {
    let space = SpaceId(1);
    let mut modules = Modules::new();
    modules.refresh(pid as i32, space)?;
    let mut discovery = Discovery::default();
    let files = discovery.read(modules.mapped(space), &modules, "");
    let mut names = vec![
        programs.enter_malloc,
        programs.leave_malloc,
        programs.enter_free,
    ];
    names.sort_unstable();
    names.dedup();
    for name in names {
        program(ebpf, name)?.load()?;
    }
    let scope = UProbeScope::OneProcess(NonZeroU32::new(pid).context("pid 0")?);
    for point in discovery.points(&files) {
        let names: &[&str] = match point.op {
            Some(Op::Malloc) => &[programs.leave_malloc, programs.enter_malloc],
            Some(Op::Free) => &[programs.enter_free],
            _ => continue,
        };
        let displacement = if place == Place::Ours {
            point.displacement
        } else {
            0
        };
        for name in names {
            program(ebpf, name)?.attach(
                point.file_offset + displacement,
                &point.open_path,
                scope,
            )?;
        }
    }
    Ok(modules)
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> anyhow::Result<&'a mut UProbe> {
    Ok(ebpf
        .program_mut(name)
        .context("no such program")?
        .try_into()?)
}
