//! The probes in the target, and all that keeps them right while it runs: its mappings, libraries
//! opened later, and the thread that the probes hang on.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use memleak_trace::describe::Module;
use memleak_trace::stack::Location;
use memleak_trace::{Description, FrameId, SpaceId};

use crate::clocks;
use crate::discover::Discovery;
use crate::kernel::{Kernel, KernelError, LoadOptions, ProbePoint};
use crate::layout::FIRST_SPACE;
use crate::modules::Modules;
use crate::preflight::target::{Target, executable, is_alive, living_thread};
use crate::symbolize::Request;
use crate::talk::say;

/// Room for the unwind rows of libraries that are opened later.
const SPARE_ROWS: usize = 512 * 1024;

/// Mappings are not read again for this long after they were read in vain.
const REFRESH_PAUSE: Duration = Duration::from_millis(500);

/// A target with probes.
pub struct Attachment {
    target: Target,
    kernel: Kernel,
    modules: Modules,
    discovery: Discovery,
    probes: Vec<ProbePoint>,
    /// The address space of the target; exec brings a new one.
    space: SpaceId,
    /// The thread that the probes name.
    task: NonZeroU32,
    /// When it was last seen alive, nanoseconds of `CLOCK_MONOTONIC`.
    task_seen_ns: i64,
    vain_refresh: Option<Instant>,
}

impl Attachment {
    /// Finds the allocator, loads the probes and attaches them. They do not record yet.
    ///
    /// `verbose` shows the kernel's log where it refuses them.
    pub fn attach(
        target: Target,
        ring_bytes: u32,
        page_size: u64,
        verbose: bool,
    ) -> anyhow::Result<Attachment> {
        let space = SpaceId(FIRST_SPACE as i32);
        let mut modules = Modules::new();
        modules.refresh(target.pid, space)?;
        let mut discovery = Discovery::default();
        let files = discovery.read(modules.mapped(space), &modules, &target.executable);
        let probes = discovery.points(&files);
        if !probes.iter().any(|point| point.function.symbol == "malloc") {
            bail!(no_allocator(&target, modules.mapped(space)));
        }
        let rows = 2 * discovery.row_count() + SPARE_ROWS;
        let kernel = Kernel::load(LoadOptions {
            ring_bytes,
            row_capacity: u32::try_from(rows).unwrap_or(u32::MAX),
            page_size,
            sample_every: 0,
        })
        .map_err(|error| explain(error, verbose))?;
        let task =
            living_task(&target).with_context(|| format!("process {} has ended", target.pid))?;
        let mut attachment = Attachment {
            target,
            kernel,
            modules,
            discovery,
            probes,
            space,
            task,
            task_seen_ns: clocks::monotonic_ns(),
            vain_refresh: None,
        };
        attachment.tell_mappings()?;
        attachment.kernel.attach_exec()?;
        for point in &attachment.probes {
            attachment.kernel.attach(point, task)?;
        }
        Ok(attachment)
    }

    pub fn space(&self) -> SpaceId {
        self.space
    }

    pub fn target(&self) -> &Target {
        &self.target
    }

    pub fn kernel(&mut self) -> &mut Kernel {
        &mut self.kernel
    }

    /// Every probe, in the order of attaching.
    pub fn probes(&self) -> &[ProbePoint] {
        &self.probes
    }

    /// The executable mappings, by address.
    pub fn mapped(&self) -> &[Module] {
        self.modules.mapped(self.space)
    }

    /// A walk met an address in no known mapping: a library was opened since, or it is junk.
    /// Returns the mappings that are new; what they hold is known to the probes then.
    pub fn find_mapping(&mut self, address: u64) -> anyhow::Result<Vec<Module>> {
        let is_known = self.modules.at(self.space, address).is_some();
        if is_known
            || self
                .vain_refresh
                .is_some_and(|last| last.elapsed() < REFRESH_PAUSE)
        {
            return Ok(Vec::new());
        }
        self.refresh()
    }

    /// The target executed another program: nothing is left of what was mapped. Returns what is.
    pub fn exec(&mut self, space: SpaceId) -> anyhow::Result<Vec<Module>> {
        self.space = space;
        self.target.executable = executable(self.target.pid);
        self.refresh()
    }

    fn refresh(&mut self) -> anyhow::Result<Vec<Module>> {
        // The target may have ended; then there is nothing to find.
        let new = self
            .modules
            .refresh(self.target.pid, self.space)
            .unwrap_or_default();
        self.vain_refresh = new.is_empty().then(Instant::now);
        if new.is_empty() {
            return Ok(new);
        }
        let files = self
            .discovery
            .read(&new, &self.modules, &self.target.executable);
        self.tell_mappings()?;
        let points = self.discovery.points(&files);
        if !points.is_empty() {
            self.attach_again(&points);
            print_probes(&points);
            self.probes.extend(points);
        }
        Ok(new)
    }

    /// Probes live as long as the thread they name: when it has ended and the process has not, they
    /// move to another one. What was allocated in between is lost, and nobody knows how much it was.
    pub fn keep_probing(&mut self) -> Option<Description> {
        if is_alive(self.task.get() as i32) {
            self.task_seen_ns = clocks::monotonic_ns();
            return None;
        }
        // None: the process has ended, too, which is not ours to tell.
        let next = living_task(&self.target)?;
        let last = std::mem::replace(&mut self.task, next);
        self.attach_again(&self.probes.clone());
        let now = clocks::monotonic_ns();
        let window_ns = u64::try_from(now - self.task_seen_ns).unwrap_or(0);
        self.task_seen_ns = now;
        say(format_args!(
            "memleak-record: thread {last} has ended, and the probes with it; they were moved to thread {next}"
        ));
        let cause = "the probed thread ended".to_owned();
        Some(Description::Loss {
            cause,
            count: 0,
            window_ns,
        })
    }

    /// The question what a frame is called, with what its mapping says now.
    pub fn request(&self, frame: FrameId) -> Request {
        let pid = self.target.pid;
        match frame.location() {
            Location::File { file: id, offset } => {
                let mapping = self.mapped().iter().find(|module| {
                    module.file == Some(id)
                        && offset >= module.file_offset
                        && offset - module.file_offset <= module.length
                });
                let address =
                    mapping.map_or(0, |module| module.start + (offset - module.file_offset));
                let file = self.modules.file(id).cloned();
                let module = file.as_ref().map(|file| file.path().to_owned());
                Request {
                    frame,
                    address,
                    pid,
                    module,
                    file,
                }
            }
            Location::Anonymous { address, .. } | Location::Kernel { address } => {
                let module = self
                    .modules
                    .at(self.space, address)
                    .map(|module| module.path.clone());
                Request {
                    frame,
                    address,
                    pid,
                    module,
                    file: None,
                }
            }
        }
    }

    /// Attaches probes while recording; a failure is told, and the others go on.
    fn attach_again(&mut self, points: &[ProbePoint]) {
        for point in points {
            if let Err(error) = self.kernel.attach(point, self.task) {
                say(format_args!(
                    "memleak-record: {error}; its allocations are not recorded"
                ));
            }
        }
    }

    /// Tells the probes all mappings as they are known now.
    fn tell_mappings(&mut self) -> anyhow::Result<()> {
        let mapped = self.modules.mapped(self.space);
        let (rows, left_out) = self.discovery.mapping_rows(mapped, self.kernel.rows());
        for path in left_out {
            say(format_args!(
                "memleak-record: no room for the unwind information of {path}: stacks may end there"
            ));
        }
        match self
            .kernel
            .set_mappings(self.target.pid as u32, self.space.0 as u32, &rows)
        {
            Err(error @ KernelError::TooManyMappings { .. }) => {
                say(format_args!("memleak-record: {error}"));
                Ok(())
            }
            other => Ok(other?),
        }
    }
}

/// Says on stderr what is probed, a line per object.
pub fn print_probes(probes: &[ProbePoint]) {
    let mut objects: Vec<&str> = probes.iter().map(|point| point.object.as_str()).collect();
    objects.sort_unstable();
    objects.dedup();
    for object in objects {
        let functions: Vec<&str> = probes
            .iter()
            .filter(|point| point.object == object)
            .map(|point| point.function.symbol)
            .collect();
        say(format_args!(
            "probing {object}, whose symbols define {}",
            functions.join(" ")
        ));
    }
}

/// A living thread of the target; `None` when it has ended.
fn living_task(target: &Target) -> Option<NonZeroU32> {
    NonZeroU32::new(u32::try_from(living_thread(target.pid)?).ok()?)
}

fn no_allocator(target: &Target, mapped: &[Module]) -> String {
    let mut files: Vec<&str> = mapped
        .iter()
        .filter(|module| module.file.is_some())
        .map(|module| module.path.as_str())
        .collect();
    files.dedup();
    format!(
        "no malloc found in process {} ({}): none of its files defines it by name ({}); \
         a static program must keep its symbols (do not strip it)",
        target.pid,
        target.executable,
        files.join(", ")
    )
}

/// The kernel's refusal in one sentence; its log is many pages.
fn explain(error: KernelError, verbose: bool) -> anyhow::Error {
    if verbose {
        return anyhow::Error::new(error);
    }
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default().to_owned();
    anyhow::anyhow!("{first} (the kernel's log: -v)")
}
