//! Finds what to probe in the files that a process has mapped, and what the probes must know of them.

use std::collections::HashMap;
use std::os::unix::fs::FileExt;

use memleak_trace::FileId;
use memleak_trace::describe::Module;
use object::{ReadCache, ReadRef};

use crate::elf::Elf;
use crate::functions::{FUNCTIONS, Shape};
use crate::kernel::ProbePoint;
use crate::layout::{COOKIE_CHECK_CALLER, MAPPING_INNER, MAPPING_WRAPPER, MappingRow};
use crate::loader::{self, DEBUG_STATE};
use crate::modules::{Modules, OpenedFile};
use crate::prologue;
use crate::row_arena::{RowArena, RowRange};
use crate::unwind_rows::{UnwindRow, unwind_rows};
use crate::wire::op_number;

/// What a file says, read once.
#[derive(Debug, Default)]
pub struct FileFacts {
    /// Allocation functions, in the order of attaching.
    pub points: Vec<ProbePoint>,
    pub rows: Vec<UnwindRow>,
    /// `MAPPING_INNER`, `MAPPING_WRAPPER`.
    pub flags: u16,
    /// The C library: what calls its free() from a wrapper is not the program.
    is_libc: bool,
}

/// The files of a recording, by number.
#[derive(Debug, Default)]
pub struct Discovery {
    files: HashMap<FileId, FileFacts>,
}

impl Discovery {
    /// Reads the files of these mappings that were not read before; returns their numbers.
    /// `executable` is the program's own path: what it maps is the program's even if it holds the
    /// allocator.
    pub fn read(&mut self, mapped: &[Module], modules: &Modules, executable: &str) -> Vec<FileId> {
        let mut new = Vec::new();
        for id in mapped.iter().filter_map(|module| module.file) {
            if self.files.contains_key(&id) {
                continue;
            }
            let facts = modules
                .file(id)
                .and_then(|file| read_file(file, executable));
            self.files.insert(id, facts.unwrap_or_default());
            new.push(id);
        }
        let wrapped = self
            .files
            .values()
            .any(|facts| facts.flags & MAPPING_WRAPPER != 0);
        for facts in self.files.values_mut().filter(|facts| facts.is_libc) {
            for point in &mut facts.points {
                if wrapped && point.shape == Shape::Free {
                    point.cookie |= COOKIE_CHECK_CALLER;
                }
            }
        }
        new
    }

    /// Whether one of these mappings holds a malloc that can be probed.
    pub fn defines_malloc(&self, mapped: &[Module]) -> bool {
        mapped
            .iter()
            .filter_map(|module| self.files.get(&module.file?))
            .flat_map(|facts| &facts.points)
            .any(|point| point.symbol == "malloc")
    }

    /// Whether one of these mappings is the loader's, which tells when others are mapped.
    pub fn has_loader(&self, mapped: &[Module]) -> bool {
        mapped
            .iter()
            .filter_map(|module| self.files.get(&module.file?))
            .flat_map(|facts| &facts.points)
            .any(|point| point.shape == Shape::Loader)
    }

    /// What is known of a file.
    pub fn facts(&self, id: FileId) -> Option<&FileFacts> {
        self.files.get(&id)
    }

    /// The functions to probe in these files, releases first over all of them.
    pub fn points(&self, files: &[FileId]) -> Vec<ProbePoint> {
        let mut points: Vec<ProbePoint> = files
            .iter()
            .filter_map(|id| self.files.get(id))
            .flat_map(|facts| facts.points.iter().cloned())
            .collect();
        points.sort_by_key(|point| {
            // The loader's comes last: what it tells needs the others.
            let known = FUNCTIONS
                .iter()
                .position(|known| known.symbol == point.symbol);
            known.unwrap_or(FUNCTIONS.len())
        });
        points
    }

    /// Unwind rows of these files together.
    pub fn row_count(&self) -> usize {
        self.files.values().map(|facts| facts.rows.len()).sum()
    }

    /// The mappings as the probes want them, sorted by address. Rows not yet in the arena are put
    /// there; where there is no room, the names of the files are returned beside.
    pub fn mapping_rows(
        &self,
        mapped: &[Module],
        arena: &mut RowArena,
    ) -> (Vec<MappingRow>, Vec<String>) {
        let mut left_out = Vec::new();
        let mut rows: Vec<MappingRow> = mapped
            .iter()
            .map(|module| {
                let facts = module
                    .file
                    .and_then(|id| self.files.get(&id).map(|facts| (id, facts)));
                let range = facts.map_or_else(RowRange::default, |(id, facts)| {
                    arena.find(id).unwrap_or_else(|| {
                        if !arena.insert(id, &facts.rows) {
                            left_out.push(module.path.clone());
                        }
                        arena.find(id).unwrap_or_default()
                    })
                });
                MappingRow {
                    start: module.start,
                    end: module.start.saturating_add(module.length),
                    file_offset: module.file_offset,
                    file_id: module.file.map_or(0, |id| id.0),
                    // Addresses without a file mean something in their address space only.
                    generation: module.space.0 as u16,
                    flags: facts.map_or(0, |(_, facts)| facts.flags),
                    first_row: range.first,
                    row_count: range.count,
                }
            })
            .collect();
        rows.sort_by_key(|row| row.start);
        (rows, left_out)
    }
}

/// Functions that say what a library is.
const IS_LIBC: &str = "__libc_start_main";

/// A file up to this size is read as a whole: piece by piece, each symbol's name is a read of its own.
const WHOLE_FILE: u64 = 256 << 20;

fn read_file(file: &OpenedFile, executable: &str) -> Option<FileFacts> {
    let length = file.file().metadata().ok()?.len();
    if length > WHOLE_FILE {
        let cache = ReadCache::new(file.file());
        return Some(read_elf(&Elf::parse(&cache).ok()?, file, executable));
    }
    let mut bytes = vec![0; length as usize];
    file.file().read_exact_at(&mut bytes, 0).ok()?;
    Some(read_elf(&Elf::parse(&bytes[..]).ok()?, file, executable))
}

fn read_elf<'data, R: ReadRef<'data>>(
    elf: &Elf<'data, R>,
    file: &OpenedFile,
    executable: &str,
) -> FileFacts {
    let symbols: Vec<&str> = FUNCTIONS.iter().map(|function| function.symbol).collect();
    let found = elf.functions(&symbols);
    let defines = |symbol: &str| found.iter().any(|function| function.symbol == symbol);
    // A library may have a function called mmap without being an allocator.
    let is_allocator = defines("malloc") || defines("free");
    let is_libc = elf.exports(IS_LIBC);
    let mut facts = FileFacts {
        rows: unwind_rows(elf),
        is_libc,
        ..FileFacts::default()
    };
    let hook = loader::hook(elf);
    if file.path() != executable && (is_allocator || hook.is_some()) {
        facts.flags |= MAPPING_INNER;
    }
    if let Some(hook) = hook {
        facts.points.push(ProbePoint {
            symbol: DEBUG_STATE.to_owned(),
            op: None,
            shape: Shape::Loader,
            cookie: hook.state_distance.unwrap_or(0) as u64,
            object: file.path().to_owned(),
            open_path: file.lasting_path(),
            file_offset: hook.file_offset,
            displacement: 0,
        });
    }
    if defines("free") && !is_libc {
        facts.flags |= MAPPING_WRAPPER;
    }
    if !is_allocator {
        return facts;
    }
    for function in FUNCTIONS {
        let Some(found) = found.iter().find(|found| found.symbol == function.symbol) else {
            continue;
        };
        // One probe per address: a second name would count every call twice.
        if facts
            .points
            .iter()
            .any(|point| point.file_offset == found.file_offset)
        {
            continue;
        }
        let Some(number) = op_number(function.op) else {
            continue;
        };
        facts.points.push(ProbePoint {
            symbol: function.symbol.to_owned(),
            op: Some(function.op),
            shape: function.shape,
            cookie: u64::from(number),
            object: file.path().to_owned(),
            open_path: file.lasting_path(),
            file_offset: found.file_offset,
            displacement: prologue::displacement(&found.code),
        });
    }
    facts
}
