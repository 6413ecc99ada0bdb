//! Command lines of programs that were started while recording: read while the process is held, and
//! written into the trace at its place in the order of events, when it may be gone.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use memleak_trace::SpaceId;

/// Between the thread that looks at processes and the one that writes.
#[derive(Debug, Default)]
pub struct Commands {
    by_space: Mutex<HashMap<SpaceId, String>>,
}

impl Commands {
    /// What runs in an address space.
    pub fn tell(&self, space: SpaceId, command: &[String]) {
        let mut known = self.by_space.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(space, command.join(" "));
    }

    /// What was told; it is asked for once.
    pub fn take(&self, space: SpaceId) -> Option<String> {
        let mut known = self.by_space.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(&space)
    }
}
