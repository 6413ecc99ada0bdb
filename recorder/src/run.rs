//! The whole of a recording: checks first, then everything that must be undone.

use std::time::SystemTime;

use anyhow::bail;

use crate::cli::Options;
use crate::{output, preflight};

/// Records until the end that `options` ask for.
pub fn run(options: Options) -> anyhow::Result<()> {
    for remark in &options.remarks {
        eprintln!("memleak-record: {remark}");
    }
    let output = match &options.output {
        Some(path) => path.clone(),
        None => output::default_name(options.pid, SystemTime::now()),
    };
    output::check(&output, options.force)?;
    let report = preflight::check(options.pid, options.force_seccomp)?;
    bail!(
        "process {} can be recorded on {}, but nothing is attached yet",
        report.target.pid,
        report.kernel_release
    )
}
