//! What can go wrong with a trace, in sentences a user can act on.

use std::path::PathBuf;

use crate::header::Version;

/// An error of reading or writing a trace.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    #[error("{path}: cannot {doing}: {source}")]
    Io {
        path: PathBuf,
        /// A verb: "open", "read", "write" …
        doing: &'static str,
        source: std::io::Error,
    },
    #[error("{path}: the file is empty; no trace was written to it")]
    Empty { path: PathBuf },
    #[error("{path}: not a memleak trace: {reason}")]
    Foreign { path: PathBuf, reason: String },
    #[error("{path}: damaged, and nothing readable is left: {reason}")]
    Damaged { path: PathBuf, reason: String },
    #[error(
        "{path}: the trace has version {found}, this program reads up to {supported}; use a newer memleak-analyze"
    )]
    NewerVersion {
        path: PathBuf,
        found: Version,
        supported: Version,
    },
    #[error(
        "{path}: the trace (version {found}) requires {feature:?}, which this program (version {supported}) does not know; use a newer memleak-analyze"
    )]
    UnknownRequirement {
        path: PathBuf,
        feature: String,
        found: Version,
        supported: Version,
    },
    #[error(
        "{path}: the trace (version {found}) has the operation {op:?}, which this program (version {supported}) does not know; use a newer memleak-analyze"
    )]
    UnknownOp {
        path: PathBuf,
        op: String,
        found: Version,
        supported: Version,
    },
    #[error("cannot encode the trace: {0}")]
    Encode(#[from] parquet::errors::ParquetError),
    #[error("cannot encode the trace: {0}")]
    EncodeArrow(#[from] arrow::error::ArrowError),
    #[error("cannot encode the trace: {0}")]
    EncodeJson(#[from] serde_json::Error),
}
