//! The lines of `/proc/PID/maps`.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// One mapping of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First address, and the first one behind the mapping.
    pub start: u64,
    pub end: u64,
    /// Offset in the file of the first byte.
    pub file_offset: u64,
    pub executable: bool,
    /// Device as `major << 32 | minor`, and inode; the inode is 0 where no file is mapped.
    pub device: u64,
    pub inode: u64,
    /// Path as the process sees it, a name in brackets, or nothing. Without ` (deleted)`.
    pub path: OsString,
    /// The path is gone or names another file now.
    pub deleted: bool,
}

impl Mapping {
    /// Whether a file is mapped, on a disk or in memory.
    pub fn has_file(&self) -> bool {
        self.inode != 0 && self.path.as_bytes().first() == Some(&b'/')
    }
}

/// The mappings of a task (a process or a thread), by address. Empty for a zombie.
pub fn read(task: i32) -> io::Result<Vec<Mapping>> {
    Ok(parse(&std::fs::read(format!("/proc/{task}/maps"))?))
}

/// The mappings in the text of a maps file; a line that is not understood is left out.
pub fn parse(text: &[u8]) -> Vec<Mapping> {
    text.split(|byte| *byte == b'\n')
        .filter_map(parse_line)
        .collect()
}

/// `start-end perms offset major:minor inode      path`; the path may hold anything but a newline,
/// which the kernel writes as `\012`.
fn parse_line(line: &[u8]) -> Option<Mapping> {
    let mut rest = line;
    let range = field(&mut rest)?;
    let permissions = field(&mut rest)?.as_bytes();
    let file_offset = hex(field(&mut rest)?)?;
    let device = field(&mut rest)?;
    let inode = field(&mut rest)?.parse().ok()?;
    let (start, end) = range.split_once('-')?;
    let (major, minor) = device.split_once(':')?;
    let (path, deleted) = match rest.trim_ascii_start().strip_suffix(b" (deleted)") {
        Some(path) => (path, true),
        None => (rest.trim_ascii_start(), false),
    };
    Some(Mapping {
        start: hex(start)?,
        end: hex(end)?,
        file_offset,
        executable: permissions.get(2) == Some(&b'x'),
        device: hex(major)? << 32 | hex(minor)?,
        inode,
        path: OsString::from_vec(unescape(path)),
        deleted,
    })
}

/// Takes the next field off the line.
fn field<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let line: &'a [u8] = rest.trim_ascii_start();
    let end = line
        .iter()
        .position(|byte| *byte == b' ')
        .unwrap_or(line.len());
    let (field, behind) = line.split_at(end);
    *rest = behind;
    std::str::from_utf8(field)
        .ok()
        .filter(|field| !field.is_empty())
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

/// The kernel escapes newlines only; a backslash stands for itself.
fn unescape(path: &[u8]) -> Vec<u8> {
    const NEWLINE: &[u8] = b"\\012";
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, behind)) = rest.split_first() {
        match rest.strip_prefix(NEWLINE) {
            Some(behind) => {
                plain.push(b'\n');
                rest = behind;
            }
            None => {
                plain.push(*first);
                rest = behind;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
55d0c0a00000-55d0c0a02000 r--p 00000000 08:01 131  /usr/bin/cat
55d0c0a02000-55d0c0a07000 r-xp 00002000 08:01 131                        /usr/bin/cat
7f0000000000-7f0000001000 rwxp 00000000 00:00 0 
7f0000002000-7f0000003000 r-xp 00001000 fe:1f 77                         /opt/a b/lib (1).so (deleted)
7f0000003000-7f0000004000 r-xp 00000000 00:05 9                          /memfd:jit (deleted)
7f0000004000-7f0000005000 r-xp 00000000 08:01 5                          /tmp/a\\012b\\c
7ffd3b5f9000-7ffd3b61a000 rw-p 00000000 00:00 0                          [stack]
7ffd3b7fe000-7ffd3b800000 r-xp 00000000 00:00 0                          [vdso]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
not a line
";

    /// All kinds of names, permissions and numbers.
    #[test]
    fn lines() {
        let mappings = parse(MAPS.as_bytes());
        let names: Vec<_> = mappings
            .iter()
            .map(|mapping| mapping.path.to_str().unwrap())
            .collect();
        assert_eq!(
            names,
            [
                "/usr/bin/cat",
                "/usr/bin/cat",
                "",
                "/opt/a b/lib (1).so",
                "/memfd:jit",
                "/tmp/a\nb\\c",
                "[stack]",
                "[vdso]",
                "[vsyscall]"
            ]
        );
        assert_eq!(
            mappings[1],
            Mapping {
                start: 0x55d0_c0a0_2000,
                end: 0x55d0_c0a0_7000,
                file_offset: 0x2000,
                executable: true,
                device: 8 << 32 | 1,
                inode: 131,
                path: "/usr/bin/cat".into(),
                deleted: false,
            }
        );
        assert!(!mappings[0].executable);
        assert!(mappings[2].executable && !mappings[2].has_file());
        assert!(mappings[3].deleted && mappings[3].has_file());
        assert_eq!(mappings[3].device, 0xfe << 32 | 0x1f);
        assert!(mappings[4].has_file());
        assert!(!mappings[7].has_file());
    }

    /// A file name that is not UTF-8 is kept as it is.
    #[test]
    fn foreign_bytes() {
        let line = b"1000-2000 r-xp 00000000 08:01 5 /tmp/\xff\xfe";
        assert_eq!(parse(line)[0].path.as_bytes(), b"/tmp/\xff\xfe");
    }

    /// Our own maps hold this very code.
    #[test]
    fn own_maps() {
        let address = own_maps as fn() as usize as u64;
        let mappings = read(std::process::id() as i32).unwrap();
        let here = mappings
            .iter()
            .find(|mapping| (mapping.start..mapping.end).contains(&address));
        let here = here.unwrap();
        assert!(here.executable && here.has_file());
        assert_eq!(here.path, std::env::current_exe().unwrap());
    }
}
