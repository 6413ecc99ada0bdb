//! Sums that must agree: the rows with the writer's totals, and what was allocated with what was
//! freed and what is left.

use std::collections::BTreeMap;

use memleak_trace::op::Domain;
use memleak_trace::totals::Totals;
use memleak_trace::{Batch, Description};

use super::Check;
use crate::recording::Recording;
use crate::replay::Replay;

/// The rows as counted here.
#[derive(Debug, Default)]
pub struct Counted {
    events: u64,
    descriptions: u64,
    stacks: u64,
    lost: BTreeMap<String, u64>,
    defects: BTreeMap<String, u64>,
}

impl Counted {
    pub fn batch(&mut self, batch: &Batch) {
        self.descriptions += batch.notes.len() as u64;
        self.events += (batch.len() - batch.notes.len()) as u64;
        self.stacks += batch.stacks.len() as u64;
        for (_, note) in &batch.notes {
            let (sums, cause, count) = match &note.what {
                Description::Loss { cause, count, .. } => (&mut self.lost, cause, count),
                Description::Defect { cause, count, .. } => (&mut self.defects, cause, count),
                _ => continue,
            };
            let sum = sums.entry(cause.clone()).or_default();
            *sum = sum.saturating_add(*count);
        }
    }

    /// Whether the rows are those that the writer counted. `verified`: the trace is as it was
    /// written, so that it must have totals.
    pub fn checks(&self, totals: Option<&Totals>, verified: bool) -> Vec<Check> {
        let Some(totals) = totals else {
            let detail = "the trace has no totals to compare with".to_owned();
            return vec![Check::new("rows", !verified, detail)];
        };
        let sums = [
            ("events", self.events, totals.events),
            ("descriptions", self.descriptions, totals.descriptions),
            ("stacks", self.stacks, totals.stacks),
        ];
        let differences: Vec<String> = sums
            .iter()
            .filter(|(_, found, told)| found != told)
            .map(|(what, found, told)| format!("{found} {what}, but its totals say {told}"))
            .collect();
        let rows = match differences.is_empty() {
            true => Check::new(
                "rows",
                true,
                format!(
                    "{} events, {} descriptions and {} stacks, as many as were written",
                    self.events, self.descriptions, self.stacks
                ),
            ),
            false => Check::new("rows", false, differences.join("; ")),
        };
        let lost: u64 = self.lost.values().sum();
        let agree = self.lost == totals.lost && self.defects == totals.defects;
        let ledger = match agree {
            true => format!(
                "{lost} events lost and {} kept with a defect, by the rows and by the totals",
                self.defects.values().sum::<u64>()
            ),
            false => format!(
                "the rows tell {:?} lost and {:?} with a defect, but the totals {:?} and {:?}",
                self.lost, self.defects, totals.lost, totals.defects
            ),
        };
        vec![rows, Check::new("ledger", agree, ledger)]
    }
}

/// Allocated = freed + outstanding, in bytes and in allocations, for each domain. What is
/// outstanding is summed anew over the live allocations.
pub fn domains(replay: &Replay) -> Vec<Check> {
    let sites = replay.sites().as_slice();
    let mut held = [(0u64, 0u64); Domain::ALL.len()];
    replay.outstanding().for_each(|allocation| {
        if let Some(domain) = sites[allocation.site as usize].op.domain() {
            let (bytes, count) = &mut held[domain as usize];
            *bytes += allocation.size;
            *count += u64::from(allocation.count);
        }
    });
    Domain::ALL
        .into_iter()
        .filter_map(|domain| {
            let account = replay.account(domain)?;
            let (bytes, count) = held[domain as usize];
            let sound = account.total_bytes == account.freed_bytes + bytes
                && account.total_count == account.freed_count + count;
            let name = match domain {
                Domain::Heap => "heap balance",
                Domain::Mapping => "mapping balance",
                Domain::Pool => "pool balance",
                Domain::Slab => "slab balance",
                Domain::Page => "page balance",
                Domain::Percpu => "percpu balance",
            };
            let relation = if sound { "=" } else { "is not" };
            let detail = format!(
                "allocated {} bytes in {} {relation} freed {} in {} + outstanding {bytes} in {count}",
                account.total_bytes, account.total_count, account.freed_bytes, account.freed_count
            );
            Some(Check::new(name, sound, detail))
        })
        .collect()
}

/// What the replay could not pair. A block allocated where another one is still live means that a
/// free is missing: that is wrong unless the trace says that events were lost.
pub fn anomalies(replay: &Replay, recording: &Recording) -> Check {
    let found = replay.anomalies();
    let lossy = !recording.losses.is_empty();
    let sound = found.implicit_frees == 0 || lossy;
    let detail = format!(
        "{} frees of blocks older than the recording, {} of inherited blocks, {} of blocks already freed, {} implicit frees, {} reallocations without an outcome{}",
        found.free_before_attach,
        replay.inherited_frees(),
        found.already_freed,
        found.implicit_frees,
        found.unfinished_reallocations,
        match (sound, found.implicit_frees) {
            (false, _) => ": frees are missing, and no loss explains it",
            (true, 0) => "",
            (true, _) => ": the trace says that events were lost",
        }
    );
    Check::new("pairing", sound, detail)
}
