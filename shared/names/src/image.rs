//! What identifies an ELF file, and where its code lies: its headers, nothing more.

use std::fs::File;

use object::elf::{
    ELF_NOTE_GNU, FileHeader64, NT_GNU_BUILD_ID, PF_X, PT_LOAD, SHF_EXECINSTR, SHT_NOBITS,
};
use object::read::elf::{FileHeader, Note, NoteIterator, ProgramHeader, SectionHeader};
use object::{Endianness, ReadCache};

/// The headers of a 64-bit ELF file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// GNU build id, lower-case hex.
    pub build_id: Option<String>,
    /// The segments that hold code, by address.
    pub code: Vec<Segment>,
    /// Name and CRC-32 of the file that its debug information was moved to.
    pub debug_link: Option<(Vec<u8>, u32)>,
    /// Whether it has debug information of its own.
    pub has_debug_info: bool,
    /// Whether its code was left out: such a file holds debug information for another one.
    pub is_debug_only: bool,
}

/// A part of a file that is mapped as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    pub file_offset: u64,
    /// Address, before the loader moves it.
    pub address: u64,
    /// Bytes in the file; a debug file may say 0.
    pub file_bytes: u64,
    /// Bytes in memory.
    pub memory_bytes: u64,
}

impl Image {
    /// Reads the headers; `None` if it is no 64-bit ELF file, or a damaged one.
    pub fn read(file: &File) -> Option<Image> {
        let cache = ReadCache::new(file);
        let data = &cache;
        let header = FileHeader64::<Endianness>::parse(data).ok()?;
        let endian = header.endian().ok()?;
        let mut image = Image::default();
        let segments = header.program_headers(endian, data).ok()?;
        for segment in segments {
            if segment.p_type(endian) == PT_LOAD && segment.p_flags(endian) & PF_X != 0 {
                image.code.push(Segment {
                    file_offset: segment.p_offset(endian),
                    address: segment.p_vaddr(endian),
                    file_bytes: segment.p_filesz(endian),
                    memory_bytes: segment.p_memsz(endian),
                });
            }
        }
        image.code.sort_by_key(|segment| segment.address);
        // A program may have no section headers; in a debug file, the program headers may lie.
        if let Ok(sections) = header.sections(endian, data) {
            for section in sections.iter() {
                let flags = section.sh_flags(endian);
                let is_code = flags & u64::from(SHF_EXECINSTR) != 0;
                image.is_debug_only |= is_code && section.sh_type(endian) == SHT_NOBITS;
                if let Ok(Some(notes)) = section.notes(endian, data) {
                    image.build_id = image.build_id.or_else(|| build_id(notes, endian));
                }
                match sections.section_name(endian, section).unwrap_or_default() {
                    b".debug_info" | b".zdebug_info" => image.has_debug_info = true,
                    b".gnu_debuglink" => {
                        let bytes = section.data(endian, data).unwrap_or_default();
                        image.debug_link = debug_link(bytes);
                    }
                    _ => {}
                }
            }
        }
        for segment in segments.iter().filter(|_| !image.is_debug_only) {
            if let Ok(Some(notes)) = segment.notes(endian, data) {
                image.build_id = image.build_id.or_else(|| build_id(notes, endian));
            }
        }
        Some(image)
    }

    /// The address of a byte of code in the file, before the loader moves it.
    pub fn address(&self, file_offset: u64) -> Option<u64> {
        self.code.iter().find_map(|segment| {
            let distance = file_offset.checked_sub(segment.file_offset)?;
            (distance < segment.file_bytes).then_some(segment.address + distance)
        })
    }
}

fn build_id(
    notes: NoteIterator<'_, FileHeader64<Endianness>>,
    endian: Endianness,
) -> Option<String> {
    let is_id = |note: &Note<'_, FileHeader64<Endianness>>| {
        note.name() == ELF_NOTE_GNU && note.n_type(endian) == NT_GNU_BUILD_ID
    };
    let id = notes.map_while(Result::ok).find(is_id)?;
    Some(id.desc().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A name, a zero, and, at the next multiple of four, the checksum.
fn debug_link(section: &[u8]) -> Option<(Vec<u8>, u32)> {
    let length = section.iter().position(|byte| *byte == 0)?;
    let at = (length + 4) & !3;
    let checksum = section.get(at..at + 4)?.try_into().ok()?;
    (length > 0).then(|| (section[..length].to_vec(), u32::from_le_bytes(checksum)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// This very program: its code is found where it is, and an offset outside has no address.
    #[test]
    fn own_program() {
        let file = File::open("/proc/self/exe").unwrap();
        let image = Image::read(&file).unwrap();
        assert!(!image.is_debug_only);
        let code = image.code[0];
        assert_eq!(image.address(code.file_offset + 8), Some(code.address + 8));
        assert_eq!(image.address(u64::MAX), None);
    }

    /// Files that are no programs have no image.
    #[test]
    fn other_files() {
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        for path in [manifest, "/dev/null"] {
            assert_eq!(Image::read(&File::open(path).unwrap()), None, "{path}");
        }
    }

    /// The checksum lies at the next multiple of four behind the name's zero.
    #[test]
    fn debug_links() {
        for (name, section) in [
            ("abc", &b"abc\0\x78\x56\x34\x12"[..]),
            ("abcd", &b"abcd\0\0\0\0\x78\x56\x34\x12"[..]),
        ] {
            assert_eq!(debug_link(section), Some((name.into(), 0x1234_5678)));
        }
        for damaged in [&b""[..], b"abc", b"\0\0\0\0\0\0\0\0", b"abc\0\0"] {
            assert_eq!(debug_link(damaged), None);
        }
    }
}
