//! Frames with their names.

use memleak_trace::describe::Symbol;
use memleak_trace::stack::Location;
use memleak_trace::{FrameId, Stack};
use serde::Serialize;

use crate::recording::Recording;

/// A frame of a stack, or a function inlined into the frame that follows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Frame {
    pub function: Option<String>,
    /// Bytes from the function's start; `None` for an inlined function or an unknown one.
    pub offset: Option<u64>,
    /// File name of the module, without its directories.
    pub module: Option<String>,
    /// Offset in the module's file, in bytes.
    pub module_offset: Option<u64>,
    pub file: Option<String>,
    pub line: Option<u32>,
    /// Hexadecimal.
    pub address: Option<String>,
    pub inlined: bool,
    #[serde(skip)]
    pub address_value: Option<u64>,
}

/// The frames of a stack, leaf first; inlined functions stand before the frame that holds them.
pub fn frames(stack: &Stack, recording: &Recording) -> Vec<Frame> {
    let frames = stack.frames.iter();
    frames.flat_map(|id| frames_of(*id, recording)).collect()
}

/// A frame of a stack, after the functions that are inlined into it, innermost first.
pub fn frames_of(id: FrameId, recording: &Recording) -> Vec<Frame> {
    let symbol = recording.symbol_of(id);
    let frame = physical(id, symbol, recording);
    let inlined = symbol.map(|symbol| &symbol.inlined[..]).unwrap_or_default();
    let inlined = inlined.iter().map(|function| Frame {
        function: Some(function.function.clone()),
        offset: None,
        file: function.file.clone(),
        line: function.line,
        inlined: true,
        ..frame.clone()
    });
    let mut frames: Vec<Frame> = inlined.collect();
    frames.push(frame);
    frames
}

fn physical(id: FrameId, symbol: Option<&Symbol>, recording: &Recording) -> Frame {
    let place = place(id, recording);
    let module = symbol
        .and_then(|symbol| symbol.module.clone())
        .or(place.module);
    let address = symbol
        .map(|symbol| symbol.address)
        .filter(|address| *address != 0);
    let address = address.or(place.address);
    Frame {
        function: symbol.and_then(|symbol| symbol.function.clone()),
        offset: symbol.and_then(|symbol| symbol.function_offset),
        module: module.map(|path| base_name(&path).to_owned()),
        module_offset: place.module_offset,
        file: symbol.and_then(|symbol| symbol.file.clone()),
        line: symbol.and_then(|symbol| symbol.line),
        address: address.map(|address| format!("{address:#x}")),
        inlined: false,
        address_value: address,
    }
}

/// What is known of a frame without its symbol.
#[derive(Default)]
struct Place {
    module: Option<String>,
    module_offset: Option<u64>,
    address: Option<u64>,
}

/// The module that a frame lies in, without its directories.
pub fn module(id: FrameId, recording: &Recording) -> Option<String> {
    let symbol = recording.symbol_of(id);
    let path = symbol
        .and_then(|symbol| symbol.module.clone())
        .or(place(id, recording).module);
    path.map(|path| base_name(&path).to_owned())
}

fn place(id: FrameId, recording: &Recording) -> Place {
    match id.location() {
        Location::Kernel { address } => Place {
            module: Some("[kernel]".to_owned()),
            address: Some(address),
            ..Place::default()
        },
        Location::Anonymous { address, .. } => Place {
            address: Some(address),
            ..Place::default()
        },
        Location::File { file, offset } => {
            let module = recording.module_of(file);
            let address = module.and_then(|module| {
                let distance = offset.checked_sub(module.file_offset)?;
                (distance < module.length).then_some(module.start + distance)
            });
            Place {
                module: module.map(|module| module.path.clone()),
                module_offset: Some(offset),
                address,
            }
        }
    }
}

/// The last part of a path; names in brackets and the like stay as they are.
fn base_name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

impl Frame {
    /// A name for tables: the function, else module and offset.
    pub fn name(&self) -> String {
        match (&self.function, &self.module, self.module_offset) {
            (Some(function), _, _) => function.clone(),
            (None, Some(module), Some(offset)) => format!("{module}+{offset:#x}"),
            (None, Some(module), None) => module.clone(),
            (None, None, _) => self.address.clone().unwrap_or_else(|| "unknown".to_owned()),
        }
    }

    /// Where the source says the call is; where there is no line, module and offset.
    pub fn line(&self) -> String {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => format!("{file}:{line}"),
            (Some(file), None) => file.clone(),
            (None, _) => match (&self.module, self.module_offset) {
                (Some(module), Some(offset)) => format!("{module}+{offset:#x}"),
                _ => self.name(),
            },
        }
    }
}
