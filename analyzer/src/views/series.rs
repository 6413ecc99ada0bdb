//! `series INTERVAL COUNT`: what memleak would have printed while the program ran.

use std::collections::BTreeMap;
use std::io::Write;

use memleak_trace::Description;

use crate::analysis::{Analysis, survey};
use crate::cli::Format;
use crate::estimate::Sizes;
use crate::filter;
use crate::recording::Recording;
use crate::replay::Replay;
use crate::report::text;
use crate::source::Source;

use super::scaled::{Amount, Cells, Scale};
use super::stacks::{Stacks, WITH_FRAMES};
use super::table::{Column, Estimated, TableWriter, Unit, Value};
use super::{Request, head, since, warn_if_incomplete};

/// How often, and at most how many times.
#[derive(Clone, Copy, Debug)]
pub struct Every {
    /// Nanoseconds.
    pub interval: i64,
    pub count: Option<u32>,
}

/// Runs the view.
pub fn run(request: &Request, every: Every, out: &mut dyn Write) -> anyhow::Result<()> {
    let survey = survey(&request.trace)?;
    let filter = filter::resolve_read(&survey.recording, &request.filters)?;
    let (start, end) = (survey.recording.start(), survey.recording.end());
    let count = every.count.map_or(u64::MAX, u64::from);
    let possible = (end - start) / every.interval;
    let count = count.min(u64::try_from(possible).unwrap_or(0));
    if count == 0 {
        // Not an error: a program that asks for rows gets none.
        let _ = writeln!(
            std::io::stderr(),
            "warning: the recording lasted {}, less than one interval: nothing to show; choose a shorter one",
            crate::units::show_duration((end - start).unsigned_abs())
        );
    }
    let mut moments = (1..=count).map(|index| start + every.interval * index as i64);

    let mut source = Source::open(&request.trace)?;
    let mut analysis = Analysis {
        files: survey.files,
        header: survey.header,
        condition: survey.condition,
        recording: survey.recording,
        replay: Replay::observed_by((), request.filters.needs_threads()),
        at: end,
    };
    let sampling = analysis.header.selection.sampling;
    analysis.replay.set_sampling(sampling);
    let scale = Scale::new(sampling);
    warn_if_incomplete(&request.trace.name(), &analysis);
    let title = format!(
        "outstanding every {}",
        crate::units::show_duration(every.interval.unsigned_abs())
    );
    let mut head = head(request, &analysis, &filter, "series", title);
    head.estimated = Estimated::of(&analysis.replay, &["bytes", "count"], 0);
    let mut columns: Vec<Column> = vec![
        ("at_ns", Unit::Nanoseconds),
        ("bytes", Unit::Bytes),
        ("count", Unit::Count),
    ];
    columns.extend(WITH_FRAMES);
    // As text it is memleak's own form, for programs a table.
    let mut writer = match request.format {
        Format::Text => Writer::Text(out),
        _ => Writer::Table(TableWriter::begin(request.format, &head, &columns, out)?),
    };

    // What ends an address space is found by descriptions, so they are read again in their places.
    let mut told = Recording::default();
    let mut next = moments.next();
    while let Some(batch) = source.next_batch() {
        let mut batch = batch?;
        let notes = std::mem::take(&mut batch.notes);
        let mut notes = notes.into_iter().peekable();
        for row in 0..batch.len() {
            while let Some((_, note)) = notes.next_if(|(at, _)| *at <= row) {
                if let Description::Fork { space, .. } = note.what {
                    analysis.replay.fork_space(space);
                }
                if let Some(space) = told.note(note, None) {
                    analysis.replay.end_space(space);
                }
            }
            let Some(event) = batch.event(row) else {
                continue;
            };
            while let Some(moment) = next.filter(|moment| event.ts > *moment) {
                analysis.at = moment;
                print(request, &analysis, &filter, &scale, &mut writer)?;
                next = moments.next();
            }
            analysis.replay.event(&event);
        }
    }
    while let Some(moment) = next {
        analysis.at = moment;
        print(request, &analysis, &filter, &scale, &mut writer)?;
        next = moments.next();
    }
    match writer {
        Writer::Text(_) => Ok(()),
        Writer::Table(table) => table.finish(),
    }
}

enum Writer<'a> {
    Text(&'a mut dyn Write),
    Table(TableWriter<'a>),
}

/// One of the series: the state at `analysis.at`.
fn print(
    request: &Request,
    analysis: &Analysis,
    filter: &filter::Filter,
    scale: &Scale,
    writer: &mut Writer,
) -> anyhow::Result<()> {
    let replay = &analysis.replay;
    let mut held: BTreeMap<u32, Amount> = BTreeMap::new();
    let passing = filter.sites(replay);
    for allocation in filter.outstanding_of(replay, analysis.at, &passing) {
        let amount = scale.amount(&allocation, replay.sites());
        held.entry(allocation.site).or_default().add(&amount);
    }
    let mut ranked: Vec<(u32, Amount)> = held.into_iter().collect();
    ranked.retain(|(_, amount)| request.large_enough(amount.bytes.rounded()));
    ranked.sort_by_key(|(site, amount)| (std::cmp::Reverse(amount.bytes.rounded()), *site));
    ranked.truncate(request.limit());
    let sites = replay.sites().as_slice();
    let mut stacks = Stacks::new(analysis);
    match writer {
        Writer::Text(out) => {
            let wall = memleak_trace::wall::wall_ns(&analysis.header.clock, analysis.at);
            let (hour, minute, second) = memleak_trace::wall::local_time(wall);
            writeln!(
                out,
                "[{hour:02}:{minute:02}:{second:02}] Top {} stacks with outstanding allocations:",
                ranked.len()
            )?;
            for (site, amount) in &ranked {
                writeln!(
                    out,
                    "\t{} bytes in {} allocations from stack",
                    amount.bytes.rounded(),
                    amount.count.rounded()
                )?;
                let frames = stacks.frames(sites[*site as usize].stack);
                text::frames(&frames, out)?;
                if amount.sizes != Sizes::NONE {
                    let (low, high) = Cells::new(replay, amount.sizes).bytes_interval(amount);
                    writeln!(
                        out,
                        "\t      estimated from {} sampled: {low} to {high} bytes at 99.9 %",
                        amount.count.seen
                    )?;
                }
            }
        }
        Writer::Table(table) => {
            let start = analysis.recording.start();
            for (site, amount) in &ranked {
                let site = &sites[*site as usize];
                let mut row: Vec<Value> = vec![since(start, analysis.at).into()];
                row.extend(Cells::new(replay, amount.sizes).pair(amount));
                row.extend(stacks.cells_with_frames(site));
                table.row(&row)?;
            }
        }
    }
    Ok(())
}
