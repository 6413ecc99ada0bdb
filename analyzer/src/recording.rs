//! What a trace says about its own recording: processes, losses, resident memory, names, times.

use std::collections::{BTreeMap, HashMap, HashSet};

use memleak_trace::describe::{Module, RssKind, Symbol};
use memleak_trace::{Description, FileId, FrameId, Note, SpaceId, Stack, StackId};

/// A process whose events are in the trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    pub ppid: i32,
    pub space: SpaceId,
    pub command: String,
    /// Whether its end was seen, and its wait status where that is known.
    pub exited: bool,
    pub status: Option<i32>,
}

/// Events lost, or kept with a defect, for one cause.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub count: u64,
    /// When: intervals in nanoseconds of the trace's clock; those that touch are joined.
    pub windows: Vec<(i64, i64)>,
}

impl Tally {
    fn add(&mut self, count: u64, from: i64, to: i64) {
        self.count += count;
        match self.windows.last_mut() {
            Some(last) if from <= last.1 => {
                last.0 = last.0.min(from);
                last.1 = last.1.max(to);
            }
            _ => self.windows.push((from, to)),
        }
    }
}

/// Causes of loss that lose allocations only; every other one may have lost frees.
const ONLY_ALLOCATIONS: [&str; 3] = [
    "ring full, allocation",
    "interrupted probe, allocation",
    "too many objects at once, allocation",
];

/// Frees that may be missing: a block allocated before the last of them may be freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostReleases {
    /// End of the last window: nanoseconds of the trace's clock.
    pub until: i64,
    /// How many at most; `None` where nobody knows.
    pub count: Option<u64>,
}

/// Resident memory of a process by kind, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resident {
    pub anonymous: u64,
    pub file: u64,
    pub shared: u64,
}

impl Resident {
    pub fn total(&self) -> u64 {
        self.anonymous + self.file + self.shared
    }

    fn set(&mut self, kind: RssKind, bytes: u64) {
        match kind {
            RssKind::Anonymous => self.anonymous = bytes,
            RssKind::File => self.file = bytes,
            RssKind::Shared => self.shared = bytes,
        }
    }
}

/// Everything the descriptions and stacks of a trace tell.
#[derive(Debug, Default)]
pub struct Recording {
    /// Events in the trace, also those after the moment asked about.
    pub events: u64,
    /// Nanoseconds of the trace's clock: first and last (largest) event.
    pub first_ts: Option<i64>,
    pub last_ts: Option<i64>,
    pub opened: Option<i64>,
    /// When recording closed, and why.
    pub closed: Option<(i64, String)>,
    /// By pid.
    pub processes: BTreeMap<i32, Process>,
    pub losses: BTreeMap<String, Tally>,
    pub defects: BTreeMap<String, Tally>,
    /// By pid: the first sample, and the last up to the moment asked about.
    pub resident: BTreeMap<i32, (Resident, Resident)>,
    sampled: HashSet<(i32, RssKind)>,
    symbols: HashMap<FrameId, Symbol>,
    modules: HashMap<FileId, Module>,
    stacks: Vec<Option<Stack>>,
}

impl Recording {
    /// When the probes were on: nanoseconds of the trace's clock. A trace cut off so early that it
    /// does not say has its first event instead.
    pub fn start(&self) -> i64 {
        self.opened.or(self.first_ts).unwrap_or_default()
    }

    /// What losses say about blocks that look outstanding.
    pub fn lost_releases(&self) -> Option<LostReleases> {
        let causes = self
            .losses
            .iter()
            .filter(|(cause, _)| !ONLY_ALLOCATIONS.contains(&cause.as_str()));
        causes.fold(None, |known: Option<LostReleases>, (_, tally)| {
            let until = tally.windows.iter().map(|(_, to)| *to).max()?;
            let count = (tally.count > 0).then_some(tally.count);
            Some(match known {
                None => LostReleases { until, count },
                Some(known) => LostReleases {
                    until: until.max(known.until),
                    count: known.count.zip(count).map(|(one, other)| one + other),
                },
            })
        })
    }

    /// When recording closed, or the last event that was kept.
    pub fn end(&self) -> i64 {
        let end = self.closed.as_ref().map(|closed| closed.0).or(self.last_ts);
        end.unwrap_or_default().max(self.start())
    }

    /// Counts the events that have these times.
    pub fn events(&mut self, times: &[i64]) {
        let Some(first) = times.first() else {
            return;
        };
        self.events += times.len() as u64;
        self.first_ts.get_or_insert(*first);
        let last = times.iter().copied().fold(*first, i64::max);
        self.last_ts = self.last_ts.max(Some(last));
    }

    /// Keeps a stack.
    pub fn stack(&mut self, stack: Stack) {
        let Ok(index) = usize::try_from(stack.id.0) else {
            return;
        };
        if index >= self.stacks.len() {
            self.stacks.resize(index + 1, None);
        }
        self.stacks[index] = Some(stack);
    }

    /// Keeps what a description says; resident memory only up to `until` (nanoseconds of the
    /// trace's clock). Returns the address space that this ended, if it was an exec.
    pub fn note(&mut self, note: Note, until: Option<i64>) -> Option<SpaceId> {
        let ts = note.ts;
        match note.what {
            Description::Open => {
                // Every part of a recording opens anew.
                self.opened.get_or_insert(ts);
                self.closed = None;
            }
            Description::Close { reason } => self.closed = Some((ts, reason)),
            Description::Process {
                pid,
                ppid,
                space,
                command,
            } => {
                let process = Process {
                    pid,
                    ppid,
                    space,
                    command,
                    exited: false,
                    status: None,
                };
                let before = self.processes.insert(pid, process)?;
                let shared = self
                    .processes
                    .values()
                    .any(|process| process.space == before.space);
                return (before.space != space && !before.exited && !shared)
                    .then_some(before.space);
            }
            // The replay's; the child's own description follows.
            Description::Fork { .. } => {}
            Description::Exit { pid, status, .. } => {
                if let Some(process) = self.processes.get_mut(&pid) {
                    process.exited = true;
                    process.status = status;
                }
            }
            Description::Module(module) => {
                if let Some(file) = module.file {
                    self.modules.entry(file).or_insert(module);
                }
            }
            Description::Symbol(symbol) => {
                self.symbols.insert(symbol.frame, symbol);
            }
            Description::Rss { pid, kind, bytes } => {
                if until.is_none_or(|until| ts <= until) {
                    self.rss(pid, kind, bytes);
                }
            }
            Description::Loss {
                cause,
                count,
                window_ns,
            } => {
                self.losses
                    .entry(cause)
                    .or_default()
                    .add(count, before(ts, window_ns), ts);
            }
            Description::Defect {
                cause,
                count,
                window_ns,
            } => {
                self.defects
                    .entry(cause)
                    .or_default()
                    .add(count, before(ts, window_ns), ts);
            }
        }
        None
    }

    /// The stacks told, by number.
    pub fn stacks(&self) -> impl Iterator<Item = &Stack> {
        self.stacks.iter().flatten()
    }

    pub fn stack_of(&self, id: StackId) -> Option<&Stack> {
        self.stacks.get(usize::try_from(id.0).ok()?)?.as_ref()
    }

    pub fn symbol_of(&self, frame: FrameId) -> Option<&Symbol> {
        self.symbols.get(&frame)
    }

    /// A mapping of the file, for its path.
    pub fn module_of(&self, file: FileId) -> Option<&Module> {
        self.modules.get(&file)
    }

    /// The three kinds arrive as rows of their own; the first of each is the first sample.
    fn rss(&mut self, pid: i32, kind: RssKind, bytes: u64) {
        let (first, last) = self.resident.entry(pid).or_default();
        last.set(kind, bytes);
        if self.sampled.insert((pid, kind)) {
            first.set(kind, bytes);
        }
    }
}

fn before(ts: i64, window_ns: u64) -> i64 {
    ts.saturating_sub(i64::try_from(window_ns).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, space: i32) -> Note {
        let what = Description::Process {
            pid,
            ppid: 1,
            space: SpaceId(space),
            command: "p".into(),
        };
        Note { ts: 0, what }
    }

    /// An exec ends the old address space, unless another process (a vfork's parent) lives in it.
    #[test]
    fn exec_ends_a_space_that_nobody_shares() {
        let mut recording = Recording::default();
        assert_eq!(recording.note(process(10, 1), None), None);
        assert_eq!(recording.note(process(11, 1), None), None);
        assert_eq!(
            recording.note(process(11, 2), None),
            None,
            "the parent lives in it"
        );
        assert_eq!(recording.note(process(10, 3), None), Some(SpaceId(1)));
        assert_eq!(
            recording.note(process(10, 3), None),
            None,
            "told again, not an exec"
        );
    }

    /// Windows of one cause that touch are joined, so that they do not grow with the trace.
    #[test]
    fn loss_windows_are_joined() {
        let mut recording = Recording::default();
        for (ts, window_ns) in [(10, 5), (15, 5), (30, 2)] {
            let what = Description::Loss {
                cause: "ring full".into(),
                count: 7,
                window_ns,
            };
            recording.note(Note { ts, what }, None);
        }
        let tally = &recording.losses["ring full"];
        assert_eq!(
            (tally.count, &tally.windows[..]),
            (21, &[(5, 15), (28, 30)][..])
        );
    }

    /// Lost allocations leave no doubt about a block; lost frees do, until the last of them.
    #[test]
    fn lost_releases() {
        let mut recording = Recording::default();
        let mut lose = |cause: &str, ts, count| {
            let what = Description::Loss {
                cause: cause.into(),
                count,
                window_ns: 5,
            };
            recording.note(Note { ts, what }, None);
            recording.lost_releases()
        };
        assert_eq!(lose(ONLY_ALLOCATIONS[0], 90, 7), None);
        let told = |until, count| Some(LostReleases { until, count });
        assert_eq!(lose("ring full, release", 20, 7), told(20, Some(7)));
        assert_eq!(lose("no memory", 30, 2), told(30, Some(9)));
        assert_eq!(lose("the probed thread ended", 25, 0), told(30, None));
    }

    /// Resident memory after the moment asked about is not reported.
    #[test]
    fn resident_memory_stops_at_the_moment() {
        let mut recording = Recording::default();
        for (ts, bytes) in [(1, 100), (2, 200), (3, 300)] {
            let what = Description::Rss {
                pid: 1,
                kind: RssKind::Anonymous,
                bytes,
            };
            recording.note(Note { ts, what }, Some(2));
        }
        let (first, last) = recording.resident[&1];
        assert_eq!(
            (first.anonymous, last.anonymous, last.total()),
            (100, 200, 200)
        );
    }
}
