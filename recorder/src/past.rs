//! What a part of a recording must tell again so that it can be read without the parts before it.

use std::collections::{BTreeMap, HashMap, HashSet};

use memleak_trace::describe::{Module, Symbol};
use memleak_trace::stack::Location;
use memleak_trace::{Description, FileId, FrameId, Note, SpaceId, Stack};

/// A mapping among those of a recording; one that takes its place replaces it.
type ModuleKey = (SpaceId, Option<FileId>, u64);

/// What was told of processes, mappings and names, and what of it the present part has.
///
/// It grows with mappings and distinct frames, not with the length of the recording.
#[derive(Debug, Default)]
pub struct Past {
    /// By pid.
    processes: BTreeMap<i32, Description>,
    modules: BTreeMap<ModuleKey, Module>,
    symbols: HashMap<FrameId, Symbol>,
    /// Frames of the stacks that the present part has told.
    frames: HashSet<FrameId>,
    /// Files that the present part has described, and those whose descriptions are still to come.
    files: HashSet<FileId>,
    undescribed: HashSet<FileId>,
}

impl Past {
    /// Remembers a description. Whether the present part has a use for it: a name is told only where
    /// its frame is.
    pub fn note(&mut self, what: &Description) -> bool {
        match what {
            Description::Process { pid, space, .. } => {
                let before = self.processes.insert(*pid, what.clone());
                self.end_space(before, Some(*space));
            }
            Description::Exit { pid, .. } => {
                let before = self.processes.remove(pid);
                self.end_space(before, None);
            }
            Description::Module(module) => {
                let place = match module.file {
                    Some(_) => module.file_offset,
                    None => module.start,
                };
                self.modules
                    .insert((module.space, module.file, place), module.clone());
                self.describe(module.file);
            }
            Description::Symbol(symbol) => {
                self.symbols.insert(symbol.frame, symbol.clone());
                return self.frames.contains(&symbol.frame);
            }
            _ => {}
        }
        true
    }

    /// The present part tells this stack. Returns the names of its frames that it has not told yet,
    /// where they are known.
    pub fn stack(&mut self, stack: &Stack) -> Vec<Description> {
        let mut names = Vec::new();
        for frame in &stack.frames {
            if !self.frames.insert(*frame) {
                continue;
            }
            if let Location::File { file, .. } = frame.location()
                && !self.files.contains(&file)
            {
                self.undescribed.insert(file);
            }
            if let Some(symbol) = self.symbols.get(frame) {
                names.push(Description::Symbol(symbol.clone()));
            }
        }
        names
    }

    /// Whether a file was used and its description is still to come.
    pub fn awaits_files(&self) -> bool {
        !self.undescribed.is_empty()
    }

    /// The present part ends: its frames whose names are still to come.
    pub fn unnamed(&self) -> HashSet<FrameId> {
        let unnamed = |frame: &&FrameId| !self.symbols.contains_key(frame);
        self.frames.iter().filter(unnamed).copied().collect()
    }

    /// Another part begins: what stands at its beginning.
    pub fn next_part(&mut self) -> Vec<Description> {
        self.frames.clear();
        self.files.clear();
        self.undescribed.clear();
        let modules: Vec<Module> = self.modules.values().cloned().collect();
        for module in &modules {
            self.describe(module.file);
        }
        let processes = self.processes.values().cloned();
        processes
            .chain(modules.into_iter().map(Description::Module))
            .collect()
    }

    fn describe(&mut self, file: Option<FileId>) {
        if let Some(file) = file {
            self.files.insert(file);
            self.undescribed.remove(&file);
        }
    }

    /// Forgets the mappings of the address space that a process has left, if it was the last in it.
    fn end_space(&mut self, before: Option<Description>, now: Option<SpaceId>) {
        let Some(Description::Process { space: left, .. }) = before else {
            return;
        };
        let lives_on = now == Some(left)
            || self.processes.values().any(
                |process| matches!(process, Description::Process { space, .. } if *space == left),
            );
        if !lives_on {
            self.modules.retain(|(space, ..), _| *space != left);
        }
    }
}

/// Descriptions as rows of one moment (nanoseconds of `CLOCK_MONOTONIC`).
pub fn at(ts: i64, what: Vec<Description>) -> impl Iterator<Item = Note> {
    what.into_iter().map(move |what| Note { ts, what })
}

#[cfg(test)]
mod tests {
    use memleak_trace::{StackEnd, StackId};

    use super::*;

    fn process(pid: i32, space: i32) -> Description {
        Description::Process {
            pid,
            ppid: 1,
            space: SpaceId(space),
            command: "p".to_owned(),
        }
    }

    fn module(space: i32, file: u32, start: u64) -> Description {
        Description::Module(Module {
            pid: 10,
            space: SpaceId(space),
            start,
            length: 4096,
            file_offset: 0,
            file: Some(FileId(file)),
            path: "/lib/a.so".to_owned(),
            build_id: None,
        })
    }

    fn symbol(frame: FrameId) -> Description {
        Description::Symbol(Symbol {
            frame,
            ..Symbol::default()
        })
    }

    fn stack(frames: &[FrameId]) -> Stack {
        Stack {
            id: StackId(0),
            frames: frames.to_vec(),
            end: StackEnd::Complete,
        }
    }

    /// A part begins with the processes that live and the mappings they have; what was mapped again
    /// elsewhere, or ended by exec or exit, is not among them.
    #[test]
    fn a_part_begins_with_what_is() {
        let mut past = Past::default();
        for what in [
            process(10, 1),
            module(1, 1, 0x1000),
            module(1, 1, 0x9000),
            process(11, 2),
            module(2, 2, 0x1000),
            process(12, 3),
            module(3, 3, 0x1000),
        ] {
            assert!(past.note(&what));
        }
        past.note(&process(11, 4));
        past.note(&Description::Exit {
            pid: 12,
            status: None,
            out_of_memory: false,
        });
        assert_eq!(
            past.next_part(),
            [process(10, 1), process(11, 4), module(1, 1, 0x9000)]
        );
    }

    /// A name is told in every part whose stacks have the frame, once, and waited for where it is
    /// not known yet.
    #[test]
    fn names_follow_their_frames() {
        let mut past = Past::default();
        let frame = |offset| FrameId::in_file(FileId(1), offset).unwrap();
        past.note(&module(1, 1, 0x1000));
        assert!(!past.note(&symbol(frame(1))), "no stack has it yet");
        assert_eq!(
            past.stack(&stack(&[frame(1), frame(2)])),
            [symbol(frame(1))]
        );
        assert_eq!(past.stack(&stack(&[frame(2), frame(1)])), []);
        assert_eq!(past.unnamed(), HashSet::from([frame(2)]));
        assert!(past.note(&symbol(frame(2))));
        assert!(past.unnamed().is_empty());
        past.next_part();
        assert_eq!(past.stack(&stack(&[frame(2)])), [symbol(frame(2))]);
    }

    /// A file that a stack uses before it is described is known to be missing, in each part.
    #[test]
    fn files_are_awaited() {
        let mut past = Past::default();
        past.stack(&stack(&[FrameId::in_file(FileId(7), 1).unwrap()]));
        assert!(past.awaits_files());
        past.note(&process(10, 1));
        past.note(&module(1, 7, 0x1000));
        assert!(!past.awaits_files());
        past.next_part();
        past.stack(&stack(&[FrameId::in_file(FileId(7), 1).unwrap()]));
        assert!(!past.awaits_files());
    }
}
