//! The kernel beside programs (`--with-kernel`): the same object has both sorts of probes, so there
//! is one ring and one clock.

use memleak_trace::header::{KernelRecording, Probe};

use super::kallsyms::Kallsyms;
use super::leaf_cut::LeafCut;
use super::machine::Facts;
use super::places::Places;
use super::settings::Settings;
use super::{KernelOptions, coverage};
use crate::kernel::Kernel;

/// What a recording needs to know of the probes in the kernel.
pub struct Beside {
    pub recording: KernelRecording,
    pub probes: Vec<Probe>,
    pub cut: LeafCut,
}

impl Beside {
    /// Attaches the probes of an object that was loaded with [`settings`].
    pub fn attach(kernel: &mut Kernel, options: &KernelOptions) -> anyhow::Result<Beside> {
        Beside::of(kernel.attach_places(options.percpu)?, options)
    }

    /// Of probes that are attached; says which.
    pub fn of(places: &Places, options: &KernelOptions) -> anyhow::Result<Beside> {
        places.print();
        Ok(Beside {
            recording: coverage::recording(places, options),
            probes: places.probes().collect(),
            // Read now: the probes are functions of the kernel by this time.
            cut: LeafCut::new(Kallsyms::read()?.as_ref()),
        })
    }
}

/// What the object must be loaded with; `None` if the kernel is not asked for.
pub fn settings(
    options: Option<&KernelOptions>,
    page_size: u64,
    ring_bytes: u32,
) -> anyhow::Result<Option<Settings>> {
    let settings = |options| {
        anyhow::Ok(Settings::new(
            options,
            None,
            Facts::read(page_size)?,
            ring_bytes,
        ))
    };
    options.map(settings).transpose()
}
