//! Kernels on which a return probe kills a process that has a seccomp filter.
//!
//! Since 6.11 a return probe on x86_64 ends in a system call of its own, `uretprobe`. A filter that
//! does not know it kills the process (containers' and systemd's filters do). The commit «seccomp:
//! passthrough uretprobe systemcall without filtering» (cf6cb56ef244) repaired it in 6.14, 6.13.3
//! and 6.12.14; 6.11 ended without it.

use crate::preflight::machine::KernelVersion;
use crate::preflight::target;

/// Why the target would not survive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "process {pid} has a seccomp filter, and on this kernel ({release}) a return probe makes such a filter kill it; boot {repaired} or newer, or use --force-seccomp if your distribution repaired it or the filter allows the uretprobe system call"
)]
pub struct Error {
    pub pid: i32,
    pub release: String,
    /// First version of the series in which it is repaired.
    pub repaired: KernelVersion,
}

/// First affected version, and the one that repaired it, for each series.
const AFFECTED: &[(KernelVersion, KernelVersion)] = &[
    (version(6, 11, 0), version(6, 12, 14)),
    (version(6, 13, 0), version(6, 13, 3)),
];

const fn version(major: u32, minor: u32, patch: u32) -> KernelVersion {
    KernelVersion {
        major,
        minor,
        patch,
    }
}

/// Checks every thread of the target: each has a filter of its own.
pub fn check(pid: i32, kernel: KernelVersion, release: &str) -> Result<(), Error> {
    let Some(repaired) = repaired_in(kernel) else {
        return Ok(());
    };
    let filtered = target::threads(pid)
        .into_iter()
        .filter_map(|task| std::fs::read_to_string(format!("/proc/{task}/status")).ok())
        .any(|status| is_filtered(&status));
    if filtered {
        Err(Error {
            pid,
            release: release.to_owned(),
            repaired,
        })
    } else {
        Ok(())
    }
}

/// Where the kernel is an affected one, the version that is not.
fn repaired_in(kernel: KernelVersion) -> Option<KernelVersion> {
    AFFECTED
        .iter()
        .find(|(first, repaired)| (*first..*repaired).contains(&kernel))
        .map(|(_, repaired)| *repaired)
}

/// 1 is the strict mode, 2 a filter; both check the system call.
fn is_filtered(status: &str) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("Seccomp:"))
        .is_some_and(|mode| mode.trim() != "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which releases are refused, and what they are told to boot.
    #[test]
    fn affected_kernels() {
        for (release, repaired) in [
            ("5.17.0", None),
            ("6.1.0-28-amd64", None),
            ("6.10.14", None),
            ("6.11.0-26-generic", Some("6.12.14")),
            ("6.11.11", Some("6.12.14")),
            ("6.12.0-55.el10", Some("6.12.14")),
            ("6.12.13", Some("6.12.14")),
            ("6.12.14", None),
            ("6.12.38+deb13-amd64", None),
            ("6.13.0", Some("6.13.3")),
            ("6.13.2-arch1-1", Some("6.13.3")),
            ("6.13.3", None),
            ("6.14.0", None),
            ("6.18.44-fc-v657", None),
        ] {
            let kernel = KernelVersion::parse(release).unwrap();
            assert_eq!(
                repaired_in(kernel)
                    .map(|version| version.to_string())
                    .as_deref(),
                repaired,
                "{release}"
            );
        }
    }

    /// The mode is what counts, not the number of filters.
    #[test]
    fn modes() {
        assert!(!is_filtered("Seccomp:\t0\nSeccomp_filters:\t0\n"));
        assert!(is_filtered(
            "NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n"
        ));
        assert!(is_filtered("Seccomp:\t1\n"));
        assert!(!is_filtered("Name:\tno-seccomp-in-this-kernel\n"));
    }
}
