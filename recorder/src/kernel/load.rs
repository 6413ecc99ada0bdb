//! Loads the object, with what is fixed from then on.

use std::collections::HashMap;
use std::os::fd::AsFd;

use aya::maps::Map;
use aya::programs::RawTracePoint;
use aya::{EbpfLoader, include_bytes_aligned};
use memleak_trace::Selection;
use memleak_trace::selection::exponentials;

use super::{Kernel, KernelError};
use crate::functions::{LOADER_PROGRAMS, USUAL_PROGRAMS};
use crate::kernel_mode::places::Places;
use crate::kernel_mode::settings::Settings;
use crate::layout::EMPTY_TABLE;
use crate::object::program;
use crate::row_arena::RowArena;

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/memleak.bpf.o"));
/// The same, and the probes in the kernel.
static WITH_KERNEL: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/with_kernel.bpf.o"));

/// Sizes that are fixed when the object is loaded.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// Bytes of the ring: a power of two, at least a page.
    pub ring_bytes: u32,
    /// Unwind rows of all files together.
    pub row_capacity: u32,
    pub page_size: u64,
    /// Bytes that wait in the ring when a process is stopped that sends more; 0: none is.
    pub pause_at: u64,
    /// Which heap blocks are recorded.
    pub selection: Selection,
    /// Recorded blocks that can be live at once, if others are left out.
    pub tracked_blocks: u32,
    /// Count calls, and record nothing.
    pub counting: bool,
    /// How long a thread that opens a library waits for [`Openings::answer`]; 0: not at all.
    pub hold_ns: u64,
    /// Whether children are recorded.
    pub follow: bool,
    /// For tests: of how many stacks one is shipped with what its walk started from
    /// ([`crate::wire::RawSample`]); 0 for none.
    pub sample_every: u32,
    /// For probes in the kernel beside; `None`: there are none.
    pub with_kernel: Option<Settings>,
}

/// The programs that are not probes of functions.
const RAW_PROGRAMS: [&str; 6] = [
    "on_exit",
    "on_oom",
    "on_fork",
    "on_return",
    "on_exec",
    "settle",
];

impl Kernel {
    /// Loads the programs; nothing is attached yet.
    pub fn load(options: LoadOptions) -> Result<Kernel, KernelError> {
        let selecting = !options.selection.is_everything();
        let chosen = options.selection.numbers();
        let exponentials = exponentials();
        let [counting, selecting_flag, follow] =
            [options.counting, selecting, options.follow].map(u32::from);
        let mut loader = EbpfLoader::new();
        loader
            .allow_unsupported_maps()
            .map_max_entries(
                "recorded_blocks",
                if selecting { options.tracked_blocks } else { 1 },
            )
            .override_global("counting", &counting, true)
            .override_global("selecting", &selecting_flag, true)
            .override_global("least_size", &chosen.least_size, true)
            .override_global("most_size", &chosen.most_size, true)
            .override_global("sampling_threshold", &chosen.threshold, true)
            .override_global("sampling_scale", &chosen.scale, true)
            .override_global("sampling_certain_size", &chosen.certain_size, true)
            .override_global("exponentials", &exponentials, true)
            .map_max_entries("events", options.ring_bytes)
            .map_max_entries("unwind_rows", options.row_capacity)
            .override_global("page_size", &options.page_size, true)
            .override_global("pause_at", &options.pause_at, true)
            .override_global("hold_ns", &options.hold_ns, true)
            .override_global("follow", &follow, true)
            .override_global("sample_every", &options.sample_every, true);
        let mut ebpf = match &options.with_kernel {
            None => loader.load(OBJECT)?,
            Some(settings) => {
                settings.apply(&mut loader);
                loader.load(settings.patched(WITH_KERNEL).bytes())?
            }
        };
        for name in RAW_PROGRAMS {
            program::<RawTracePoint>(&mut ebpf, name)?
                .load()
                .map_err(|source| KernelError::Program { name, source })?;
        }
        let Some(Map::Array(rows)) = ebpf.map("unwind_rows") else {
            return Err(KernelError::Missing("unwind_rows"));
        };
        let rows = RowArena::map(rows.fd().as_fd(), options.row_capacity as usize)
            .map_err(KernelError::Rows)?;
        let mut kernel = Kernel {
            ebpf,
            rows,
            table_generation: 0,
            second_table: HashMap::new(),
            return_hook: None,
            loader_program: LOADER_PROGRAMS[0],
            places: Places::default(),
            buffers: options.with_kernel.as_ref().map(Settings::buffers),
        };
        for name in USUAL_PROGRAMS {
            kernel.load_program(name)?;
        }
        let [waiting, busy] = LOADER_PROGRAMS;
        if kernel.load_program(waiting).is_err() {
            kernel.load_program(busy)?;
            kernel.loader_program = busy;
        }
        // A generation of its own: what threads remember of 0 is nothing.
        kernel.set_table(EMPTY_TABLE, u32::MAX, &[])?;
        Ok(kernel)
    }
}
