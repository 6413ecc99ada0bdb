//! The event model and the trace format of memleak.
//!
//! *A trace is events, and the stacks they point to.* This crate knows what a row means and how a
//! trace lies in a file; it knows nothing of kernels, symbolizers, tables or command lines.
//!
//! - [`op`]: the operations, by name, and what each does to memory
//! - [`event`], [`stack`], [`describe`]: the rows
//! - [`detail`]: what allocations in the kernel tell beside their size
//! - [`header`]: what must be known to judge a trace; [`wall`]: its times on the wall clock
//! - [`columns`]: where a row lies in the file, how it is encoded, and why so;
//!   [`description_row`]: which field of a description is in which column
//! - [`selection`]: which blocks were kept, and what each stands for
//! - [`quantity`]: sizes and durations as users write them
//! - [`writer`] and [`reader`]: rows to file and back; [`batch`]: rows as columns; `event_pages`: columns as the writer
//!   lays them out, without the parquet crate's detours
//! - `trailer`, `chain`: what makes a trace readable that was never closed; [`repair`]

pub mod batch;
mod chain;
mod chunk;
pub mod columns;
mod compress;
mod decode;
pub mod describe;
pub mod description_row;
pub mod detail;
mod encoding;
pub mod error;
pub mod event;
mod event_pages;
pub mod footer;
mod group;
mod guard;
pub mod header;
mod levels;
mod merge;
pub mod op;
mod open;
pub mod quantity;
pub mod reader;
pub mod repair;
mod row_group;
mod rows;
pub mod selection;
pub mod stack;
mod thrift;
pub mod times;
pub mod totals;
mod trace_file;
mod trailer;
mod varint;
pub mod wall;
pub mod writer;

pub use batch::Batch;
pub use describe::{Description, Note};
pub use detail::Detail;
pub use error::TraceError;
pub use event::{Event, SpaceId};
pub use header::Header;
pub use op::{Domain, Effect, Op};
pub use reader::TraceReader;
pub use repair::repair;
pub use selection::Selection;
pub use stack::{FileId, FrameId, Stack, StackEnd, StackId};
pub use totals::Totals;
pub use writer::TraceWriter;
