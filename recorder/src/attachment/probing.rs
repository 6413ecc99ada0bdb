//! Which probes the processes have, which they lack, and the threads that they hang on.

use std::collections::{BTreeSet, HashSet};

use memleak_trace::{Description, FileId, Op};

use super::Attachment;
use crate::elf::SymbolTable;
use crate::functions::Shape;
use crate::kernel::{ProbePoint, Scope};
use crate::process::Probed;
use crate::talk::say;

/// A probe, and the process it is for; `None` for every process.
#[derive(Clone, Debug)]
pub struct Probe {
    pub pid: Option<i32>,
    pub point: ProbePoint,
}

impl Attachment {
    /// Probes live as long as the thread they name: when it has ended and the process has not, they
    /// move to another one. What was allocated in between is lost, and nobody knows how much it was.
    pub fn keep_probing(&mut self) -> Vec<Description> {
        let mut losses = std::mem::take(&mut self.losses);
        for index in 0..self.processes.len() {
            let process = &mut self.processes[index];
            if !process.own {
                continue; // its probes hang on no thread
            }
            let pid = process.pid();
            let Some(moved) = process.follow_thread() else {
                continue;
            };
            let scope = Scope::ProcessOf(moved.next);
            let probes: Vec<(Probe, Scope)> = self
                .probes
                .iter()
                .filter(|probe| probe.pid == Some(pid))
                .map(|probe| (probe.clone(), scope))
                .collect();
            self.attach_again(&probes);
            say(format_args!(
                "memleak-record: thread {} has ended, and the probes with it; they were moved to thread {}",
                moved.last, moved.next
            ));
            losses.push(Description::Loss {
                cause: "the probed thread ended".to_owned(),
                count: 0,
                window_ns: moved.window_ns,
            });
        }
        losses
    }

    /// Whether one of these is in an object that had none.
    pub(super) fn is_news(&self, probes: &[Probe]) -> bool {
        let is_known = |object: &str| self.probes.iter().any(|known| known.point.object == object);
        probes.iter().any(|probe| !is_known(&probe.point.object))
    }

    /// The probes that a process needs and does not have, releases first; from now on it has them.
    pub(super) fn missing_probes(&mut self, index: usize) -> Vec<(Probe, Scope)> {
        let process = &mut self.processes[index];
        let mapped = self.modules.mapped(process.space);
        let files: Vec<FileId> = mapped.iter().filter_map(|module| module.file).collect();
        let points = self.discovery.points(&files);
        let new_in = |probed: &mut Probed| -> Vec<ProbePoint> {
            let is_new = |point: &&ProbePoint| {
                let program = point.shape.enter_program();
                probed.insert((point.open_path.clone(), point.file_offset, program))
            };
            points.iter().filter(is_new).cloned().collect()
        };
        let mut missing = Vec::new();
        if process.own {
            let (pid, scope) = (Some(process.pid()), Scope::ProcessOf(process.task()));
            let own = new_in(&mut process.probed).into_iter();
            missing.extend(own.map(|point| (Probe { pid, point }, scope)));
        }
        // Children of a process with probes of its own are served by these.
        if self.shared {
            let everywhere = |point| (Probe { pid: None, point }, Scope::Everywhere);
            missing.extend(
                new_in(&mut self.probed_everywhere)
                    .into_iter()
                    .map(everywhere),
            );
        }
        missing
    }

    /// Attaches probes while recording; a failure is told, and the others go on.
    pub(super) fn attach_again(&mut self, probes: &[(Probe, Scope)]) {
        for (probe, scope) in probes {
            if let Err(error) = self.kernel.attach(&probe.point, *scope) {
                say(format_args!(
                    "memleak-record: {error}; its allocations are not recorded"
                ));
            }
        }
    }
}

/// Says on stderr what is probed, a line per object.
pub fn print_probes(probes: &[Probe]) {
    let points = || probes.iter().map(|probe| &probe.point);
    let objects: BTreeSet<(&str, SymbolTable)> = points()
        .map(|point| (point.object.as_str(), point.table))
        .collect();
    for (object, table) in objects {
        let of_object = || points().filter(|point| point.object == object && point.table == table);
        let mut seen = HashSet::new();
        let functions: Vec<&str> = of_object()
            .filter(|point| point.op.is_some())
            .map(|point| point.symbol.as_str())
            .filter(|symbol| seen.insert(*symbol))
            .collect();
        if of_object().any(|point| point.shape == Shape::Loader) {
            say(format_args!(
                "watching {object}: libraries that are opened are known before they run"
            ));
        }
        if !functions.is_empty() {
            say(format_args!(
                "probing {object}, found by its {}: {}",
                table.name(),
                functions.join(" ")
            ));
        }
        if of_object().any(|point| matches!(point.op, Some(Op::New | Op::NewArray))) {
            say(format_args!(
                "memleak-record: exceptions cannot pass a probed function: if {object} runs out of memory in operator new, \
                 the target ends, even if it would catch std::bad_alloc"
            ));
        }
    }
}
