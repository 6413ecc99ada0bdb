//! The header: everything needed to judge a trace, as small JSON in the file's metadata.

use serde::{Deserialize, Serialize};

use crate::selection::Selection;

/// The format's version. A newer minor adds nullable columns; a newer major is refused.
pub const VERSION: Version = Version { major: 1, minor: 1 };

/// Version of a trace, `major.minor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What was recorded, where and how. Written before the first event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub version: Version,
    /// Features a reader must know to read this trace rightly; an unknown one is refused.
    pub requires: Vec<String>,
    /// The program that wrote the trace, with its version.
    pub recorder: String,
    pub machine: Machine,
    pub clock: Clock,
    /// The processes asked for.
    pub targets: Vec<Target>,
    /// Every probe that was attached, and where.
    pub probes: Vec<Probe>,
    /// Bytes of the ring between kernel and recorder.
    pub ring_bytes: u64,
    /// What happened when the ring was full: `drop`, `pause` or `abort`.
    #[serde(default = "dropping")]
    pub on_overflow: String,
    /// Which heap blocks were recorded; everything where the field is missing.
    #[serde(default, skip_serializing_if = "Selection::is_everything")]
    pub selection: Selection,
    /// Which part of a recording this is; `None` if the trace is the whole of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<Part>,
    /// How the kernel's allocations were recorded; `None` if they were not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<KernelRecording>,
}

/// What is to be known of a recording of the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelRecording {
    /// CPUs that there may be: percpu memory is taken for each.
    pub possible_cpus: u32,
    /// What the recording can and cannot see, a sentence each.
    pub coverage: Vec<String>,
}

fn dropping() -> String {
    "drop".to_owned()
}

/// A part of a recording that was cut into several traces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The same in every part of a recording, and in no other.
    pub recording: String,
    /// From 1.
    pub number: u32,
}

/// The machine of the target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    pub kernel: String,
    pub architecture: String,
    pub page_size: u64,
    pub cpus: u32,
}

/// One instant on both clocks: `wall = realtime_ns + (ts - monotonic_ns)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub monotonic_ns: i64,
    /// Nanoseconds of `CLOCK_REALTIME` since 1970.
    pub realtime_ns: i64,
}

/// A process that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    pub pid: i32,
    pub ppid: i32,
    pub command: Vec<String>,
    pub executable: String,
}

/// A function that is probed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    pub pid: i32,
    /// The object's path as the target sees it.
    pub object: String,
    pub function: String,
    /// Offset of the function in the file, in bytes.
    pub file_offset: u64,
    /// Bytes from the function's start to the probed instruction.
    pub displacement: u64,
    /// Whether the return is probed too.
    pub returns: bool,
}
