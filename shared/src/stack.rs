//! Stacks and frames, identified so that they survive dlclose, exec and the machine.

/// Number of a stack within a trace, given in order of first use, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StackId(pub i32);

/// Number of a file (a build) within a trace, given in order of first mapping, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub u32);

/// A code address, packed into a positive or negative int64:
///
/// | bits | meaning |
/// |---|---|
/// | 63 set | kernel: the whole value is the address |
/// | 62 set | code without a file (JIT): bits 48–60 the generation of the mapping, 0–47 the address |
/// | 61 set | the address itself was executing (signal frame); else it is a return address and the call lies before it |
/// | otherwise | bits 40–60 the [`FileId`], 0–39 the offset in the file |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FrameId(pub i64);

/// What a [`FrameId`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Location {
    /// An offset in a file (not a virtual address: add the segment's difference to get that).
    File { file: FileId, offset: u64 },
    /// An address in memory that no file backs.
    Anonymous { generation: u16, address: u64 },
    /// A kernel address.
    Kernel { address: u64 },
}

/// Bits of a file offset.
pub const OFFSET_BITS: u32 = 40;
/// Set where no file backs the code.
pub const ANONYMOUS_BIT: i64 = 1 << 62;
/// Set where the address itself was executing.
pub const EXACT_BIT: i64 = 1 << 61;
/// Largest number of files in a trace.
pub const MAX_FILES: u32 = (1 << 21) - 1;

impl FrameId {
    /// A frame in a file; `None` if the offset or the file number do not fit.
    pub fn in_file(file: FileId, offset: u64) -> Option<FrameId> {
        (offset < 1 << OFFSET_BITS && file.0 <= MAX_FILES)
            .then(|| FrameId((i64::from(file.0) << OFFSET_BITS) | offset as i64))
    }

    pub fn location(self) -> Location {
        let bits = self.0 as u64;
        if self.0 < 0 {
            Location::Kernel { address: bits }
        } else if self.0 & ANONYMOUS_BIT != 0 {
            Location::Anonymous {
                generation: (bits >> 48 & 0x1fff) as u16,
                address: bits & ((1 << 48) - 1),
            }
        } else {
            Location::File {
                file: FileId((bits >> OFFSET_BITS) as u32 & MAX_FILES),
                offset: bits & ((1 << OFFSET_BITS) - 1),
            }
        }
    }

    /// Whether the address is a return address, so that the call lies before it.
    pub fn is_return_address(self) -> bool {
        self.0 < 0 || self.0 & EXACT_BIT == 0
    }
}

/// Why the walk of a stack ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StackEnd {
    /// The outermost frame was reached.
    Complete,
    /// A return address lies in no executable mapping.
    NoMapping,
    /// No unwind information for the address, and no frame pointer to follow.
    NoUnwindInfo,
    /// The stack could not be read.
    Unreadable,
    /// More frames than are kept (127).
    TooDeep,
}

impl StackEnd {
    pub const ALL: [StackEnd; 5] = [
        StackEnd::Complete,
        StackEnd::NoMapping,
        StackEnd::NoUnwindInfo,
        StackEnd::Unreadable,
        StackEnd::TooDeep,
    ];

    /// The name used in traces and reports.
    pub fn name(self) -> &'static str {
        match self {
            StackEnd::Complete => "complete",
            StackEnd::NoMapping => "no_mapping",
            StackEnd::NoUnwindInfo => "no_unwind_info",
            StackEnd::Unreadable => "unreadable",
            StackEnd::TooDeep => "too_deep",
        }
    }

    pub fn from_name(name: &str) -> Option<StackEnd> {
        StackEnd::ALL.into_iter().find(|end| end.name() == name)
    }
}

/// A stack, told once, on the first row that uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stack {
    pub id: StackId,
    /// Leaf first: `frames[0]` is the caller of the recorded function.
    pub frames: Vec<FrameId>,
    pub end: StackEnd,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packing and unpacking a frame agree at the limits.
    #[test]
    fn frame_ids_round_trip() {
        for (file, offset) in [(1, 0), (MAX_FILES, (1 << OFFSET_BITS) - 1)] {
            let file = FileId(file);
            let frame = FrameId::in_file(file, offset);
            assert_eq!(
                frame.map(FrameId::location),
                Some(Location::File { file, offset })
            );
        }
        assert_eq!(FrameId::in_file(FileId(1), 1 << OFFSET_BITS), None);
        assert_eq!(FrameId::in_file(FileId(MAX_FILES + 1), 0), None);
    }

    /// Kernel and anonymous addresses are told apart from files.
    #[test]
    fn other_locations() {
        assert_eq!(
            FrameId(-4096).location(),
            Location::Kernel {
                address: 0xffff_ffff_ffff_f000
            }
        );
        let jit = FrameId(ANONYMOUS_BIT | EXACT_BIT | 3 << 48 | 0x7f00_dead_beef);
        assert_eq!(
            jit.location(),
            Location::Anonymous {
                generation: 3,
                address: 0x7f00_dead_beef
            }
        );
        assert!(!jit.is_return_address());
        assert!(FrameId(1 << OFFSET_BITS).is_return_address());
    }
}
