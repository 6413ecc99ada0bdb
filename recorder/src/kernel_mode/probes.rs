//! The object with the probes in the kernel alone.

use aya::maps::{HashMap, MapData, RingBuf};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};

use super::buffers::Buffers;
use super::places::{self, Places};
use super::settings::Settings;
use crate::kernel::KernelError;
use crate::layout::{Counters, Recording};
use crate::object;

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/kernel_alloc.bpf.o"));

/// The ring has stacks and names only: so small a part of what was asked for.
const RING_SHARE: u32 = 8;
const LEAST_RING: u32 = 4096;

/// The loaded object, and what of it is attached.
pub struct Probes {
    ebpf: Ebpf,
    places: Places,
    ring_bytes: u32,
}

impl Probes {
    /// Loads and attaches; nothing is recorded before [`Probes::set_recording`]. Chosen are `pids`,
    /// if the settings choose by process.
    pub fn attach(
        ring_bytes: u32,
        settings: &Settings,
        pids: &[i32],
        percpu: bool,
    ) -> Result<Probes, KernelError> {
        let mut loader = EbpfLoader::new();
        // Events go through the buffers, which are as large together.
        let ring_bytes = (ring_bytes / RING_SHARE).max(LEAST_RING);
        loader.map_max_entries("events", ring_bytes);
        settings.apply(&mut loader);
        let mut ebpf = loader.load(settings.patched(OBJECT).bytes())?;
        for pid in pids {
            let map = ebpf.map_mut("chosen_pids");
            let map = map.ok_or(KernelError::Missing("chosen_pids"))?;
            HashMap::<_, u32, u32>::try_from(map)
                .and_then(|mut pids| pids.insert(*pid as u32, 1, 0))
                .map_err(|source| KernelError::Map {
                    name: "chosen_pids",
                    source,
                })?;
        }
        let places = Places::attach(&mut ebpf, percpu)?;
        Ok(Probes {
            ebpf,
            places,
            ring_bytes,
        })
    }

    /// What is probed.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// The ring's reading end; there is one.
    pub fn take_ring(&mut self) -> Result<RingBuf<MapData>, KernelError> {
        object::take_ring(&mut self.ebpf, "events")
    }

    /// How large the ring is.
    pub fn ring_bytes(&self) -> u64 {
        self.ring_bytes.into()
    }

    /// What the probes fill beside it.
    pub fn map_buffers(&self, settings: &Settings) -> Result<Buffers, KernelError> {
        Buffers::of(&self.ebpf, settings.buffers())
    }

    /// Opens or closes the recording, for all probes at one instant.
    pub fn set_recording(&mut self, recording: Recording) -> Result<(), KernelError> {
        object::set_number(&mut self.ebpf, "control", recording as u32)
    }

    /// What the probes count, and what the kernel did not hand to them.
    pub fn counters(&self) -> Result<Counters, KernelError> {
        let mut counters = Counters::default();
        self.places.count(&self.ebpf, &mut counters)?;
        Ok(counters)
    }

    /// As [`places::untracked`].
    pub fn untracked(&self) -> Result<u64, KernelError> {
        places::untracked(&self.ebpf)
    }
}
