//! The probes in the processes that are recorded, and all that keeps them right while those run:
//! mappings, libraries opened later, and the threads that the probes hang on. [`follow`] looks after
//! processes that begin, execute and end, [`start`] after a command that is started to be recorded, [`probing`] after
//! the probes themselves.

mod follow;
mod probing;
mod start;

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use memleak_trace::describe::Module;
use memleak_trace::stack::Location;
use memleak_trace::{Description, FrameId, SpaceId};

use crate::allocators::Wishes;
use crate::cli::Options;
use crate::commands::Commands;
use crate::discover::Discovery;
use crate::kernel::{Kernel, KernelError, LoadOptions};
use crate::kernel_mode::beside;
use crate::layout::{MAX_PROCESSES, Recording, SPACE_OWN, Space};
use crate::modules::Modules;
use crate::openings::{HOLD_NS, Openings};
use crate::preflight::target::Target;
use crate::process::{Probed, Process};
use crate::stops::Stops;
use crate::symbolize::Request;
use crate::talk::say;
use crate::watchdog;

pub use probing::{Probe, print_probes};

/// Room for the unwind rows of libraries that are opened later, and of programs that are executed: 8 bytes
/// each. LLVM's library alone has 1.4 million.
const SPARE_ROWS: usize = 2 * 1024 * 1024;

/// Mappings are not read again for this long after they were read in vain.
const REFRESH_PAUSE: Duration = Duration::from_millis(500);

/// Up to this many processes have probes of their own; every further set would slow down the
/// others on the same files (measured: 140 ns per pair and process). More share one set that fires
/// in every process of the machine.
const OWN_PROBES: usize = 8;

const SHARED_PROBES: &str = "more than 8 processes: the probes of further ones fire in every process that uses these files, and slow it down";

/// The recorded processes with their probes.
pub struct Attachment {
    kernel: Kernel,
    stops: Arc<Stops>,
    openings: Openings,
    commands: Arc<Commands>,
    modules: Modules,
    discovery: Discovery,
    probes: Vec<Probe>,
    processes: Vec<Process>,
    /// Whether there are such probes: for the processes that have none of their own.
    shared: bool,
    /// How many processes were given probes of their own.
    own_count: usize,
    /// Places for processes that are not in use.
    free_slots: Vec<u32>,
    /// Processes that were adopted, until [`Attachment::newcomers`] is asked.
    newcomers: Vec<i32>,
    /// Losses to be told.
    losses: Vec<Description>,
    /// Whether it was told that there are too many processes.
    told_too_many: bool,
    is_open: bool,
    /// The places whose probes fire in every process.
    probed_everywhere: Probed,
}

impl Attachment {
    /// Finds the allocators, loads the probes and attaches them. They do not record yet.
    pub fn attach(
        targets: Vec<Target>,
        options: &Options,
        page_size: u64,
    ) -> anyhow::Result<Attachment> {
        let mut modules = Modules::new();
        let wishes = &options.wishes;
        let mut discovery = Discovery::new(wishes.clone());
        let mut processes = Vec::new();
        let shared = targets.len() > OWN_PROBES;
        for (slot, target) in (0u32..).zip(targets) {
            let pid = target.pid;
            let space = SpaceId(slot as i32 + 1);
            modules.refresh(pid, space)?;
            discovery.read(modules.mapped(space), &modules, &target.executable);
            if !discovery.finds_allocator(modules.mapped(space)) {
                bail!(no_allocator(&target, wishes, modules.mapped(space)));
            }
            let process = Process::new(target, space, slot, !shared);
            processes.push(process.with_context(|| format!("process {pid} has ended"))?);
        }
        for (symbol, _) in wishes.pools.iter().flat_map(|pool| &pool.functions) {
            if !discovery.has(symbol) {
                bail!(
                    "no file of the target has a function {symbol}, which --probe names: nm FILE lists them; C++ names as they are mangled"
                );
            }
        }
        // As much again as they have now may come.
        let rows = 2 * discovery.row_count();
        let mut attachment = Attachment::load(modules, discovery, rows, options, page_size)?;
        let count = processes.len();
        attachment.free_slots.retain(|slot| *slot >= count as u32);
        attachment.kernel.set_spaces(count as u32)?;
        attachment.shared = shared;
        attachment.own_count = if shared { 0 } else { count };
        attachment.processes = processes;
        for index in 0..count {
            let process = &attachment.processes[index];
            attachment.kernel.introduce(
                process.pid() as u32,
                Space {
                    id: process.space.0 as u32,
                    pid: process.pid() as u32,
                    flags: if shared { 0 } else { SPACE_OWN },
                    ..Space::default()
                },
            )?;
            attachment.tell_mappings(index)?;
        }
        attachment.watch_processes(options.follow)?;
        for index in 0..count {
            for (probe, scope) in attachment.missing_probes(index) {
                attachment.kernel.attach(&probe.point, scope)?;
                attachment.probes.push(probe);
            }
        }
        if shared {
            attachment.kernel.share_with_children()?;
            say(format_args!("{SHARED_PROBES}"));
        }
        Ok(attachment)
    }

    /// Loads the probes; no process is known yet. `rows`: of unwind information that is expected.
    fn load(
        modules: Modules,
        discovery: Discovery,
        rows: usize,
        options: &Options,
        page_size: u64,
    ) -> anyhow::Result<Attachment> {
        let mut kernel = Kernel::load(LoadOptions {
            ring_bytes: options.ring_bytes,
            row_capacity: u32::try_from(rows + SPARE_ROWS).unwrap_or(u32::MAX),
            page_size,
            pause_at: options.on_overflow.stop_at(options.ring_bytes),
            selection: options.selection,
            tracked_blocks: options.tracked_blocks,
            counting: options.estimate,
            // Nobody answers while calls are counted only.
            hold_ns: if options.estimate { 0 } else { HOLD_NS },
            follow: options.follow,
            sample_every: 0,
            with_kernel: beside::settings(
                options.with_kernel.as_ref(),
                page_size,
                options.ring_bytes,
            )?,
        })
        .map_err(|error| explain(error, options.verbose))?;
        let openings = kernel.take_openings()?;
        let stops = Arc::new(kernel.stops()?);
        Ok(Attachment {
            kernel,
            stops,
            openings,
            commands: Arc::new(Commands::default()),
            modules,
            discovery,
            probes: Vec::new(),
            processes: Vec::new(),
            probed_everywhere: Probed::new(),
            shared: false,
            own_count: 0,
            free_slots: (0..MAX_PROCESSES as u32).rev().collect(),
            newcomers: Vec::new(),
            losses: Vec::new(),
            told_too_many: false,
            is_open: false,
        })
    }

    /// From here on processes may be held: somebody must let them go whatever becomes of us.
    fn watch_processes(&mut self, follow: bool) -> anyhow::Result<()> {
        watchdog::start(&self.stops)
            .context("cannot start the watchdog, without which the target may stay stopped")?;
        self.kernel.set_recording(Recording::Preparing)?;
        self.kernel.attach_births(follow)?;
        if follow {
            say(format_args!(
                "following children: up to {OWN_PROBES} processes have probes of their own, and as long as no more are met, every system call of this machine takes some 0.1 µs longer"
            ));
        }
        self.kernel.attach_exits()?;
        Ok(())
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
        self.is_open = true;
        self.tell_recording()?;
        let mut new = Vec::new();
        for index in 0..self.processes.len() {
            new.extend(self.refresh(index)?);
        }
        Ok(new)
    }

    fn tell_recording(&mut self) -> Result<(), KernelError> {
        self.kernel
            .set_recording(match (self.is_open, self.shared) {
                (false, _) => Recording::Preparing,
                (true, false) => Recording::Open,
                (true, true) => Recording::OpenFiltered,
            })
    }

    /// What the recorder has stopped.
    pub fn stops(&self) -> Arc<Stops> {
        Arc::clone(&self.stops)
    }

    /// Command lines of programs started while recording.
    pub fn commands(&self) -> Arc<Commands> {
        Arc::clone(&self.commands)
    }

    /// Readable when a thread waits for [`Attachment::opened`].
    pub fn openings(&self) -> BorrowedFd<'_> {
        self.openings.descriptor()
    }

    /// Learns what libraries were opened and closed, and which processes began, and lets go on what
    /// waits for that. Never waits. Returns the mappings that are new.
    pub fn opened(&mut self) -> anyhow::Result<Vec<Module>> {
        let mut new = Vec::new();
        while let Some(opening) = self.openings.take() {
            if !opening.waits_for_answer() {
                new.extend(self.look_at(opening.pid)?);
                continue;
            }
            if let Some(index) = self.index_of(opening.pid) {
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
            if self.is_open && self.is_news(&probes) {
                print_probes(&probes);
            }
            self.probes.extend(probes);
        }
        Ok(new)
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

    fn index(&self, space: SpaceId) -> Option<usize> {
        self.processes
            .iter()
            .position(|process| process.space == space)
    }

    fn index_of(&self, pid: i32) -> Option<usize> {
        self.processes
            .iter()
            .position(|process| process.pid() == pid)
    }

    /// Tells the probes all mappings of a process as they are known now.
    fn tell_mappings(&mut self, index: usize) -> anyhow::Result<()> {
        let process = &self.processes[index];
        let mapped = self.modules.mapped(process.space);
        let (rows, left_out) = self.discovery.mapping_rows(mapped, self.kernel.rows());
        for path in left_out {
            say(format_args!(
                "memleak-record: no room for the unwind information of {path}: stacks may end there. A recording that begins now, with -p {}, has room",
                process.pid()
            ));
        }
        let over = if process.own { 0 } else { SPACE_OWN };
        match self.kernel.set_mappings(process.place(), &rows, over) {
            Err(error @ KernelError::TooManyMappings { .. }) => {
                say(format_args!("memleak-record: {error}"));
                Ok(())
            }
            other => Ok(other?),
        }
    }
}

/// Why nothing can be probed, and what would help.
fn no_allocator(target: &Target, wishes: &Wishes, mapped: &[Module]) -> String {
    let mut files: Vec<&str> = mapped
        .iter()
        .filter(|module| module.file.is_some())
        .map(|module| module.path.as_str())
        .collect();
    files.dedup();
    let (pid, files) = (target.pid, files.join(", "));
    if !wishes.objects.is_empty() {
        return format!(
            "no allocator found in {} for process {pid}: its files are {files}; -S PREFIX finds functions with other names",
            wishes.objects.join(", ")
        );
    }
    format!(
        "no malloc found in process {pid} ({}): none of its files defines it by name ({files}); a static program \
         must keep its symbols (do not strip it); an allocator with other names is found with -S PREFIX, a pool with --probe",
        target.executable
    )
}

/// The kernel's refusal in one sentence; its log is many pages.
pub fn explain(error: KernelError, verbose: bool) -> anyhow::Error {
    if verbose {
        return anyhow::Error::new(error);
    }
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default().to_owned();
    anyhow::anyhow!("{first} (the kernel's log: -v)")
}
