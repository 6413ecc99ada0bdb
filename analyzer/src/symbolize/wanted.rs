//! What a trace says about its frames: which there are, which have names, and in which builds they lie.

use std::collections::{BTreeMap, HashMap};

use memleak_trace::describe::{Module, Symbol};
use memleak_trace::stack::Location;
use memleak_trace::{Batch, Description, FileId, FrameId};

/// A frame that could have a better name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantedFrame {
    pub frame: FrameId,
    /// An address at which it was seen; 0 if the trace does not tell.
    pub address: u64,
    pub is_named: bool,
    pub has_line: bool,
}

/// A file as it was when it was mapped, and its frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    /// Path as the target saw it.
    pub path: String,
    pub build_id: Option<String>,
    /// The executable mappings: (offset in the file, bytes, first address).
    pub mapped: Vec<(u64, u64, u64)>,
    /// By frame.
    pub frames: Vec<WantedFrame>,
}

impl Build {
    /// An address at which the byte of the file was mapped.
    pub fn address(&self, file_offset: u64) -> Option<u64> {
        self.mapped.iter().find_map(|(offset, bytes, start)| {
            let distance = file_offset.checked_sub(*offset)?;
            (distance < *bytes).then(|| start.checked_add(distance))?
        })
    }
}

/// What is known of a frame so far.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    address: u64,
    is_named: bool,
    has_line: bool,
}

/// Gathers what is needed while the rows pass; as large as there are distinct frames.
#[derive(Debug, Default)]
pub struct Wanted {
    frames: HashMap<FrameId, Known>,
    builds: BTreeMap<FileId, Build>,
    last_ts: i64,
}

impl Wanted {
    pub fn look_at(&mut self, batch: &Batch) {
        for stack in &batch.stacks {
            for frame in &stack.frames {
                self.frames.entry(*frame).or_default();
            }
        }
        self.last_ts = batch.ts.iter().copied().fold(self.last_ts, i64::max);
        for (_, note) in &batch.notes {
            match &note.what {
                Description::Symbol(symbol) => self.symbol(symbol),
                Description::Module(module) => self.module(module),
                _ => {}
            }
        }
    }

    fn symbol(&mut self, symbol: &Symbol) {
        let known = Known {
            address: symbol.address,
            is_named: symbol.function.is_some(),
            has_line: symbol.line.is_some(),
        };
        self.frames.insert(symbol.frame, known);
    }

    fn module(&mut self, module: &Module) {
        let Some(file) = module.file else { return };
        let build = self.builds.entry(file).or_insert_with(|| Build {
            path: module.path.clone(),
            build_id: module.build_id.clone(),
            mapped: Vec::new(),
            frames: Vec::new(),
        });
        let mapped = (module.file_offset, module.length, module.start);
        if !build.mapped.contains(&mapped) {
            build.mapped.push(mapped);
        }
    }

    /// Distinct frames, those of no file included.
    pub fn frames(&self) -> usize {
        self.frames.len()
    }

    /// Frames with a function's name.
    pub fn named(&self) -> usize {
        self.frames.values().filter(|known| known.is_named).count()
    }

    /// Frames with a source line.
    pub fn with_line(&self) -> usize {
        self.frames.values().filter(|known| known.has_line).count()
    }

    /// The latest time in the trace, nanoseconds of its clock.
    pub fn last_ts(&self) -> i64 {
        self.last_ts
    }

    /// The builds with frames that lack a name or a line.
    pub fn builds(self) -> Vec<Build> {
        let mut builds = self.builds;
        for (frame, known) in self.frames {
            if let Location::File { file, .. } = frame.location()
                && let Some(build) = builds.get_mut(&file)
                && !(known.is_named && known.has_line)
            {
                build.frames.push(WantedFrame {
                    frame,
                    address: known.address,
                    is_named: known.is_named,
                    has_line: known.has_line,
                });
            }
        }
        let mut builds: Vec<Build> = builds.into_values().collect();
        builds.retain(|build| !build.frames.is_empty());
        for build in &mut builds {
            build.frames.sort_by_key(|wanted| wanted.frame);
        }
        builds
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use memleak_trace::{Event, Note, Op, SpaceId, Stack, StackEnd, StackId};

    fn frame(file: u32, offset: u64) -> FrameId {
        FrameId::in_file(FileId(file), offset).expect("a small offset")
    }

    fn symbol(frame: FrameId, function: Option<&str>, line: Option<u32>) -> Note {
        let what = Description::Symbol(Symbol {
            frame,
            address: 0x7000,
            function: function.map(str::to_owned),
            line,
            ..Symbol::default()
        });
        Note { ts: 5, what }
    }

    /// Frames with name and line are left alone; the last row of a frame counts; frames that no
    /// row names are wanted too.
    #[test]
    fn what_is_wanted() {
        let mut batch = Batch::default();
        for (file, start) in [(1, 0x1000), (1, 0x9000), (2, 0x5000)] {
            let what = Description::Module(Module {
                pid: 1,
                space: SpaceId(1),
                start,
                length: 0x1000,
                file_offset: 0x100,
                file: Some(FileId(file)),
                path: format!("/lib/{file}"),
                build_id: None,
            });
            batch.push_note(Note { ts: 1, what });
        }
        batch.push_event(Event {
            ts: 9,
            pid: 1,
            tid: 1,
            op: Op::Malloc,
            space: SpaceId(1),
            addr: 16,
            size: 1,
            stack: Some(StackId(0)),
        });
        batch.stacks.push(Stack {
            id: StackId(0),
            frames: vec![
                frame(1, 0x110),
                frame(1, 0x120),
                frame(1, 0x130),
                frame(2, 0x140),
            ],
            end: StackEnd::Complete,
        });
        batch.push_note(symbol(frame(1, 0x110), None, None));
        batch.push_note(symbol(frame(1, 0x120), None, None));
        batch.push_note(symbol(frame(1, 0x120), Some("known"), Some(7)));
        batch.push_note(symbol(frame(1, 0x130), Some("no line"), None));
        batch.push_note(symbol(frame(2, 0x140), Some("known"), Some(8)));
        let mut wanted = Wanted::default();
        wanted.look_at(&batch);
        assert_eq!(
            (wanted.frames(), wanted.named(), wanted.with_line()),
            (4, 3, 2)
        );
        assert_eq!(wanted.last_ts(), 9);
        let builds = wanted.builds();
        let [build] = &builds[..] else {
            panic!("{builds:?}")
        };
        let offsets: Vec<(FrameId, bool)> = build
            .frames
            .iter()
            .map(|wanted| (wanted.frame, wanted.is_named))
            .collect();
        assert_eq!(offsets, [(frame(1, 0x110), false), (frame(1, 0x130), true)]);
        assert_eq!(build.address(0x110), Some(0x1010));
        assert_eq!(build.address(0x99), None);
    }
}
