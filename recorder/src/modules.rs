//! The files and mappings a process runs code from, found again whenever they change.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::FromRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memleak_names::Image;
use memleak_names::debug_file::{self, open_regular};
use memleak_names::object::lasting_path;
use memleak_trace::describe::Module;
use memleak_trace::{FileId, SpaceId};

use crate::maps::{self, Mapping};
use crate::preflight::target::living_thread;

/// Why the mappings of a process are not known.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "cannot read /proc/{pid}/maps: {source}; the process has ended, or belongs to another user"
    )]
    Unreadable { pid: i32, source: io::Error },
}

/// A file that a target runs code from, held open: its names can be found after the target has
/// ended, closed the library, or deleted the file.
#[derive(Debug)]
pub struct OpenedFile {
    id: FileId,
    path: String,
    build_id: Option<String>,
    file: Arc<File>,
    /// Files that may hold its debug information.
    debug_files: Vec<Arc<File>>,
    stamp: Stamp,
}

/// Tells whether a file was written to since: length, and the time of the last change.
type Stamp = (u64, i64, i64);

fn stamp(metadata: &Metadata) -> Stamp {
    (metadata.len(), metadata.mtime(), metadata.mtime_nsec())
}

impl OpenedFile {
    /// Takes an open file. `path` is its name as the target sees it.
    pub fn new(id: FileId, path: String, file: File) -> io::Result<Self> {
        Ok(OpenedFile {
            id,
            path,
            build_id: Image::read(&file).and_then(|image| image.build_id),
            stamp: stamp(&file.metadata()?),
            file: Arc::new(file),
            debug_files: Vec::new(),
        })
    }

    /// Opens what may hold its debug information in these root directories: they may be gone by
    /// the time that a name is asked for. Whether it does, is not looked at here.
    pub fn with_debug_files(mut self, roots: &[PathBuf]) -> Self {
        let image = Image::read(&self.file).filter(|image| !image.has_debug_info);
        if let Some(image) = image {
            self.debug_files = roots
                .iter()
                .flat_map(|root| debug_file::in_root(root, Path::new(&self.path), &image))
                .filter_map(|place| Some(Arc::new(open_regular(&place)?)))
                .collect();
        }
        self
    }

    pub fn id(&self) -> FileId {
        self.id
    }

    /// Path as the target sees it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// GNU build id, lower-case hex.
    pub fn build_id(&self) -> Option<&str> {
        self.build_id.as_deref()
    }

    /// A path that opens this very file as long as `self` lives, whatever became of its name.
    pub fn lasting_path(&self) -> PathBuf {
        lasting_path(&self.file)
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    /// The file, for as long as it is needed.
    pub fn shared_file(&self) -> Arc<File> {
        self.file.clone()
    }

    /// Files that may hold its debug information, the likeliest first.
    pub fn debug_files(&self) -> &[Arc<File>] {
        &self.debug_files
    }

    /// Whether the file still holds what it held when it was opened.
    pub fn is_unchanged(&self) -> bool {
        self.file
            .metadata()
            .is_ok_and(|metadata| stamp(&metadata) == self.stamp)
    }
}

/// The executable mappings of the recorded processes, and the files behind them.
#[derive(Debug, Default)]
pub struct Modules {
    /// The file of each [`FileId`], from 1; `None` where it could not be opened.
    files: Vec<Option<Arc<OpenedFile>>>,
    /// The newest file met with this device and inode.
    by_inode: HashMap<(u64, u64), FileId>,
    /// The executable mappings as they were last seen, by address.
    mapped: HashMap<SpaceId, Vec<Module>>,
}

impl Modules {
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the mappings of a process; returns the executable ones that were not there before.
    pub fn refresh(&mut self, pid: i32, space: SpaceId) -> Result<Vec<Module>, Error> {
        // A leader that has exited shows no mappings, its threads do.
        let task = living_thread(pid).unwrap_or(pid);
        let mappings = maps::read(task).map_err(|source| Error::Unreadable { pid, source })?;
        let now: Vec<Module> = mappings
            .iter()
            .filter(|mapping| mapping.executable)
            .map(|mapping| self.module(pid, task, space, mapping))
            .collect();
        let before = self.mapped.insert(space, now.clone()).unwrap_or_default();
        Ok(now
            .into_iter()
            .filter(|module| !before.contains(module))
            .collect())
    }

    /// The file of this number; `None` if it could not be opened.
    pub fn file(&self, id: FileId) -> Option<&Arc<OpenedFile>> {
        let index = usize::try_from(id.0).ok()?.checked_sub(1)?;
        self.files.get(index)?.as_ref()
    }

    /// The executable mappings of an address space, by address, as of the last refresh.
    pub fn mapped(&self, space: SpaceId) -> &[Module] {
        self.mapped.get(&space).map_or(&[], Vec::as_slice)
    }

    /// The mapping at an address, as of the last refresh.
    pub fn at(&self, space: SpaceId, address: u64) -> Option<&Module> {
        let mapped = self.mapped.get(&space)?;
        let behind = mapped.partition_point(|module| module.start <= address);
        let module = mapped.get(behind.checked_sub(1)?)?;
        (address - module.start < module.length).then_some(module)
    }

    /// An address space has ended, and nobody asks for its mappings any more.
    pub fn forget(&mut self, space: SpaceId) {
        self.mapped.remove(&space);
    }

    fn module(&mut self, pid: i32, task: i32, space: SpaceId, mapping: &Mapping) -> Module {
        let file = (mapping.has_file() || is_vdso(mapping)).then(|| self.file_of(task, mapping));
        let path = match mapping.path.is_empty() {
            true => "[anonymous]".to_owned(),
            false => mapping.path.to_string_lossy().into_owned(),
        };
        let build_id = file.and_then(|id| self.file(id)?.build_id().map(str::to_owned));
        Module {
            pid,
            space,
            start: mapping.start,
            length: mapping.end.saturating_sub(mapping.start),
            file_offset: mapping.file_offset,
            file,
            path,
            build_id,
        }
    }

    /// The number of the mapped file. Build ids are read once per file: an inode that we hold open
    /// cannot be given to another file, so only a change of its content makes it a new one.
    fn file_of(&mut self, task: i32, mapping: &Mapping) -> FileId {
        let key = (mapping.device, mapping.inode);
        let known = self.by_inode.get(&key).copied();
        if let Some(id) = known
            && self.file(id).is_some_and(|file| file.is_unchanged())
        {
            return id;
        }
        let opened = match is_vdso(mapping) {
            true => copy_mapped(task, mapping).ok(),
            false => open_mapped(task, mapping),
        };
        if let (Some(id), None) = (known, &opened) {
            return id;
        }
        let id = FileId(u32::try_from(self.files.len() + 1).unwrap_or(u32::MAX));
        let path = mapping.path.to_string_lossy().into_owned();
        let opened = opened.and_then(|file| OpenedFile::new(id, path, file).ok());
        let opened = opened.map(|file| file.with_debug_files(&roots(task)));
        self.files.push(opened.map(Arc::new));
        self.by_inode.insert(key, id);
        id
    }
}

/// The code that the kernel maps into every process: it has no path, device and inode, and is the
/// same for all processes of one class.
fn is_vdso(mapping: &Mapping) -> bool {
    mapping.inode == 0 && mapping.path == "[vdso]"
}

/// Mappings that are copied are shorter.
const MAX_COPY: u64 = 1 << 20;

/// A file in memory with what is mapped: the vdso is a whole ELF file, with symbols and `.eh_frame`.
fn copy_mapped(task: i32, mapping: &Mapping) -> io::Result<File> {
    let length = mapping.end.saturating_sub(mapping.start).min(MAX_COPY);
    let mut bytes = vec![0; length as usize];
    File::open(format!("/proc/{task}/mem"))?.read_exact_at(&mut bytes, mapping.start)?;
    // SAFETY: a valid name; the descriptor, if there is one, has no other owner.
    let copy = unsafe {
        let descriptor = libc::memfd_create(c"vdso".as_ptr(), libc::MFD_CLOEXEC);
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        File::from_raw_fd(descriptor)
    };
    copy.write_all_at(&bytes, 0)?;
    Ok(copy)
}

/// Opens a mapped file: through `map_files`, which leads to deleted files and into other mount
/// namespaces, but needs CAP_CHECKPOINT_RESTORE; else by its name in the target's own root.
fn open_mapped(task: i32, mapping: &Mapping) -> Option<File> {
    let exact = format!(
        "/proc/{task}/map_files/{:x}-{:x}",
        mapping.start, mapping.end
    );
    open_regular(Path::new(&exact)).or_else(|| {
        let mut path = root_of(task).into_os_string();
        path.push(&mapping.path);
        let file = open_regular(Path::new(&path))?;
        // The name may lead to another file by now. (Devices are not compared: on btrfs and
        // overlayfs `maps` and `stat` number them differently.)
        (!mapping.deleted && file.metadata().ok()?.ino() == mapping.inode).then_some(file)
    })
}

/// The root directory of a process or thread: it may live in a container.
pub fn root_of(task: i32) -> PathBuf {
    PathBuf::from(format!("/proc/{task}/root"))
}

/// Root directories to look in: the target's, and our own if that is another one.
fn roots(task: i32) -> Vec<PathBuf> {
    let target = root_of(task);
    let own = PathBuf::from("/");
    let identity = |path: &Path| {
        let found = std::fs::metadata(path).ok()?;
        Some((found.dev(), found.ino()))
    };
    match identity(&target) == identity(&own) {
        true => vec![own],
        false => vec![target, own],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPACE: SpaceId = SpaceId(1);

    /// This process: its own program and libc are found, and nothing is new the second time.
    #[test]
    fn own_modules() {
        let own = std::process::id() as i32;
        let mut modules = Modules::new();
        let found = modules.refresh(own, SPACE).unwrap();
        let here = own_modules as fn() as usize as u64;
        let module = modules.at(SPACE, here).unwrap().clone();
        assert!(found.contains(&module));
        let file = modules.file(module.file.unwrap()).unwrap();
        assert_eq!(
            file.path(),
            std::env::current_exe().unwrap().to_str().unwrap()
        );
        assert!(file.is_unchanged());
        let libc = found
            .iter()
            .find(|module| module.path.contains("libc.so"))
            .unwrap();
        let build_id = libc.build_id.as_ref().unwrap();
        assert!(
            build_id.len() == 40 && build_id.chars().all(|c| c.is_ascii_hexdigit()),
            "{build_id}"
        );
        let vdso = found.iter().find(|module| module.path == "[vdso]").unwrap();
        assert_eq!(modules.at(SPACE, vdso.start), Some(vdso));
        let copy = modules.file(vdso.file.unwrap()).unwrap();
        assert!(copy.build_id().is_some() && copy.is_unchanged());
        assert_eq!(modules.at(SPACE, 0), None);
        assert_eq!(modules.at(SPACE, vdso.start + vdso.length), None);
        assert_eq!(modules.refresh(own, SPACE).unwrap(), []);
    }

    /// One number per file, from 1 in the order of meeting, whatever the space.
    #[test]
    fn numbers() {
        let own = std::process::id() as i32;
        let mut modules = Modules::new();
        let first = modules.refresh(own, SPACE).unwrap();
        let mut numbers: Vec<u32> = first
            .iter()
            .filter_map(|module| Some(module.file?.0))
            .collect();
        numbers.dedup();
        assert_eq!(numbers, (1..=numbers.len() as u32).collect::<Vec<_>>());
        let second = modules.refresh(own, SpaceId(2)).unwrap();
        let files =
            |modules: &[Module]| modules.iter().map(|module| module.file).collect::<Vec<_>>();
        assert_eq!(files(&first), files(&second));
    }

    /// A file that is written over is another file, and the old one says that it changed.
    #[test]
    fn overwritten_file() {
        let path = std::env::temp_dir().join(format!("memleak-modules-{}", std::process::id()));
        std::fs::write(&path, "first").unwrap();
        let metadata = std::fs::metadata(&path).unwrap();
        let mapping = Mapping {
            start: 0,
            end: 4096,
            file_offset: 0,
            executable: true,
            device: 1,
            inode: metadata.ino(),
            path: path.clone().into(),
            deleted: false,
        };
        let own = std::process::id() as i32;
        let mut modules = Modules::new();
        let first = modules.file_of(own, &mapping);
        assert_eq!(modules.file_of(own, &mapping), first);
        std::fs::write(&path, "second, longer").unwrap();
        assert!(!modules.file(first).unwrap().is_unchanged());
        assert_eq!(modules.file_of(own, &mapping), FileId(first.0 + 1));
        // By another inode, the name leads to the wrong file.
        let other = Mapping {
            inode: metadata.ino() + 1,
            ..mapping
        };
        let unopened = modules.file_of(own, &other);
        assert!(modules.file(unopened).is_none());
        assert_eq!(modules.file_of(own, &other), unopened);
        std::fs::remove_file(&path).unwrap();
    }

    /// A process that is gone is an error with its pid.
    #[test]
    fn no_process() {
        let error = Modules::new()
            .refresh(i32::MAX, SPACE)
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("cannot read /proc/2147483647/maps"),
            "{error}"
        );
    }
}
