//! The traces on the command line, sorted into recordings.
//!
//! The parts of one recording are one trace: their events follow each other, and stacks, files and
//! address spaces have the same numbers in all of them. Numbers of different recordings have nothing
//! to do with each other, so each recording is replayed and reported for itself.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use anyhow::bail;
use memleak_trace::header::Part;
use memleak_trace::selection::Sampling;
use memleak_trace::{TraceError, TraceReader};

use crate::output::is_same_file;
use crate::span::Span;

/// A file of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracePart {
    pub path: PathBuf,
    /// Which part it is; `None` if it is the whole recording.
    pub part: Option<Part>,
    /// Rows in the readable part, for progress.
    pub rows: u64,
}

impl TracePart {
    /// Its number among the parts; `None` if it is the whole recording.
    pub fn number(&self) -> Option<u32> {
        self.part.as_ref().map(|part| part.number)
    }
}

/// The files of one recording, in order; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    pub first: TracePart,
    pub further: Vec<TracePart>,
    /// How it was sampled, if it was.
    pub sampling: Option<Sampling>,
    /// When it began and ended, once somebody asked ([`Span::of`]).
    pub(crate) span: OnceCell<Span>,
}

impl Series {
    /// One file, whether it is a whole recording or a part.
    pub fn one(path: &Path) -> Result<Series, TraceError> {
        let reader = TraceReader::open(path)?;
        Ok(Series {
            first: TracePart {
                path: path.to_owned(),
                part: reader.header().part.clone(),
                rows: reader.rows(),
            },
            further: Vec::new(),
            sampling: reader.header().selection.sampling,
            span: OnceCell::new(),
        })
    }

    /// Every file, in order.
    pub fn files(&self) -> impl Iterator<Item = &TracePart> {
        std::iter::once(&self.first).chain(&self.further)
    }

    /// What to call it: the path of its file, or those of the first and the last.
    pub fn name(&self) -> PathBuf {
        match self.further.last() {
            None => self.first.path.clone(),
            Some(last) => format!("{} … {}", self.first.path.display(), last.path.display()).into(),
        }
    }

    fn recording(&self) -> Option<&str> {
        self.first.part.as_ref().map(|part| part.recording.as_str())
    }

    /// Puts a part in its place.
    fn insert(&mut self, new: TracePart) -> anyhow::Result<()> {
        let number = TracePart::number;
        if let Some(twin) = self.files().find(|file| number(file) == number(&new)) {
            bail!(
                "{} and {} are the same part of a recording; give one of them",
                twin.path.display(),
                new.path.display()
            );
        }
        let mut new = new;
        if number(&new) < number(&self.first) {
            std::mem::swap(&mut self.first, &mut new);
        }
        let place = self
            .further
            .partition_point(|file| number(file) < number(&new));
        self.further.insert(place, new);
        Ok(())
    }
}

/// The recordings that these files belong to, in the order of their first files; their parts may be
/// given in any order.
///
/// # Errors
/// A file that cannot be read, and one that is given twice, also as a copy of the same part.
pub fn recordings(paths: &[PathBuf]) -> anyhow::Result<Vec<Series>> {
    let mut recordings: Vec<Series> = Vec::new();
    for path in paths {
        let new = Series::one(path)?;
        let same = |known: &&mut Series| match (known.recording(), new.recording()) {
            (Some(known), Some(new)) => known == new,
            (None, None) => is_same_file(&known.first.path, path),
            _ => false,
        };
        match recordings.iter_mut().find(same) {
            None => recordings.push(new),
            Some(known) if known.recording().is_some() => known.insert(new.first)?,
            Some(_) => bail!("{} is given twice", path.display()),
        }
    }
    Ok(recordings)
}
