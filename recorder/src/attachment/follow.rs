//! Processes that begin (fork, vfork, exec) and end while they are followed.

use std::io::ErrorKind;

use memleak_trace::Description;
use memleak_trace::SpaceId;
use memleak_trace::describe::Module;

use super::{Attachment, OWN_PROBES, Probe, SHARED_PROBES};
use crate::kernel::Scope;
use crate::layout::{MAX_PROCESSES, SPACE_ALIAS, SPACE_OWN, Space};
use crate::preflight::target;
use crate::process::Process;
use crate::talk::say;

impl Attachment {
    /// Learns what became of a process, puts its probes on, and lets it go on if it is held for
    /// that. Returns the mappings that are new.
    pub fn look_at(&mut self, pid: i32) -> anyhow::Result<Vec<Module>> {
        let new = self.learn(pid);
        self.stops.release(pid as u32);
        new
    }

    /// Looks at every process that is held: what asks for it may have found no room.
    pub fn look_at_held(&mut self) -> anyhow::Result<Vec<Module>> {
        let mut new = Vec::new();
        for pid in self.stops.held() {
            new.extend(self.look_at(pid as i32)?);
        }
        if self.shared {
            self.kernel.leave_returns_alone()?;
        }
        Ok(new)
    }

    /// Processes that are followed since the last call.
    pub fn newcomers(&mut self) -> Vec<i32> {
        std::mem::take(&mut self.newcomers)
    }

    /// Whether a process lives that the probes know.
    pub fn has_living(&self) -> bool {
        let known = self.kernel.known_processes();
        known
            .into_iter()
            .any(|pid| target::living_thread(pid as i32).is_some())
    }

    /// A process has ended, and everything it did was seen: its place is free.
    pub fn exited(&mut self, pid: i32, space: SpaceId) {
        self.modules.forget(space);
        if let Some(index) = self.index_of(pid)
            && self.processes[index].space == space
        {
            self.remove(index);
        }
    }

    fn remove(&mut self, index: usize) {
        let process = self.processes.remove(index);
        if let Some(past) = process.past_space {
            self.modules.forget(past);
        }
        self.free_slots.push(process.slot());
        let pid = process.pid();
        self.probes.retain(|probe| probe.pid != Some(pid));
    }

    /// As [`Attachment::look_at`], and a held process stays so.
    pub(super) fn learn(&mut self, pid: i32) -> anyhow::Result<Vec<Module>> {
        let known = self.kernel.space_of(pid as u32);
        let Some(space) = known.filter(|space| space.flags & SPACE_ALIAS == 0) else {
            return Ok(Vec::new());
        };
        let index = match self.index_of(pid) {
            Some(index) if self.processes[index].space.0 == space.id as i32 => Some(index),
            Some(index) => self.execute(index, space),
            None => self.adopt(pid, space)?,
        };
        match index {
            Some(index) => self.refresh(index),
            None => Ok(Vec::new()),
        }
    }

    /// A process has executed another program. `None` if that is not recorded.
    fn execute(&mut self, index: usize, space: Space) -> Option<usize> {
        let pid = self.processes[index].pid();
        let target = match target::check(pid) {
            Ok(target) => target,
            Err(error) => {
                self.leave(pid, &error);
                return None;
            }
        };
        let id = SpaceId(space.id as i32);
        self.commands.tell(id, &target.command);
        if let Some(past) = self.processes[index].past_space {
            self.modules.forget(past);
        }
        if self.processes[index].executed(target, id, space.exec_tid) {
            self.probes.retain(|probe| probe.pid != Some(pid));
        }
        Some(index)
    }

    /// Follows another process. `None` if it cannot be, or has ended.
    fn adopt(&mut self, pid: i32, space: Space) -> anyhow::Result<Option<usize>> {
        let target = match target::check(pid) {
            Ok(target) => target,
            Err(error) => {
                self.leave(pid, &error);
                return Ok(None);
            }
        };
        let mut own = space.flags & SPACE_OWN != 0;
        if own && self.own_count >= OWN_PROBES {
            self.share()?;
            own = false;
        }
        let Some(slot) = self.free_slots.pop() else {
            self.too_many(pid);
            return Ok(None);
        };
        let id = SpaceId(space.id as i32);
        self.commands.tell(id, &target.command);
        let Some(process) = Process::new(target, id, slot, own) else {
            self.free_slots.push(slot);
            return Ok(None);
        };
        self.own_count += usize::from(own);
        self.processes.push(process);
        self.newcomers.push(pid);
        Ok(Some(self.processes.len() - 1))
    }

    /// Further processes share one set of probes, which fires in every process of the machine; those
    /// that have their own keep them.
    fn share(&mut self) -> anyhow::Result<()> {
        if self.shared {
            return Ok(());
        }
        say(format_args!("{SHARED_PROBES}"));
        self.shared = true;
        self.tell_recording()?;
        let missing: Vec<(Probe, Scope)> = (0..self.processes.len())
            .flat_map(|index| self.missing_probes(index))
            .collect();
        self.attach_again(&missing);
        self.probes
            .extend(missing.into_iter().map(|(probe, _)| probe));
        // Only now: a child that begins after this is recorded from its first instruction.
        self.kernel.share_with_children()?;
        Ok(())
    }

    /// A process that cannot be recorded is left alone. One that is ending has nothing more to
    /// record, and the probes forget it by themselves.
    fn leave(&mut self, pid: i32, reason: &target::Error) {
        let is_ending = match reason {
            target::Error::NoProcess(_) | target::Error::Zombie(_) => true,
            target::Error::Unreadable { source, .. } => source.kind() == ErrorKind::NotFound,
            _ => false,
        };
        if is_ending {
            return;
        }
        self.kernel.forget(pid as u32);
        if let Some(index) = self.index_of(pid) {
            self.remove(index);
        }
        say(format_args!("memleak-record: not followed: {reason}"));
    }

    fn too_many(&mut self, pid: i32) {
        self.kernel.forget(pid as u32);
        self.losses.push(Description::Loss {
            cause: "too many processes, one not followed".to_owned(),
            count: 0,
            window_ns: 0,
        });
        if !self.told_too_many {
            self.told_too_many = true;
            say(format_args!(
                "memleak-record: {MAX_PROCESSES} processes are followed at once, and process {pid} is one more: it and others are not recorded until some have ended"
            ));
        }
    }
}
