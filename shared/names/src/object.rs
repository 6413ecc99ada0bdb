//! A file with its debug information, or the debug information alone.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;

use crate::debug_file;
use crate::image::{Image, Segment};

/// The kernel maps whole pages.
const PAGE: u64 = 4096;

/// Where the names of one build are. It holds its files open: what is named is what was identified.
#[derive(Debug)]
pub struct Object {
    /// The file that is executed.
    code: Option<Arc<File>>,
    /// The file that its debug information was moved to.
    debug: Option<Arc<File>>,
    /// Where parts of the executed file lie: (offset in it, bytes, address).
    places: Vec<(u64, u64, u64)>,
}

impl Object {
    /// A file that is executed. Of the candidates, the first is used that holds the debug
    /// information of this very build, unless the file has its own.
    ///
    /// `None` if it is no 64-bit ELF file.
    pub fn new(code: Arc<File>, candidates: impl IntoIterator<Item = Arc<File>>) -> Option<Object> {
        let image = Image::read(&code)?;
        let mut candidates = candidates.into_iter();
        let debug = match image.has_debug_info {
            true => None,
            false => candidates.find(|candidate| debug_file::belongs(candidate, &image)),
        };
        Some(Object {
            code: Some(code),
            debug,
            places: image
                .code
                .iter()
                .map(|segment| (segment.file_offset, segment.file_bytes, segment.address))
                .collect(),
        })
    }

    /// A debug file whose program is not at hand. It does not tell at which offset of the program
    /// its code lay; the mappings do: (offset in the file, bytes) of what was mapped executable.
    ///
    /// `None` if these are not the mappings of such a program.
    pub fn debug_only(debug: Arc<File>, mapped: &[(u64, u64)]) -> Option<Object> {
        let image = Image::read(&debug)?;
        let places = place(&image.code, mapped)?;
        Some(Object {
            code: None,
            debug: Some(debug),
            places,
        })
    }

    /// Whether separate debug information was found.
    pub fn has_separate_debug_information(&self) -> bool {
        self.debug.is_some()
    }

    /// The address of a byte of code in the executed file, before the loader moves it.
    pub fn address(&self, file_offset: u64) -> Option<u64> {
        self.places.iter().find_map(|(start, bytes, address)| {
            let distance = file_offset.checked_sub(*start)?;
            (distance < *bytes).then(|| address.checked_add(distance))?
        })
    }

    /// The files to ask, the most telling first.
    pub(crate) fn sources(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.debug
            .iter()
            .chain(&self.code)
            .map(|file| lasting_path(file))
    }
}

/// A path that opens this very file as long as it is open, whatever became of its name.
pub fn lasting_path(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// What was mapped, with the address of its first byte: each segment is mapped as whole pages, in
/// the order of their addresses and offsets.
fn place(code: &[Segment], mapped: &[(u64, u64)]) -> Option<Vec<(u64, u64, u64)>> {
    let mut mapped = mapped.to_vec();
    mapped.sort_unstable();
    mapped.dedup();
    if mapped.len() != code.len() || mapped.is_empty() {
        return None;
    }
    code.iter()
        .zip(mapped)
        .map(|(segment, (offset, bytes))| {
            let start = segment.address & !(PAGE - 1);
            let end = segment.address.checked_add(segment.memory_bytes)?;
            (end.checked_next_multiple_of(PAGE)? - start == bytes).then_some((offset, bytes, start))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(address: u64, memory_bytes: u64) -> Segment {
        Segment {
            file_offset: 0,
            address,
            file_bytes: 0,
            memory_bytes,
        }
    }

    /// Whole pages, whatever the segment's first byte; segments in their order.
    #[test]
    fn mappings_place_segments() {
        let code = [segment(0x401_040, 0xfd0), segment(0x410_000, 0x1000)];
        let mapped = [(0x9000, 0x1000), (0x1000, 0x2000), (0x1000, 0x2000)];
        assert_eq!(
            place(&code, &mapped),
            Some(vec![
                (0x1000, 0x2000, 0x401_000),
                (0x9000, 0x1000, 0x410_000)
            ])
        );
    }

    /// Mappings of another length or number are another program's: nothing is guessed.
    #[test]
    fn mappings_that_do_not_fit() {
        let code = [segment(0x1000, 0x1800)];
        assert!(place(&code, &[(0x1000, 0x2000)]).is_some());
        for mapped in [
            &[(0x1000, 0x1000)][..],
            &[(0x1000, 0x3000)],
            &[(0x1000, 0x1000), (0x2000, 0x1000)],
            &[],
        ] {
            assert_eq!(place(&code, mapped), None, "{mapped:x?}");
        }
        assert_eq!(place(&[], &[]), None);
        assert_eq!(place(&[segment(u64::MAX, 1)], &[(0, 0x1000)]), None);
    }

    /// This very program: where its code lies.
    #[test]
    fn own_program() {
        let own = Arc::new(File::open("/proc/self/exe").unwrap());
        let other = Arc::new(File::open("/dev/null").unwrap());
        let image = Image::read(&own).unwrap();
        let object = Object::new(own, [other]).unwrap();
        let code = image.code[0];
        assert_eq!(object.address(code.file_offset), Some(code.address));
        assert_eq!(object.address(u64::MAX), None);
        assert!(!object.has_separate_debug_information());
    }
}
