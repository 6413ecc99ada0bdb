//! What the program does, once the command line is understood.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use memleak_trace::TraceReader;

use crate::analysis::{MomentAfterEnd, analyze};
use crate::cli::{
    self, Arguments, Command, Format, RepairArguments, ReportArguments, VerifyArguments,
};
use crate::report::{self, Selection};
use crate::symbolize::symbolize;
use crate::tables::Filter;
use crate::verify::{self, Outcome};

/// Stacks shown as text unless asked otherwise; memleak's default.
const TEXT_TOP: u32 = 10;

/// Does what the command line asks for.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    if let Some(what) = arguments.generate {
        return Ok(cli::generate(what, &mut std::io::stdout().lock())?);
    }
    match arguments.command {
        Some(Command::Repair(repair)) => self::repair(&repair),
        Some(Command::Symbolize(arguments)) => symbolize(&arguments.into()),
        Some(Command::Verify(arguments)) => verify_all(&arguments),
        None => match arguments.report.trace.clone() {
            Some(trace) => report(&trace, &arguments.report),
            None => bail!("no trace was given; see memleak-analyze --help"),
        },
    }
}

/// The exit status of an error: 2 for a request that cannot be met as asked, 0 if only the reader
/// of our output went away, else 1.
pub fn exit_status(error: &anyhow::Error) -> u8 {
    let broken_pipe = |cause: &(dyn std::error::Error + 'static)| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|e| e.kind() == ErrorKind::BrokenPipe)
    };
    if error.chain().any(broken_pipe) {
        0
    } else if error.is::<MomentAfterEnd>() {
        2
    } else {
        1
    }
}

/// An error as one sentence: each cause once, also where an error's own text names its cause.
pub fn sentence(error: &anyhow::Error) -> String {
    let mut sentence = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !sentence.contains(&cause) {
            sentence += &format!(": {cause}");
        }
    }
    sentence
}

fn report(trace: &Path, arguments: &ReportArguments) -> anyhow::Result<()> {
    let output = Output::prepare(trace, arguments.output.as_deref(), arguments.force)?;
    let analysis = analyze(trace, arguments.at.unwrap_or_default())?;
    if !analysis.condition.complete {
        let remarks = analysis.condition.remarks.join(" ");
        // The report says it too; a warning that cannot be written is not worth an error.
        let _ = writeln!(
            std::io::stderr(),
            "warning: {}: the trace is incomplete: {remarks}",
            trace.display()
        );
    }
    let is_text = arguments.format == Format::Text;
    let selection = Selection {
        filter: Filter {
            min_size: arguments.min_size,
            max_size: arguments.max_size,
            min_age: arguments.older,
        },
        top: arguments.top.or(is_text.then_some(TEXT_TOP)),
        idle: !is_text,
        allocations: arguments.show_allocs,
    };
    let report = report::build(trace, &analysis, selection)?;
    output.write(|out| match arguments.format {
        Format::Text => {
            let style = report::text::Style {
                combined_only: arguments.combined_only,
            };
            report::text::write(&report, style, out)
        }
        Format::Json => report::json::write(&report, out),
    })
}

/// Where a report goes.
enum Output {
    Stdout,
    File { path: PathBuf, force: bool },
}

impl Output {
    /// Refuses early what would fail after a long analysis, or destroy the trace.
    fn prepare(trace: &Path, path: Option<&Path>, force: bool) -> anyhow::Result<Output> {
        let Some(path) = path else {
            return Ok(Output::Stdout);
        };
        if path.exists() && !force {
            bail!(
                "{} already exists; choose another --output or add --force",
                path.display()
            );
        }
        if is_same_file(path, trace) {
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

    fn write(
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

/// Writes the readable part of a trace to a new file, and says on stderr what is missing.
fn repair(arguments: &RepairArguments) -> anyhow::Result<()> {
    let trace = &arguments.trace;
    let output = match &arguments.output {
        Some(output) => output.clone(),
        None => trace.with_extension("repaired.parquet"),
    };
    if is_same_file(trace, &output) {
        bail!(
            "{} is the trace itself; choose another --output",
            output.display()
        );
    }
    if output.exists() {
        if !arguments.force {
            bail!(
                "{} already exists; choose another --output or add --force",
                output.display()
            );
        }
        // Only once the trace proved readable.
        TraceReader::open(trace)?;
        std::fs::remove_file(&output)
            .with_context(|| format!("{}: cannot replace it", output.display()))?;
    }
    let condition = memleak_trace::repair(trace, &output)?;
    let mut talk = std::io::stderr().lock();
    for remark in &condition.remarks {
        writeln!(talk, "{}: {remark}", trace.display())?;
    }
    let state = if condition.complete {
        "whole"
    } else {
        "the readable part"
    };
    writeln!(
        talk,
        "wrote {} ({state}); next: memleak-analyze {0}",
        output.display()
    )?;
    Ok(())
}

/// Checks every trace, and fails if one of them is not sound.
fn verify_all(arguments: &VerifyArguments) -> anyhow::Result<()> {
    let outcomes = arguments
        .traces
        .iter()
        .map(|trace| verify::verify(trace))
        .collect::<anyhow::Result<Vec<Outcome>>>()?;
    Output::Stdout.write(|out| match arguments.format {
        Format::Text => verify::write_text(&outcomes, arguments.quiet, out),
        Format::Json => verify::write_json(&outcomes, out),
    })?;
    let unsound: Vec<String> = outcomes
        .iter()
        .filter(|outcome| !outcome.sound())
        .map(|outcome| outcome.path.display().to_string())
        .collect();
    match unsound.is_empty() {
        true => Ok(()),
        false => bail!("not sound: {}", unsound.join(", ")),
    }
}

/// Whether both paths lead to one existing file.
pub fn is_same_file(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}
