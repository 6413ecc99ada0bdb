//! Whose allocations in the kernel are recorded.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What allocations are chosen by; all that is given must hold. Frees count whoever does them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Processes; none: every process.
    pub pids: Vec<i32>,
    /// The processes whose own allocations are recorded beside.
    pub recorded: bool,
    /// A thread's name, at most [`MOST_COMM`] bytes.
    pub comm: Option<String>,
    /// A directory of the cgroup 2 hierarchy; groups below it belong to it.
    pub cgroup: Option<PathBuf>,
}

/// Bytes of a thread's name in the kernel, without the zero behind it.
pub const MOST_COMM: usize = 15;

/// Where the hierarchy is mounted, as distributions do; the one within the other comes first.
const ROOTS: [&str; 2] = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];

/// Why a choice cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no process {0}; pidof NAME or pgrep NAME finds one")]
    NoProcess(i32),
    #[error(
        "{} is no control group ({source}); give a directory such as /sys/fs/cgroup/system.slice",
        path.display()
    )]
    NoCgroup { path: PathBuf, source: io::Error },
    #[error(
        "{} does not lie in the cgroup 2 hierarchy at /sys/fs/cgroup; give a directory below that",
        path.display()
    )]
    NotInHierarchy { path: PathBuf },
}

/// A control group as the probes know it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cgroup {
    pub id: u64,
    /// Levels below the root.
    pub level: u32,
}

impl Choice {
    /// Whether there is a choice at all.
    pub fn is_made(&self) -> bool {
        self.recorded || !self.pids.is_empty() || self.comm.is_some() || self.cgroup.is_some()
    }

    /// Refuses processes that do not exist.
    pub fn check(&self) -> Result<(), Error> {
        for pid in &self.pids {
            if !Path::new(&format!("/proc/{pid}")).exists() {
                return Err(Error::NoProcess(*pid));
            }
        }
        Ok(())
    }

    /// The control group, found.
    pub fn find_cgroup(&self) -> Result<Option<Cgroup>, Error> {
        self.cgroup.as_deref().map(find).transpose()
    }

    /// `of process 12`, `of threads named find`: what the screen says; empty if nothing is chosen.
    pub fn words(&self) -> String {
        let mut words = Vec::new();
        if self.recorded {
            words.push("of the recorded processes".to_owned());
        }
        if !self.pids.is_empty() {
            let pids: Vec<String> = self.pids.iter().map(i32::to_string).collect();
            let plural = if pids.len() > 1 { "es" } else { "" };
            words.push(format!("of process{plural} {}", pids.join(", ")));
        }
        if let Some(comm) = &self.comm {
            words.push(format!("of threads named {comm}"));
        }
        if let Some(cgroup) = &self.cgroup {
            words.push(format!("in {}", cgroup.display()));
        }
        words.join(" ")
    }
}

fn find(path: &Path) -> Result<Cgroup, Error> {
    let no_cgroup = |source| Error::NoCgroup {
        path: path.to_owned(),
        source,
    };
    let real = path.canonicalize().map_err(no_cgroup)?;
    let metadata = real.metadata().map_err(no_cgroup)?;
    let root = ROOTS
        .iter()
        .map(Path::new)
        .find(|root| real.starts_with(root) && root.join("cgroup.controllers").exists());
    let Some(below) = root.and_then(|root| real.strip_prefix(root).ok()) else {
        return Err(Error::NotInHierarchy {
            path: path.to_owned(),
        });
    };
    Ok(Cgroup {
        id: metadata.ino(),
        level: below.components().count() as u32,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is chosen is said; a process or a group that does not exist is refused.
    #[test]
    fn choices() {
        assert_eq!(Choice::default().words(), "");
        assert!(!Choice::default().is_made());
        let choice = Choice {
            pids: vec![1, 2],
            comm: Some("find".to_owned()),
            ..Choice::default()
        };
        assert_eq!(choice.words(), "of processes 1, 2 of threads named find");
        let missing = Choice {
            pids: vec![i32::MAX],
            ..Choice::default()
        };
        assert!(matches!(missing.check(), Err(Error::NoProcess(_))));
        let cgroup = |path: &str| Choice {
            cgroup: Some(path.into()),
            ..Choice::default()
        };
        assert!(matches!(
            cgroup("/no/such").find_cgroup(),
            Err(Error::NoCgroup { .. })
        ));
        assert!(matches!(
            cgroup("/proc").find_cgroup(),
            Err(Error::NotInHierarchy { .. })
        ));
        assert_eq!(Choice::default().find_cgroup().ok(), Some(None));
    }
}
