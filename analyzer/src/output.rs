//! Where results go: stdout, or a file that must not be destroyed by mistake.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// Where a report goes.
pub enum Output {
    Stdout,
    File { path: PathBuf, force: bool },
}

impl Output {
    /// Refuses early what would fail after a long analysis, or destroy the trace.
    pub fn prepare(traces: &[PathBuf], path: Option<&Path>, force: bool) -> anyhow::Result<Output> {
        let Some(path) = path else {
            return Ok(Output::Stdout);
        };
        if path.exists() && !force {
            bail!(
                "{} already exists; choose another --output or add --force",
                path.display()
            );
        }
        if traces.iter().any(|trace| is_same_file(path, trace)) {
            bail!(
                "{} is the trace itself; choose another --output",
                path.display()
            );
        }
        Ok(Output::File {
            path: path.to_owned(),
            force,
        })
    }

    pub fn write(
        &self,
        write: impl FnOnce(&mut dyn Write) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        match self {
            Output::Stdout => {
                let mut out = BufWriter::new(std::io::stdout().lock());
                write(&mut out)?;
                Ok(out.flush()?)
            }
            Output::File { path, force } => {
                let failed = || format!("{}: cannot write the report", path.display());
                let mut out = BufWriter::new(create(path, *force).with_context(failed)?);
                write(&mut out).with_context(failed)?;
                out.flush().with_context(failed)
            }
        }
    }
}

impl Output {
    /// Columns of the terminal that it is, 80 if that does not know; nothing if it is none.
    pub fn terminal_columns(&self) -> Option<usize> {
        let is_terminal = matches!(self, Output::Stdout) && std::io::stdout().is_terminal();
        if !is_terminal {
            return None;
        }
        let mut size = libc::winsize {
            ws_row: 0,
            ws_col: 0,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // SAFETY: the kernel fills `size`, which has the type that TIOCGWINSZ asks for.
        let status = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) };
        Some(match (status, size.ws_col) {
            (0, columns) if columns > 0 => columns.into(),
            _ => 80,
        })
    }

    /// The file itself, for those who write other things than text; stdout has none.
    pub fn create(&self) -> anyhow::Result<File> {
        match self {
            Output::Stdout => bail!("an output file is needed: add --output FILE"),
            Output::File { path, force } => create(path, *force)
                .with_context(|| format!("{}: cannot write the table", path.display())),
        }
    }
}

fn create(path: &Path, force: bool) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true);
    if force {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    options.open(path)
}

/// Whether both paths lead to one existing file.
pub fn is_same_file(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}
