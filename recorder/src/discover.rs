//! Finds what to probe in the files that a process has mapped, and what the probes must know of them.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::FileExt;

use memleak_trace::FileId;
use memleak_trace::describe::Module;
use object::{ReadCache, ReadRef};

use crate::allocators::{Found, Search, Wishes};
use crate::elf::{Elf, SymbolTable};
use crate::functions::{Shape, rank};
use crate::kernel::ProbePoint;
use crate::layout::{COOKIE_CHECK_CALLER, MAPPING_INNER, MAPPING_WRAPPER, MappingRow};
use crate::loader::{self, DEBUG_STATE};
use crate::modules::{Modules, OpenedFile};
use crate::row_arena::{RowArena, RowRange};
use crate::unwind_rows::{UnwindRow, unwind_rows};

/// What a file says, read once.
#[derive(Debug, Default)]
struct FileFacts {
    /// Allocation functions, in the order of attaching.
    pub points: Vec<ProbePoint>,
    pub rows: Vec<UnwindRow>,
    /// Names of allocators' own functions that it speaks of.
    mentions: HashSet<String>,
    /// `MAPPING_INNER`, `MAPPING_WRAPPER`.
    pub flags: u16,
    /// The C library: what calls its free() from a wrapper is not the program.
    is_libc: bool,
}

/// The files of a recording, by number.
#[derive(Debug, Default)]
pub struct Discovery {
    files: HashMap<FileId, FileFacts>,
    search: Search,
}

impl Discovery {
    /// Looks for allocators as the user wishes.
    pub fn new(wishes: Wishes) -> Discovery {
        Discovery {
            files: HashMap::new(),
            search: Search::new(wishes),
        }
    }

    /// Whether a function of this name is probed in one of the files.
    pub fn has(&self, symbol: &str) -> bool {
        let mut points = self.files.values().flat_map(|facts| &facts.points);
        points.any(|point| point.symbol == symbol)
    }

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
                .and_then(|file| read_file(file, executable, &mut self.search));
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

    /// Whether one of these mappings holds an allocator that can be probed.
    pub fn finds_allocator(&self, mapped: &[Module]) -> bool {
        mapped
            .iter()
            .filter_map(|module| self.files.get(&module.file?))
            .flat_map(|facts| &facts.points)
            .any(|point| matches!(point.shape, Shape::Allocate | Shape::AllocateInPool))
    }

    /// Whether one of these mappings is the loader's, which tells when others are mapped.
    pub fn has_loader(&self, mapped: &[Module]) -> bool {
        mapped
            .iter()
            .filter_map(|module| self.files.get(&module.file?))
            .flat_map(|facts| &facts.points)
            .any(|point| point.shape == Shape::Loader)
    }

    /// The functions to probe in these files, releases first over all of them.
    pub fn points(&self, files: &[FileId]) -> Vec<ProbePoint> {
        let mut points: Vec<ProbePoint> = Vec::new();
        for id in files {
            let Some(facts) = self.files.get(id) else {
                continue;
            };
            let others = || self.files.iter().filter(|(other, _)| *other != id);
            let is_mentioned =
                |name: &String| others().any(|(_, facts)| facts.mentions.contains(name));
            let is_wanted = |point: &&ProbePoint| match &point.if_mentioned {
                Some(names) => names.iter().any(is_mentioned),
                None => true,
            };
            points.extend(facts.points.iter().filter(is_wanted).cloned());
        }
        points.sort_by_key(|point| rank(point.op, point.shape));
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

fn read_file(file: &OpenedFile, executable: &str, search: &mut Search) -> Option<FileFacts> {
    let length = file.file().metadata().ok()?.len();
    if length > WHOLE_FILE {
        let cache = ReadCache::new(file.file());
        return Some(read_elf(
            &Elf::parse(&cache).ok()?,
            file,
            executable,
            search,
        ));
    }
    let mut bytes = vec![0; length as usize];
    file.file().read_exact_at(&mut bytes, 0).ok()?;
    Some(read_elf(
        &Elf::parse(&bytes[..]).ok()?,
        file,
        executable,
        search,
    ))
}

fn read_elf<'data, R: ReadRef<'data>>(
    elf: &Elf<'data, R>,
    file: &OpenedFile,
    executable: &str,
    search: &mut Search,
) -> FileFacts {
    let is_libc = elf.exports(IS_LIBC);
    let Found {
        mut points,
        is_allocator,
        defines_free,
    } = search.find(elf, file);
    let hook = loader::hook(elf);
    let mut flags = 0;
    if file.path() != executable && (is_allocator || hook.is_some()) {
        flags |= MAPPING_INNER;
    }
    if defines_free && !is_libc {
        flags |= MAPPING_WRAPPER;
    }
    // What is linked into a program is there because the program calls it.
    if file.path() == executable {
        for point in &mut points {
            point.if_mentioned = None;
        }
    }
    let hook = hook.map(|hook| ProbePoint {
        symbol: DEBUG_STATE.to_owned(),
        table: SymbolTable::Dynamic,
        op: None,
        shape: Shape::Loader,
        cookie: hook.state_distance.unwrap_or(0) as u64,
        object: file.path().to_owned(),
        open_path: file.lasting_path(),
        file_offset: hook.file_offset,
        displacement: 0,
        if_mentioned: None,
    });
    FileFacts {
        points: points.into_iter().chain(hook).collect(),
        rows: unwind_rows(elf),
        mentions: elf.mentions(&|name| search.is_own_name(name)),
        flags,
        is_libc,
    }
}
