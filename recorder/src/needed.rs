//! The files that a program maps when it starts, found before it does: they tell how much unwind information there
//! must be room for.
//!
//! They are looked for where the loader looks (ld.so(8)), with one simplification: each library is also looked for
//! in the directories that other files of the program name. What is not found is left out, and what a program opens
//! later is not known: this is an estimate.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use object::ReadCache;
use object::elf::{DT_NEEDED, DT_RPATH, DT_RUNPATH};

use crate::elf::Elf;

/// What glibc's loader has found before: names of libraries with their paths.
const CACHE: &str = "/etc/ld.so.cache";
/// Where loaders look at last.
const DIRECTORIES: [&str; 4] = ["/lib", "/usr/lib", "/lib64", "/usr/lib64"];

/// A file that a program maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeededFile {
    /// Without links.
    pub path: PathBuf,
    /// Bytes of its unwind information.
    pub unwind_bytes: u64,
}

/// A program's file, and those of its libraries, and theirs.
pub fn files(program: &Path) -> Vec<NeededFile> {
    let mut places = Places::read();
    let mut known = HashSet::new();
    let mut found = Vec::new();
    let mut waiting = vec![program.to_owned()];
    while let Some(path) = waiting.pop() {
        let Ok(path) = path.canonicalize() else {
            continue;
        };
        if !known.insert(path.clone()) {
            continue;
        }
        let Some(facts) = Facts::read(&path) else {
            continue;
        };
        places.directories.extend(facts.directories);
        waiting.extend(facts.libraries.iter().flat_map(|name| places.find(name)));
        found.push(NeededFile {
            path,
            unwind_bytes: facts.unwind_bytes,
        });
    }
    found
}

/// What one file says.
struct Facts {
    libraries: Vec<PathBuf>,
    directories: Vec<PathBuf>,
    unwind_bytes: u64,
}

impl Facts {
    /// Of a path without links; `None`: it is no file that can be mapped as code.
    fn read(path: &Path) -> Option<Facts> {
        let metadata = path.metadata().ok().filter(Metadata::is_file)?;
        let cache = ReadCache::new(File::open(path).ok()?);
        let elf = Elf::parse(&cache).ok()?;
        let paths = |tag| {
            let texts = elf.dynamic_strings(tag).into_iter();
            texts.map(|text| PathBuf::from(OsStr::from_bytes(text)))
        };
        let directories = [DT_RPATH, DT_RUNPATH].into_iter().flat_map(paths);
        Some(Facts {
            directories: directories
                .flat_map(|list| directories_of(&list, path.parent()))
                .collect(),
            libraries: paths(DT_NEEDED).collect(),
            unwind_bytes: [".eh_frame", ".debug_frame"]
                .map(|name| elf.section_size(name).min(metadata.len()))
                .iter()
                .sum(),
        })
    }
}

/// The directories of a list, in which `$ORIGIN` is that of the file which has it.
fn directories_of(list: &Path, origin: Option<&Path>) -> Vec<PathBuf> {
    let expanded = |directory: PathBuf| {
        let mut parts = directory.components();
        let first = parts.next()?.as_os_str();
        match first == "$ORIGIN" || first == "${ORIGIN}" {
            true => Some(origin?.join(parts.as_path())),
            false => Some(directory),
        }
    };
    std::env::split_paths(list).filter_map(expanded).collect()
}

/// Where libraries are.
struct Places {
    /// Those that files name, and the environment.
    directories: Vec<PathBuf>,
    /// By name: the loader's cache.
    cached: HashMap<PathBuf, Vec<PathBuf>>,
}

impl Places {
    fn read() -> Places {
        let wanted = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        Places {
            directories: std::env::split_paths(&wanted).collect(),
            cached: cached(&std::fs::read(CACHE).unwrap_or_default()),
        }
    }

    /// Files that a library of this name may be: of those in the cache, some are for other machines.
    fn find(&self, name: &Path) -> Vec<PathBuf> {
        if name.as_os_str().as_bytes().contains(&b'/') {
            return vec![name.to_owned()];
        }
        let first_in = |directories: &[PathBuf]| {
            let mut paths = directories.iter().map(|directory| directory.join(name));
            paths.find(|path| path.is_file())
        };
        if let Some(path) = first_in(&self.directories) {
            return vec![path];
        }
        match self.cached.get(name) {
            Some(paths) => paths.clone(),
            None => first_in(&DIRECTORIES.map(PathBuf::from))
                .into_iter()
                .collect(),
        }
    }
}

/// The libraries of a loader's cache, by name: paths stand in it as strings that end with a zero.
fn cached(bytes: &[u8]) -> HashMap<PathBuf, Vec<PathBuf>> {
    let mut found: HashMap<PathBuf, Vec<PathBuf>> = HashMap::new();
    let texts = bytes.split(|byte| *byte == 0);
    for text in texts.filter(|text| text.first() == Some(&b'/')) {
        let path = PathBuf::from(OsStr::from_bytes(text));
        if let Some(name) = path.file_name() {
            found.entry(name.into()).or_default().push(path);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use super::*;

    /// Of a program that runs: what it maps is what was found, and so much unwind information as their sections have.
    #[test]
    fn files_are_those_that_are_mapped() {
        let program = Path::new("/bin/sort");
        let mut child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .env_remove("LD_PRELOAD")
            .spawn()
            .unwrap();
        let mapped = || {
            let maps = std::fs::read_to_string(format!("/proc/{}/maps", child.id())).unwrap();
            let code = maps.lines().filter(|line| line.contains("r-xp"));
            let mut files: Vec<PathBuf> = code
                .filter_map(|line| line.split_once('/'))
                .map(|(_, path)| Path::new("/").join(path))
                .collect();
            files.sort();
            files.dedup();
            files
        };
        let found = files(program);
        let mut paths: Vec<_> = found.iter().map(|file| file.path.clone()).collect();
        paths.sort();
        assert!(paths.len() > 2, "{paths:?}");
        // It is being loaded.
        for _ in 0..200 {
            if mapped() == paths {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(mapped(), paths);
        drop(child.stdin.take());
        child.wait().unwrap();
        for file in &found {
            let bytes = std::fs::read(&file.path).unwrap();
            let (_, frames) = Elf::parse(&bytes[..])
                .unwrap()
                .section(".eh_frame")
                .unwrap();
            assert!(file.unwind_bytes >= frames.len() as u64 && !frames.is_empty());
        }
    }

    /// The origin of a list is where its file lies.
    #[test]
    fn lists_of_directories() {
        let list = Path::new("$ORIGIN/../lib:/opt/x:${ORIGIN}");
        let found = directories_of(list, Some(Path::new("/usr/bin")));
        assert_eq!(
            found,
            ["/usr/bin/../lib", "/opt/x", "/usr/bin/"].map(PathBuf::from)
        );
    }

    /// Names of a cache, with their paths.
    #[test]
    fn caches() {
        let found =
            cached(b"glibc-ld.so.cache1.1\0\x01libc.so.6\0/lib/a/libc.so.6\0/lib/b/libc.so.6\0");
        assert_eq!(found.len(), 1);
        let paths = ["/lib/a/libc.so.6", "/lib/b/libc.so.6"].map(PathBuf::from);
        assert_eq!(found[Path::new("libc.so.6")], paths);
        assert!(cached(b"").is_empty());
    }

    /// What is no program needs nothing.
    #[test]
    fn no_program() {
        assert!(files(Path::new("/proc/self/maps")).is_empty());
        assert!(files(Path::new("/nonexistent")).is_empty());
    }
}
