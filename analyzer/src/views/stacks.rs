//! Sites as rows tell them.

use std::collections::HashMap;
use std::rc::Rc;

use memleak_trace::{Domain, StackId};

use super::table::{Column, Unit, Value};
use crate::analysis::Analysis;
use crate::cli::Format;
use crate::recording::Recording;
use crate::replay::Site;
use crate::report::{Frame, frames};

/// The columns of [`cells`].
pub const COLUMNS: [Column; 4] = [
    ("domain", Unit::Word),
    ("op", Unit::Word),
    ("pid", Unit::Number),
    ("stack_id", Unit::Number),
];

/// The columns of [`Stacks::cells_with_frames`].
pub const WITH_FRAMES: [Column; 5] = {
    let [domain, op, pid, stack] = COLUMNS;
    [domain, op, pid, stack, ("frames", Unit::Frames)]
};

/// Names the stacks of a recording, each once.
pub struct Stacks<'a> {
    recording: &'a Recording,
    known: HashMap<StackId, Rc<Vec<Frame>>>,
}

impl<'a> Stacks<'a> {
    pub fn new(analysis: &'a Analysis) -> Self {
        Stacks {
            recording: &analysis.recording,
            known: HashMap::new(),
        }
    }

    /// Frames, leaf first; none where the stack is not in the trace.
    pub fn frames(&mut self, stack: Option<StackId>) -> Rc<Vec<Frame>> {
        let Some(id) = stack else {
            return Rc::default();
        };
        let recording = self.recording;
        let named = || {
            let stack = recording.stack_of(id);
            Rc::new(
                stack
                    .map(|stack| frames(stack, recording))
                    .unwrap_or_default(),
            )
        };
        self.known.entry(id).or_insert_with(named).clone()
    }

    /// Which site a row is about, and its frames.
    pub fn cells_with_frames(&mut self, site: &Site) -> [Value; 5] {
        let frames = Value::Frames(self.frames(site.stack));
        let [domain, op, pid, stack] = cells(site);
        [domain, op, pid, stack, frames]
    }

    /// The same for one of several rows about a site: as text, where frames take many lines, only the last
    /// one tells them.
    pub fn cells_of_several(&mut self, site: &Site, last: bool, format: Format) -> [Value; 5] {
        if last || format != Format::Text {
            return self.cells_with_frames(site);
        }
        let [domain, op, pid, stack] = cells(site);
        [domain, op, pid, stack, Value::Null]
    }
}

/// Which site a row is about.
pub fn cells(site: &Site) -> [Value; 4] {
    [
        domain_of(site).into(),
        site.op.name().into(),
        site.pid.into(),
        site.stack.map(|id| id.0).into(),
    ]
}

pub fn domain_of(site: &Site) -> &'static str {
    site.op.domain().map_or("", Domain::name)
}
