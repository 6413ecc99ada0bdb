//! What the recorder needs of an ELF file: where its functions lie in the file, and their code.

use std::collections::HashSet;

use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};
use object::{Endianness, Object, ObjectSection, ObjectSymbol, ReadRef, SymbolKind, elf};

/// Why a file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    #[error("no 64-bit ELF file: {0}")]
    Parse(#[from] object::Error),
    #[error("made for another machine (ELF e_machine {0}), not x86-64")]
    Machine(u16),
}

/// A 64-bit x86 ELF file.
pub struct Elf<'data, R: ReadRef<'data>> {
    file: ElfFile64<'data, Endianness, R>,
}

/// Where a symbol was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SymbolTable {
    /// What the file exports: it is there in every stripped library.
    Dynamic,
    /// `.symtab`, which stripping takes away.
    Full,
}

impl SymbolTable {
    /// For messages.
    pub fn name(self) -> &'static str {
        match self {
            SymbolTable::Dynamic => "dynamic symbols",
            SymbolTable::Full => "symbol table",
        }
    }
}

/// A function as its symbol tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundFunction {
    pub symbol: String,
    pub table: SymbolTable,
    /// Of the first byte, in the file.
    pub file_offset: u64,
    /// The function's bytes; a few dozen where the symbol has no size.
    pub code: Vec<u8>,
}

/// Code read for a symbol without a size; enough for a prologue.
const UNSIZED_CODE: u64 = 64;
/// Bytes of the names of functions that are looked for among constants.
const NAME_LENGTHS: std::ops::Range<usize> = 5..48;
/// No function of an allocator is longer.
const MAX_CODE: u64 = 64 * 1024;

impl<'data, R: ReadRef<'data>> Elf<'data, R> {
    pub fn parse(data: R) -> Result<Self, ElfError> {
        let file = ElfFile64::<Endianness, R>::parse(data)?;
        let machine = file.elf_header().e_machine(file.endian());
        if machine != elf::EM_X86_64 {
            return Err(ElfError::Machine(machine));
        }
        Ok(Elf { file })
    }

    /// The defined functions that are wanted, by name and place: from the dynamic symbols, and from the
    /// full table where they have others. Asked is with the name, and whether it is private to its
    /// source. A versioned symbol may have several places.
    pub fn functions(&self, wanted: &dyn Fn(&str, bool) -> bool) -> Vec<FoundFunction> {
        let mut found: Vec<FoundFunction> = Vec::new();
        let mut seen = HashSet::new();
        // libc's are local in a static program that is position-independent.
        let is_static = self.file.imports().is_ok_and(|imports| imports.is_empty());
        let dynamic = self
            .file
            .dynamic_symbols()
            .map(|symbol| (symbol, SymbolTable::Dynamic));
        let full = self
            .file
            .symbols()
            .map(|symbol| (symbol, SymbolTable::Full));
        for (symbol, table) in dynamic.chain(full) {
            let Ok(name) = symbol.name() else { continue };
            let is_private = symbol.is_local() && !is_static;
            if symbol.kind() != SymbolKind::Text
                || !symbol.is_definition()
                || !wanted(name, is_private)
            {
                continue;
            }
            let length = match symbol.size() {
                0 => UNSIZED_CODE,
                size => size.min(MAX_CODE),
            };
            let Some(file_offset) = self.file_offset(symbol.address()) else {
                continue;
            };
            if !seen.insert((name, file_offset)) {
                continue;
            }
            if let Some(code) = self.code(symbol.address(), length) {
                found.push(FoundFunction {
                    symbol: name.to_owned(),
                    table,
                    file_offset,
                    code,
                });
            }
        }
        found
    }

    /// Whether the file defines this name for others.
    pub fn exports(&self, name: &str) -> bool {
        self.exported_address(name).is_some()
    }

    /// Virtual address of what the file defines for others by this name.
    pub fn exported_address(&self, name: &str) -> Option<u64> {
        self.file
            .dynamic_symbols()
            .find(|symbol| symbol.is_definition() && symbol.name() == Ok(name))
            .map(|symbol| symbol.address())
    }

    /// The names that the file speaks of and `wanted` knows: symbols of other files, and strings among
    /// its constants, with which it may look for symbols.
    pub fn mentions(&self, wanted: &dyn Fn(&str) -> bool) -> HashSet<String> {
        let mut found = HashSet::new();
        for symbol in self
            .file
            .dynamic_symbols()
            .filter(|symbol| symbol.is_undefined())
        {
            if let Ok(name) = symbol.name()
                && wanted(name)
            {
                found.insert(name.to_owned());
            }
        }
        let constants = self.section(".rodata").map(|(_, content)| content);
        for text in constants
            .iter()
            .flat_map(|content| content.split(|byte| *byte == 0))
        {
            if NAME_LENGTHS.contains(&text.len())
                && let Ok(name) = std::str::from_utf8(text)
                && wanted(name)
            {
                found.insert(name.to_owned());
            }
        }
        found
    }

    /// Offset in the file of code at a virtual address; `None` where no code is. (Linkers leave
    /// unwind information of functions that they dropped, at address 0.)
    pub fn file_offset(&self, address: u64) -> Option<u64> {
        let endian = self.file.endian();
        self.file.elf_program_headers().iter().find_map(|segment| {
            let start = segment.p_vaddr(endian);
            let inside = segment.p_type(endian) == elf::PT_LOAD
                && segment.p_flags(endian) & elf::PF_X != 0
                && address >= start
                && address - start < segment.p_filesz(endian);
            inside.then(|| (address - start).checked_add(segment.p_offset(endian)))?
        })
    }

    /// Offset in the file of the program's first instruction; `None` for a library.
    pub fn entry(&self) -> Option<u64> {
        self.file_offset(self.file.entry())
    }

    /// A section's content and virtual address.
    pub fn section(&self, name: &str) -> Option<(u64, std::borrow::Cow<'data, [u8]>)> {
        let section = self.file.section_by_name(name)?;
        Some((section.address(), section.uncompressed_data().ok()?))
    }

    /// Bytes of a section in memory, 0 if it is missing.
    pub fn section_size(&self, name: &str) -> u64 {
        let section = self.file.section_by_name(name);
        section.map_or(0, |section| section.size())
    }

    /// What the dynamic table says with a tag of texts, such as `DT_NEEDED`.
    pub fn dynamic_strings(&self, tag: i64) -> Vec<&'data [u8]> {
        let Ok(table) = self.file.elf_dynamic_table() else {
            return Vec::new();
        };
        let entries = table.iter().filter(|entry| entry.tag == tag);
        entries
            .filter_map(|entry| table.string(entry).ok())
            .collect()
    }

    /// Virtual address of a section, 0 if it is missing.
    pub fn section_address(&self, name: &str) -> u64 {
        self.file
            .section_by_name(name)
            .map_or(0, |section| section.address())
    }

    fn code(&self, address: u64, length: u64) -> Option<Vec<u8>> {
        let section = self.file.sections().find(|section| {
            address >= section.address() && address - section.address() < section.size()
        })?;
        let length = length.min(section.size() - (address - section.address()));
        section
            .data_range(address, length)
            .ok()?
            .map(<[u8]>::to_vec)
    }
}
