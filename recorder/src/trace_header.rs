//! The header of a new trace, as far as the options and the machine make it.

use memleak_trace::header::{Header, Machine, VERSION};

use crate::cli::Options;
use crate::clocks;

/// Without targets and probes. `kernel` is its release, `page_size` in bytes.
pub fn base(options: &Options, kernel: String, page_size: u64) -> Header {
    Header {
        version: VERSION,
        requires: options.selection.requires(),
        recorder: format!("memleak-record {}", env!("CARGO_PKG_VERSION")),
        machine: Machine {
            kernel,
            architecture: std::env::consts::ARCH.to_owned(),
            page_size,
            cpus: std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u32),
        },
        clock: clocks::now(),
        targets: Vec::new(),
        probes: Vec::new(),
        ring_bytes: u64::from(options.ring_bytes),
        on_overflow: options.on_overflow.name().to_owned(),
        selection: options.selection,
        part: None,
        kernel: None,
    }
}

/// Bytes of a page of this machine.
pub fn page_size() -> u64 {
    // SAFETY: sysconf has no preconditions.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}
