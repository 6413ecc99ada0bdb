//! Descriptions as columns: which field of a [`Description`] lies where, in both directions.

use crate::describe::{Description, InlinedFunction, Module, RssKind, Symbol};
use crate::event::SpaceId;
use crate::op::Op;
use crate::stack::{FileId, FrameId};

/// In an exit's `text`, where the OOM killer chose the process.
const OUT_OF_MEMORY: &str = "out of memory";

/// The columns of a description row, apart from `ts` and `op`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DescriptionRow {
    pub pid: i32,
    pub space: i32,
    pub addr: i64,
    pub size: i64,
    pub size2: Option<i64>,
    pub file_id: Option<i32>,
    pub frame: Option<i64>,
    pub module: Option<String>,
    pub build_id: Option<String>,
    pub function: Option<String>,
    pub function_offset: Option<i64>,
    pub file: Option<String>,
    pub line: Option<i32>,
    pub inlined: Vec<InlinedFunction>,
    pub text: Option<String>,
}

impl From<&Description> for DescriptionRow {
    fn from(what: &Description) -> Self {
        let row = DescriptionRow::default();
        match what.clone() {
            Description::Open => row,
            Description::Close { reason } => DescriptionRow {
                text: Some(reason),
                ..row
            },
            Description::Process {
                pid,
                ppid,
                space,
                command,
            } => DescriptionRow {
                pid,
                space: space.0,
                size: i64::from(ppid),
                text: Some(command),
                ..row
            },
            Description::Fork {
                pid,
                ppid,
                space,
                parent_space,
            } => DescriptionRow {
                pid,
                space: space.0,
                size: i64::from(ppid),
                size2: Some(i64::from(parent_space.0)),
                ..row
            },
            Description::Exit {
                pid,
                status,
                out_of_memory,
            } => DescriptionRow {
                pid,
                size2: status.map(i64::from),
                text: out_of_memory.then(|| OUT_OF_MEMORY.to_owned()),
                ..row
            },
            Description::Module(module) => from_module(module),
            Description::Symbol(symbol) => from_symbol(symbol),
            Description::Rss { pid, kind, bytes } => DescriptionRow {
                pid,
                size: bytes as i64,
                text: Some(kind.name().to_owned()),
                ..row
            },
            Description::Loss {
                cause,
                count,
                window_ns,
            }
            | Description::Defect {
                cause,
                count,
                window_ns,
            } => DescriptionRow {
                size: count as i64,
                size2: Some(window_ns as i64),
                text: Some(cause),
                ..row
            },
        }
    }
}

fn from_module(module: Module) -> DescriptionRow {
    DescriptionRow {
        pid: module.pid,
        space: module.space.0,
        addr: module.start as i64,
        size: module.length as i64,
        size2: Some(module.file_offset as i64),
        file_id: module.file.map(|file| file.0 as i32),
        module: Some(module.path),
        build_id: module.build_id,
        ..DescriptionRow::default()
    }
}

fn from_symbol(symbol: Symbol) -> DescriptionRow {
    DescriptionRow {
        addr: symbol.address as i64,
        frame: Some(symbol.frame.0),
        module: symbol.module,
        build_id: symbol.build_id,
        function: symbol.function,
        function_offset: symbol.function_offset.map(|offset| offset as i64),
        file: symbol.file,
        line: symbol.line.map(|line| line as i32),
        inlined: symbol.inlined,
        ..DescriptionRow::default()
    }
}

impl DescriptionRow {
    /// The description that these columns say under `op`, or the name of the column that does not
    /// hold what `schemas/trace-v1.md` asks for.
    pub fn into_description(self, op: Op) -> Result<Description, &'static str> {
        Ok(match op {
            Op::Open => Description::Open,
            Op::Close => Description::Close {
                reason: self.text.ok_or("text")?,
            },
            Op::Process => Description::Process {
                pid: self.pid,
                ppid: self.size as i32,
                space: SpaceId(self.space),
                command: self.text.ok_or("text")?,
            },
            Op::Fork => Description::Fork {
                pid: self.pid,
                ppid: self.size as i32,
                space: SpaceId(self.space),
                parent_space: SpaceId(self.size2.ok_or("size2")? as i32),
            },
            Op::Exit => Description::Exit {
                pid: self.pid,
                status: self.size2.map(|status| status as i32),
                out_of_memory: self.text.as_deref() == Some(OUT_OF_MEMORY),
            },
            Op::Module => Description::Module(Module {
                pid: self.pid,
                space: SpaceId(self.space),
                start: self.addr as u64,
                length: self.size as u64,
                file_offset: self.size2.ok_or("size2")? as u64,
                file: self.file_id.map(|file| FileId(file as u32)),
                path: self.module.ok_or("module")?,
                build_id: self.build_id,
            }),
            Op::Symbol => Description::Symbol(Symbol {
                frame: FrameId(self.frame.ok_or("frame")?),
                address: self.addr as u64,
                module: self.module,
                build_id: self.build_id,
                function: self.function,
                function_offset: self.function_offset.map(|offset| offset as u64),
                file: self.file,
                line: self.line.map(|line| line as u32),
                inlined: self.inlined,
            }),
            Op::Rss => Description::Rss {
                pid: self.pid,
                kind: self
                    .text
                    .as_deref()
                    .and_then(RssKind::from_name)
                    .ok_or("text")?,
                bytes: self.size as u64,
            },
            Op::Loss | Op::Defect => {
                let cause = self.text.ok_or("text")?;
                let (count, window_ns) = (self.size as u64, self.size2.ok_or("size2")? as u64);
                match op {
                    Op::Loss => Description::Loss {
                        cause,
                        count,
                        window_ns,
                    },
                    _ => Description::Defect {
                        cause,
                        count,
                        window_ns,
                    },
                }
            }
            _ => return Err("op"),
        })
    }
}
