//! Where the trace goes: its name, what is refused before recording, and whose file it is.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use memleak_trace::wall::utc;

/// Why a trace cannot be written where it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{} exists; choose another name with -o FILE, or replace it with --force", .0.display())]
    Exists(PathBuf),
    #[error("{} is a directory; give a file name with -o FILE", .0.display())]
    Directory(PathBuf),
    #[error("{} is not a regular file; a trace needs one, give its name with -o FILE", .0.display())]
    NotAFile(PathBuf),
    #[error("the directory {} does not exist; create it, or choose another name with -o FILE", .0.display())]
    NoDirectory(PathBuf),
    #[error("cannot write into {}: {source}; choose another place with -o FILE", path.display())]
    Unwritable { path: PathBuf, source: io::Error },
    #[error("cannot give {} to the user who called sudo: {source}", path.display())]
    Owner { path: PathBuf, source: io::Error },
}

/// The user who called sudo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    pub uid: u32,
    pub gid: u32,
}

/// `memleak-PID-DATE.parquet`.
pub fn default_name(pid: i32, now: SystemTime) -> PathBuf {
    dated_name(&pid.to_string(), now)
}

/// `memleak-WHAT-DATE.parquet`, with the date in UTC so that names sort by time.
pub fn dated_name(what: &str, now: SystemTime) -> PathBuf {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let wall_ns = i64::try_from(since.as_nanos()).unwrap_or(i64::MAX);
    let date = utc(wall_ns).replace(['-', ':'], "");
    PathBuf::from(format!("memleak-{what}-{date}.parquet"))
}

/// Fails with one sentence if a trace cannot be created at `path`. Creates nothing.
pub fn check(path: &Path, overwrite: bool) -> Result<(), Error> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(Error::Directory(path.to_owned())),
        Ok(found) if !found.is_file() => Err(Error::NotAFile(path.to_owned())),
        Ok(_) if !overwrite => Err(Error::Exists(path.to_owned())),
        Ok(_) => writable(path, path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => check_directory(path),
        Err(source) => Err(Error::Unwritable {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Gives the file to the user who called sudo; does nothing otherwise.
pub fn give_to_caller(path: &Path) -> Result<(), Error> {
    let Some(caller) = sudo_caller() else {
        return Ok(());
    };
    File::open(path)
        .and_then(|file| std::os::unix::fs::fchown(&file, Some(caller.uid), Some(caller.gid)))
        .map_err(|source| Error::Owner {
            path: path.to_owned(),
            source,
        })
}

/// Who called sudo; `None` if nobody did.
pub fn sudo_caller() -> Option<Caller> {
    caller(|name| std::env::var(name).ok(), effective_uid())
}

/// Who called sudo. The variables count only for root: anyone can set them.
fn caller(variable: impl Fn(&str) -> Option<String>, effective_uid: u32) -> Option<Caller> {
    let number = |name| variable(name)?.parse().ok();
    (effective_uid == 0)
        .then(|| {
            Some(Caller {
                uid: number("SUDO_UID")?,
                gid: number("SUDO_GID")?,
            })
        })
        .flatten()
}

fn effective_uid() -> u32 {
    // SAFETY: takes no argument and cannot fail.
    unsafe { libc::geteuid() }
}

/// The directory of a file that is still to be created.
fn check_directory(path: &Path) -> Result<(), Error> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    match fs::metadata(directory) {
        Ok(found) if found.is_dir() => writable(directory, directory),
        Ok(_) => Err(Error::NoDirectory(directory.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Error::NoDirectory(directory.to_owned()))
        }
        Err(source) => Err(Error::Unwritable {
            path: directory.to_owned(),
            source,
        }),
    }
}

/// Asks the kernel, which knows of read-only mounts and capabilities too.
fn writable(path: &Path, named: &Path) -> Result<(), Error> {
    let unwritable = |source| Error::Unwritable {
        path: named.to_owned(),
        source,
    };
    let name = std::ffi::CString::new(path.as_os_str().as_bytes())
        .map_err(|error| unwritable(error.into()))?;
    // SAFETY: `name` is a valid C string for the length of the call.
    match unsafe { libc::faccessat(libc::AT_FDCWD, name.as_ptr(), libc::W_OK, libc::AT_EACCESS) } {
        0 => Ok(()),
        _ => Err(unwritable(io::Error::last_os_error())),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let path =
            std::env::temp_dir().join(format!("memleak-output-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        path
    }

    /// The name holds pid and UTC date, over leap days.
    #[test]
    fn default_names() {
        for (seconds, name) in [
            (0, "memleak-7-19700101T000000Z.parquet"),
            (951_782_399, "memleak-7-20000228T235959Z.parquet"),
            (951_782_400, "memleak-7-20000229T000000Z.parquet"),
            (1_709_251_199, "memleak-7-20240229T235959Z.parquet"),
            (4_102_444_800, "memleak-7-21000101T000000Z.parquet"),
        ] {
            assert_eq!(
                default_name(7, UNIX_EPOCH + Duration::from_secs(seconds)),
                Path::new(name)
            );
        }
    }

    /// Each refusal is its own sentence, and checking leaves no file behind.
    #[test]
    fn refusals() {
        let directory = scratch("refusals");
        let fresh = directory.join("fresh.parquet");
        check(&fresh, false).unwrap();
        assert!(!fresh.exists());
        fs::write(&fresh, "old").unwrap();
        assert!(matches!(check(&fresh, false), Err(Error::Exists(_))));
        check(&fresh, true).unwrap();
        assert_eq!(fs::read(&fresh).unwrap(), b"old");
        assert!(matches!(check(&directory, true), Err(Error::Directory(_))));
        assert!(matches!(
            check(&directory.join("no/t.parquet"), true),
            Err(Error::NoDirectory(_))
        ));
        assert!(matches!(
            check(&fresh.join("t.parquet"), true),
            Err(Error::Unwritable { .. } | Error::NoDirectory(_))
        ));
        assert!(matches!(
            check(Path::new("/dev/null"), true),
            Err(Error::NotAFile(_))
        ));
        fs::remove_dir_all(&directory).unwrap();
    }

    /// Only root believes sudo's variables.
    #[test]
    fn callers() {
        let sudo = |name: &str| match name {
            "SUDO_UID" => Some("1000".to_owned()),
            "SUDO_GID" => Some("100".to_owned()),
            _ => None,
        };
        assert_eq!(
            caller(sudo, 0),
            Some(Caller {
                uid: 1000,
                gid: 100
            })
        );
        assert_eq!(caller(sudo, 1000), None);
        assert_eq!(caller(|_| None, 0), None);
        assert_eq!(caller(|_| Some("x".to_owned()), 0), None);
    }
}
