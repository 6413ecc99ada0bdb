//! Rows that describe the recording; they stand beside the events, at the moment they became known.

use crate::event::SpaceId;
use crate::op::Op;
use crate::stack::{FileId, FrameId};

/// The reason of a [`Description::Close`] at the end of a part that another one follows.
pub const CONTINUED: &str = "continued in the next part";

/// A description and when it was made.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub ts: i64,
    pub what: Description,
}

/// What a description row says. `schemas/trace-v1.md` maps each field to a column.
#[derive(Clone, Debug, PartialEq)]
pub enum Description {
    /// From here on every probe records.
    Open,
    /// From here on nothing is recorded; the reason in words.
    Close { reason: String },
    /// A process whose events are recorded.
    Process {
        pid: i32,
        ppid: i32,
        space: SpaceId,
        command: String,
    },
    /// A process began as a copy of another one: `space` holds what `parent_space` held.
    Fork {
        pid: i32,
        ppid: i32,
        space: SpaceId,
        parent_space: SpaceId,
    },
    /// A process ended, with its wait status (as `waitpid` gives it) where it is known.
    Exit {
        pid: i32,
        status: Option<i32>,
        /// Whether the OOM killer chose it.
        out_of_memory: bool,
    },
    /// A file was found mapped with execute permission.
    Module(Module),
    /// What a frame is called. The last row of a frame wins.
    Symbol(Symbol),
    /// Resident memory of a process, in bytes.
    Rss { pid: i32, kind: RssKind, bytes: u64 },
    /// Events that happened and are not in the trace, within `[ts - window_ns, ts]`; a count of 0
    /// says that nobody knows how many.
    Loss {
        cause: String,
        count: u64,
        window_ns: u64,
    },
    /// Events that are in the trace with a defect, within `[ts - window_ns, ts]`.
    Defect {
        cause: String,
        count: u64,
        window_ns: u64,
    },
}

/// An executable mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    pub pid: i32,
    pub space: SpaceId,
    /// First address, and length in bytes.
    pub start: u64,
    pub length: u64,
    /// Offset in the file of the first byte.
    pub file_offset: u64,
    /// The file; `None` for code that no file backs.
    pub file: Option<FileId>,
    /// Path as the target sees it, or a name in brackets.
    pub path: String,
    /// GNU build id, lower-case hex.
    pub build_id: Option<String>,
}

/// What a frame is called.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Symbol {
    pub frame: FrameId,
    /// An address at which the frame was seen.
    pub address: u64,
    pub module: Option<String>,
    pub build_id: Option<String>,
    /// The function whose code this is, demangled; inlined functions are in `inlined`.
    pub function: Option<String>,
    /// Bytes from the function's start to the frame's address (the return address).
    pub function_offset: Option<u64>,
    pub file: Option<String>,
    pub line: Option<u32>,
    /// Functions inlined at this address, innermost first.
    pub inlined: Vec<InlinedFunction>,
}

/// A function whose body the compiler put into another.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct InlinedFunction {
    pub function: String,
    pub file: Option<String>,
    pub line: Option<u32>,
}

/// Which resident memory: the kinds add up to the process's RSS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RssKind {
    Anonymous,
    File,
    Shared,
}

impl RssKind {
    pub const ALL: [RssKind; 3] = [RssKind::Anonymous, RssKind::File, RssKind::Shared];

    pub fn name(self) -> &'static str {
        match self {
            RssKind::Anonymous => "anonymous",
            RssKind::File => "file",
            RssKind::Shared => "shared",
        }
    }

    pub fn from_name(name: &str) -> Option<RssKind> {
        RssKind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl Description {
    /// The operation under which the row is stored.
    pub fn op(&self) -> Op {
        match self {
            Description::Open => Op::Open,
            Description::Close { .. } => Op::Close,
            Description::Process { .. } => Op::Process,
            Description::Fork { .. } => Op::Fork,
            Description::Exit { .. } => Op::Exit,
            Description::Module(_) => Op::Module,
            Description::Symbol(_) => Op::Symbol,
            Description::Rss { .. } => Op::Rss,
            Description::Loss { .. } => Op::Loss,
            Description::Defect { .. } => Op::Defect,
        }
    }
}
