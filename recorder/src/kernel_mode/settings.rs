//! What the probes in the kernel are told when they are loaded.

use aya::EbpfLoader;

use super::KernelOptions;
use super::buffers::Sizes;
use super::cast::{Cast, Patched};
use super::choice::Cgroup;
use super::machine::Facts;

/// Chosen allocations that can live at once before every free is written: 80 MiB of kernel memory.
const TRACKED: u32 = 1 << 20;

/// The constants of `bpf/kernel_*.h`.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    own_tgid: u32,
    tracked: u32,
    choose_pid: u32,
    choose_comm: u32,
    choose_cgroup: u32,
    comm_low: u64,
    comm_high: u64,
    cgroup: Cgroup,
    stacks: u32,
    facts: Facts,
    buffers: Sizes,
    wake_mask: u64,
    cast: Option<Cast>,
    word_type: u32,
}

/// The reader is woken once per so many parts of a CPU's buffer: a wake-up costs as much as a hundred
/// events, and the reader looks by itself fifty times a second.
const WAKE_SHIFT: u32 = 3;

impl Settings {
    /// For what was asked for on this machine; `ring_bytes` is what the buffers may take.
    pub fn new(
        options: &KernelOptions,
        cgroup: Option<Cgroup>,
        facts: Facts,
        ring_bytes: u32,
    ) -> Settings {
        let cast = Cast::find();
        let buffers = Sizes::new(facts.cpu_numbers, ring_bytes);
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
        Settings {
            own_tgid: std::process::id(),
            tracked: if choice.is_made() { TRACKED } else { 1 },
            choose_pid: u32::from(choice.recorded || !choice.pids.is_empty()),
            choose_comm: u32::from(choice.comm.is_some()),
            choose_cgroup: u32::from(cgroup.is_some()),
            comm_low: word(low),
            comm_high: word(high),
            cgroup: cgroup.unwrap_or_default(),
            stacks: u32::from(options.stacks),
            facts,
            buffers,
            wake_mask: (1 << buffers.slots_shift >> WAKE_SHIFT) - 1,
            cast,
            word_type: cast.map_or(0, |cast| cast.word_type),
        }
    }

    /// The object as this kernel can load it.
    pub fn patched(&self, object: &[u8]) -> Patched {
        Patched::new(object, self.cast)
    }

    /// How large the buffers are.
    pub fn buffers(&self) -> Sizes {
        self.buffers
    }

    /// Sets them in the object that `loader` is about to load.
    pub fn apply<'a>(&'a self, loader: &mut EbpfLoader<'a>) {
        loader
            .map_max_entries("tracked", self.tracked)
            .map_max_entries("kernel_positions", self.buffers.cpus)
            .map_max_entries("kernel_slots", self.buffers.slots())
            .override_global("word_type", &self.word_type, true)
            .override_global("slots_shift", &self.buffers.slots_shift, true)
            .override_global("wake_mask", &self.wake_mask, true)
            .override_global("own_tgid", &self.own_tgid, true)
            .override_global("choose_pid", &self.choose_pid, true)
            .override_global("choose_comm", &self.choose_comm, true)
            .override_global("chosen_comm_low", &self.comm_low, true)
            .override_global("chosen_comm_high", &self.comm_high, true)
            .override_global("choose_cgroup", &self.choose_cgroup, true)
            .override_global("chosen_cgroup", &self.cgroup.id, true)
            .override_global("chosen_cgroup_level", &self.cgroup.level, true)
            .override_global("kernel_stacks", &self.stacks, true)
            .override_global("possible_cpus", &self.facts.possible_cpus, true)
            .override_global("code_start", &self.facts.tables.code_start, true)
            .override_global("code_end", &self.facts.tables.code_end, true)
            .override_global("orc_addresses", &self.facts.tables.addresses, true)
            .override_global("orc_rows", &self.facts.tables.rows, true)
            .override_global("orc_count", &self.facts.tables.count, true)
            .override_global("vmemmap_at", &self.facts.vmemmap_at, true)
            .override_global("kernel_page_size", &self.facts.page_size, true);
    }
}
