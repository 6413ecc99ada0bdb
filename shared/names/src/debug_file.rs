//! Where the debug information of a stripped file may be found.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::image::Image;

/// Where distributions install debug information.
pub const DEBUG_DIRECTORY: &str = "usr/lib/debug";

/// Shorter build ids identify nothing.
const SHORTEST_ID: usize = 6;

/// Places of the debug file with this build id below a directory that holds debug files, as
/// distributions (`.build-id/ab/cdef….debug`) and debuginfod (`abcdef…/debuginfo`) lay them out.
/// The two last hold the program itself.
pub fn by_build_id(directory: &Path, build_id: &str) -> Vec<PathBuf> {
    if build_id.len() < SHORTEST_ID || !build_id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Vec::new();
    }
    let (first, rest) = build_id.split_at(2);
    [
        format!(".build-id/{first}/{rest}.debug"),
        format!("{first}/{rest}.debug"),
        format!("{build_id}/debuginfo"),
        format!("buildid/{build_id}/debuginfo"),
        format!(".build-id/{first}/{rest}"),
        format!("{build_id}/executable"),
    ]
    .iter()
    .map(|name| directory.join(name))
    .collect()
}

/// Places of the debug file that `module` names, a path within `root`: beside it, in `.debug`
/// beside it, and in the directory of debug files under the same path; as gdb looks for it.
pub fn by_link(root: &Path, module: &Path, image: &Image) -> Vec<PathBuf> {
    let Some((link, _)) = &image.debug_link else {
        return Vec::new();
    };
    let link = OsStr::from_bytes(link);
    let Some(directory) = module.parent().filter(|_| !link.as_bytes().contains(&b'/')) else {
        return Vec::new();
    };
    let directory = directory.strip_prefix("/").unwrap_or(directory);
    vec![
        root.join(directory).join(link),
        root.join(directory).join(".debug").join(link),
        root.join(DEBUG_DIRECTORY).join(directory).join(link),
    ]
}

/// Every place in `root` where the debug information of `module`, a path within it, may lie.
pub fn in_root(root: &Path, module: &Path, image: &Image) -> Vec<PathBuf> {
    let id = image.build_id.as_deref().unwrap_or_default();
    let mut places = by_build_id(&root.join(DEBUG_DIRECTORY), id);
    places.extend(by_link(root, module, image));
    places
}

/// Opens a regular file; opening a device can do things.
pub fn open_regular(path: &Path) -> Option<File> {
    std::fs::metadata(path).ok()?.is_file().then_some(())?;
    File::open(path).ok()
}

/// Whether `candidate` holds the debug information of the build `image`: the build ids are the
/// same, or, where one of them is missing, the checksum is the one in the debug link.
pub fn belongs(candidate: &File, image: &Image) -> bool {
    let Some(found) = Image::read(candidate).filter(|found| found.has_debug_info) else {
        return false;
    };
    match (&found.build_id, &image.build_id) {
        (Some(found), Some(wanted)) => found == wanted,
        _ => image
            .debug_link
            .as_ref()
            .is_some_and(|(_, crc)| checksum(candidate).is_some_and(|found| found == *crc)),
    }
}

/// CRC-32 of a whole file, as debug links hold it.
fn checksum(file: &File) -> Option<u32> {
    // A descriptor of its own: the position of the other one is not ours to move.
    let mut file = File::open(crate::object::lasting_path(file)).ok()?;
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer).ok()? {
            0 => return Some(hasher.finalize()),
            bytes => hasher.update(&buffer[..bytes]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The places where gdb looks, below the root of the target.
    #[test]
    fn places() {
        let image = Image {
            build_id: Some("abcdef012345".to_owned()),
            debug_link: Some((b"tool.debug".to_vec(), 0)),
            ..Image::default()
        };
        let root = Path::new("/proc/7/root");
        let found = in_root(root, Path::new("/opt/bin/tool"), &image);
        for place in [
            "usr/lib/debug/.build-id/ab/cdef012345.debug",
            "opt/bin/tool.debug",
            "opt/bin/.debug/tool.debug",
            "usr/lib/debug/opt/bin/tool.debug",
        ] {
            assert!(found.contains(&root.join(place)), "{place} in {found:?}");
        }
    }

    /// A build id is no path, and a link leads into no other directory.
    #[test]
    fn hostile_names() {
        for id in ["", "ab", "../../etc/passwd", "ab/../../../x", "äöüäöü"] {
            assert_eq!(by_build_id(Path::new("/d"), id), [] as [PathBuf; 0], "{id}");
        }
        let image = Image {
            debug_link: Some((b"../x".to_vec(), 0)),
            ..Image::default()
        };
        let found = by_link(Path::new("/"), Path::new("/bin/x"), &image);
        assert_eq!(found, [] as [PathBuf; 0]);
    }
}
