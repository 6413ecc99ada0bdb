//! A command that is started to be recorded: held until its probes are on.

use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::{Attachment, no_allocator};
use crate::cli::Options;
use crate::command::Command;
use crate::discover::Discovery;
use crate::layout::{SPACE_OWN, SPACE_STARTING, Space};
use crate::modules::Modules;
use crate::needed;
use crate::talk::say;

/// How long a program may take to map its libraries before it is recorded from where it is.
const LOADING_TIME: Duration = Duration::from_secs(20);

/// Unwind information has hardly ever fewer bytes for each row that is made of it: 3.8 in LLVM's library.
const BYTES_OF_A_ROW: usize = 3;

impl Attachment {
    /// Loads the probes, lets the command's program begin, and puts them on when its libraries are
    /// mapped and none of its code has run; there it is held. `None` if it ended before that.
    pub fn start(
        command: &mut Command,
        options: &Options,
        page_size: u64,
    ) -> anyhow::Result<Option<Attachment>> {
        let pid = command.pid();
        let needed = needed::files(command.program());
        let unwind_bytes: u64 = needed.iter().map(|file| file.unwind_bytes).sum();
        let mut attachment = Attachment::load(
            Modules::new(),
            Discovery::new(options.wishes.clone()),
            unwind_bytes as usize / BYTES_OF_A_ROW,
            options,
            page_size,
        )?;
        // Its first address space is that of the program: exec gives it the number 1.
        attachment.kernel.introduce(
            pid as u32,
            Space {
                pid: pid as u32,
                flags: SPACE_OWN,
                ..Space::default()
            },
        )?;
        attachment.watch_processes(options.follow)?;
        command.go().context("cannot let the command begin")?;
        let end = Instant::now() + LOADING_TIME;
        while !attachment.is_loaded(pid)? {
            if command.has_ended()? {
                return Ok(None);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                say(format_args!(
                    "memleak-record: the loader of process {pid} does not tell when its libraries are mapped: what it has allocated so far is not recorded"
                ));
                break;
            }
            attachment.wait(command, left)?;
        }
        attachment.newcomers.clear();
        let Some(index) = attachment.index_of(pid) else {
            bail!("process {pid} cannot be recorded");
        };
        let process = &attachment.processes[index];
        let mapped = attachment.modules.mapped(process.space);
        // A program without an allocator may have children that have one.
        if !options.follow && !attachment.discovery.finds_allocator(mapped) {
            bail!(no_allocator(&process.target, &options.wishes, mapped));
        }
        Ok(Some(attachment))
    }

    /// Looks at the command if it is held. True when everything is mapped; it is still held then.
    fn is_loaded(&mut self, pid: i32) -> anyhow::Result<bool> {
        let mut is_held = false;
        while let Some(opening) = self.openings.take() {
            is_held |= opening.pid == pid;
        }
        if !is_held {
            return Ok(false);
        }
        self.learn(pid)?;
        let starting = self
            .kernel
            .space_of(pid as u32)
            .is_some_and(|space| space.flags & SPACE_STARTING != 0);
        let has_loader = self.index_of(pid).is_some_and(|index| {
            let mapped = self.modules.mapped(self.processes[index].space);
            self.discovery.has_loader(mapped)
        });
        if starting && has_loader {
            self.stops.release(pid as u32);
            return Ok(false);
        }
        Ok(true)
    }

    /// Waits until the command is held or has ended, at most for `time`.
    fn wait(&self, command: &Command, time: Duration) -> io::Result<()> {
        let mut ready = [
            self.openings().as_raw_fd(),
            command.descriptor().as_raw_fd(),
        ]
        .map(|fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        });
        let milliseconds = i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: two valid pollfds. A failure (EINTR) only means an early look.
        unsafe {
            libc::poll(ready.as_mut_ptr(), 2, milliseconds);
        }
        Ok(())
    }
}
