//! Which allocations count, in every view alike.
//!
//! [`Options`] are what the command line says. [`resolve`] makes a [`Filter`] of them: moments become
//! timestamps and name patterns a set of stacks, so that every allocation can be judged when it is
//! born or dies, in one pass.

mod names;

use std::collections::HashSet;

use memleak_trace::{Domain, Op};
use serde::{Serialize, Serializer};

use crate::analysis::{Moment, survey};
use crate::recording::Recording;
use crate::replay::{Allocation, Death, Replay, Site};
use crate::series::Series;
use crate::span::Span;

pub use names::{Pattern, Patterns, StackSet};

/// Filters as asked for. Sizes are bytes, ages and lifetimes nanoseconds; all bounds are inclusive.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Only allocations made at this moment or later.
    pub from: Option<Moment>,
    /// The moment of the report.
    pub to: Option<Moment>,
    pub min_size: Option<u64>,
    pub max_size: Option<u64>,
    pub older: Option<u64>,
    pub younger: Option<u64>,
    pub min_lifetime: Option<u64>,
    pub max_lifetime: Option<u64>,
    pub only: Only,
    pub patterns: Patterns,
    /// Empty lists let everything through.
    pub pids: Vec<i32>,
    pub tids: Vec<i32>,
    pub domains: Vec<Domain>,
    pub ops: Vec<Op>,
    /// Groups of less outstanding (or otherwise ranked) bytes are not shown.
    pub min_bytes: Option<u64>,
}

/// Whether what is outstanding counts, or what was freed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Only {
    #[default]
    Both,
    /// Outstanding at the moment of the report.
    Leaked,
    /// Freed before it.
    Temporary,
}

/// `--from` is not before the moment of the report.
#[derive(Debug, thiserror::Error)]
#[error(
    "--from lies at or after the moment of the report: nothing can match; choose an earlier --from"
)]
pub struct EmptyRange;

/// A filter whose moments and names are known.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Timestamp: nanoseconds of the trace's clock.
    pub from: Option<i64>,
    pub min_size: Option<u64>,
    pub max_size: Option<u64>,
    /// Ages at the moment of the report.
    pub min_age: Option<u64>,
    pub max_age: Option<u64>,
    pub min_lifetime: Option<u64>,
    pub max_lifetime: Option<u64>,
    pub only: Only,
    pub stacks: Option<StackSet>,
    pub pids: Vec<i32>,
    /// Threads asked for can be thousands.
    pub tids: HashSet<i32>,
    pub domains: Vec<Domain>,
    pub ops: Vec<Op>,
}

impl Options {
    /// Whether sites must be told apart by thread.
    pub fn needs_threads(&self) -> bool {
        !self.tids.is_empty()
    }
}

/// The filter for a recording. Reads it once more if names are asked for.
pub fn resolve(trace: &Series, options: &Options) -> anyhow::Result<Filter> {
    if !options.patterns.is_empty() {
        return resolve_read(&survey(trace)?.recording, options);
    }
    let mut filter = plain(options);
    if options.from.is_some() {
        filter.from = from(options, Span::of(trace)?)?;
    }
    Ok(filter)
}

/// The filter for a recording that was read for its times and names.
pub fn resolve_read(recording: &Recording, options: &Options) -> anyhow::Result<Filter> {
    let mut filter = plain(options);
    filter.from = from(options, Span::read(recording))?;
    if !options.patterns.is_empty() {
        filter.stacks = Some(options.patterns.stacks(recording));
    }
    Ok(filter)
}

/// What needs no knowledge of the recording.
fn plain(options: &Options) -> Filter {
    Filter {
        min_size: options.min_size,
        max_size: options.max_size,
        min_age: options.older,
        max_age: options.younger,
        min_lifetime: options.min_lifetime,
        max_lifetime: options.max_lifetime,
        only: options.only,
        pids: options.pids.clone(),
        tids: options.tids.iter().copied().collect(),
        domains: options.domains.clone(),
        ops: options.ops.clone(),
        ..Filter::default()
    }
}

/// The timestamp of `--from`.
fn from(options: &Options, span: Span) -> anyhow::Result<Option<i64>> {
    let Some(from) = options.from else {
        return Ok(None);
    };
    let from = span.at(from)?;
    if from >= span.at(options.to.unwrap_or_default())? {
        return Err(EmptyRange.into());
    }
    Ok(Some(from))
}

impl Filter {
    /// Whether allocations of a site count.
    pub fn site(&self, site: &Site) -> bool {
        fn lists<T: PartialEq>(list: &[T], item: &T) -> bool {
            list.is_empty() || list.contains(item)
        }
        lists(&self.pids, &site.pid)
            && (self.tids.is_empty() || self.tids.contains(&site.tid))
            && lists(&self.ops, &site.op)
            && site
                .op
                .domain()
                .is_some_and(|domain| lists(&self.domains, &domain))
            && self
                .stacks
                .as_ref()
                .is_none_or(|stacks| stacks.contains(site.stack))
    }

    /// Whether an allocation of a site that counts does, as far as its birth tells.
    #[inline]
    pub fn born(&self, allocation: &Allocation) -> bool {
        within(allocation.size, self.min_size, self.max_size)
            && self.from.is_none_or(|from| allocation.born >= from)
    }

    /// Whether an allocation that passed [`Filter::born`] and was freed counts.
    #[inline]
    pub fn freed(&self, allocation: &Allocation, death: Death) -> bool {
        self.only != Only::Leaked
            && self.min_age.is_none()
            && self.max_age.is_none()
            && within(
                lifetime(allocation, death),
                self.min_lifetime,
                self.max_lifetime,
            )
    }

    /// Whether an allocation that passed [`Filter::born`] and is outstanding at `at` counts.
    #[inline]
    pub fn outstanding(&self, allocation: &Allocation, at: i64) -> bool {
        self.only != Only::Temporary
            && self.min_lifetime.is_none()
            && self.max_lifetime.is_none()
            && within(allocation.age(at), self.min_age, self.max_age)
    }
}

impl Filter {
    /// By site, whether it passes.
    pub fn sites(&self, replay: &Replay) -> Vec<bool> {
        let all = replay.sites().as_slice().iter();
        all.map(|site| self.site(site)).collect()
    }

    /// What is outstanding at `at` and passes; `sites` says which of them do ([`Filter::sites`]).
    pub fn outstanding_of<'a>(
        &'a self,
        replay: &'a Replay,
        at: i64,
        sites: &'a [bool],
    ) -> impl Iterator<Item = Allocation> + 'a {
        let passes = move |allocation: &Allocation| self.passes(allocation, at, sites);
        replay.outstanding().filter(passes)
    }

    /// Whether an allocation that is outstanding at `at` passes; `sites` as above.
    #[inline]
    pub fn passes(&self, allocation: &Allocation, at: i64, sites: &[bool]) -> bool {
        sites[allocation.site as usize] && self.born(allocation) && self.outstanding(allocation, at)
    }
}

/// Nanoseconds that an allocation lived; 0 where the clocks of two threads differ the wrong way.
pub fn lifetime(allocation: &Allocation, death: Death) -> u64 {
    u64::try_from(death.at.saturating_sub(allocation.born)).unwrap_or(0)
}

#[inline]
fn within(value: u64, min: Option<u64>, max: Option<u64>) -> bool {
    min.is_none_or(|min| value >= min) && max.is_none_or(|max| value <= max)
}

/// The filters of a report, as it tells them.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Shown {
    /// The view is about a range of time that begins at `from_ns`: it lets everything through.
    #[serde(skip)]
    pub from_is_range: bool,
    pub min_size: Option<u64>,
    pub max_size: Option<u64>,
    pub older_ns: Option<u64>,
    pub top: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub younger_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_lifetime_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_lifetime_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pids: Vec<i32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tids: Vec<i32>,
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "domain_names")]
    pub domains: Vec<Domain>,
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "op_names")]
    pub ops: Vec<Op>,
}

fn domain_names<S: Serializer>(domains: &[Domain], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(domains.iter().map(|domain| domain.name()))
}

fn op_names<S: Serializer>(ops: &[Op], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(ops.iter().map(|op| op.name()))
}

impl Shown {
    /// What `options` and the filter made of them are, for a recording that began at `start`.
    pub fn new(options: &Options, filter: &Filter, start: i64, top: Option<u32>) -> Shown {
        Shown {
            from_is_range: false,
            min_size: options.min_size,
            max_size: options.max_size,
            older_ns: options.older,
            top,
            from_ns: filter
                .from
                .map(|from| u64::try_from(from - start).unwrap_or(0)),
            younger_ns: options.younger,
            min_lifetime_ns: options.min_lifetime,
            max_lifetime_ns: options.max_lifetime,
            min_bytes: options.min_bytes,
            only: match options.only {
                Only::Both => None,
                Only::Leaked => Some("leaked"),
                Only::Temporary => Some("temporary"),
            },
            names: options.patterns.shown(),
            pids: options.pids.clone(),
            tids: options.tids.clone(),
            domains: options.domains.clone(),
            ops: options.ops.clone(),
        }
    }

    /// Each filter in words.
    pub fn words(&self) -> Vec<String> {
        use crate::units::{show_count, show_duration};
        let list = |numbers: &[i32]| {
            let texts: Vec<String> = numbers.iter().map(ToString::to_string).collect();
            texts.join(", ")
        };
        let mut words: Vec<String> = [
            self.min_size
                .map(|size| format!("of at least {} bytes", show_count(size))),
            self.max_size
                .map(|size| format!("of at most {} bytes", show_count(size))),
            self.older_ns
                .map(|age| format!("at least {} old", show_duration(age))),
            self.younger_ns
                .map(|age| format!("at most {} old", show_duration(age))),
            self.from_ns
                .filter(|_| !self.from_is_range)
                .map(|from| format!("made {} after the start or later", show_duration(from))),
            self.min_lifetime_ns
                .map(|time| format!("that lived {} or longer", show_duration(time))),
            self.max_lifetime_ns
                .map(|time| format!("that lived {} or shorter", show_duration(time))),
            self.min_bytes
                .map(|bytes| format!("in groups of at least {} bytes", show_count(bytes))),
            self.only.map(|only| format!("that are {only}")),
        ]
        .into_iter()
        .flatten()
        .collect();
        words.extend(self.names.iter().map(|name| format!("with {name}")));
        if !self.pids.is_empty() {
            words.push(format!("of process {}", list(&self.pids)));
        }
        if !self.tids.is_empty() {
            words.push(format!("of thread {}", list(&self.tids)));
        }
        if !self.domains.is_empty() {
            let names: Vec<_> = self.domains.iter().map(|domain| domain.name()).collect();
            words.push(format!("of domain {}", names.join(", ")));
        }
        if !self.ops.is_empty() {
            let names: Vec<_> = self.ops.iter().map(|op| op.name()).collect();
            words.push(format!("made by {}", names.join(", ")));
        }
        words
    }
}
