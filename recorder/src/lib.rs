//! The recorder: follows the allocations of a process and writes them into a trace.

pub mod cli;
pub mod maps;
pub mod modules;
pub mod output;
pub mod preflight;
pub mod quantity;
pub mod rss;
mod run;
pub mod status;
pub mod symbolize;

pub use run::run;
