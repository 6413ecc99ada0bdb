//! When a recording is cut into parts, and what their files are called.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::output;

/// The smallest `--rotate-size`: the beginning of a part alone takes some kilobytes.
pub const MIN_BYTES: u64 = 64 << 10;
/// The smallest `--rotate-time`.
pub const MIN_TIME: Duration = Duration::from_secs(1);

/// A part ends as soon as one of these is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Bytes of the part's file.
    pub bytes: Option<u64>,
    /// Time since the part began.
    pub time: Option<Duration>,
}

impl Rotation {
    /// The rotation asked for; `None` if none was, or why it cannot be.
    pub fn new(bytes: Option<u64>, time: Option<Duration>) -> Result<Option<Rotation>, String> {
        if bytes.is_some_and(|bytes| bytes < MIN_BYTES) {
            return Err("--rotate-size must be at least 64KiB, for example 1GiB".to_owned());
        }
        if time.is_some_and(|time| time < MIN_TIME) {
            return Err("--rotate-time must be at least 1s, for example 1h".to_owned());
        }
        Ok((bytes.is_some() || time.is_some()).then_some(Rotation { bytes, time }))
    }

    /// Whether a part of this size and age ends.
    pub fn is_due(&self, bytes: u64, age: Duration) -> bool {
        self.bytes.is_some_and(|limit| bytes >= limit)
            || self.time.is_some_and(|limit| age >= limit)
    }
}

/// The file of a part: `trace.parquet` becomes `trace.000001.parquet`, so that names sort in order.
pub fn part_path(path: &Path, number: u32) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(format!(".{number:06}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

/// Every part, as a shell's pattern: `trace.*.parquet`.
pub fn pattern(path: &Path) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(".*");
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

/// Fails with one sentence if parts cannot be created, or if parts of another recording lie there
/// (those that are met are replaced with `overwrite`). Creates nothing.
pub fn check(path: &Path, overwrite: bool) -> Result<(), output::Error> {
    let first = part_path(path, 1);
    output::check(&first, overwrite)?;
    if !overwrite && let Some(other) = any_part(path) {
        return Err(output::Error::Exists(other));
    }
    Ok(())
}

/// A file with the name of a part, if there is one.
fn any_part(path: &Path) -> Option<PathBuf> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let names = fs::read_dir(directory).ok()?;
    names
        .filter_map(|entry| Some(entry.ok()?.file_name()))
        .find(|name| number_of(path, name).is_some())
        .map(|name| path.with_file_name(name))
}

/// The number in the name of a part.
fn number_of(path: &Path, name: &OsString) -> Option<u32> {
    let stem = path.file_stem()?.to_str()?;
    let middle = name.to_str()?.strip_prefix(stem)?.strip_prefix('.')?;
    let digits = match path.extension() {
        Some(extension) => middle
            .strip_suffix(extension.to_str()?)?
            .strip_suffix('.')?,
        None => middle,
    };
    let is_number = digits.len() >= 6 && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names keep directory and extension, sort by number, and are known again.
    #[test]
    fn names() {
        let path = Path::new("/tmp/a.b/trace.v2.parquet");
        let first = part_path(path, 1);
        assert_eq!(first, Path::new("/tmp/a.b/trace.v2.000001.parquet"));
        assert!(part_path(path, 9) < part_path(path, 10));
        assert_eq!(pattern(path), Path::new("/tmp/a.b/trace.v2.*.parquet"));
        assert_eq!(part_path(Path::new("plain"), 12), Path::new("plain.000012"));
        for (name, number) in [
            ("trace.v2.000007.parquet", Some(7)),
            ("trace.v2.1000000.parquet", Some(1_000_000)),
            ("trace.v2.parquet", None),
            ("trace.v2.00001.parquet", None),
            ("trace.v2.000001.named.parquet", None),
        ] {
            assert_eq!(number_of(path, &name.into()), number, "{name}");
        }
    }

    /// Either limit ends a part; too small ones are refused.
    #[test]
    fn limits() {
        let second = Duration::from_secs(1);
        let both = Rotation::new(Some(1 << 20), Some(60 * second))
            .unwrap()
            .unwrap();
        assert!(!both.is_due(1000, second));
        assert!(both.is_due(1 << 20, second) && both.is_due(0, 60 * second));
        assert_eq!(Rotation::new(None, None), Ok(None));
        assert!(Rotation::new(Some(4096), None).is_err());
        assert!(Rotation::new(None, Some(second / 2)).is_err());
    }

    /// Parts of an earlier recording are refused, also where the first one is gone.
    #[test]
    fn existing_parts() {
        let directory =
            std::env::temp_dir().join(format!("memleak-rotation-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("t.parquet");
        check(&path, false).unwrap();
        fs::write(&path, "no part").unwrap();
        check(&path, false).unwrap();
        fs::write(part_path(&path, 3), "old").unwrap();
        assert!(matches!(check(&path, false), Err(output::Error::Exists(_))));
        check(&path, true).unwrap();
        fs::remove_dir_all(&directory).unwrap();
    }
}
