//! The command line: clap stays in this file and below it, the rest sees plain options.

pub mod filters;
pub mod views;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{CommandFactory, Parser, Subcommand, ValueEnum};

use crate::gate::Condition;
use filters::FilterArguments;
use views::{
    AllocsArguments, DiffArguments, EventsArguments, ExportArguments, HistogramArguments,
    OutputArguments, PeakArguments, SeriesArguments, TemporaryArguments, TimelineArguments,
    TopArguments, TreeArguments, WindowArguments,
};

const EXAMPLES: &str = "\
EXAMPLES:
  memleak-analyze trace.parquet
      who holds memory at the end of the recording
  memleak-analyze --older 30s --top 3 trace.parquet
      the three largest stacks, counting only allocations older than 30 seconds
  memleak-analyze --at 50% -z 1MiB trace.parquet
      the large allocations that were outstanding half-way
  memleak-analyze --format json --output report.json trace.parquet
      every stack with its timeline and ages, for other programs
  memleak-analyze --fail-on 'growth>1MiB/min' --suppressions known.txt trace.parquet
      for a pipeline: status 3 if memory grows, known stacks left out
  memleak-analyze top --by function --not-module libstdc trace.parquet
      another view; each subcommand has examples of its own
  memleak-analyze trace.*.parquet
      the parts of a recording that was cut by --rotate-size or --rotate-time
  memleak-analyze repair trace.parquet
      a copy of a damaged trace that any Parquet reader opens
  memleak-analyze symbolize --debug-dir ./symbols trace.parquet
      a copy with names from debug files, found by build id
  memleak-analyze verify trace.parquet
      whether the trace is sound, check by check

Exit status: 0 done (a damaged trace with a readable part included), 1 failed, 2 wrong usage, 3 --fail-on
tripped.";

const SYMBOLIZE_EXAMPLES: &str = "\
EXAMPLES:
  memleak-analyze symbolize --debug-dir ./symbols trace.parquet
      names from the debug files of a release, kept in ./symbols
  memleak-analyze symbolize --debug-dir /mnt/image -o named.parquet trace.parquet
      names from the root file system of a container image
  memleak-analyze symbolize trace.parquet
      names from /usr/lib/debug, after debug packages were installed";

const VERIFY_EXAMPLES: &str = "\
EXAMPLES:
  memleak-analyze verify trace.parquet
      a line per check
  memleak-analyze verify --quiet *.parquet || echo do not trust these
      for scripts";

/// Analyze a trace of memleak-record: which stacks hold memory.
#[derive(Debug, Parser)]
#[command(name = "memleak-analyze", version, after_help = EXAMPLES)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Option<Command>,

    #[command(flatten)]
    pub report: ReportArguments,

    /// Write the man page or a shell's completions to stdout
    #[arg(long, value_enum, value_name = "WHAT", hide = true, exclusive = true)]
    pub generate: Option<Generate>,
}

/// Options of the default report.
#[derive(Debug, clap::Args)]
pub struct ReportArguments {
    /// The trace, or the parts of one in any order; several recordings get a report each (a file
    /// named like a subcommand: ./repair)
    #[arg(required_unless_present = "generate", value_name = "TRACE")]
    #[arg(value_parser = OsStringValueParser::new().try_map(not_a_command))]
    pub traces: Vec<PathBuf>,

    /// Form of the report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,

    /// Show only the N stacks with the most outstanding bytes [default: 10 as text, all as JSON]
    #[arg(short = 'T', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub top: Option<u32>,

    /// Show each outstanding allocation with its address and size
    #[arg(short = 'a', long)]
    pub show_allocs: bool,

    /// Text: show only the sums per stack, without ages and verdict
    #[arg(short = 'C', long, conflicts_with = "show_allocs")]
    pub combined_only: bool,

    /// Exit with status 3 if a domain's outstanding allocations are more than this:
    /// outstanding>10MiB, count>1000 or growth>1MiB/min; may be given several times
    #[arg(long, value_name = "CONDITION")]
    pub fail_on: Vec<Condition>,

    /// Stacks that do not count and are not ranked: lines `function REGEX # reason` (or module, file)
    #[arg(long, value_name = "FILE")]
    pub suppressions: Option<PathBuf>,

    #[command(flatten)]
    pub output: OutputArguments,

    #[command(flatten)]
    pub filters: FilterArguments,
}

/// Other things to do with a trace.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Rank stacks, functions, modules, lines, threads or sizes by what they hold
    Top(TopArguments),
    /// Show the call tree, from main down or from the allocating functions up
    Tree(TreeArguments),
    /// Show what was held over time
    Timeline(TimelineArguments),
    /// Show how old what is outstanding is
    Ages(HistogramArguments),
    /// Show how large allocations are
    Sizes(HistogramArguments),
    /// Show how long freed allocations lived
    Lifetimes(HistogramArguments),
    /// Show who held memory at the highest point
    Peak(PeakArguments),
    /// Show allocations that were freed at once
    Temporary(TemporaryArguments),
    /// Show allocated inside or outside of a window of time × freed inside or outside of it
    Window(WindowArguments),
    /// Compare two moments of a trace, or two traces
    Diff(DiffArguments),
    /// List each outstanding allocation
    Allocs(AllocsArguments),
    /// List the raw events
    Events(EventsArguments),
    /// Print what memleak would have printed while the program ran
    Series(SeriesArguments),
    /// Write every lifetime as a row of a table
    Export(ExportArguments),
    /// Write the readable part of a damaged trace to a new file
    Repair(RepairArguments),
    /// Write a new trace with names from debug files
    Symbolize(SymbolizeArguments),
    /// Check that a trace is sound: checksums, structure, and that its sums agree
    Verify(VerifyArguments),
}

#[derive(Debug, clap::Args)]
pub struct RepairArguments {
    /// The damaged trace; it is not changed
    pub trace: PathBuf,

    /// The new file [default: TRACE with .repaired.parquet]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Replace an existing output file
    #[arg(long)]
    pub force: bool,
}

/// Exit status 1 if a trace is not sound, is cut off, or cannot be read.
#[derive(Debug, clap::Args)]
#[command(after_help = VERIFY_EXAMPLES)]
pub struct VerifyArguments {
    /// The traces; they are not changed
    #[arg(required = true, value_name = "TRACE")]
    pub traces: Vec<PathBuf>,

    /// Form of the result
    #[arg(long, value_enum, default_value_t = ResultFormat::Text)]
    pub format: ResultFormat,

    /// Say only what is wrong
    #[arg(short, long)]
    pub quiet: bool,
}

/// Names are looked up by the build ids in the trace, in these places: the given directories (a
/// root file system; debug files as in /usr/lib/debug or as debuginfod lays them out; any other
/// directory of programs, libraries and debug files), /usr/lib/debug, and the modules' paths on
/// this machine. A file of another build is never used.
#[derive(Debug, clap::Args)]
#[command(after_help = SYMBOLIZE_EXAMPLES)]
pub struct SymbolizeArguments {
    /// The trace; it is not changed
    pub trace: PathBuf,

    /// Look for programs, libraries and debug files in this directory; may be given several times
    #[arg(long, value_name = "DIR")]
    pub debug_dir: Vec<PathBuf>,

    /// The new file [default: TRACE with .named.parquet]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Replace an existing output file
    #[arg(long)]
    pub force: bool,
}

/// A command behind options would be read as the name of a trace.
fn not_a_command(trace: OsString) -> Result<PathBuf, String> {
    match trace.to_str().filter(|name| Command::has_subcommand(name)) {
        Some(name) => Err(format!(
            "{name} is a command: it comes first, and its options behind it (a file of that name: ./{name})"
        )),
        None => Ok(PathBuf::from(trace)),
    }
}

impl From<SymbolizeArguments> for crate::symbolize::Options {
    fn from(arguments: SymbolizeArguments) -> Self {
        crate::symbolize::Options {
            trace: arguments.trace,
            output: arguments.output,
            force: arguments.force,
            debug_directories: arguments.debug_dir,
        }
    }
}

/// Forms of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// As memleak prints it
    Text,
    /// As schemas/report-v1.json (views: views-v1.json) describes it
    Json,
    /// A line per row, for spreadsheets and scripts
    Csv,
}

/// Forms of a result that is no table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ResultFormat {
    Text,
    /// As schemas/verify-v1.json describes it
    Json,
}

/// What is generated from these definitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Generate {
    Man,
    Bash,
    Zsh,
    Fish,
}

/// Reads the command line; the error knows its text and exit status.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Arguments, clap::Error> {
    let parsed = Arguments::try_parse_from(arguments)?;
    if let Some(message) = parsed.contradiction() {
        return Err(Arguments::command().error(clap::error::ErrorKind::ValueValidation, message));
    }
    Ok(parsed)
}

impl Arguments {
    /// Options that exclude each other, in a sentence.
    fn contradiction(&self) -> Option<String> {
        // Which filters have nothing to say: those of freed or those of outstanding allocations.
        let (what, filters, freed, outstanding) = match &self.command {
            None => ("the report", &self.report.filters, false, true),
            Some(Command::Top(view)) => ("top", &view.view.filters, true, true),
            Some(Command::Tree(view)) => ("tree", &view.view.filters, true, true),
            Some(Command::Timeline(view)) => ("timeline", &view.view.filters, true, true),
            Some(Command::Ages(view)) => ("ages", &view.view.filters, false, true),
            Some(Command::Sizes(view)) => ("sizes", &view.view.filters, true, true),
            Some(Command::Lifetimes(view)) => ("lifetimes", &view.view.filters, true, false),
            Some(Command::Peak(view)) => ("peak", &view.view.filters, false, false),
            Some(Command::Temporary(view)) => ("temporary", &view.view.filters, false, false),
            Some(Command::Window(view)) => ("window", &view.view.filters, true, true),
            Some(Command::Diff(view)) => ("diff", &view.view.filters, true, true),
            Some(Command::Allocs(view)) => ("allocs", &view.view.filters, false, true),
            Some(Command::Events(view)) => ("events", &view.view.filters, false, false),
            Some(Command::Series(view)) => ("series", &view.view.filters, false, true),
            Some(Command::Export(export)) => ("export", &export.filters, true, true),
            Some(Command::Repair(_) | Command::Symbolize(_) | Command::Verify(_)) => return None,
        };
        let useless = |option| format!("{option} has no meaning for {what}");
        filters
            .contradiction()
            .or_else(|| filters.only_freed().filter(|_| !freed).map(useless))
            .or_else(|| {
                let option = filters.only_outstanding();
                option.filter(|_| !outstanding).map(useless)
            })
    }
}

/// Writes the man page or completions.
pub fn generate(what: Generate, out: &mut dyn Write) -> std::io::Result<()> {
    let mut command = Arguments::command();
    let shell = match what {
        Generate::Man => return clap_mangen::Man::new(command).render(out),
        Generate::Bash => clap_complete::Shell::Bash,
        Generate::Zsh => clap_complete::Shell::Zsh,
        Generate::Fish => clap_complete::Shell::Fish,
    };
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, "memleak-analyze", &mut text);
    out.write_all(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        super::parse(line.split(' ').map(OsString::from))
    }

    /// clap's own check of the definitions.
    #[test]
    fn definitions_are_sound() {
        Arguments::command().debug_assert();
    }

    /// Every spelling that memleak's users know, and ours.
    #[test]
    fn options_are_understood() {
        let short = parse("x -T 3 -o 500 -z 1k -Z 1MiB -a t.parquet").expect("short options");
        let long =
            parse("x t.parquet --top 3 --older 500ms --min-size 1024 --max-size 1M --show-allocs")
                .expect("long options");
        for parsed in [short, long] {
            let report = parsed.report;
            assert_eq!(report.traces, [PathBuf::from("t.parquet")]);
            let filters = report.filters;
            assert_eq!((report.top, filters.older), (Some(3), Some(500_000_000)));
            assert_eq!(
                (filters.min_size, filters.max_size),
                (Some(1024), Some(1 << 20))
            );
            assert!(report.show_allocs && !report.combined_only);
        }
    }

    /// What is refused, with exit status 2.
    #[test]
    fn wrong_usage_is_refused() {
        for line in [
            "x",
            "x --top 0 t",
            "x --older soon t",
            "x -z 2k -Z 1k t",
            "x -a -C t",
            "x --at 120% t",
            "x --only-temporary t",
            "x --older 5s --younger 1s t",
            "x --function ( t",
            "x --domain stack t",
            "x --op steal t",
            "x top --by colour t",
            "x top",
            "x peak --older 1s t",
            "x lifetimes --only-leaked t",
            "x top --only-leaked --only-temporary t",
            "x timeline --buckets 0 t",
            "x tree --folded --inverted t",
            "x tree --min-percent 101 t",
            "x temporary --within 5 t",
            "x series 0 t",
            "x series 5",
            "x events --min-lifetime 1s t",
            "x --format yaml t",
            "x repair",
            "x symbolize",
            "x symbolize --debug-dir t",
            "x --top 3 repair t",
        ] {
            let error = parse(line).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    /// A file named like the subcommand is reached through its path.
    #[test]
    fn subcommands_and_files() {
        assert!(parse("x repair t").expect("subcommand").command.is_some());
        let file = parse("x ./repair").expect("file");
        assert!(file.command.is_none());
        let at = parse("x top --at 50% --by line --format csv t").expect("a view");
        let Some(Command::Top(top)) = at.command else {
            panic!("{at:?}")
        };
        assert_eq!(top.view.format, Format::Csv);
        assert!(top.view.filters.to.is_some());
        assert_eq!(file.report.traces, [PathBuf::from("./repair")]);
    }

    /// Man page and completions come from the same definitions.
    #[test]
    fn generated_texts_know_the_options() {
        for what in [Generate::Man, Generate::Bash, Generate::Zsh, Generate::Fish] {
            let mut text = Vec::new();
            generate(what, &mut text).expect("writing to memory");
            let text = String::from_utf8(text).expect("UTF-8").replace("\\-", "-");
            assert!(text.contains("min-size"), "{what:?}");
        }
        assert_eq!(
            parse("x --generate man").expect("generate").generate,
            Some(Generate::Man)
        );
    }
}
