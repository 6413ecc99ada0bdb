//! Checks before anything is attached: each failure is one sentence with cause and remedy.
//!
//! [`machine`] asks whether this machine can record at all, [`capabilities`] whether this user may,
//! [`target`] whether this process can be recorded, and [`seccomp`] whether it would survive it.

pub mod capabilities;
pub mod machine;
pub mod seccomp;
pub mod target;

use crate::preflight::machine::KernelVersion;

/// Why recording is refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Machine(#[from] machine::Error),
    #[error(transparent)]
    Capabilities(#[from] capabilities::Error),
    #[error(transparent)]
    Target(#[from] target::Error),
    #[error(transparent)]
    Seccomp(#[from] seccomp::Error),
}

/// What the checks found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub kernel: KernelVersion,
    /// `uname -r`.
    pub kernel_release: String,
    pub targets: Vec<target::Target>,
}

/// Checks machine, user and targets, in this order.
///
/// `force_seccomp` records a target that a return probe may kill.
pub fn check(pids: &[i32], force_seccomp: bool) -> Result<Report, Error> {
    let (kernel, kernel_release) = machine::check()?;
    capabilities::check()?;
    let mut targets = Vec::new();
    for pid in pids {
        targets.push(target::check(*pid)?);
        if !force_seccomp {
            seccomp::check(*pid, kernel, &kernel_release)?;
        }
    }
    Ok(Report {
        kernel,
        kernel_release,
        targets,
    })
}
