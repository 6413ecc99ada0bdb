//! The allocation functions of a file, found by name.

use std::collections::{HashMap, HashSet};

use object::ReadRef;

use crate::elf::{Elf, FoundFunction};
use memleak_trace::Op;

use crate::functions::{ALLOCATOR, Kind, Name, PREFIXES, functions};
use crate::kernel::ProbePoint;
use crate::layout::{COOKIE_FUNCTION, COOKIE_SEVERAL};
use crate::modules::OpenedFile;
use crate::pools::Pool;
use crate::prologue;
use crate::wire::op_number;

/// What the user wants to have probed, beside or instead of what is found without being told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Files in which allocators are looked for, by path or name; in all if empty.
    pub objects: Vec<String>,
    /// What stands before the names of an allocator's functions.
    pub prefix: Option<String>,
    pub pools: Vec<Pool>,
}

impl Wishes {
    /// Whether allocators are to be looked for in this file.
    fn wants_object(&self, path: &str) -> bool {
        self.objects.is_empty() || self.objects.iter().any(|object| is_object(object, path))
    }
}

/// Whether the user means the file at `path`: by its path, or by its name.
fn is_object(wanted: &str, path: &str) -> bool {
    wanted == path || path.rsplit('/').next() == Some(wanted)
}

/// What to look for.
#[derive(Debug)]
pub struct Search {
    wishes: Wishes,
    /// By name, with the place in the table: the first name of an address is the one it goes by.
    functions: HashMap<String, (usize, Name)>,
    /// Names of which one makes a file an allocator.
    decisive: HashSet<String>,
    /// Numbers given to functions so far.
    numbered: u16,
}

/// What a file has.
#[derive(Debug, Default)]
pub struct Found {
    /// In the table's order, then pools.
    pub points: Vec<ProbePoint>,
    pub is_allocator: bool,
    /// It takes free()'s place for other files, too.
    pub defines_free: bool,
}

impl Default for Search {
    fn default() -> Search {
        Search::new(Wishes::default())
    }
}

impl Search {
    pub fn new(wishes: Wishes) -> Search {
        let prefix = wishes.prefix.as_deref();
        let functions = functions(prefix).into_iter().enumerate();
        let decisive = PREFIXES.into_iter().chain(prefix);
        Search {
            functions: functions
                .map(|(place, known)| (known.name.clone(), (place, known)))
                .collect(),
            decisive: decisive
                .flat_map(|prefix| ALLOCATOR.map(|name| format!("{prefix}{name}")))
                .collect(),
            wishes,
            numbered: 0,
        }
    }

    /// What a file has to be probed.
    pub fn find<'data, R: ReadRef<'data>>(
        &mut self,
        elf: &Elf<'data, R>,
        file: &OpenedFile,
    ) -> Found {
        let mut found = Found::default();
        if self.wishes.wants_object(file.path()) {
            self.find_allocator(elf, file, &mut found);
        }
        self.find_pools(elf, file, &mut found);
        // One release may pass through several functions; an allocation tells it from the next one.
        for is_pool in [false, true] {
            let mut points: Vec<&mut ProbePoint> = found.points.iter_mut().collect();
            points.retain(|point| point.shape.is_pool() == is_pool);
            let releases = points.iter().filter(|point| point.shape.is_release());
            if releases.count() > 1 {
                points
                    .into_iter()
                    .for_each(|point| point.cookie |= COOKIE_SEVERAL);
            }
        }
        found
    }

    /// A library may have a function called mmap without being an allocator: one of the decisive
    /// names must be there.
    fn find_allocator<'data, R: ReadRef<'data>>(
        &mut self,
        elf: &Elf<'data, R>,
        file: &OpenedFile,
        found: &mut Found,
    ) {
        // A program's own static function may be called malloc, too: without being told, it is left
        // alone.
        let is_told = |name: &str| {
            let mut told = self.wishes.prefix.iter();
            !self.wishes.objects.is_empty() || told.any(|prefix| name.starts_with(prefix.as_str()))
        };
        let mut functions = elf.functions(&|name, is_private| {
            self.functions.contains_key(name) && (!is_private || is_told(name))
        });
        found.is_allocator = functions
            .iter()
            .any(|function| self.decisive.contains(&function.symbol));
        if !found.is_allocator {
            return;
        }
        found.defines_free = functions.iter().any(|function| function.symbol == "free");
        functions.sort_by_key(|function| self.functions.get(&function.symbol).map(|known| known.0));
        let places: HashSet<u64> = functions.iter().map(|known| known.file_offset).collect();
        for function in functions {
            let Some((_, known)) = self.functions.get(&function.symbol).cloned() else {
                continue;
            };
            if is_operator(known.kind.op) && hands_on(&function, &places) {
                continue;
            }
            let is_own = known.is_own && self.wishes.objects.is_empty();
            self.add(function, known.kind, is_own, file, &mut found.points);
        }
    }

    /// Whether a name is an allocator's own.
    pub fn is_own_name(&self, name: &str) -> bool {
        self.functions
            .get(name)
            .is_some_and(|(_, known)| known.is_own)
    }

    fn find_pools<'data, R: ReadRef<'data>>(
        &mut self,
        elf: &Elf<'data, R>,
        file: &OpenedFile,
        found: &mut Found,
    ) {
        let pools = self.wishes.pools.clone();
        let is_here = |pool: &&Pool| match &pool.object {
            Some(object) => is_object(object, file.path()),
            None => true,
        };
        let wanted: HashMap<&str, Kind> = pools
            .iter()
            .filter(is_here)
            .flat_map(|pool| &pool.functions)
            .map(|(name, kind)| (name.as_str(), *kind))
            .collect();
        if wanted.is_empty() {
            return;
        }
        for function in elf.functions(&|name, _| wanted.contains_key(name)) {
            if let Some(kind) = wanted.get(function.symbol.as_str()) {
                self.add(function, *kind, false, file, &mut found.points);
            }
        }
    }

    /// One probe per address: a second name would count every call twice.
    fn add(
        &mut self,
        function: FoundFunction,
        kind: Kind,
        is_own: bool,
        file: &OpenedFile,
        points: &mut Vec<ProbePoint>,
    ) {
        let is_alias = |point: &&mut ProbePoint| {
            point.file_offset == function.file_offset
                && point.shape.is_pool() == kind.shape.is_pool()
        };
        if let Some(known) = points.iter_mut().find(is_alias) {
            match &mut known.if_mentioned {
                Some(names) if is_own => names.push(function.symbol),
                always => *always = None,
            }
            return;
        }
        let Some(number) = op_number(kind.op) else {
            return;
        };
        self.numbered = self.numbered.wrapping_add(1).max(1);
        points.push(ProbePoint {
            table: function.table,
            op: Some(kind.op),
            shape: kind.shape,
            cookie: u64::from(number)
                | kind.arguments.cookie()
                | u64::from(self.numbered) << COOKIE_FUNCTION,
            object: file.path().to_owned(),
            open_path: file.lasting_path(),
            file_offset: function.file_offset,
            displacement: prologue::displacement(&function.code),
            if_mentioned: is_own.then(|| vec![function.symbol.clone()]),
            symbol: function.symbol,
        });
    }
}

fn is_operator(op: Op) -> bool {
    matches!(op, Op::New | Op::NewArray | Op::Delete | Op::DeleteArray)
}

/// Whether the function calls or jumps to one of these places in the same file: libstdc++'s operators,
/// linked into a static program, call malloc and free, which are probed. (Besides, an exception cannot
/// pass a function whose return is probed, and these throw it themselves.)
fn hands_on(function: &FoundFunction, places: &HashSet<u64>) -> bool {
    let end = function.file_offset + function.code.len() as u64;
    prologue::near_targets(&function.code, function.file_offset)
        .any(|target| places.contains(&target) && !(function.file_offset..end).contains(&target))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::SymbolTable;

    /// A jump to another function hands on; one within the function does not.
    #[test]
    fn hands_on_what_it_calls() {
        let function = |code: &[u8]| FoundFunction {
            symbol: "_ZdlPv".to_owned(),
            table: SymbolTable::Full,
            file_offset: 0x1000,
            code: code.to_vec(),
        };
        let places = HashSet::from([0x1000, 0x2000]);
        // jmp +0xffb; call +0xffb; jmp to itself; jmp to the next byte
        assert!(hands_on(&function(&[0xe9, 0xfb, 0x0f, 0, 0]), &places));
        assert!(hands_on(&function(&[0xe8, 0xfb, 0x0f, 0, 0]), &places));
        assert!(!hands_on(&function(&[0xeb, 0xfe]), &places));
        assert!(!hands_on(&function(&[0xeb, 0x00, 0xc3]), &places));
    }

    /// An object is meant by its whole path or by its name, and by nothing in between.
    #[test]
    fn objects() {
        for (wanted, path, meant) in [
            ("/usr/lib/libc.so.6", "/usr/lib/libc.so.6", true),
            ("libc.so.6", "/usr/lib/libc.so.6", true),
            ("lib/libc.so.6", "/usr/lib/libc.so.6", false),
            ("libc.so", "/usr/lib/libc.so.6", false),
        ] {
            assert_eq!(is_object(wanted, path), meant, "{wanted} {path}");
        }
    }
}
