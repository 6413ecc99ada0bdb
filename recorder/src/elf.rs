//! What the recorder needs of an ELF file: where its functions lie in the file, and their code.

use std::collections::HashMap;

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

/// A function as its symbol tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundFunction {
    pub symbol: String,
    /// Of the first byte, in the file.
    pub file_offset: u64,
    /// The function's bytes; a few dozen where the symbol has no size.
    pub code: Vec<u8>,
}

/// Code read for a symbol without a size; enough for a prologue.
const UNSIZED_CODE: u64 = 64;
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

    /// The defined functions with these names, from the dynamic symbols and the full table.
    pub fn functions(&self, names: &[&str]) -> Vec<FoundFunction> {
        let mut found: HashMap<&str, FoundFunction> = HashMap::new();
        let is_static = self.file.imports().is_ok_and(|imports| imports.is_empty());
        for symbol in self.file.dynamic_symbols().chain(self.file.symbols()) {
            let Ok(name) = symbol.name() else { continue };
            let Some(name) = names.iter().find(|known| **known == name) else {
                continue;
            };
            if symbol.kind() != SymbolKind::Text || !symbol.is_definition() {
                continue;
            }
            // A program's own static function may have such a name, too; but libc's are local in a
            // static program that is position-independent.
            if symbol.is_local() && !is_static {
                continue;
            }
            let length = match symbol.size() {
                0 => UNSIZED_CODE,
                size => size.min(MAX_CODE),
            };
            if let (Some(file_offset), Some(code)) = (
                self.file_offset(symbol.address()),
                self.code(symbol.address(), length),
            ) {
                let symbol = (*name).to_owned();
                found.entry(name).or_insert(FoundFunction {
                    symbol,
                    file_offset,
                    code,
                });
            }
        }
        names.iter().filter_map(|name| found.remove(name)).collect()
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
