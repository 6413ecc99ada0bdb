//! The buffers that the probes in the kernel fill, one for each CPU, read through a mapping.
//!
//! The contract is `bpf/kernel_records.h`: a slot is claimed, then its time is taken, then it is marked
//! ready.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aya::Ebpf;
use aya::maps::Map;

use super::order::{Order, Waiting};
use super::wire::{Comm, PROGRAMS, SLOT_BYTES, Slot};
use crate::kernel::KernelError;

/// `struct ml_kernel_position`.
#[repr(C)]
struct Position {
    claimed: AtomicU64,
    unused: [u64; 7],
    taken: AtomicU64,
    unused_too: [u64; 7],
}

/// How large the buffers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// CPUs that there may be have numbers below this.
    pub cpus: u32,
    /// Slots of each are 2 to the power of this.
    pub slots_shift: u32,
}

/// The least: some must stay free for programs within each other.
const LEAST_SHIFT: u32 = 6;

impl Sizes {
    /// Buffers of at most `bytes` together, if that is not too little.
    pub fn new(cpus: u32, bytes: u32) -> Sizes {
        let slots = bytes / SLOT_BYTES as u32 / cpus.max(1);
        Sizes {
            cpus: cpus.max(1),
            slots_shift: slots.checked_ilog2().unwrap_or(0).max(LEAST_SHIFT),
        }
    }

    /// Slots of all CPUs.
    pub fn slots(self) -> u32 {
        self.cpus << self.slots_shift
    }
}

/// The buffers, and the events in them that wait for their turn.
#[derive(Debug)]
pub struct Buffers {
    positions: Memory,
    slots: Memory,
    sizes: Sizes,
    cpus: Vec<Cpu>,
    order: Order,
    /// Bytes that waited when it was last looked.
    waiting: Arc<AtomicU64>,
}

/// What was read of a CPU's buffer.
#[derive(Clone, Copy, Debug, Default)]
struct Cpu {
    /// Slots below this number were read.
    read: u64,
    /// The names that its programs told last.
    names: [Comm; PROGRAMS],
}

impl Buffers {
    /// Those of a loaded object.
    pub fn of(ebpf: &Ebpf, sizes: Sizes) -> Result<Buffers, KernelError> {
        let map = |name, bytes| {
            let Some(Map::Array(map)) = ebpf.map(name) else {
                return Err(KernelError::Missing(name));
            };
            Memory::map(Some(map.fd().as_fd()), bytes)
                .map_err(|error| KernelError::Descriptor(name, error))
        };
        Ok(Buffers::over(
            map(
                "kernel_positions",
                sizes.cpus as usize * size_of::<Position>(),
            )?,
            map("kernel_slots", sizes.slots() as usize * SLOT_BYTES)?,
            sizes,
        ))
    }

    fn over(positions: Memory, slots: Memory, sizes: Sizes) -> Buffers {
        let cpus = sizes.cpus as usize;
        Buffers {
            positions,
            slots,
            sizes,
            cpus: vec![Cpu::default(); cpus],
            order: Order::new(cpus),
            waiting: Arc::default(),
        }
    }

    /// Bytes of all buffers.
    pub fn bytes(&self) -> u64 {
        u64::from(self.sizes.slots()) * SLOT_BYTES as u64
    }

    /// Bytes that wait to be read or handed on; it goes on being told.
    pub fn waiting(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.waiting)
    }

    fn position(&self, cpu: usize) -> &Position {
        let first = self.positions.start.cast::<Position>();
        // SAFETY: the memory has a position for each CPU, of atomics and of words that nobody uses.
        let positions = unsafe { std::slice::from_raw_parts(first, self.cpus.len()) };
        &positions[cpu]
    }

    fn slot(&self, cpu: usize, number: u64) -> *const Slot {
        let within = number as usize & ((1 << self.sizes.slots_shift) - 1);
        // SAFETY: each CPU has so many slots.
        unsafe {
            let first = cpu << self.sizes.slots_shift;
            self.slots.start.cast::<Slot>().add(first + within)
        }
    }

    /// The slot, if it is ready.
    fn ready(&self, cpu: usize, number: u64) -> Option<Slot> {
        let slot = self.slot(cpu, number);
        // SAFETY: the number lies at the slot's beginning; a slot that is ready is not written any more
        // before it is given back.
        unsafe {
            let ready = &*slot.cast::<AtomicU64>();
            (ready.load(Ordering::Acquire) == number + 1).then(|| slot.read())
        }
    }

    /// Reads what came in. False if slots are claimed and not ready: events of before this call may be
    /// missing then.
    pub fn read(&mut self) -> bool {
        let mut whole = true;
        let mut waiting = 0;
        for cpu in 0..self.cpus.len() {
            let position = self.position(cpu);
            let claimed = position.claimed.load(Ordering::Acquire);
            waiting += claimed - position.taken.load(Ordering::Relaxed);
            whole &= self.read_up_to(cpu, claimed);
        }
        let bytes = waiting * SLOT_BYTES as u64;
        self.waiting.store(bytes, Ordering::Relaxed);
        self.order.begin();
        whole
    }

    fn read_up_to(&mut self, cpu: usize, claimed: u64) -> bool {
        let mut read = self.cpus[cpu].read;
        while read < claimed {
            let Some(slot) = self.await_ready(cpu, read) else {
                break;
            };
            let program = usize::from(slot.program) % PROGRAMS;
            match slot.name() {
                Some(name) => self.cpus[cpu].names[program] = name,
                None => self.order.push(
                    cpu,
                    Waiting {
                        ts: slot.ts,
                        number: read,
                        name: self.cpus[cpu].names[program],
                    },
                ),
            }
            read += 1;
        }
        self.cpus[cpu].read = read;
        read == claimed
    }

    /// Whoever claimed it fills it within a fraction of a microsecond, unless it is interrupted.
    fn await_ready(&self, cpu: usize, number: u64) -> Option<Slot> {
        for _ in 0..200 {
            if let Some(slot) = self.ready(cpu, number) {
                return Some(slot);
            }
            std::hint::spin_loop();
        }
        None
    }

    /// The next event up to `until` (nanoseconds of `CLOCK_MONOTONIC`), with its thread's name.
    pub fn next(&mut self, until: u64) -> Option<(Slot, Comm)> {
        let (cpu, event) = self.order.next(until)?;
        // SAFETY: it was ready, and is not given back yet.
        let slot = unsafe { self.slot(cpu, event.number).read() };
        Some((slot, event.name))
    }

    /// Gives the slots back whose events were taken.
    pub fn give_back(&mut self) {
        for cpu in 0..self.cpus.len() {
            let free = self.order.lowest(cpu).unwrap_or(self.cpus[cpu].read);
            self.position(cpu).taken.store(free, Ordering::Release);
        }
    }
}

/// Memory shared with the probes.
#[derive(Debug)]
struct Memory {
    start: *mut libc::c_void,
    bytes: usize,
}

// SAFETY: a mapping of our own, which lives as long as the value.
unsafe impl Send for Memory {}

impl Memory {
    /// Maps an array of the kernel; `None`: memory of nobody else, for tests.
    fn map(map: Option<BorrowedFd<'_>>, bytes: usize) -> io::Result<Memory> {
        let (flags, descriptor) = match map {
            Some(map) => (libc::MAP_SHARED, map.as_raw_fd()),
            None => (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1),
        };
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                flags,
                descriptor,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Memory { start, bytes })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `map`; nothing refers to it any more.
        unsafe {
            libc::munmap(self.start, self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel_mode::wire::OP_NAME;

    const KFREE: u16 = 1027;

    fn buffers(cpus: u32, slots_shift: u32) -> Buffers {
        let sizes = Sizes { cpus, slots_shift };
        let memory = |bytes| Memory::map(None, bytes).unwrap();
        Buffers::over(
            memory(cpus as usize * size_of::<Position>()),
            memory(sizes.slots() as usize * SLOT_BYTES),
            sizes,
        )
    }

    /// As the probes do it.
    fn claim(buffers: &Buffers, cpu: usize) -> u64 {
        let position = buffers.position(cpu);
        position.claimed.fetch_add(1, Ordering::AcqRel)
    }

    fn fill(buffers: &Buffers, cpu: usize, number: u64, slot: Slot) {
        let slot = Slot {
            ready: number + 1,
            ..slot
        };
        unsafe { buffers.slot(cpu, number).cast_mut().write(slot) };
    }

    fn free(ts: u64) -> Slot {
        Slot {
            ts,
            op: KFREE,
            ..Slot::default()
        }
    }

    fn times(buffers: &mut Buffers, until: u64) -> Vec<u64> {
        let events = std::iter::from_fn(|| buffers.next(until));
        let times = events.map(|(slot, _)| slot.ts).collect();
        buffers.give_back();
        times
    }

    /// A slot that is claimed and not filled holds up those behind it on its CPU, and is told.
    #[test]
    fn a_slot_that_is_not_ready() {
        let mut buffers = buffers(2, 6);
        let interrupted = claim(&buffers, 0);
        let number = claim(&buffers, 0);
        fill(&buffers, 0, number, free(20));
        let number = claim(&buffers, 1);
        fill(&buffers, 1, number, free(10));
        assert!(!buffers.read());
        assert_eq!(times(&mut buffers, 10), [10]);
        assert_eq!(buffers.position(0).taken.load(Ordering::Relaxed), 0);
        fill(&buffers, 0, interrupted, free(30));
        assert!(buffers.read());
        assert_eq!(times(&mut buffers, 20), [20]);
        // The first slot still waits.
        assert_eq!(buffers.position(0).taken.load(Ordering::Relaxed), 0);
        assert_eq!(times(&mut buffers, u64::MAX), [30]);
        assert_eq!(buffers.position(0).taken.load(Ordering::Relaxed), 2);
    }

    /// An event has the name that its program told last on its CPU; numbers go on beyond the buffer's
    /// size.
    #[test]
    fn names_and_rounds() {
        let mut buffers = buffers(2, 6);
        let tell = |buffers: &Buffers, cpu, program, name: &[u8; 16]| {
            let (low, high) = name.split_at(8);
            let number = claim(buffers, cpu);
            let slot = Slot {
                op: OP_NAME,
                program,
                addr: u64::from_ne_bytes(low.try_into().unwrap()),
                size: u64::from_ne_bytes(high.try_into().unwrap()),
                ..Slot::default()
            };
            fill(buffers, cpu, number, slot);
        };
        tell(&buffers, 0, 2, b"find\0\0\0\0\0\0\0\0\0\0\0\0");
        tell(&buffers, 0, 3, b"another of it\0\0\0");
        for round in 0..10 {
            for ts in 0..30 {
                let number = claim(&buffers, 0);
                let slot = Slot {
                    program: 2,
                    ..free(100 * round + ts)
                };
                fill(&buffers, 0, number, slot);
            }
            assert!(buffers.read());
            for ts in 0..30 {
                let (slot, name) = buffers.next(u64::MAX).unwrap();
                assert_eq!((slot.ts, &name[..5]), (100 * round + ts, &b"find\0"[..]));
            }
            assert!(buffers.next(u64::MAX).is_none());
            buffers.give_back();
        }
        assert_eq!(buffers.position(0).taken.load(Ordering::Relaxed), 302);
    }

    /// Buffers share the bytes evenly, in powers of two; very little is not taken at its word.
    #[test]
    fn sizes() {
        let slots = |cpus, bytes| Sizes::new(cpus, bytes).slots_shift;
        assert_eq!((slots(2, 64 << 20), slots(3, 64 << 20)), (19, 18));
        assert_eq!((slots(64, 4096), slots(0, 4096)), (6, 6));
    }
}
