//! The event model and the trace format of memleak.
//!
//! *A trace is events, and the stacks they point to.* This crate knows what a row means and how a
//! trace lies in a file; it knows nothing of kernels, symbolizers, tables or command lines.
//!
//! - [`op`]: the operations, by name, and what each does to memory
//! - [`event`], [`stack`], [`describe`]: the rows
//! - [`header`]: what must be known to judge a trace
//! - [`writer`] and [`reader`]: rows to file and back; [`batch`]: rows as columns

pub mod batch;
pub mod describe;
pub mod error;
pub mod event;
pub mod header;
pub mod op;
pub mod reader;
pub mod stack;
pub mod writer;

pub use batch::Batch;
pub use describe::{Description, Note};
pub use error::TraceError;
pub use event::{Event, SpaceId};
pub use header::Header;
pub use op::{Domain, Effect, Op};
pub use reader::TraceReader;
pub use stack::{FileId, FrameId, Stack, StackEnd, StackId};
pub use writer::TraceWriter;
