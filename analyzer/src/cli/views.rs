//! The views on the command line.

use std::path::PathBuf;

use clap::ValueEnum;
use memleak_trace::quantity::parse_duration;

use super::Format;
use super::filters::FilterArguments;
use crate::series::Series;
use crate::views::Request;
use crate::views::allocs::Order;
use crate::views::diff::Match;
use crate::views::export::Form;
use crate::views::top::{Key, Rank};

/// What every view takes.
#[derive(Clone, Debug, clap::Args)]
pub struct ViewArguments {
    /// Form of the result
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,

    /// Show only the first N rows, or stacks [default: 10 as text where rows are ranked, else all]
    #[arg(short = 'T', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub top: Option<u32>,

    #[command(flatten)]
    pub output: OutputArguments,

    #[command(flatten)]
    pub filters: FilterArguments,
}

/// What a view is about: one recording.
#[derive(Clone, Debug, clap::Args)]
pub struct TraceArguments {
    /// The trace, or the parts of one in any order
    #[arg(required = true, value_name = "TRACE")]
    pub files: Vec<PathBuf>,
}

/// Where a result goes.
#[derive(Clone, Debug, clap::Args)]
pub struct OutputArguments {
    /// Write to a file instead of stdout
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Replace an existing output file
    #[arg(long)]
    pub force: bool,
}

impl ViewArguments {
    /// The request for a recording.
    pub fn request(&self, trace: Series) -> Request {
        Request {
            trace,
            filters: (&self.filters).into(),
            top: self.top,
            format: self.format,
        }
    }
}

const TOP_EXAMPLES: &str = "\
EXAMPLES:
  memleak-analyze top --by function trace.parquet
      the functions that allocate what is outstanding
  memleak-analyze top --by module --sort total-count trace.parquet
      the libraries that allocate most often
  memleak-analyze top --by line --not-module 'libstdc' --older 1m trace.parquet
      source lines, without stacks through libstdc++, counting what is older than a minute";

/// Rank stacks, functions, modules, lines, threads or sizes by what they hold.
#[derive(Debug, clap::Args)]
#[command(after_help = TOP_EXAMPLES)]
pub struct TopArguments {
    /// What allocations are grouped by; a function, module or line is that of the allocating call,
    /// and the inclusive columns count every stack it is in
    #[arg(long, value_enum, default_value_t = GroupKey::Stack)]
    pub by: GroupKey,

    /// What groups are ranked by
    #[arg(long, value_enum, default_value_t = RankBy::Bytes)]
    pub sort: RankBy,

    #[command(flatten)]
    pub view: ViewArguments,

    #[command(flatten)]
    pub traces: TraceArguments,
}

const TREE_EXAMPLES: &str = "\
EXAMPLES:
  memleak-analyze tree trace.parquet
      where memory goes, from main down
  memleak-analyze tree --inverted --depth 3 trace.parquet
      who allocates it, and who calls that
  memleak-analyze tree --folded --sort total-bytes trace.parquet | flamegraph.pl > a.svg
      a flame graph of all that was allocated";

/// Show the call tree.
#[derive(Debug, clap::Args)]
#[command(after_help = TREE_EXAMPLES)]
pub struct TreeArguments {
    /// From the allocating function to the outermost one
    #[arg(long, visible_alias = "invert")]
    pub inverted: bool,

    /// Show at most so many levels
    #[arg(long, value_name = "N")]
    pub depth: Option<u32>,

    /// Leave out what is below this share of its domain [default: 1 as text, 0 else]
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub min_percent: Option<f64>,

    /// The figure that is ranked, and shown as text
    #[arg(long, value_enum, default_value_t = RankBy::Bytes)]
    pub sort: RankBy,

    /// Write a line per stack, outermost function first, for flame graph programs
    #[arg(long, conflicts_with_all = ["format", "inverted", "depth", "min_percent", "top"])]
    pub folded: bool,

    #[command(flatten)]
    pub view: ViewArguments,

    #[command(flatten)]
    pub traces: TraceArguments,
}

const TIMELINE_EXAMPLES: &str = "\
EXAMPLES:
  memleak-analyze timeline trace.parquet
      what was held, in 20 intervals
  memleak-analyze timeline --buckets 1000 --format csv trace.parquet
      for a plot
  memleak-analyze timeline --per-stack -T 3 --from 50% trace.parquet
      the three largest stacks in the second half";

/// Show what was held over time.
#[derive(Debug, clap::Args)]
#[command(after_help = TIMELINE_EXAMPLES)]
pub struct TimelineArguments {
    /// How many intervals between --from and --to; what is older than --from counts here
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub buckets: u32,

    /// Apart by stack
    #[arg(long)]
    pub per_stack: bool,

    #[command(flatten)]
    pub view: ViewArguments,

    #[command(flatten)]
    pub traces: TraceArguments,
}

const HISTOGRAM_EXAMPLES: &str = "\
EXAMPLES:
  memleak-analyze ages trace.parquet
      how old is what is outstanding
  memleak-analyze sizes --only-leaked --function parse trace.parquet
      sizes of what one part of the program holds
  memleak-analyze lifetimes --per-stack --format json trace.parquet
      how long allocations lived, by stack";

/// Show a histogram on a log scale.
#[derive(Debug, clap::Args)]
#[command(after_help = HISTOGRAM_EXAMPLES)]
pub struct HistogramArguments {
    /// Apart by stack
    #[arg(long)]
    pub per_stack: bool,

    #[command(flatten)]
    pub view: ViewArguments,

    #[command(flatten)]
    pub traces: TraceArguments,
}

const PLAIN_EXAMPLES: &str = "\
EXAMPLES:
  memleak-analyze peak trace.parquet
      who held memory when most was held
  memleak-analyze peak --domain heap --to 50% --format csv trace.parquet
      the same for the heap in the first half, for a spreadsheet";

/// Show who held memory at the highest point of each domain.
#[derive(Debug, clap::Args)]
#[command(after_help = PLAIN_EXAMPLES)]
pub struct PeakArguments {
    #[command(flatten)]
    pub view: ViewArguments,

    #[command(flatten)]
    pub traces: TraceArguments,
}

const TEMPORARY_EXAMPLES: &str = "\
EXAMPLES:
  memleak-analyze temporary trace.parquet
      stacks whose allocations are freed before the thread allocates again
  memleak-analyze temporary --within 1ms trace.parquet
      stacks whose allocations live a millisecond at most";

/// Show allocations that were freed at once.
#[derive(Debug, clap::Args)]
#[command(after_help = TEMPORARY_EXAMPLES)]
pub struct TemporaryArguments {
    /// Freed within this time [default: before the next allocation of the thread]
    #[arg(long, value_name = "TIME", value_parser = nanoseconds)]
    pub within: Option<i64>,

    #[command(flatten)]
    pub view: ViewArguments,

    #[command(flatten)]
    pub traces: TraceArguments,
}

const WINDOW_EXAMPLES: &str = "\
EXAMPLES:
  memleak-analyze window --from 10s --to 20s trace.parquet
      what ten seconds allocated and freed, and left behind (AIFO)
  memleak-analyze window --from 10s --to 20s --per-stack trace.parquet
      the stacks that left most behind";

/// Show what was allocated inside or outside of a window × freed inside or outside of it.
#[derive(Debug, clap::Args)]
#[command(after_help = WINDOW_EXAMPLES)]
pub struct WindowArguments {
    /// Apart by stack, ranked by what was allocated inside and freed outside
    #[arg(long)]
    pub per_stack: bool,

    #[command(flatten)]
    pub view: ViewArguments,

    #[command(flatten)]
    pub traces: TraceArguments,
}

const DIFF_EXAMPLES: &str = "\
EXAMPLES:
  memleak-analyze diff --from 50% trace.parquet
      what the second half added
  memleak-analyze diff before.parquet after.parquet
      two runs, stacks matched by function and module
  memleak-analyze diff --match offsets monday.parquet tuesday.parquet
      two recordings of one build, stacks matched by build id and offset
  memleak-analyze diff monday.*.parquet tuesday.*.parquet
      two recordings in parts; the one whose part stands first is the older one";

/// Compare two moments of a trace (--from and --to), or two traces.
#[derive(Debug, clap::Args)]
#[command(after_help = DIFF_EXAMPLES)]
pub struct DiffArguments {
    /// What makes stacks the same
    #[arg(long = "match", value_enum, default_value_t = MatchBy::Names)]
    pub by: MatchBy,

    #[command(flatten)]
    pub view: ViewArguments,

    /// The trace, or the older one and the newer one; each as its file, or as its parts in any order
    #[arg(required = true, value_name = "TRACE")]
    pub traces: Vec<PathBuf>,
}

const ALLOCS_EXAMPLES: &str = "\
EXAMPLES:
  memleak-analyze allocs -T 20 trace.parquet
      the twenty largest outstanding allocations
  memleak-analyze allocs --sort age --function cache_insert --format csv trace.parquet
      every entry of a cache, oldest first";

/// List each outstanding allocation: address, size, age, thread.
#[derive(Debug, clap::Args)]
#[command(after_help = ALLOCS_EXAMPLES)]
pub struct AllocsArguments {
    /// What comes first
    #[arg(long, value_enum, default_value_t = AllocsOrder::Size)]
    pub sort: AllocsOrder,

    #[command(flatten)]
    pub view: ViewArguments,

    #[command(flatten)]
    pub traces: TraceArguments,
}

const EVENTS_EXAMPLES: &str = "\
EXAMPLES:
  memleak-analyze events trace.parquet | head
      the first events
  memleak-analyze events --from 10s --to 11s --op free,realloc --tid 4711 trace.parquet
      what one thread freed in one second";

/// List the raw events. --from, --to, sizes, --op, --domain, --pid, --tid and names apply to the event itself;
/// frees have neither size nor stack.
#[derive(Debug, clap::Args)]
#[command(after_help = EVENTS_EXAMPLES)]
pub struct EventsArguments {
    #[command(flatten)]
    pub view: ViewArguments,

    #[command(flatten)]
    pub traces: TraceArguments,
}

const SERIES_EXAMPLES: &str = "\
EXAMPLES:
  memleak-analyze series 5 trace.parquet
      every five seconds, what memleak would have printed
  memleak-analyze series 500ms 10 --older 1s -T 3 trace.parquet
      ten times, with memleak's options";

/// Print what memleak would have printed while the program ran.
#[derive(Debug, clap::Args)]
#[command(after_help = SERIES_EXAMPLES)]
pub struct SeriesArguments {
    /// Time between two prints: 5 (seconds, as in memleak), 500ms, 1m
    #[arg(value_parser = interval)]
    pub interval: i64,

    /// How often [default: until the recording ends]; the trace follows, or the parts of one
    #[arg(value_name = "[COUNT] TRACE", required = true)]
    pub rest: Vec<String>,

    #[command(flatten)]
    pub view: ViewArguments,
}

const EXPORT_EXAMPLES: &str = "\
EXAMPLES:
  memleak-analyze export --output lifetimes.parquet trace.parquet
      a row per allocation: birth, death, size, thread, stack; for polars, DuckDB, pandas
  memleak-analyze export --form csv --min-size 1MiB trace.parquet > large.csv
      the large ones as CSV";

/// Write every lifetime as a row of a table, for notebooks and other programs.
#[derive(Debug, clap::Args)]
#[command(after_help = EXPORT_EXAMPLES)]
pub struct ExportArguments {
    /// Form of the table [default: parquet if the file is named so, else csv]
    #[arg(long, value_enum)]
    pub form: Option<ExportForm>,

    #[command(flatten)]
    pub output: OutputArguments,

    #[command(flatten)]
    pub filters: FilterArguments,

    #[command(flatten)]
    pub traces: TraceArguments,
}

fn nanoseconds(text: &str) -> Result<i64, String> {
    let time = parse_duration(text).map_err(|error| error.to_string())?;
    i64::try_from(time.as_nanos()).map_err(|_| "the number is too large".to_owned())
}

/// A bare number is seconds, as in memleak.
fn interval(text: &str) -> Result<i64, String> {
    let time = match text.parse::<u32>() {
        Ok(seconds) => i64::from(seconds) * 1_000_000_000,
        Err(_) => nanoseconds(text)?,
    };
    match time {
        0 => Err("the interval must be longer than 0".to_owned()),
        time => Ok(time),
    }
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.trim_end_matches('%').parse::<f64>().ok();
    let number = number.filter(|percent| (0.0..=100.0).contains(percent));
    number.ok_or_else(|| "expected a number from 0 to 100".to_owned())
}

/// What groups are made by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GroupKey {
    Stack,
    Function,
    Module,
    Line,
    Thread,
    Size,
}

impl From<GroupKey> for Key {
    fn from(key: GroupKey) -> Self {
        match key {
            GroupKey::Stack => Key::Stack,
            GroupKey::Function => Key::Function,
            GroupKey::Module => Key::Module,
            GroupKey::Line => Key::Line,
            GroupKey::Thread => Key::Thread,
            GroupKey::Size => Key::Size,
        }
    }
}

/// A figure of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RankBy {
    /// Outstanding bytes
    Bytes,
    /// Outstanding allocations
    Count,
    /// Bytes allocated in all
    TotalBytes,
    /// Allocations in all
    TotalCount,
}

impl From<RankBy> for Rank {
    fn from(rank: RankBy) -> Self {
        match rank {
            RankBy::Bytes => Rank::Bytes,
            RankBy::Count => Rank::Count,
            RankBy::TotalBytes => Rank::TotalBytes,
            RankBy::TotalCount => Rank::TotalCount,
        }
    }
}

/// What makes stacks of two traces the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MatchBy {
    /// Functions and modules
    Names,
    /// Build ids and offsets
    Offsets,
}

impl From<MatchBy> for Match {
    fn from(by: MatchBy) -> Self {
        match by {
            MatchBy::Names => Match::Names,
            MatchBy::Offsets => Match::Offsets,
        }
    }
}

/// Order of a list of allocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AllocsOrder {
    /// Largest first
    Size,
    /// Oldest first
    Age,
    Address,
}

impl From<AllocsOrder> for Order {
    fn from(order: AllocsOrder) -> Self {
        match order {
            AllocsOrder::Size => Order::Size,
            AllocsOrder::Age => Order::Age,
            AllocsOrder::Address => Order::Address,
        }
    }
}

/// Forms of an exported table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportForm {
    Parquet,
    Csv,
}

impl From<ExportForm> for Form {
    fn from(form: ExportForm) -> Self {
        match form {
            ExportForm::Parquet => Form::Parquet,
            ExportForm::Csv => Form::Csv,
        }
    }
}
