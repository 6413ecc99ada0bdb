//! The recorder: follows the allocations of a process and writes them into a trace.

pub mod attachment;
pub mod bpf_map;
pub mod cli;
pub mod clocks;
pub mod discover;
pub mod drain;
pub mod elf;
pub mod encode;
pub mod ending;
pub mod functions;
pub mod interner;
pub mod kernel;
pub mod layout;
pub mod ledger;
pub mod maps;
pub mod modules;
pub mod output;
pub mod overflow;
pub mod pauses;
pub mod preflight;
pub mod process;
pub mod prologue;
pub mod ring_fill;
pub mod row_arena;
pub mod rss;
mod run;
pub mod session;
pub mod status;
pub mod symbolize;
pub mod talk;
pub mod unwind_rows;
pub mod watch;
pub mod watchdog;
pub mod wire;

pub use run::run;
