//! Runs the view that a subcommand asks for.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::Usage;
use crate::cli::Command;
use crate::cli::views::{
    DiffArguments, ExportArguments, ExportForm, SeriesArguments, TreeArguments, ViewArguments,
};
use crate::output::{Output, is_same_file};
use crate::series::{Series, recordings};
use crate::views::diff::Compared;
use crate::views::histogram::Of;
use crate::views::temporary::Within;
use crate::views::{
    Request, allocs, diff, events, export, histogram, peak, series, temporary, timeline, top, tree,
    window,
};

/// Runs a view. The other subcommands are not known here.
pub fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Top(arguments) => {
            view(&arguments.view, &arguments.traces.files, |request, out| {
                top::run(request, arguments.by.into(), arguments.sort.into(), out)
            })
        }
        Command::Tree(arguments) => tree_view(arguments),
        Command::Timeline(arguments) => {
            view(&arguments.view, &arguments.traces.files, |request, out| {
                timeline::run(request, arguments.buckets, arguments.per_stack, out)
            })
        }
        Command::Ages(arguments) => {
            view(&arguments.view, &arguments.traces.files, |request, out| {
                histogram::run(request, Of::Ages, arguments.per_stack, out)
            })
        }
        Command::Sizes(arguments) => {
            view(&arguments.view, &arguments.traces.files, |request, out| {
                histogram::run(request, Of::Sizes, arguments.per_stack, out)
            })
        }
        Command::Lifetimes(arguments) => {
            view(&arguments.view, &arguments.traces.files, |request, out| {
                histogram::run(request, Of::Lifetimes, arguments.per_stack, out)
            })
        }
        Command::Peak(arguments) => view(&arguments.view, &arguments.traces.files, peak::run),
        Command::Temporary(arguments) => {
            view(&arguments.view, &arguments.traces.files, |request, out| {
                let within = arguments.within.map(i64::unsigned_abs);
                let within = within.map_or(Within::NextAllocation, Within::Time);
                temporary::run(request, within, out)
            })
        }
        Command::Window(arguments) => {
            let filters = &arguments.view.filters;
            if filters.from.is_none() && filters.to.is_none() {
                return Err(Usage("window needs --from or --to, else everything is inside").into());
            }
            view(&arguments.view, &arguments.traces.files, |request, out| {
                window::run(request, arguments.per_stack, out)
            })
        }
        Command::Diff(arguments) => diff_view(arguments),
        Command::Allocs(arguments) => {
            view(&arguments.view, &arguments.traces.files, |request, out| {
                allocs::run(request, arguments.sort.into(), out)
            })
        }
        Command::Events(arguments) => view(&arguments.view, &arguments.traces.files, events::run),
        Command::Series(arguments) => series_view(arguments),
        Command::Export(arguments) => export_table(arguments),
        Command::Repair(_) | Command::Symbolize(_) | Command::Verify(_) => Ok(()),
    }
}

/// The recording that these files are.
fn recording(traces: &[PathBuf]) -> anyhow::Result<Series> {
    let mut recordings = recordings(traces)?;
    match (recordings.pop(), recordings.is_empty()) {
        (Some(recording), true) => Ok(recording),
        _ => Err(Usage(
            "these traces are of several recordings, and a view shows one; give one at a time",
        )
        .into()),
    }
}

fn view(
    arguments: &ViewArguments,
    traces: &[PathBuf],
    run: impl FnOnce(&Request, &mut dyn Write) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let output = &arguments.output;
    let output = Output::prepare(traces, output.output.as_deref(), output.force)?;
    let request = arguments.request(recording(traces)?);
    output.write(|out| run(&request, out))
}

fn tree_view(arguments: TreeArguments) -> anyhow::Result<()> {
    let text = arguments.view.format == crate::cli::Format::Text;
    let shape = tree::Shape {
        inverted: arguments.inverted,
        depth: arguments.depth,
        min_share: arguments
            .min_percent
            .unwrap_or(if text { 1.0 } else { 0.0 })
            / 100.0,
        rank: arguments.sort.into(),
    };
    view(&arguments.view, &arguments.traces.files, |request, out| {
        if arguments.folded {
            tree::run_folded(request, shape.rank, out)
        } else {
            tree::run(request, shape, out)
        }
    })
}

fn diff_view(arguments: DiffArguments) -> anyhow::Result<()> {
    let mut view_arguments = arguments.view;
    let (older, newer) = compared(&arguments.traces)?;
    // In one trace, --from is the moment compared with; in two, it is the filter it always is.
    let earlier = match newer {
        Some(_) => None,
        None => match view_arguments.filters.from.take() {
            Some(earlier) => Some(earlier),
            None => {
                return Err(
                    Usage("diff needs a second trace, or --from MOMENT to compare with").into(),
                );
            }
        },
    };
    let output = &view_arguments.output;
    let output = Output::prepare(&arguments.traces, output.output.as_deref(), output.force)?;
    let request = view_arguments.request(older);
    let compared = match (&earlier, &newer) {
        (Some(earlier), _) => Compared::Since(*earlier),
        (None, Some(newer)) => Compared::With(newer),
        (None, None) => return Ok(()),
    };
    output.write(|out| diff::run(&request, compared, arguments.by.into(), out))
}

/// The one recording that these files are, or the older and the newer one.
fn compared(files: &[PathBuf]) -> anyhow::Result<(Series, Option<Series>)> {
    // A trace with itself, which among parts would be one too many.
    if let [one, other] = files
        && is_same_file(one, other)
    {
        return Ok((Series::one(one)?, Some(Series::one(other)?)));
    }
    let mut recordings = recordings(files)?.into_iter();
    match (recordings.next(), recordings.next(), recordings.next()) {
        (Some(older), newer, None) => Ok((older, newer)),
        _ => Err(Usage("diff compares two recordings, and these traces are of more").into()),
    }
}

fn series_view(arguments: SeriesArguments) -> anyhow::Result<()> {
    let (count, traces) = match &arguments.rest[..] {
        [first, traces @ ..] if !traces.is_empty() && !Path::new(first).exists() => {
            match first.parse::<u32>() {
                Ok(count) if count > 0 => (Some(count), traces),
                _ => {
                    return Err(Usage(
                        "series INTERVAL COUNT TRACE: COUNT is a number from 1, unless it is a trace",
                    )
                    .into());
                }
            }
        }
        traces => (None, traces),
    };
    let traces: Vec<PathBuf> = traces.iter().map(PathBuf::from).collect();
    let every = series::Every {
        interval: arguments.interval,
        count,
    };
    view(&arguments.view, &traces, |request, out| {
        series::run(request, every, out)
    })
}

fn export_table(arguments: ExportArguments) -> anyhow::Result<()> {
    let traces = &arguments.traces.files;
    let output = arguments.output.output.as_deref();
    let named_so = |path: &Path| path.extension().is_some_and(|end| end == "parquet");
    let form = arguments.form.unwrap_or(match output {
        Some(path) if named_so(path) => ExportForm::Parquet,
        _ => ExportForm::Csv,
    });
    let destination = Output::prepare(traces, output, arguments.output.force)?;
    let request = Request {
        trace: recording(traces)?,
        filters: (&arguments.filters).into(),
        top: None,
        format: crate::cli::Format::Csv,
    };
    match (form, &destination) {
        (ExportForm::Parquet, Output::Stdout) => {
            Err(Usage("Parquet is written to a file: add --output FILE.parquet").into())
        }
        (ExportForm::Parquet, Output::File { .. }) => {
            export::run_parquet(&request, destination.create()?)
        }
        (ExportForm::Csv, _) => destination.write(|out| export::run_csv(&request, out)),
    }
}
