//! `memleak-analyze symbolize`: adds names to a trace, on any machine that has the files.

mod search;
mod wanted;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use memleak_names::Resolver;
use memleak_trace::describe::Symbol;
use memleak_trace::stack::Location;
use memleak_trace::writer::WriterOptions;
use memleak_trace::{Description, FrameId, Note, TraceReader, TraceWriter};

use crate::output::is_same_file;
use crate::progress::Progress;
use search::{Found, Search};
use wanted::{Build, Wanted};

/// Frames named at once.
const BATCH: usize = 1024;

/// What the command line says.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub trace: PathBuf,
    pub output: Option<PathBuf>,
    /// Replace an existing output.
    pub force: bool,
    /// Directories to look for files in, the first first.
    pub debug_directories: Vec<PathBuf>,
}

/// Writes a new trace with every row of the old one, and names for the frames that had none.
///
/// What was found, and what was not, is said on stderr.
///
/// # Errors
/// Those of reading the trace and of writing the new one, which is removed then; a directory that
/// cannot be read; an existing output without `force`.
pub fn symbolize(options: &Options) -> anyhow::Result<()> {
    let trace = &options.trace;
    let output = match &options.output {
        Some(output) => output.clone(),
        None => trace.with_extension("named.parquet"),
    };
    refuse_bad_output(trace, &output, options.force)?;
    let mut search = Search::new(&options.debug_directories)?;
    let mut reader = TraceReader::open(trace)?;
    if output.exists() {
        std::fs::remove_file(&output)
            .with_context(|| format!("{}: cannot replace it", output.display()))?;
    }
    let written = write(&mut reader, &output, &mut search);
    let sums = written.inspect_err(|_| {
        // Half a trace under the name of a whole one helps nobody; if there is none, all is well.
        let _ = std::fs::remove_file(&output);
    })?;
    let mut talk = String::new();
    for remark in &reader.condition().remarks {
        talk += &format!("{}: {remark}\n", trace.display());
    }
    talk += &format!("{}\n", sums.sentence());
    talk += &format!("wrote {}; next: memleak-analyze {0}\n", output.display());
    // The trace is written, whether anybody listens or not.
    let _ = std::io::stderr().write_all(talk.as_bytes());
    Ok(())
}

/// The trace is never written to, nor anything that exists unless told so.
fn refuse_bad_output(trace: &Path, output: &Path, force: bool) -> anyhow::Result<()> {
    if is_same_file(trace, output) {
        bail!(
            "{} is the trace itself; choose another --output",
            output.display()
        );
    }
    if output.exists() && !force {
        bail!(
            "{} already exists; choose another --output or add --force",
            output.display()
        );
    }
    Ok(())
}

/// Frames in all, and how many have a function's name and a source line.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    frames: usize,
    named_before: usize,
    named: usize,
    with_line_before: usize,
    with_line: usize,
}

impl Sums {
    fn sentence(&self) -> String {
        format!(
            "{} of {} frames have a function's name ({} before), {} a source line ({} before)",
            self.named, self.frames, self.named_before, self.with_line, self.with_line_before
        )
    }
}

fn write(reader: &mut TraceReader, output: &Path, search: &mut Search) -> anyhow::Result<Sums> {
    let options = WriterOptions { overwrite: false };
    let mut writer = TraceWriter::create(output, reader.header(), &options)?;
    let mut wanted = Wanted::default();
    let mut progress = Progress::new("copying", reader.rows());
    let copied = memleak_trace::repair::copy(reader, &mut writer, |batch| {
        wanted.look_at(batch);
        progress.advance(batch.len() as u64);
    });
    progress.finish();
    copied?;
    let mut sums = Sums {
        frames: wanted.frames(),
        named_before: wanted.named(),
        with_line_before: wanted.with_line(),
        ..Sums::default()
    };
    (sums.named, sums.with_line) = (sums.named_before, sums.with_line_before);
    let ts = wanted.last_ts();
    let builds = wanted.builds();
    let mut progress = Progress::new("naming", sums.frames as u64);
    for build in builds {
        name_build(
            &build,
            search,
            &mut progress,
            |symbol, was_named, had_line| {
                sums.named += usize::from(!was_named && symbol.function.is_some());
                sums.with_line += usize::from(!had_line && symbol.line.is_some());
                let what = Description::Symbol(symbol);
                Ok(writer.note(&Note { ts, what })?)
            },
        )?;
    }
    progress.finish();
    writer.finish()?;
    Ok(sums)
}

/// Looks for the files of a build and hands out what is better than what the trace has: a name
/// where there is none, a source line where there is none.
fn name_build(
    build: &Build,
    search: &mut Search,
    progress: &mut Progress,
    mut name: impl FnMut(Symbol, bool, bool) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let Found {
        object,
        files,
        remarks,
    } = search.find(build);
    let mut named = 0;
    if let Some(object) = &object {
        // A resolver for this build alone: what it parsed is given back before the next one.
        let mut resolver = Resolver::new();
        for frames in build.frames.chunks(BATCH) {
            let offsets: Vec<u64> = frames
                .iter()
                .map(|wanted| offset(wanted.frame).saturating_sub(before(wanted.frame)))
                .collect();
            for (wanted, found) in frames.iter().zip(resolver.names(object, &offsets)) {
                let Some(found) = found.filter(|found| {
                    found.function.is_some()
                        && (!wanted.is_named || (!wanted.has_line && found.line.is_some()))
                }) else {
                    continue;
                };
                let mut symbol = Symbol {
                    frame: wanted.frame,
                    address: build.address(offset(wanted.frame)).unwrap_or_default(),
                    module: Some(build.path.clone()),
                    build_id: build.build_id.clone(),
                    ..Symbol::default()
                };
                if wanted.address != 0 {
                    symbol.address = wanted.address;
                }
                found.fill(&mut symbol, before(wanted.frame));
                name(symbol, wanted.is_named, wanted.has_line)?;
                named += 1;
            }
            progress.advance(frames.len() as u64);
        }
    }
    tell(build, named, &files, &remarks);
    Ok(())
}

/// One line per build on stderr: what came of it.
fn tell(build: &Build, named: usize, files: &[PathBuf], remarks: &[String]) {
    let mut talk = std::io::stderr().lock();
    let over_progress = if talk.is_terminal() { "\r\x1b[K" } else { "" };
    let files: Vec<String> = files
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    let mut line = match files.is_empty() {
        true => format!("{}: not named", build.path),
        false => format!(
            "{}: {named} of {} frames named better from {}",
            build.path,
            build.frames.len(),
            files.join(" and ")
        ),
    };
    for remark in remarks {
        line += &format!("; {remark}");
    }
    // A line that cannot be written is not worth an error.
    let _ = writeln!(talk, "{over_progress}{line}");
}

fn offset(frame: FrameId) -> u64 {
    match frame.location() {
        Location::File { offset, .. } => offset,
        _ => 0,
    }
}

/// A return address lies one past the call, and may already belong to the next line or function.
fn before(frame: FrameId) -> u64 {
    u64::from(frame.is_return_address())
}
