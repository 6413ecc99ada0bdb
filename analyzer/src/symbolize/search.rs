//! Looks for the files of a build: by build id, by path below other roots, and here.

use std::collections::HashMap;
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use memleak_names::debug_file::{self, open_regular};
use memleak_names::{Image, Object};

use crate::symbolize::wanted::Build;

/// How often a long search shows where it is.
const INTERVAL: Duration = Duration::from_millis(500);

/// What was found of a build.
#[derive(Debug, Default)]
pub struct Found {
    pub object: Option<Object>,
    /// The files that are used.
    pub files: Vec<PathBuf>,
    /// What the user should know, as parts of a sentence.
    pub remarks: Vec<String>,
}

/// Where to look; remembers what lies there.
#[derive(Debug)]
pub struct Search {
    /// The user's directories.
    directories: Vec<PathBuf>,
    /// Files below the user's directories by build id; read when first needed.
    index: Option<HashMap<String, Vec<PathBuf>>>,
}

/// A file of the build.
struct Candidate {
    path: PathBuf,
    file: File,
    image: Image,
}

impl Search {
    /// # Errors
    /// One of the directories cannot be read.
    pub fn new(directories: &[PathBuf]) -> anyhow::Result<Search> {
        for directory in directories {
            std::fs::read_dir(directory)
                .with_context(|| format!("--debug-dir {}: cannot read it", directory.display()))?;
        }
        Ok(Search {
            directories: directories.to_vec(),
            index: None,
        })
    }

    /// The files of the build. One whose build id differs, or that has none, is never used.
    pub fn find(&mut self, build: &Build) -> Found {
        let mut found = Found::default();
        let Some(id) = build.build_id.as_deref() else {
            let remark = "it has no build id, so that no file can be known to be the same";
            found.remarks.push(remark.to_owned());
            return found;
        };
        let path = Path::new(&build.path);
        let mut candidates = Vec::new();
        for place in self.places(path, id) {
            look_at(place, id, &mut candidates, &mut found.remarks);
        }
        let has_debug_info =
            |candidates: &[Candidate]| candidates.iter().any(|one| one.image.has_debug_info);
        if !has_debug_info(&candidates) {
            // Nothing lies where it should: look everywhere.
            for place in self.indexed(id) {
                look_at(place, id, &mut candidates, &mut found.remarks);
            }
        }
        if let Some(code) = candidates.iter().find(|one| !one.image.is_debug_only)
            && !has_debug_info(&candidates)
        {
            let image = code.image.clone();
            let roots = self.directories.iter().map(PathBuf::as_path);
            for root in roots.chain([Path::new("/")]) {
                for place in debug_file::by_link(root, path, &image) {
                    look_at_link(place, &image, &mut candidates);
                }
            }
        }
        if has_debug_info(&candidates) {
            // The files of other builds, the system's own for instance, were not needed.
            found.remarks.clear();
        }
        choose(candidates, build, &mut found);
        if found.object.is_none() && found.remarks.is_empty() {
            found
                .remarks
                .push(format!("no file with build id {id} found"));
        }
        found
    }

    /// Where the build's files lie if they lie where they should.
    fn places(&self, path: &Path, id: &str) -> Vec<PathBuf> {
        let inside = path.strip_prefix("/").ok();
        let mut places = Vec::new();
        for directory in &self.directories {
            places.extend(debug_file::by_build_id(directory, id));
            let below = directory.join(debug_file::DEBUG_DIRECTORY);
            places.extend(debug_file::by_build_id(&below, id));
            places.extend(inside.map(|inside| directory.join(inside)));
        }
        let here = Path::new("/").join(debug_file::DEBUG_DIRECTORY);
        places.extend(debug_file::by_build_id(&here, id));
        places.extend(inside.map(|_| path.to_owned()));
        places
    }

    /// Files with this build id anywhere below the user's directories.
    fn indexed(&mut self, id: &str) -> Vec<PathBuf> {
        let directories = &self.directories;
        let index = self.index.get_or_insert_with(|| index(directories));
        index.get(id).cloned().unwrap_or_default()
    }
}

/// Keeps the file if it is of the build; says so if another build lies at its place.
fn look_at(place: PathBuf, id: &str, candidates: &mut Vec<Candidate>, remarks: &mut Vec<String>) {
    if candidates.iter().any(|known| known.path == place) {
        return;
    }
    let Some(file) = open_regular(&place) else {
        return;
    };
    let Some(image) = Image::read(&file) else {
        return;
    };
    if image.build_id.as_deref() == Some(id) {
        candidates.push(Candidate {
            path: place,
            file,
            image,
        });
        return;
    }
    let place = place.display();
    remarks.push(match image.build_id {
        Some(other) => format!("{place} is another build ({other}, not {id}) and was not used"),
        None => format!("{place} has no build id (wanted is {id}) and was not used"),
    });
}

/// As `look_at`, for a file that the program's debug link names: it may have no build id.
fn look_at_link(place: PathBuf, image: &Image, candidates: &mut Vec<Candidate>) {
    if let Some(file) = open_regular(&place)
        && debug_file::belongs(&file, image)
        && let Some(image) = Image::read(&file)
    {
        candidates.push(Candidate {
            path: place,
            file,
            image,
        });
    }
}

/// The file itself with its debug information, or what there is of both.
fn choose(candidates: Vec<Candidate>, build: &Build, found: &mut Found) {
    let with_both = candidates
        .iter()
        .position(|one| !one.image.is_debug_only && one.image.has_debug_info);
    let code = with_both.or(candidates.iter().position(|one| !one.image.is_debug_only));
    let debug = candidates.iter().position(|one| one.image.has_debug_info);
    let mut candidates: Vec<Option<Candidate>> = candidates.into_iter().map(Some).collect();
    let mut take = |index: Option<usize>| candidates.get_mut(index?)?.take();
    let code = take(code);
    let debug = take(debug);
    let mut shared = |one: Candidate| {
        found.files.push(one.path);
        Arc::new(one.file)
    };
    let mapped = || {
        build
            .mapped
            .iter()
            .map(|one| (one.0, one.1))
            .collect::<Vec<_>>()
    };
    found.object = match (code, debug) {
        (Some(code), debug) => {
            let debug = debug.map(&mut shared);
            Object::new(shared(code), debug)
        }
        (None, Some(debug)) => Object::debug_only(shared(debug), &mapped()),
        (None, None) => return,
    };
    if found.object.is_none() {
        found.files.clear();
        let remark = "what was found does not fit the mappings in the trace; add a directory with the program itself";
        found.remarks.push(remark.to_owned());
    }
}

/// Every ELF file below the directories by its build id. Links to directories are not followed.
fn index(directories: &[PathBuf]) -> HashMap<String, Vec<PathBuf>> {
    let mut found: HashMap<String, Vec<PathBuf>> = HashMap::new();
    let mut waiting: Vec<PathBuf> = directories.to_vec();
    let mut shown = Instant::now();
    while let Some(directory) = waiting.pop() {
        if shown.elapsed() > INTERVAL && std::io::stderr().is_terminal() {
            shown = Instant::now();
            // Progress that cannot be shown is not worth an error.
            let _ = write!(
                std::io::stderr(),
                "\rsearching {}\x1b[K",
                directory.display()
            );
        }
        // What cannot be read holds nothing for us.
        let Ok(entries) = std::fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries.flatten() {
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            if kind.is_dir() {
                // In a whole root file system, these hold no files.
                let is_kernels = |name: &str| directory.join(name) == entry.path();
                if directory != Path::new("/")
                    || !["proc", "sys", "dev"].into_iter().any(is_kernels)
                {
                    waiting.push(entry.path());
                }
            } else if let Some(file) = open_regular(&entry.path())
                && let Some(id) = Image::read(&file).and_then(|image| image.build_id)
            {
                found.entry(id).or_default().push(entry.path());
            }
        }
    }
    for paths in found.values_mut() {
        paths.sort();
    }
    found
}
