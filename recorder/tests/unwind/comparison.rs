//! Holds the probes' stacks against the other unwinder's.

use std::collections::BTreeMap;

use framehop::FrameAddress;
use iced_x86::{Decoder, DecoderOptions, FlowControl};
use memleak_record::modules::Modules;
use memleak_record::wire::{RawSample, RawStack};
use memleak_trace::stack::{ANONYMOUS_BIT, EXACT_BIT, Location};
use memleak_trace::{FrameId, StackEnd};
use std::os::unix::fs::FileExt;

use super::recording::{Recording, SPACE};
use super::reference::{End, Reference};

/// Most frames of a stack: `ML_MAX_FRAMES`.
const MAX_FRAMES: usize = 127;

/// What came out for one program.
#[derive(Debug, Default)]
pub struct Comparison {
    pub compared: usize,
    /// The same frames, and both at the outermost one or both stuck at the same place.
    pub identical: usize,
    /// The other unwinder ran out of bytes; identical as far as it came.
    pub beyond_window: usize,
    pub longest: usize,
    pub ends: BTreeMap<&'static str, usize>,
    /// Frames outside of every executable mapping.
    pub outside: usize,
    /// Return addresses that no call instruction precedes.
    pub no_call: BTreeMap<String, usize>,
    /// Where the first differences are.
    pub differences: Vec<String>,
}

impl Comparison {
    pub fn of(recording: &Recording) -> Comparison {
        let modules = &recording.modules;
        let mut reference = Reference::new(modules);
        let mut result = Comparison::default();
        for sample in &recording.samples {
            let stack = recording
                .stacks
                .get(&sample.hash)
                .expect("a sample's stack is told before it");
            result.compare(sample, stack, modules, &mut reference);
        }
        for stack in recording.stacks.values() {
            result.check_frames(stack, modules);
        }
        result
    }

    /// Identical ones, in percent.
    pub fn percent(&self) -> f64 {
        100.0 * (self.identical + self.beyond_window) as f64 / self.compared as f64
    }

    fn compare(
        &mut self,
        sample: &RawSample,
        stack: &RawStack,
        modules: &Modules,
        reference: &mut Reference,
    ) {
        let walk = reference.walk(sample, MAX_FRAMES);
        let theirs: Vec<Option<FrameId>> = walk
            .addresses
            .iter()
            .map(|address| frame(modules, *address))
            .collect();
        // An address that is none ends the walk, as it does in the probes.
        let whole = theirs.iter().position(Option::is_none);
        let theirs: Vec<FrameId> = theirs.into_iter().map_while(|frame| frame).collect();
        let ours = &stack.frames;
        self.compared += 1;
        self.longest = self.longest.max(ours.len());
        *self.ends.entry(stack.end.name()).or_default() += 1;
        let common = ours.iter().zip(&theirs).take_while(|(a, b)| a == b).count();
        let root = whole.is_none() && walk.end == End::Root && theirs.len() < MAX_FRAMES;
        if common == theirs.len() && whole.is_none() && walk.end == End::Window {
            self.beyond_window += 1;
        } else if common == ours.len()
            && common == theirs.len()
            && (root == (stack.end == StackEnd::Complete) || common == MAX_FRAMES)
        {
            self.identical += 1;
        } else if self.differences.len() < 5 {
            self.differences.push(format!(
                "frames {common} alike, then ours {} ({}, stopped at {:#x}), theirs {} ({:?}); the last alike {}",
                describe(modules, ours.get(common)),
                stack.end.name(),
                stack.stopped_at,
                walk.addresses
                    .get(common)
                    .map_or("none".to_owned(), |address| format!(
                        "{:#x} = {}",
                        address.address(),
                        describe(modules, theirs.get(common))
                    )),
                walk.end,
                describe(modules, common.checked_sub(1).and_then(|last| ours.get(last))),
            ));
        }
    }

    /// Every frame lies in an executable mapping, behind a call.
    fn check_frames(&mut self, stack: &RawStack, modules: &Modules) {
        for (index, frame) in stack.frames.iter().enumerate() {
            let Location::File { file, offset } = frame.location() else {
                let Location::Anonymous { address, .. } = frame.location() else {
                    self.outside += 1;
                    continue;
                };
                self.outside += usize::from(modules.at(SPACE, address).is_none());
                continue;
            };
            let inside = modules.mapped(SPACE).iter().any(|module| {
                module.file == Some(file)
                    && (module.file_offset..=module.file_offset + module.length).contains(&offset)
            });
            self.outside += usize::from(!inside);
            // What returns from a signal handler was not called either.
            let caller = stack.frames.get(index + 1);
            let handled = caller.is_some_and(|caller| !caller.is_return_address());
            if !frame.is_return_address() || handled {
                continue;
            }
            let mut before = [0; 8];
            let opened = modules.file(file).unwrap();
            opened
                .file()
                .read_exact_at(&mut before, offset - 8)
                .unwrap();
            if !ends_with_call(&before) {
                *self
                    .no_call
                    .entry(describe(modules, Some(frame)))
                    .or_default() += 1;
            }
        }
    }
}

fn ends_with_call(bytes: &[u8]) -> bool {
    (2..=7).any(|length| {
        let mut decoder = Decoder::new(64, &bytes[bytes.len() - length..], DecoderOptions::NONE);
        let instruction = decoder.decode();
        instruction.len() == length
            && matches!(
                instruction.flow_control(),
                FlowControl::Call | FlowControl::IndirectCall
            )
    })
}

/// The frame of a return address, as the probes name it.
pub fn caller_frame(modules: &Modules, address: u64) -> Option<FrameId> {
    frame(modules, FrameAddress::from_return_address(address)?)
}

/// The frame of an address, as the probes name it; `None` in no executable mapping.
fn frame(modules: &Modules, address: FrameAddress) -> Option<FrameId> {
    let module = modules.at(SPACE, address.address_for_lookup())?;
    let exact = if address.is_return_address() {
        0
    } else {
        EXACT_BIT
    };
    let address = address.address();
    let frame = match module.file {
        Some(file) => FrameId::in_file(file, address - module.start + module.file_offset)?,
        None => FrameId(ANONYMOUS_BIT | address as i64),
    };
    Some(FrameId(frame.0 | exact))
}

pub fn describe(modules: &Modules, frame: Option<&FrameId>) -> String {
    match frame.map(|frame| frame.location()) {
        None => "none".to_owned(),
        Some(Location::File { file, offset }) => {
            let path = modules.file(file).map_or("?", |file| file.path());
            format!("{path}+{offset:#x}")
        }
        Some(other) => format!("{other:x?}"),
    }
}
