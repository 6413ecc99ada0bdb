//! From a trace to a report, on any machine: no kernel, no root.
//!
//! ```text
//! trace ─▶ source ─▶ analysis (replay + recording) ─▶ tables ─▶ report ─▶ text · JSON
//! ```
//!
//! - [`series`]: which files belong to one recording; [`parts`]: reads them as one trace
//! - [`source`]: opens a recording and decodes it on a thread of its own
//! - [`replay`]: events become lifetimes; [`recording`]: what the descriptions say
//! - [`estimate`]: what a sample says of the whole
//! - [`analysis`]: drives both over one recording, up to the moment asked about
//! - [`filter`]: which allocations count
//! - [`tables`]: per-stack and lifetime tables as polars frames: filters, sums, order
//! - [`report`]: the report as data, and its forms
//! - [`views`]: the other questions, each a table
//! - [`gate`]: `--fail-on` and suppressions
//! - [`symbolize`]: names added later, from debug files
//! - [`verify`]: whether a trace is what it says
//! - [`cli`]: options; [`output`]: where results go; [`units`]: sizes and durations as users write them

pub mod analysis;
pub mod cli;
pub mod command;
pub mod estimate;
pub mod filter;
pub mod gate;
pub mod output;
pub mod parts;
pub mod progress;
pub mod recording;
pub mod replay;
pub mod report;
pub mod series;
pub mod source;
pub mod span;
pub mod symbolize;
pub mod tables;
pub mod units;
pub mod verdict;
pub mod verify;
pub mod views;
