//! `temporary`: allocations that were freed at once, by stack.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::io::Write;

use memleak_trace::op::{Domain, Effect};

use super::scaled::{Amount, Cells, Scale};
use super::stacks::{Stacks, WITH_FRAMES};
use super::table::{Estimated, Unit, Value};
use super::{Request, write_ranking};
use crate::filter::lifetime;
use crate::replay::{Allocation, Death, Observer, Sites};
use crate::units::show_duration;

/// What is at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Within {
    /// Before the next allocation of the thread that allocated it (a reallocation is one).
    NextAllocation,
    /// Nanoseconds, inclusive.
    Time(u64),
}

/// All allocations and the temporary ones, per site (apart by thread).
#[derive(Debug)]
struct Temporary {
    within: Within,
    /// Each thread's latest allocation: a pool's block may lie where a heap block begins.
    latest: HashMap<(i32, i32), (Option<Domain>, u64)>,
    scale: Scale,
    sites: Vec<(Amount, Amount)>,
}

impl Temporary {
    fn of(&mut self, site: u32) -> &mut (Amount, Amount) {
        let index = site as usize;
        if index >= self.sites.len() {
            self.sites.resize(index + 1, Default::default());
        }
        &mut self.sites[index]
    }

    fn is_temporary(&self, allocation: &Allocation, death: Death, sites: &Sites) -> bool {
        match self.within {
            Within::Time(time) => lifetime(allocation, death) <= time,
            Within::NextAllocation => {
                let site = &sites.as_slice()[allocation.site as usize];
                death.by.effect() != Effect::Outcome
                    && self.latest.get(&(site.pid, site.tid))
                        == Some(&(site.op.domain(), allocation.addr))
            }
        }
    }
}

impl Observer for Temporary {
    fn born(&mut self, allocation: &Allocation, sites: &Sites) {
        if self.within == Within::NextAllocation {
            let site = &sites.as_slice()[allocation.site as usize];
            self.latest
                .insert((site.pid, site.tid), (site.op.domain(), allocation.addr));
        }
        let amount = self.scale.amount(allocation, sites);
        self.of(allocation.site).0.add(&amount);
    }

    fn died(&mut self, allocation: &Allocation, death: Death, sites: &Sites) {
        if self.is_temporary(allocation, death, sites) {
            let amount = self.scale.amount(allocation, sites);
            self.of(allocation.site).1.add(&amount);
        }
    }

    fn revived(&mut self, allocation: &Allocation, death: Death, sites: &Sites) {
        if self.is_temporary(allocation, death, sites) {
            let amount = self.scale.amount(allocation, sites);
            self.of(allocation.site).1.remove(&amount);
        }
    }
}

const ESTIMATED: &[&str] = &[
    "temporary_count",
    "temporary_bytes",
    "total_count",
    "total_bytes",
];

/// Runs the view.
pub fn run(request: &Request, within: Within, out: &mut dyn Write) -> anyhow::Result<()> {
    let temporary = Temporary {
        within,
        latest: HashMap::new(),
        scale: Scale::of(&request.trace),
        sites: Vec::new(),
    };
    let replayed = super::replay(request, temporary, within == Within::NextAllocation)?;
    let replay = &replayed.analysis.replay;
    let sites = replay.sites().as_slice();
    // Threads were told apart only to know their order.
    let mut groups: HashMap<_, (u32, Amount, Amount)> = HashMap::new();
    for (index, (all, temporary)) in replayed.observer.sites.iter().enumerate() {
        let site = &sites[index];
        let group = groups.entry((site.stack, site.op, site.pid)).or_insert((
            index as u32,
            Amount::default(),
            Amount::default(),
        ));
        group.1.add(all);
        group.2.add(temporary);
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.retain(|(_, _, temporary)| {
        temporary.count.seen > 0 && request.large_enough(temporary.bytes.rounded())
    });
    groups.sort_by_key(|(site, _, temporary)| {
        (
            Reverse((temporary.count.rounded(), temporary.bytes.rounded())),
            *site,
        )
    });
    let mut columns = vec![
        ("temporary_count", Unit::Count),
        ("temporary_bytes", Unit::Bytes),
        ("total_count", Unit::Count),
        ("total_bytes", Unit::Bytes),
        ("share", Unit::Share),
    ];
    columns.extend(WITH_FRAMES);
    let mut stacks = Stacks::new(&replayed.analysis);
    let rows = groups.iter().map(|(site, all, temporary)| {
        let site = &sites[*site as usize];
        let cells = Cells::new(replay, all.sizes);
        let mut row: Vec<Value> = vec![
            cells.count(temporary),
            cells.bytes(temporary),
            cells.count(all),
            cells.bytes(all),
            (temporary.count.estimate() / all.count.estimate().max(1.0)).into(),
        ];
        row.extend(stacks.cells_with_frames(site));
        row
    });
    let rows = rows.collect();
    let title = match within {
        Within::NextAllocation => {
            "allocations freed before the next allocation of their thread".to_owned()
        }
        Within::Time(time) => format!("allocations freed within {}", show_duration(time)),
    };
    let mut head = replayed.head(request, "temporary", title);
    head.estimated = Estimated::of(replay, ESTIMATED, 2);
    write_ranking(request, &head, &columns, rows, out)
}
