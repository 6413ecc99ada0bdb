//! The maps' values as `bpf/memleak.h` lays them out; a test here reads that file.

use aya::Pod;

/// `struct ml_mapping`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MappingRow {
    pub start: u64,
    pub end: u64,
    pub file_offset: u64,
    pub file_id: u32,
    pub generation: u16,
    pub flags: u16,
    pub first_row: u32,
    pub row_count: u32,
}

/// `ML_EMPTY_TABLE`.
pub const EMPTY_TABLE: u32 = 0;
/// `ML_MAX_PROCESSES`: processes that are recorded at once.
pub const MAX_PROCESSES: usize = 64;
/// `ML_MAPPING_INNER`.
pub const MAPPING_INNER: u16 = 1;
/// `ML_MAPPING_WRAPPER`.
pub const MAPPING_WRAPPER: u16 = 2;
/// `ML_MAX_MAPPINGS`.
pub const MAX_MAPPINGS: usize = 1024;
/// `ML_COOKIE_CHECK_CALLER`, set in a cookie above the operation's number.
pub const COOKIE_CHECK_CALLER: u64 = 1 << 16;
/// `ML_COOKIE_EVERYWHERE`, likewise.
pub const COOKIE_EVERYWHERE: u64 = 1 << 17;
/// `ML_COOKIE_SEVERAL`.
pub const COOKIE_SEVERAL: u64 = 1 << 18;
/// `ML_COOKIE_FAILURE_FREES`.
pub const COOKIE_FAILURE_FREES: u64 = 1 << 19;
/// `ML_COOKIE_SIZE`: the bit where a number of an argument begins, as the next ones.
pub const COOKIE_SIZE: u32 = 20;
/// `ML_COOKIE_TIMES`.
pub const COOKIE_TIMES: u32 = 23;
/// `ML_COOKIE_PTR`.
pub const COOKIE_PTR: u32 = 26;
/// `ML_COOKIE_OUT`.
pub const COOKIE_OUT: u32 = 29;
/// `ML_COOKIE_FUNCTION`: 16 bits.
pub const COOKIE_FUNCTION: u32 = 32;
/// `ML_COOKIE_BYTES`: 16 bits.
pub const COOKIE_BYTES: u32 = 48;

/// `ML_MAP_ANSWERS`: a power of two.
pub const MAP_ANSWERS: u32 = 64;

/// `struct ml_mapping_table`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct MappingTable {
    pub count: u32,
    pub generation: u32,
    pub rows: [MappingRow; MAX_MAPPINGS],
}

/// `struct ml_space`: a process as the probes know it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    pub id: u32,
    pub table: u32,
    /// Whose address space it is.
    pub pid: u32,
    /// `SPACE_…`.
    pub flags: u32,
    /// The thread that executed the program, as it was called before; 0: none did.
    pub exec_tid: u32,
    pub unused: u32,
}

/// `ML_SPACE_OWN`: the process has probes of its own.
pub const SPACE_OWN: u32 = 1;
/// `ML_SPACE_ALIAS`: it shares the address space of another one.
pub const SPACE_ALIAS: u32 = 2;
/// `ML_SPACE_FORKED`: it is held before its first instruction.
pub const SPACE_FORKED: u32 = 4;
/// `ML_SPACE_STARTING`: it is held when its first libraries are mapped.
pub const SPACE_STARTING: u32 = 8;

/// `enum ml_recording`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Recording {
    /// Nothing is recorded.
    Closed = 0,
    /// The probes fire in recorded processes only.
    Open = 1,
    /// They fire in every process, and leave out those that are not recorded.
    OpenFiltered = 2,
    /// Nothing is recorded yet, but processes are held where they must be.
    Preparing = 3,
}

/// `struct ml_stop_count`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StopCount {
    pub begun: u64,
    pub sent: u64,
}

/// `ML_STOP_REASONS`.
pub const STOP_REASONS: usize = 2;

/// `struct ml_stops`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StopCounts {
    pub last_ns: u64,
    /// At the index that `enum ml_stop_reason` gives.
    pub by_reason: [StopCount; STOP_REASONS],
}

/// `ML_TALLY_RELEASES`: place of the releases among the tallies; below are allocations by the bits
/// of their size.
pub const TALLY_RELEASES: usize = 63;

/// `struct ml_tally`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub count: u64,
    pub bytes: u64,
}

/// `struct ml_exit`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exit {
    /// As waitpid(2) tells it.
    pub status: u32,
    /// 0 until the process has ended.
    pub ended: u32,
    /// 1 if the OOM killer chose it.
    pub out_of_memory: u32,
}

// SAFETY: plain integers without padding, in the layout of bpf/memleak.h.
unsafe impl Pod for StopCounts {}
// SAFETY: as above.
unsafe impl Pod for Tally {}
// SAFETY: as above.
unsafe impl Pod for Exit {}
// SAFETY: plain integers without padding, in the layout of bpf/memleak.h.
unsafe impl Pod for MappingTable {}
// SAFETY: as above.
unsafe impl Pod for Space {}

const _: () = assert!(size_of::<StopCounts>() == 40 && size_of::<Exit>() == 12);
const _: () = assert!(size_of::<Space>() == 24);
const _: () = assert!(size_of::<MappingRow>() == 40);
const _: () = assert!(size_of::<MappingTable>() == 8 + 40 * MAX_MAPPINGS);

/// Counters of the probes, in the order of `enum ml_counter`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub lost_alloc_ring_full: u64,
    pub lost_release_ring_full: u64,
    pub lost_no_task_storage: u64,
    /// More objects in one call of the kernel than are looked at.
    pub lost_alloc_bulk: u64,
    pub lost_release_bulk: u64,
    /// An interrupt hit the CPU in the very probe that it would have needed.
    pub lost_alloc_interrupted: u64,
    pub lost_release_interrupted: u64,
    pub defect_stack_unpublished: u64,
    pub defect_stack_unread: u64,
    pub defect_set_full: u64,
    /// Kernel stacks where our own walk and the kernel's came to different ones.
    pub defect_stack_mistaken: u64,
    /// Openings of libraries, not events.
    pub defect_mappings_late: u64,
    /// Processes, not events.
    pub lost_no_space: u64,
}

impl Counters {
    /// The counters by their numbers; what is missing counts as 0.
    pub fn from_values(values: &[u64]) -> Counters {
        let value = |index: usize| values.get(index).copied().unwrap_or(0);
        Counters {
            lost_alloc_ring_full: value(0),
            lost_release_ring_full: value(1),
            lost_no_task_storage: value(2),
            defect_stack_unpublished: value(3),
            defect_stack_unread: value(4),
            defect_set_full: value(5),
            defect_mappings_late: value(6),
            lost_no_space: value(7),
            ..Counters::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use memleak_trace::selection::EXPONENTIALS;

    /// Each constant stands in the header with this very value.
    #[test]
    fn constants_are_those_of_the_contract() {
        let header = include_str!("../../bpf/memleak.h");
        let lines = [
            format!("#define ML_EMPTY_TABLE {EMPTY_TABLE}"),
            format!("#define ML_MAX_PROCESSES {MAX_PROCESSES}"),
            format!("#define ML_MAPPING_INNER {MAPPING_INNER}"),
            format!("#define ML_MAPPING_WRAPPER {MAPPING_WRAPPER}"),
            format!("#define ML_MAX_MAPPINGS {MAX_MAPPINGS}"),
            format!(
                "ML_CLOSED = {}, /* before and after */",
                Recording::Closed as u32
            ),
            format!("ML_OPEN = {},", Recording::Open as u32),
            "ML_LOST_ALLOC_RING_FULL = 0,".to_owned(),
            "ML_LOST_RELEASE_RING_FULL = 1,".to_owned(),
            "ML_LOST_NO_TASK_STORAGE = 2,".to_owned(),
            "ML_DEFECT_STACK_UNPUBLISHED = 3,".to_owned(),
            "ML_DEFECT_STACK_UNREAD = 4,".to_owned(),
            "ML_DEFECT_SET_FULL = 5,".to_owned(),
            "ML_DEFECT_MAPPINGS_LATE = 6, /* counts openings of libraries */".to_owned(),
            "ML_LOST_NO_SPACE = 7, /* counts processes */".to_owned(),
            "ML_COUNTERS = 8,".to_owned(),
            format!("#define ML_EXPONENTIALS {EXPONENTIALS}"),
            format!("#define ML_TALLY_RELEASES {TALLY_RELEASES}"),
            format!("#define ML_SPACE_OWN {SPACE_OWN}"),
            format!("#define ML_SPACE_ALIAS {SPACE_ALIAS}"),
            format!("#define ML_SPACE_FORKED {SPACE_FORKED}"),
            format!("#define ML_SPACE_STARTING {SPACE_STARTING}"),
            format!("ML_STOP_REASONS = {STOP_REASONS},"),
            format!(
                "#define ML_COOKIE_EVERYWHERE (1 << {})",
                COOKIE_EVERYWHERE.ilog2()
            ),
            format!(
                "ML_PREPARING = {}, /* nothing is recorded yet, but processes are held where they must be */",
                Recording::Preparing as u32
            ),
            format!("#define ML_MAP_ANSWERS {MAP_ANSWERS}"),
        ];
        for line in lines {
            assert!(header.lines().any(|known| known.trim() == line), "{line}");
        }
        let flag = |flag: u64| format!("(1 << {})", flag.ilog2());
        for (name, value) in [
            ("CHECK_CALLER", flag(COOKIE_CHECK_CALLER)),
            ("SEVERAL", flag(COOKIE_SEVERAL)),
            ("FAILURE_FREES", flag(COOKIE_FAILURE_FREES)),
            ("SIZE", COOKIE_SIZE.to_string()),
            ("TIMES", COOKIE_TIMES.to_string()),
            ("PTR", COOKIE_PTR.to_string()),
            ("OUT", COOKIE_OUT.to_string()),
            ("FUNCTION", COOKIE_FUNCTION.to_string()),
            ("BYTES", COOKIE_BYTES.to_string()),
        ] {
            let start = format!("#define ML_COOKIE_{name} ");
            let told = header.lines().find_map(|line| line.strip_prefix(&start));
            let value =
                told.is_some_and(|told| told.split("/*").next().map(str::trim) == Some(&value));
            assert!(value, "{name}");
        }
    }
}
