//! What each row must obey, whatever was recorded.

use std::collections::{HashMap, HashSet};

use memleak_trace::op::{Domain, Effect, Op};
use memleak_trace::stack::Location;
use memleak_trace::{Batch, Description, Event, FileId, SpaceId, StackId};

use super::Check;

/// A rule that was broken: how often, and where first.
#[derive(Debug, Default)]
struct Broken {
    times: u64,
    first: String,
}

/// The rules, in the order in which they are told: name, and what holds when nobody broke it.
const RULES: [(&str, &str); 5] = [
    (
        STACKS,
        "each stack is told once, not after its first use, and used stacks are told",
    ),
    (FRAMES, "each frame lies in a file that is described"),
    (
        ORDER,
        "events lie between open and close, behind the description of their process",
    ),
    (
        THREADS,
        "each failed call has its beginning in the same thread",
    ),
    (
        VALUES,
        "allocations have addresses, mappings are whole pages",
    ),
];
const STACKS: &str = "stacks";
const FRAMES: &str = "frames";
const ORDER: &str = "order";
const THREADS: &str = "threads";
const VALUES: &str = "values";

/// What was seen so far. Memory: some bytes per stack, and an entry per file, space and thread.
#[derive(Debug)]
pub struct Rules {
    page_size: u64,
    /// The recording began in an earlier part: numbers of stacks have gaps, and calls may have begun
    /// there.
    continues: bool,
    row: u64,
    /// Stacks told, and the number that the next one has if none is left out.
    told: HashSet<StackId>,
    next: usize,
    files: HashSet<FileId>,
    /// Files of frames, with the row that used them first.
    used_files: HashMap<FileId, u64>,
    spaces: HashSet<SpaceId>,
    opened: bool,
    closed: bool,
    /// Threads whose last call of a domain released something, by thread and domain.
    released: HashSet<(i32, Domain)>,
    /// Threads with an event of a domain; the first may end a call that an earlier part has begun.
    met: HashSet<(i32, Domain)>,
    lossy: bool,
    broken: HashMap<&'static str, Broken>,
}

impl Rules {
    /// `page_size` of the recorded machine, in bytes; `continues` if the trace is a later part of its
    /// recording.
    pub fn new(page_size: u64, continues: bool) -> Rules {
        Rules {
            page_size: page_size.max(1),
            continues,
            row: 0,
            told: HashSet::new(),
            next: 0,
            files: HashSet::new(),
            used_files: HashMap::new(),
            spaces: HashSet::new(),
            opened: false,
            closed: false,
            released: HashSet::new(),
            met: HashSet::new(),
            lossy: false,
            broken: HashMap::new(),
        }
    }

    /// Looks at the next rows.
    pub fn batch(&mut self, batch: &Batch) {
        let mut notes = batch.notes.iter().peekable();
        let mut stacks = batch.stacks.iter().peekable();
        for row in 0..batch.len() {
            if let Some((_, note)) = notes.next_if(|(at, _)| *at == row) {
                self.description(&note.what);
            } else if let Some(event) = batch.event(row) {
                // A stack stands on the row that uses it first.
                let told_here = stacks.next_if(|stack| Some(stack.id) == event.stack);
                if let Some(stack) = told_here {
                    self.stack(stack);
                }
                self.event(&event);
            }
            self.row += 1;
        }
        for stack in stacks {
            self.breaks(
                STACKS,
                format!("stack {} is told where nothing uses it", stack.id.0),
            );
        }
    }

    fn description(&mut self, what: &Description) {
        match what {
            Description::Open => self.opened = true,
            Description::Close { .. } => self.closed = true,
            Description::Process { space, .. } => {
                self.spaces.insert(*space);
            }
            Description::Module(module) => self.files.extend(module.file),
            Description::Loss { .. } => self.lossy = true,
            _ => {}
        }
    }

    fn stack(&mut self, stack: &memleak_trace::Stack) {
        let Ok(index) = usize::try_from(stack.id.0) else {
            return self.breaks(STACKS, format!("stack {} has no valid number", stack.id.0));
        };
        if !self.told.insert(stack.id) {
            return self.breaks(STACKS, format!("stack {index} is told twice"));
        }
        // Numbers are given in order of first use: a gap is a stack that is missing.
        if index > self.next && !self.continues {
            self.breaks(
                STACKS,
                format!("stack {} is missing before {index}", self.next),
            );
        }
        self.next = self.next.max(index + 1);
        for frame in &stack.frames {
            if let Location::File { file, .. } = frame.location() {
                self.used_files.entry(file).or_insert(self.row);
            }
        }
    }

    fn event(&mut self, event: &Event) {
        if !self.opened || self.closed {
            let when = if self.closed {
                "after close"
            } else {
                "before open"
            };
            self.breaks(
                ORDER,
                format!("{} of thread {} {when}", event.op.name(), event.tid),
            );
        }
        let in_kernel = event.op.domain().is_some_and(Domain::is_kernel);
        if !in_kernel && !self.spaces.contains(&event.space) {
            self.breaks(
                ORDER,
                format!(
                    "address space {} is used before it is described",
                    event.space.0
                ),
            );
        }
        if let Some(id) = event.stack
            && !self.told.contains(&id)
        {
            self.breaks(STACKS, format!("stack {} is used and never told", id.0));
        }
        self.call(event);
        self.values(event);
    }

    /// A failure takes back what its call released before, in the same thread.
    fn call(&mut self, event: &Event) {
        let Some(domain) = event.op.domain() else {
            return;
        };
        let key = (event.tid, domain);
        let is_first = self.continues && self.met.insert(key);
        match event.op.effect() {
            Effect::Release | Effect::Free => {
                self.released.insert(key);
            }
            Effect::Restore if !self.released.remove(&key) && !is_first => self.breaks(
                THREADS,
                format!(
                    "{} of thread {} without its beginning",
                    event.op.name(),
                    event.tid
                ),
            ),
            Effect::Outcome => {
                self.released.remove(&key);
            }
            _ => {}
        }
    }

    fn values(&mut self, event: &Event) {
        let Some(domain) = event.op.domain() else {
            return;
        };
        let is_new = event.op.effect() == Effect::Allocate;
        if is_new && event.addr == 0 && matches!(domain, Domain::Heap | Domain::Pool) {
            self.breaks(VALUES, format!("{} at address 0", event.op.name()));
        }
        if is_new
            && matches!(domain, Domain::Mapping | Domain::Page)
            && event.op != Op::Brk
            && (!event.addr.is_multiple_of(self.page_size)
                || !event.size.is_multiple_of(self.page_size))
        {
            self.breaks(
                VALUES,
                format!(
                    "{} of {} bytes at {:#x}",
                    event.op.name(),
                    event.size,
                    event.addr
                ),
            );
        }
    }

    fn breaks(&mut self, rule: &'static str, what: String) {
        let broken = self.broken.entry(rule).or_default();
        if broken.times == 0 {
            broken.first = format!("row {}: {what}", self.row);
        }
        broken.times += 1;
    }

    /// A check per rule.
    pub fn checks(mut self) -> Vec<Check> {
        let orphans: Vec<(FileId, u64)> = self
            .used_files
            .iter()
            .filter(|(file, _)| !self.files.contains(file))
            .map(|(file, row)| (*file, *row))
            .collect();
        for (file, row) in orphans {
            self.breaks(
                FRAMES,
                format!(
                    "file {}, first used in row {row}, is never described",
                    file.0
                ),
            );
        }
        // The beginning of a call may be among what was lost.
        if self.lossy {
            self.broken.remove(THREADS);
        }
        RULES
            .iter()
            .map(|(name, holds)| match self.broken.get(name) {
                None => Check::new(name, true, (*holds).to_owned()),
                Some(broken) if broken.times == 1 => Check::new(name, false, broken.first.clone()),
                Some(broken) => Check::new(
                    name,
                    false,
                    format!("{} times, first in {}", broken.times, broken.first),
                ),
            })
            .collect()
    }
}
