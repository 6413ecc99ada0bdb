//! Events with stacks by the kernel's frame-pointer walk: what ours is compared with.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use aya::maps::{Array, MapData, RingBuf};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use memleak_record::modules::Modules;

use super::floor::{Place, Programs, attach};

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/pointer_walk.bpf.o"));

/// Bytes of an event without frames: `struct ml_alloc`.
const EVENT_BYTES: usize = 48;

/// Attached, with its ring being emptied, until it is finished.
pub struct PointerWalk {
    ebpf: Ebpf,
    /// Holds the probed files open.
    _modules: Modules,
    stop: Arc<AtomicBool>,
    seen: Arc<Seen>,
    drain: JoinHandle<()>,
}

/// What came through the ring.
#[derive(Debug, Default)]
struct Seen {
    allocations: AtomicU64,
    /// Of all allocations.
    frames: AtomicU64,
}

impl PointerWalk {
    pub fn start(pid: u32) -> anyhow::Result<PointerWalk> {
        // The library does not know task storage by name; it loads all the same.
        let mut ebpf = EbpfLoader::new().allow_unsupported_maps().load(OBJECT)?;
        let programs = Programs {
            enter_malloc: "enter_malloc",
            leave_malloc: "leave_malloc",
            enter_free: "enter_free",
        };
        let modules = attach(&mut ebpf, &programs, pid, Place::Ours)?;
        let ring = RingBuf::try_from(ebpf.take_map("events").context("no ring")?)?;
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Seen::default()));
        let drain = std::thread::spawn({
            let (stop, seen) = (stop.clone(), seen.clone());
            move || empty(ring, &stop, &seen)
        });
        Ok(PointerWalk {
            ebpf,
            _modules: modules,
            stop,
            seen,
            drain,
        })
    }

    /// Detaches; frames per allocation. Fails if an event was lost: it would have cost less.
    pub fn finish(self) -> anyhow::Result<f64> {
        self.stop.store(true, Ordering::Release);
        self.drain
            .join()
            .map_err(|_| anyhow!("the ring's reader failed"))?;
        let lost = Array::<_, u64>::try_from(self.ebpf.map("lost").context("no counter")?)?;
        ensure!(
            lost.get(&0, 0)? == 0,
            "the ring of the kernel's walk was full"
        );
        let allocations = self.seen.allocations.load(Ordering::Acquire);
        ensure!(allocations > 0, "the kernel's walk has seen no allocation");
        Ok(self.seen.frames.load(Ordering::Acquire) as f64 / allocations as f64)
    }
}

fn empty(mut ring: RingBuf<MapData>, stop: &AtomicBool, seen: &Seen) {
    loop {
        let last = stop.load(Ordering::Acquire);
        while let Some(event) = ring.next() {
            // A free's event is shorter.
            if let Some(frames) = event.len().checked_sub(EVENT_BYTES) {
                seen.allocations.fetch_add(1, Ordering::Relaxed);
                seen.frames.fetch_add(frames as u64 / 8, Ordering::Relaxed);
            }
        }
        if last {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
