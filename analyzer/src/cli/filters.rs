//! The filters on the command line: the same for the report and every view.

use memleak_trace::quantity::{parse_duration, parse_size};
use memleak_trace::{Domain, Op};
use regex::Regex;

use crate::analysis::Moment;
use crate::filter::{Only, Options, Patterns};
use crate::units::{parse_age, parse_moment};

/// Which allocations count.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Filters")]
pub struct FilterArguments {
    /// Only allocations made at this moment or later: 30s after the start, or 50% of the recording
    #[arg(long, value_name = "MOMENT", value_parser = parse_moment)]
    pub from: Option<Moment>,

    /// The state at this moment: 30s after the start, or 50% of the recording [default: its end]
    #[arg(long, visible_alias = "at", value_name = "MOMENT", value_parser = parse_moment)]
    pub to: Option<Moment>,

    /// Count only outstanding allocations at least this old: 500ms, 30s, 5m; a bare number is
    /// milliseconds
    #[arg(short, long, value_name = "AGE", value_parser = parse_age)]
    pub older: Option<u64>,

    /// Count only outstanding allocations at most this old
    #[arg(long, value_name = "AGE", value_parser = parse_age)]
    pub younger: Option<u64>,

    /// Count only allocations of at least this size: 4096, 64KiB, 1MiB
    #[arg(short = 'z', long, value_name = "SIZE", value_parser = parse_size)]
    pub min_size: Option<u64>,

    /// Count only allocations of at most this size
    #[arg(short = 'Z', long, value_name = "SIZE", value_parser = parse_size)]
    pub max_size: Option<u64>,

    /// Count only freed allocations that lived at least so long
    #[arg(long, value_name = "TIME", value_parser = lifetime, conflicts_with_all = ["older", "younger", "only_leaked"])]
    pub min_lifetime: Option<u64>,

    /// Count only freed allocations that lived at most so long
    #[arg(long, value_name = "TIME", value_parser = lifetime, conflicts_with_all = ["older", "younger", "only_leaked"])]
    pub max_lifetime: Option<u64>,

    /// Count only what is outstanding at the moment
    #[arg(long)]
    pub only_leaked: bool,

    /// Count only what was freed by the moment
    #[arg(long, conflicts_with_all = ["only_leaked", "older", "younger"])]
    pub only_temporary: bool,

    /// Only stacks with a function that matches (a regular expression; of several, one suffices)
    #[arg(long, value_name = "REGEX", value_parser = Regex::new)]
    pub function: Vec<Regex>,

    /// Only stacks without such a function
    #[arg(long, value_name = "REGEX", value_parser = Regex::new)]
    pub not_function: Vec<Regex>,

    /// Only stacks with a module (its file name) that matches
    #[arg(long, value_name = "REGEX", value_parser = Regex::new)]
    pub module: Vec<Regex>,

    /// Only stacks without such a module
    #[arg(long, value_name = "REGEX", value_parser = Regex::new)]
    pub not_module: Vec<Regex>,

    /// Only stacks with a source file that matches
    #[arg(long, value_name = "REGEX", value_parser = Regex::new)]
    pub file: Vec<Regex>,

    /// Only stacks without such a source file
    #[arg(long, value_name = "REGEX", value_parser = Regex::new)]
    pub not_file: Vec<Regex>,

    /// Only allocations made by these processes
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    pub pid: Vec<i32>,

    /// Only allocations made by these threads; stacks are told apart by thread then
    #[arg(long, value_name = "TID", value_delimiter = ',')]
    pub tid: Vec<i32>,

    /// Only these domains: heap, mapping, pool, slab, page, percpu
    #[arg(long, value_name = "DOMAIN", value_delimiter = ',', value_parser = domain)]
    pub domain: Vec<Domain>,

    /// Only allocations made by these operations: malloc, calloc, mmap, … (`events`: any operation)
    #[arg(long, value_name = "OP", value_delimiter = ',', value_parser = op)]
    pub op: Vec<Op>,

    /// Show only stacks or groups that hold at least so much
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub min_bytes: Option<u64>,
}

fn lifetime(text: &str) -> Result<u64, String> {
    let time = parse_duration(text).map_err(|error| error.to_string())?;
    u64::try_from(time.as_nanos()).map_err(|_| "the number is too large".to_owned())
}

fn domain(text: &str) -> Result<Domain, String> {
    let known = Domain::ALL.into_iter();
    known
        .clone()
        .find(|domain| domain.name() == text)
        .ok_or_else(|| {
            let names: Vec<_> = known.map(Domain::name).collect();
            format!("the domains are {}", names.join(", "))
        })
}

fn op(text: &str) -> Result<Op, String> {
    let known = Op::from_name(text).filter(|op| op.is_event());
    known.ok_or_else(|| {
        let names: Vec<_> = Op::all().filter(|op| op.is_event()).map(Op::name).collect();
        format!("the operations are {}", names.join(", "))
    })
}

impl FilterArguments {
    /// Bounds that contradict each other, in a sentence.
    pub fn contradiction(&self) -> Option<String> {
        let ranges = [
            ("--min-size", self.min_size, "--max-size", self.max_size),
            ("--older", self.older, "--younger", self.younger),
            (
                "--min-lifetime",
                self.min_lifetime,
                "--max-lifetime",
                self.max_lifetime,
            ),
        ];
        ranges.into_iter().find_map(|(low, min, high, max)| {
            let (min, max) = (min?, max?);
            (min > max)
                .then(|| format!("{low} {min} is larger than {high} {max}: nothing can match"))
        })
    }

    /// A filter that lets only freed allocations through.
    pub fn only_freed(&self) -> Option<&'static str> {
        if self.only_temporary {
            Some("--only-temporary")
        } else if self.min_lifetime.is_some() {
            Some("--min-lifetime")
        } else {
            self.max_lifetime.map(|_| "--max-lifetime")
        }
    }

    /// A filter that lets only outstanding allocations through.
    pub fn only_outstanding(&self) -> Option<&'static str> {
        if self.only_leaked {
            Some("--only-leaked")
        } else if self.older.is_some() {
            Some("--older")
        } else {
            self.younger.map(|_| "--younger")
        }
    }
}

impl From<&FilterArguments> for Options {
    fn from(arguments: &FilterArguments) -> Self {
        let arguments = arguments.clone();
        Options {
            from: arguments.from,
            to: arguments.to,
            min_size: arguments.min_size,
            max_size: arguments.max_size,
            older: arguments.older,
            younger: arguments.younger,
            min_lifetime: arguments.min_lifetime,
            max_lifetime: arguments.max_lifetime,
            only: match (arguments.only_leaked, arguments.only_temporary) {
                (true, _) => Only::Leaked,
                (_, true) => Only::Temporary,
                _ => Only::Both,
            },
            patterns: Patterns {
                function: arguments.function,
                module: arguments.module,
                file: arguments.file,
                not_function: arguments.not_function,
                not_module: arguments.not_module,
                not_file: arguments.not_file,
            },
            pids: arguments.pid,
            tids: arguments.tid,
            domains: arguments.domain,
            ops: arguments.op,
            min_bytes: arguments.min_bytes,
        }
    }
}
