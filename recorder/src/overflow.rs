//! What happens when the probes are faster than the file.

/// `--on-overflow`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnOverflow {
    /// Events that find no room are lost, and counted.
    #[default]
    Drop,
    /// The target is stopped until there is room: nothing is lost.
    Pause,
    /// The recording ends at the first loss.
    Abort,
}

/// A smaller ring may fill up while the target's threads are still being stopped.
pub const LEAST_PAUSING_RING: u32 = 128 * 1024;

impl OnOverflow {
    /// The name on the command line and in the trace's header.
    pub fn name(self) -> &'static str {
        match self {
            OnOverflow::Drop => "drop",
            OnOverflow::Pause => "pause",
            OnOverflow::Abort => "abort",
        }
    }

    /// Bytes that wait in a ring of `ring_bytes` when the target is stopped; 0: it never is.
    pub fn stop_at(self, ring_bytes: u32) -> u64 {
        match self {
            OnOverflow::Pause => u64::from(ring_bytes) / 4 * 3,
            OnOverflow::Drop | OnOverflow::Abort => 0,
        }
    }

    /// Bytes that still wait when it goes on.
    pub fn continue_below(ring_bytes: u64) -> u64 {
        ring_bytes / 4
    }

    /// Refuses what cannot be promised.
    pub fn check(self, ring_bytes: u32) -> Result<(), String> {
        if self == OnOverflow::Pause && ring_bytes < LEAST_PAUSING_RING {
            return Err(format!(
                "--on-overflow pause needs a ring of at least {}; give a larger --ring-size",
                crate::status::size(u64::from(LEAST_PAUSING_RING))
            ));
        }
        Ok(())
    }
}
