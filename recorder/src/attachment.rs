//! The probes in the processes that are recorded, and all that keeps them right while those run:
//! mappings, libraries opened later, and the threads that the probes hang on.

use std::collections::{BTreeSet, HashSet};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use memleak_trace::describe::Module;
use memleak_trace::stack::Location;
use memleak_trace::{Description, FileId, FrameId, SpaceId};

use crate::cli::Options;
use crate::discover::Discovery;
use crate::functions::Shape;
use crate::kernel::{Kernel, KernelError, LoadOptions, ProbePoint, Scope};
use crate::layout::Recording;
use crate::modules::Modules;
use crate::openings::{Openings, hold_ns};
use crate::preflight::target::{Target, executable};
use crate::process::Process;
use crate::symbolize::Request;
use crate::talk::say;

/// Room for the unwind rows of libraries that are opened later.
const SPARE_ROWS: usize = 512 * 1024;

/// Mappings are not read again for this long after they were read in vain.
const REFRESH_PAUSE: Duration = Duration::from_millis(500);

/// Up to this many processes have probes of their own; every further set would slow down the
/// others on the same files (measured: 140 ns per pair and process). More share one set that fires
/// in every process of the machine.
const OWN_PROBES: usize = 8;

/// A probe, and the process it is for; `None` for every process.
#[derive(Clone, Debug)]
pub struct Probe {
    pub pid: Option<i32>,
    pub point: ProbePoint,
}

/// The recorded processes with their probes.
pub struct Attachment {
    kernel: Kernel,
    openings: Openings,
    modules: Modules,
    discovery: Discovery,
    probes: Vec<Probe>,
    processes: Vec<Process>,
    /// The files whose probes fire in every process.
    probed_everywhere: HashSet<FileId>,
}

impl Attachment {
    /// Finds the allocators, loads the probes and attaches them. They do not record yet.
    ///
    /// `options.verbose` shows the kernel's log where it refuses them.
    pub fn attach(
        targets: Vec<Target>,
        options: &Options,
        page_size: u64,
    ) -> anyhow::Result<Attachment> {
        let mut modules = Modules::new();
        let mut discovery = Discovery::default();
        let mut processes = Vec::new();
        for (slot, target) in (0u32..).zip(targets) {
            let pid = target.pid;
            let space = SpaceId(slot as i32 + 1);
            modules.refresh(pid, space)?;
            discovery.read(modules.mapped(space), &modules, &target.executable);
            if !discovery.defines_malloc(modules.mapped(space)) {
                bail!(no_allocator(&target, modules.mapped(space)));
            }
            let process = Process::new(target, space, slot);
            processes.push(process.with_context(|| format!("process {pid} has ended"))?);
        }
        let rows = 2 * discovery.row_count() + SPARE_ROWS;
        let mut kernel = Kernel::load(LoadOptions {
            ring_bytes: options.ring_bytes,
            row_capacity: u32::try_from(rows).unwrap_or(u32::MAX),
            page_size,
            pause_at: options.on_overflow.stop_at(options.ring_bytes),
            selection: options.selection,
            tracked_blocks: options.tracked_blocks,
            counting: options.estimate,
            hold_ns: hold_ns(),
            sample_every: 0,
        })
        .map_err(|error| explain(error, options.verbose))?;
        let openings = kernel.take_openings()?;
        let count = processes.len();
        let mut attachment = Attachment {
            kernel,
            openings,
            modules,
            discovery,
            probes: Vec::new(),
            processes,
            probed_everywhere: HashSet::new(),
        };
        attachment.kernel.set_spaces(count as u32)?;
        for index in 0..count {
            attachment.tell_mappings(index)?;
        }
        attachment.kernel.attach_exec()?;
        attachment.kernel.attach_exits()?;
        for index in 0..count {
            for (probe, scope) in attachment.missing_probes(index) {
                attachment.kernel.attach(&probe.point, scope)?;
                attachment.probes.push(probe);
            }
        }
        if attachment.is_shared() {
            say(format_args!(
                "more than {OWN_PROBES} processes: their probes fire in every process that uses these files, and slow it down"
            ));
        }
        Ok(attachment)
    }

    pub fn processes(&self) -> &[Process] {
        &self.processes
    }

    pub fn kernel(&mut self) -> &mut Kernel {
        &mut self.kernel
    }

    /// Opens the recording for all probes at once. Returns the mappings that were made since the
    /// processes were looked at: from here on, the loader tells of them.
    pub fn open(&mut self) -> anyhow::Result<Vec<Module>> {
        let recording = match self.is_shared() {
            true => Recording::OpenFiltered,
            false => Recording::Open,
        };
        self.kernel.set_recording(recording)?;
        let mut new = Vec::new();
        for index in 0..self.processes.len() {
            new.extend(self.refresh(index)?);
        }
        Ok(new)
    }

    /// Readable when a thread waits for [`Attachment::opened`].
    pub fn openings(&self) -> BorrowedFd<'_> {
        self.openings.descriptor()
    }

    /// Learns what libraries were opened and closed, and lets the threads go on that did it. Never
    /// waits. Returns the mappings that are new.
    pub fn opened(&mut self) -> anyhow::Result<Vec<Module>> {
        let mut new = Vec::new();
        while let Some(opening) = self.openings.next() {
            if let Some(index) = self
                .processes
                .iter()
                .position(|known| known.pid() == opening.pid)
            {
                new.extend(self.refresh(index)?);
            }
            self.openings.answer(opening);
        }
        Ok(new)
    }

    /// Every probe, in the order of attaching.
    pub fn probes(&self) -> &[Probe] {
        &self.probes
    }

    /// The executable mappings of an address space, by address.
    pub fn mapped(&self, space: SpaceId) -> &[Module] {
        self.modules.mapped(space)
    }

    /// A walk met an address in no known mapping: a library was opened since, or it is junk.
    /// Returns the mappings that are new; what they hold is known to the probes then.
    pub fn find_mapping(&mut self, space: SpaceId, address: u64) -> anyhow::Result<Vec<Module>> {
        // An address space that has ended has nothing to find.
        let Some(index) = self.index(space) else {
            return Ok(Vec::new());
        };
        let is_known = self.modules.at(space, address).is_some();
        let vain = self.processes[index].vain_refresh;
        if is_known || vain.is_some_and(|last| last.elapsed() < REFRESH_PAUSE) {
            return Ok(Vec::new());
        }
        self.refresh(index)
    }

    /// A process executed another program: nothing is left of what was mapped. Returns what is.
    pub fn exec(&mut self, pid: i32, space: SpaceId) -> anyhow::Result<Vec<Module>> {
        let Some(index) = self.processes.iter().position(|known| known.pid() == pid) else {
            return Ok(Vec::new());
        };
        let process = &mut self.processes[index];
        process.space = space;
        process.target.executable = executable(pid);
        self.refresh(index)
    }

    fn refresh(&mut self, index: usize) -> anyhow::Result<Vec<Module>> {
        let process = &mut self.processes[index];
        let before = self.modules.mapped(process.space).len();
        // The process may have ended; then there is nothing to find.
        let new = self
            .modules
            .refresh(process.pid(), process.space)
            .unwrap_or_default();
        process.vain_refresh = new.is_empty().then(Instant::now);
        if new.is_empty() {
            // What was closed must not lend its name to code that is made at its place.
            if self.modules.mapped(process.space).len() != before {
                self.tell_mappings(index)?;
            }
            return Ok(new);
        }
        self.discovery
            .read(&new, &self.modules, &process.target.executable);
        self.tell_mappings(index)?;
        let missing = self.missing_probes(index);
        if !missing.is_empty() {
            self.attach_again(&missing);
            let probes: Vec<Probe> = missing.into_iter().map(|(probe, _)| probe).collect();
            print_probes(&probes);
            self.probes.extend(probes);
        }
        Ok(new)
    }

    /// Probes live as long as the thread they name: when it has ended and the process has not, they
    /// move to another one. What was allocated in between is lost, and nobody knows how much it was.
    pub fn keep_probing(&mut self) -> Vec<Description> {
        if self.is_shared() {
            return Vec::new(); // their probes hang on no thread
        }
        let mut losses = Vec::new();
        for index in 0..self.processes.len() {
            let process = &mut self.processes[index];
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

    /// The question what a frame met in an address space is called, with what its mapping says now.
    pub fn request(&self, space: SpaceId, frame: FrameId) -> Request {
        let pid = self
            .index(space)
            .or_else(|| (!self.processes.is_empty()).then_some(0))
            .map_or(0, |index| self.processes[index].pid());
        match frame.location() {
            Location::File { file: id, offset } => {
                let mapping = self.mapped(space).iter().find(|module| {
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
                    .at(space, address)
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

    /// Whether the processes share one set of probes.
    fn is_shared(&self) -> bool {
        self.processes.len() > OWN_PROBES
    }

    fn index(&self, space: SpaceId) -> Option<usize> {
        self.processes
            .iter()
            .position(|process| process.space == space)
    }

    /// The probes that a process needs and does not have, releases first; from now on it has them.
    fn missing_probes(&mut self, index: usize) -> Vec<(Probe, Scope)> {
        let shared = self.is_shared();
        let process = &mut self.processes[index];
        let probed = match shared {
            true => &mut self.probed_everywhere,
            false => &mut process.probed,
        };
        let files: Vec<FileId> = self
            .modules
            .mapped(process.space)
            .iter()
            .filter_map(|module| module.file)
            .filter(|file| probed.insert(*file))
            .collect();
        let (pid, scope) = match shared {
            true => (None, Scope::Everywhere),
            false => (Some(process.pid()), Scope::ProcessOf(process.task())),
        };
        self.discovery
            .points(&files)
            .into_iter()
            .map(|point| (Probe { pid, point }, scope))
            .collect()
    }

    /// Attaches probes while recording; a failure is told, and the others go on.
    fn attach_again(&mut self, probes: &[(Probe, Scope)]) {
        for (probe, scope) in probes {
            if let Err(error) = self.kernel.attach(&probe.point, *scope) {
                say(format_args!(
                    "memleak-record: {error}; its allocations are not recorded"
                ));
            }
        }
    }

    /// Tells the probes all mappings of a process as they are known now.
    fn tell_mappings(&mut self, index: usize) -> anyhow::Result<()> {
        let process = &self.processes[index];
        let mapped = self.modules.mapped(process.space);
        let (rows, left_out) = self.discovery.mapping_rows(mapped, self.kernel.rows());
        for path in left_out {
            say(format_args!(
                "memleak-record: no room for the unwind information of {path}: stacks may end there"
            ));
        }
        match self.kernel.set_mappings(process.place(), &rows) {
            Err(error @ KernelError::TooManyMappings { .. }) => {
                say(format_args!("memleak-record: {error}"));
                Ok(())
            }
            other => Ok(other?),
        }
    }
}

/// Says on stderr what is probed, a line per object.
pub fn print_probes(probes: &[Probe]) {
    let points = || probes.iter().map(|probe| &probe.point);
    let objects: BTreeSet<&str> = points().map(|point| point.object.as_str()).collect();
    for object in objects {
        let mut seen = HashSet::new();
        let functions: Vec<&str> = points()
            .filter(|point| point.object == object && point.op.is_some())
            .map(|point| point.symbol.as_str())
            .filter(|symbol| seen.insert(*symbol))
            .collect();
        if points().any(|point| point.object == object && point.shape == Shape::Loader) {
            say(format_args!(
                "watching {object}: libraries that are opened are known before they run"
            ));
        }
        if functions.is_empty() {
            continue;
        }
        say(format_args!(
            "probing {object}, whose symbols define {}",
            functions.join(" ")
        ));
    }
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
