//! Name patterns: which stacks have a frame of that function, module or source file.

use std::collections::HashMap;

use memleak_trace::{FrameId, StackId};
use regex::Regex;

use crate::recording::Recording;
use crate::report::{Frame, frames_of};

/// A regular expression; it matches anywhere in a name unless it is anchored.
pub type Pattern = Regex;

/// What must be in a stack, and what must not be. Of several patterns of one kind, one suffices.
#[derive(Clone, Debug, Default)]
pub struct Patterns {
    pub function: Vec<Pattern>,
    pub module: Vec<Pattern>,
    pub file: Vec<Pattern>,
    pub not_function: Vec<Pattern>,
    pub not_module: Vec<Pattern>,
    pub not_file: Vec<Pattern>,
}

/// Stacks by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StackSet {
    chosen: Vec<bool>,
    /// Whether allocations whose stack is not in the trace belong to it.
    missing: bool,
}

impl StackSet {
    pub fn contains(&self, stack: Option<StackId>) -> bool {
        let chosen = stack
            .and_then(|id| usize::try_from(id.0).ok())
            .and_then(|index| self.chosen.get(index));
        chosen.copied().unwrap_or(self.missing)
    }
}

impl Patterns {
    /// The six lists, with their options: those that must be found first.
    fn lists(&self) -> [(&'static str, &[Pattern]); 6] {
        [
            ("--function", &self.function),
            ("--module", &self.module),
            ("--file", &self.file),
            ("--not-function", &self.not_function),
            ("--not-module", &self.not_module),
            ("--not-file", &self.not_file),
        ]
    }

    pub fn is_empty(&self) -> bool {
        self.lists().iter().all(|(_, list)| list.is_empty())
    }

    /// The patterns with their options, for people.
    pub fn shown(&self) -> Vec<String> {
        let lists = self.lists().into_iter();
        let shown = lists.flat_map(|(option, list)| {
            list.iter()
                .map(move |pattern| format!("{option} {pattern}"))
        });
        shown.collect()
    }

    /// The stacks of a recording that match; all names of the trace must be known.
    pub fn stacks(&self, recording: &Recording) -> StackSet {
        let mut known: HashMap<FrameId, u8> = HashMap::new();
        let (wanted, unwanted) = self.asked();
        let mut set = StackSet {
            chosen: Vec::new(),
            missing: wanted == 0,
        };
        for stack in recording.stacks() {
            let found = stack.frames.iter().fold(0, |found, id| {
                let of_frame = known.entry(*id).or_insert_with(|| {
                    frames_of(*id, recording)
                        .iter()
                        .fold(0, |found, frame| found | self.found(frame))
                });
                found | *of_frame
            });
            let index = usize::try_from(stack.id.0).unwrap_or_default();
            if index >= set.chosen.len() {
                set.chosen.resize(index + 1, set.missing);
            }
            set.chosen[index] = found & wanted == wanted && found & unwanted == 0;
        }
        set
    }

    /// A bit per list that has patterns: those that must be found, and those that must not be.
    fn asked(&self) -> (u8, u8) {
        let lists = self.lists().into_iter().enumerate();
        let bits = lists
            .filter(|(_, (_, list))| !list.is_empty())
            .fold(0, |bits, (index, _)| bits | 1 << index);
        (bits & 0b111, bits & 0b11_1000)
    }

    /// A bit per list of which a pattern matches the frame.
    fn found(&self, frame: &Frame) -> u8 {
        let names = [
            frame.function.as_deref(),
            frame.module.as_deref(),
            frame.file.as_deref(),
        ];
        let lists = self.lists().into_iter().enumerate();
        let matching = lists.filter(|(index, (_, list))| {
            let name = names[index % names.len()];
            name.is_some_and(|name| list.iter().any(|pattern| pattern.is_match(name)))
        });
        matching.fold(0, |bits, (index, _)| bits | 1 << index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use memleak_trace::describe::Symbol;
    use memleak_trace::{Description, FileId, Note, Stack, StackEnd};

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts
            .iter()
            .map(|text| Regex::new(text).expect("a pattern"))
            .collect()
    }

    fn chosen(patterns: &Patterns) -> Vec<i32> {
        let mut recording = Recording::default();
        // Stack 0: work ← main. Stack 1: make (inlined into parse) ← main. Stack 2: no names.
        for (id, offsets) in [(0, vec![1, 9]), (1, vec![2, 9]), (2, vec![3])] {
            let frames = offsets
                .iter()
                .map(|offset| FrameId::in_file(FileId(1), *offset).expect("a frame"));
            recording.stack(Stack {
                id: StackId(id),
                frames: frames.collect(),
                end: StackEnd::Complete,
            });
        }
        for (offset, function, file, inlined) in [
            (1, "work", "work.c", None),
            (2, "parse", "parse.c", Some("make")),
            (9, "main", "main.c", None),
        ] {
            let inlined = inlined.map(|name: &str| memleak_trace::describe::InlinedFunction {
                function: name.into(),
                file: Some("make.h".into()),
                line: None,
            });
            let symbol = Symbol {
                frame: FrameId::in_file(FileId(1), offset).expect("a frame"),
                module: Some("/opt/server".into()),
                function: Some(function.into()),
                file: Some(file.into()),
                inlined: inlined.into_iter().collect(),
                ..Symbol::default()
            };
            let what = Description::Symbol(symbol);
            recording.note(Note { ts: 0, what }, None);
        }
        let set = patterns.stacks(&recording);
        let all = (0..4).filter(|id| set.contains((*id < 3).then_some(StackId(*id))));
        all.collect()
    }

    /// Each kind of pattern, several of them, and the stack that is missing (3 here).
    #[test]
    fn stacks_are_chosen_by_names() {
        let none = Patterns::default();
        let function = |texts| Patterns {
            function: patterns(texts),
            ..none.clone()
        };
        let not_function = |texts| Patterns {
            not_function: patterns(texts),
            ..none.clone()
        };
        assert_eq!(chosen(&none), [0, 1, 2, 3]);
        assert_eq!(chosen(&function(&["^main$"])), [0, 1]);
        assert_eq!(chosen(&function(&["^mak"])), [1], "an inlined function");
        assert_eq!(chosen(&function(&["work", "parse"])), [0, 1], "either");
        assert_eq!(chosen(&not_function(&["work"])), [1, 2, 3]);
        let both = Patterns {
            module: patterns(&["server"]),
            not_file: patterns(&[r"make\.h"]),
            ..none.clone()
        };
        assert_eq!(chosen(&both), [0]);
    }
}
