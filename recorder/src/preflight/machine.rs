//! What the kernel must be and have.

use std::ffi::CStr;
use std::fmt;
use std::path::Path;

/// The oldest kernel that has every helper the programs need (`bpf_loop`).
pub const OLDEST: KernelVersion = KernelVersion {
    major: 5,
    minor: 17,
    patch: 0,
};

const BTF: &str = "/sys/kernel/btf/vmlinux";
const UPROBES: &str = "/sys/bus/event_source/devices/uprobe";
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";

/// Why this machine cannot record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(
        "this machine is {0}, and recording is built for x86_64 only; record on an x86_64 machine"
    )]
    Architecture(String),
    #[error("this kernel is {found}, and recording needs {OLDEST} or newer; boot a newer kernel")]
    OldKernel { found: String },
    #[error("the kernel's release {0:?} is not understood; recording needs {OLDEST} or newer")]
    UnknownKernel(String),
    #[error(
        "this kernel does not describe its types ({BTF} is missing); boot one built with CONFIG_DEBUG_INFO_BTF=y, as distributions' kernels are"
    )]
    NoBtf,
    #[error(
        "this kernel cannot probe programs ({UPROBES} is missing); boot one built with CONFIG_UPROBE_EVENTS=y, as distributions' kernels are"
    )]
    NoUprobes,
    #[error(
        "memleak-record runs in a pid namespace of its own (a container), where its pids are not the kernel's; run it on the host, where -p takes pids as the host shows them: targets may live in any container"
    )]
    PidNamespace,
    #[error(
        "kernel lockdown is in confidentiality mode, which forbids BPF to read kernel memory; boot with lockdown=integrity or without it"
    )]
    Lockdown,
}

/// Version of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    pub major: u32,
    pub minor: u32,
    pub patch: u32,
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.patch {
            0 => write!(f, "{}.{}", self.major, self.minor),
            patch => write!(f, "{}.{}.{patch}", self.major, self.minor),
        }
    }
}

impl KernelVersion {
    /// The version in a release such as `6.12.9+deb13-amd64` or `6.18-rc1`.
    pub fn parse(release: &str) -> Option<KernelVersion> {
        let end = release
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(release.len());
        let mut numbers = release[..end].split('.').map(|number| number.parse().ok());
        Some(KernelVersion {
            major: numbers.next()??,
            minor: numbers.next()??,
            patch: numbers.next().flatten().unwrap_or(0),
        })
    }
}

/// Checks the running machine; returns its kernel's version and release.
pub fn check() -> Result<(KernelVersion, String), Error> {
    let (release, architecture) = uname();
    let version = check_kernel(&release, &architecture)?;
    if !Path::new(BTF).exists() {
        return Err(Error::NoBtf);
    }
    if !Path::new(UPROBES).exists() {
        return Err(Error::NoUprobes);
    }
    if !in_first_pid_namespace() {
        return Err(Error::PidNamespace);
    }
    // Without the file, the kernel knows no lockdown.
    let lockdown = std::fs::read_to_string(LOCKDOWN).unwrap_or_default();
    if is_confidential(&lockdown) {
        return Err(Error::Lockdown);
    }
    Ok((version, release))
}

/// Whether our pids are those that the probes see. Where /proc does not tell, they are taken for it.
fn in_first_pid_namespace() -> bool {
    use std::os::unix::fs::MetadataExt;
    /// PROC_PID_INIT_INO
    const FIRST: u64 = 0xEFFF_FFFC;
    std::fs::metadata("/proc/self/ns/pid").map_or(true, |namespace| namespace.ino() == FIRST)
}

/// Architecture first: elsewhere the version does not matter.
fn check_kernel(release: &str, architecture: &str) -> Result<KernelVersion, Error> {
    if architecture != "x86_64" {
        return Err(Error::Architecture(architecture.to_owned()));
    }
    let version =
        KernelVersion::parse(release).ok_or_else(|| Error::UnknownKernel(release.to_owned()))?;
    if version < OLDEST {
        return Err(Error::OldKernel {
            found: release.to_owned(),
        });
    }
    Ok(version)
}

/// The active mode stands in brackets: `none integrity [confidentiality]`.
fn is_confidential(lockdown: &str) -> bool {
    lockdown.contains("[confidentiality]")
}

/// Release and machine, as `uname -r` and `uname -m` say them.
fn uname() -> (String, String) {
    // SAFETY: the kernel fills every field with a C string; all zeros are one, too.
    let names = unsafe {
        let mut names: libc::utsname = std::mem::zeroed();
        libc::uname(&mut names);
        names
    };
    let text = |field: &[libc::c_char]| {
        // SAFETY: the field ends with a zero, see above.
        unsafe { CStr::from_ptr(field.as_ptr()) }
            .to_string_lossy()
            .into_owned()
    };
    (text(&names.release), text(&names.machine))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(major: u32, minor: u32, patch: u32) -> KernelVersion {
        KernelVersion {
            major,
            minor,
            patch,
        }
    }

    /// Releases of several distributions.
    #[test]
    fn releases() {
        for (release, expected) in [
            ("6.18.44-fc-v657", version(6, 18, 44)),
            ("6.1.0-28-amd64", version(6, 1, 0)),
            ("6.12.9+deb13-cloud-amd64", version(6, 12, 9)),
            ("5.15.167.4-microsoft-standard-WSL2", version(5, 15, 167)),
            ("6.14-rc1", version(6, 14, 0)),
        ] {
            assert_eq!(KernelVersion::parse(release), Some(expected), "{release}");
        }
        assert_eq!(KernelVersion::parse("linux"), None);
        assert_eq!(KernelVersion::parse("6"), None);
    }

    /// Too old, foreign and not understood: each its own sentence; the old one names both versions.
    #[test]
    fn refusals() {
        assert_eq!(check_kernel("5.17.0", "x86_64"), Ok(version(5, 17, 0)));
        let old = check_kernel("5.15.0-130-generic", "x86_64")
            .unwrap_err()
            .to_string();
        assert!(
            old.contains("5.15.0-130-generic") && old.contains("5.17"),
            "{old}"
        );
        assert_eq!(
            check_kernel("6.1.0", "aarch64"),
            Err(Error::Architecture("aarch64".into()))
        );
        assert_eq!(
            check_kernel("x", "x86_64"),
            Err(Error::UnknownKernel("x".into()))
        );
    }

    /// Only the mode in brackets counts.
    #[test]
    fn lockdown_modes() {
        assert!(is_confidential("none integrity [confidentiality]\n"));
        assert!(!is_confidential("[none] integrity confidentiality\n"));
        assert!(!is_confidential(""));
    }
}
