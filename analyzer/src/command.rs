//! What the program does, once the command line is understood.

use std::io::{ErrorKind, Write};

use anyhow::{Context, bail};
use memleak_trace::TraceReader;

use crate::analysis::{MomentAfterEnd, analyze_observed};
use crate::cli::{
    self, Arguments, Command, Format, RepairArguments, ReportArguments, ResultFormat,
    VerifyArguments,
};
use crate::filter::{self, EmptyRange, Shown};
use crate::gate::{self, Suppressions, Tripped};
use crate::output::{Output, is_same_file};
use crate::report::{self, Report, Selection};
use crate::series::{Series, recordings};
use crate::symbolize::symbolize;
use crate::verify;
use crate::views;

mod questions;

/// A request that cannot be met as asked, though every option alone is right.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(&'static str);

/// Stacks shown as text unless asked otherwise; memleak's default.
const TEXT_TOP: u32 = 10;
/// The largest stacks have a verdict as text, so that a small one that grows is told of too.
const TEXT_JUDGED: u32 = 1000;

/// Does what the command line asks for.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    if let Some(what) = arguments.generate {
        return Ok(cli::generate(what, &mut std::io::stdout().lock())?);
    }
    match arguments.command {
        Some(Command::Repair(repair)) => self::repair(&repair),
        Some(Command::Symbolize(arguments)) => symbolize(&arguments.into()),
        Some(Command::Verify(arguments)) => verify_all(&arguments),
        Some(view) => questions::run(view),
        None => report(&arguments.report),
    }
}

/// The exit status of an error: 2 for a request that cannot be met as asked, 3 if the gate tripped, 0 if
/// only the reader of our output went away, else 1.
pub fn exit_status(error: &anyhow::Error) -> u8 {
    let broken_pipe = |cause: &(dyn std::error::Error + 'static)| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|e| e.kind() == ErrorKind::BrokenPipe)
    };
    if error.chain().any(broken_pipe) {
        0
    } else if error.is::<MomentAfterEnd>() || error.is::<EmptyRange>() || error.is::<Usage>() {
        2
    } else if error.is::<Tripped>() {
        3
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

/// A report for each recording among the traces; the gate judges each for itself.
fn report(arguments: &ReportArguments) -> anyhow::Result<()> {
    let output = &arguments.output;
    let output = Output::prepare(&arguments.traces, output.output.as_deref(), output.force)?;
    let suppressions = match &arguments.suppressions {
        Some(path) => Suppressions::read(path)?,
        None => Suppressions::default(),
    };
    let recordings = recordings(&arguments.traces)?;
    if arguments.format == Format::Csv && recordings.len() > 1 {
        return Err(Usage(
            "CSV is a table of one recording, but these traces are of several; give one at a time, or choose --format json",
        )
        .into());
    }
    let mut reports = Vec::new();
    let mut tripped = Vec::new();
    for recording in &recordings {
        let (report, verdict) = judged_report(recording, arguments, &suppressions)?;
        let name = &report.trace.path;
        tripped.extend(verdict.into_iter().map(|sentence| match recordings.len() {
            1 => sentence,
            _ => format!("{name}: {sentence}"),
        }));
        reports.push(report);
    }
    output.write(|out| match arguments.format {
        Format::Text => {
            let style = report::text::Style {
                combined_only: arguments.combined_only,
                terminal: output.terminal_columns(),
            };
            report::text::write_all(&reports, style, out)
        }
        Format::Json => report::json::write_all(&reports, out),
        Format::Csv => reports
            .iter()
            .try_for_each(|report| report::csv::write(report, out)),
    })?;
    match tripped.is_empty() {
        true => Ok(()),
        false => Err(Tripped(tripped).into()),
    }
}

/// The report on a recording, and what trips the gate in it.
fn judged_report(
    recording: &Series,
    arguments: &ReportArguments,
    suppressions: &Suppressions,
) -> anyhow::Result<(Report, Vec<String>)> {
    let judged = !arguments.fail_on.is_empty() || arguments.suppressions.is_some();
    let options = (&arguments.filters).into();
    let filter = filter::resolve(recording, &options)?;
    let moment = options.to.unwrap_or_default();
    let (analysis, ()) = analyze_observed(recording, moment, (), options.needs_threads())?;
    let name = recording.name();
    views::warn_if_incomplete(&name, &analysis);
    let is_text = arguments.format == Format::Text;
    let top = arguments.top.or(is_text.then_some(TEXT_TOP));
    let selection = Selection {
        shown: Shown::new(&options, &filter, analysis.recording.start(), top),
        filter,
        min_bytes: options.min_bytes,
        // The gate judges every stack, and suppressions are found by names.
        top: match is_text {
            _ if judged => None,
            true => top.map(|top| top.max(TEXT_JUDGED)),
            false => top,
        },
        idle: arguments.format == Format::Json,
        allocations: arguments.show_allocs,
        ages: arguments.format == Format::Json,
    };
    let mut report = report::build(&name, &analysis, selection)?;
    for stack in &mut report.stacks {
        stack.suppressed = suppressions.reason(&stack.frames).map(str::to_owned);
    }
    let tripped = gate::check(&report, &arguments.fail_on)?;
    if judged || is_text {
        report.cut(top);
    }
    Ok((report, tripped))
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
    let outcomes = verify::verify_all(&arguments.traces)?;
    Output::Stdout.write(|out| match arguments.format {
        ResultFormat::Text => verify::write_text(&outcomes, arguments.quiet, out),
        ResultFormat::Json => verify::write_json(&outcomes, out),
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
