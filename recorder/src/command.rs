//! A command that is started to be recorded, as its caller and with its caller's terminal.

mod user;

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use user::User;

/// Why a command was not started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the command is empty; give its words behind --")]
    Empty,
    #[error("a word of the command holds a zero byte")]
    ZeroByte,
    #[error("{0}: no such program; give its path, or see that it is in PATH")]
    NotFound(String),
    #[error("{0} cannot be executed: {1}")]
    NotExecutable(String, io::Error),
    #[error("cannot start a process for the command: {0}")]
    Start(io::Error),
}

impl Error {
    /// As a shell ends for such a command.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::NotFound(_) => 127,
            Error::NotExecutable(..) => 126,
            Error::Empty | Error::ZeroByte | Error::Start(_) => FAILED,
        }
    }
}

/// The exit code where the recorder failed, and not the command.
pub const FAILED: u8 = 125;

/// The process of a command. Dropped before [`Command::release`], it is ended.
#[derive(Debug)]
pub struct Command {
    name: String,
    /// The file of its program.
    program: PathBuf,
    pid: i32,
    process: OwnedFd,
    /// A byte lets it begin; closed without, it ends.
    go: Option<OwnedFd>,
    /// It tells an errno here if it cannot execute the program.
    failure: OwnedFd,
    released: bool,
}

impl Command {
    /// Makes a process that waits for [`Command::go`]. Call it before signals are blocked, limits are
    /// raised and threads are started.
    pub fn prepare(words: &[OsString]) -> Result<Command, Error> {
        let name = words.first().ok_or(Error::Empty)?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let program = find(name, &path)?;
        let user = user::caller();
        let arguments = c_strings(words.iter().map(|word| word.as_bytes().to_vec()))?;
        let environment = c_strings(user::environment(user.as_ref()))?;
        let (wait, go) = pipe().map_err(Error::Start)?;
        let (failure, tell) = pipe().map_err(Error::Start)?;
        let child = Child {
            arguments: pointers(&arguments),
            environment: pointers(&environment),
            user,
            wait: wait.as_raw_fd(),
            go: go.as_raw_fd(),
            tell: tell.as_raw_fd(),
        };
        // SAFETY: the child makes system calls only, and never returns.
        let pid = unsafe {
            match libc::fork() {
                -1 => return Err(Error::Start(io::Error::last_os_error())),
                0 => child.run(),
                pid => pid,
            }
        };
        Ok(Command {
            name: name.to_string_lossy().into_owned(),
            program,
            pid,
            process: descriptor_of(pid).map_err(Error::Start)?,
            go: Some(go),
            failure,
            released: false,
        })
    }

    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The file of the program that it executes.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Readable when it has ended.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }

    /// Lets it execute its program.
    pub fn go(&mut self) -> io::Result<()> {
        let Some(go) = self.go.take() else {
            return Ok(());
        };
        // SAFETY: one byte of this function.
        match unsafe { libc::write(go.as_raw_fd(), [1u8].as_ptr().cast(), 1) } {
            1 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// It runs: from here on its end is its own matter.
    pub fn release(&mut self) {
        self.released = true;
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> io::Result<bool> {
        let mut end = libc::pollfd {
            fd: self.process.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one valid pollfd.
        match unsafe { libc::poll(&mut end, 1, 0) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(end.revents != 0),
        }
    }

    /// Hands a signal on to it.
    pub fn signal(&self, number: i32) {
        // SAFETY: a signal to our child, which was not waited for.
        unsafe {
            libc::kill(self.pid, number);
        }
    }

    /// Waits for its end. Returns the exit code that a shell would give for it: its own, or 128 and
    /// the signal.
    pub fn wait(mut self) -> Result<u8, Error> {
        let status = self.reap().map_err(Error::Start)?;
        let mut errno = [0u8; 4];
        // SAFETY: four bytes of this function. All other ends of the pipe are closed by now.
        let told = unsafe { libc::read(self.failure.as_raw_fd(), errno.as_mut_ptr().cast(), 4) };
        if told == 4 {
            let error = io::Error::from_raw_os_error(i32::from_ne_bytes(errno));
            return Err(refused(&self.name, error));
        }
        Ok(exit_code(status))
    }

    fn reap(&mut self) -> io::Result<i32> {
        let mut status = 0;
        // SAFETY: our child, waited for once.
        while unsafe { libc::waitpid(self.pid, &mut status, 0) } < 0 {
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        self.released = true;
        Ok(status)
    }
}

impl Drop for Command {
    fn drop(&mut self) {
        if self.released {
            return;
        }
        self.signal(libc::SIGKILL);
        // It is waited for only to leave no zombie.
        let _ = self.reap();
    }
}

fn exit_code(status: i32) -> u8 {
    match libc::WIFSIGNALED(status) {
        true => 128 + libc::WTERMSIG(status) as u8,
        false => libc::WEXITSTATUS(status) as u8,
    }
}

fn refused(name: &str, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => Error::NotFound(name.to_owned()),
        _ => Error::NotExecutable(name.to_owned(), error),
    }
}

/// Looks for the program as execvp(3) does, to refuse it before anything is begun.
fn find(name: &OsStr, path: &OsStr) -> Result<PathBuf, Error> {
    let shown = || name.to_string_lossy().into_owned();
    if name.is_empty() {
        return Err(Error::Empty);
    }
    if name.as_bytes().contains(&b'/') {
        return executable(Path::new(name)).map_err(|error| refused(&shown(), error));
    }
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for directory in std::env::split_paths(path) {
        match executable(&directory.join(name)) {
            Ok(found) => return Ok(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => last = error,
        }
    }
    Err(refused(&shown(), last))
}

fn executable(path: &Path) -> io::Result<PathBuf> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() || metadata.permissions().mode() & 0o111 == 0 {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(path.to_owned())
}

/// What the child needs, made before it is: it must not allocate.
struct Child {
    arguments: Vec<*const libc::c_char>,
    environment: Vec<*const libc::c_char>,
    user: Option<User>,
    wait: i32,
    go: i32,
    tell: i32,
}

impl Child {
    /// The child's life until it is another program.
    ///
    /// # Safety
    /// For a process that was just forked.
    unsafe fn run(&self) -> ! {
        // SAFETY: system calls on numbers and on memory that was made before.
        unsafe {
            libc::close(self.go);
            let mut byte = 0u8;
            if libc::read(self.wait, (&raw mut byte).cast(), 1) != 1 {
                libc::_exit(i32::from(FAILED));
            }
            // Rust ignores it; a program expects to be ended by it.
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            if self
                .user
                .as_ref()
                .is_none_or(|user| user.become_it().is_ok())
            {
                libc::execvpe(
                    self.arguments[0],
                    self.arguments.as_ptr(),
                    self.environment.as_ptr(),
                );
            }
            let errno = *libc::__errno_location();
            libc::write(self.tell, (&raw const errno).cast(), 4);
            libc::_exit(i32::from(FAILED));
        }
    }
}

fn c_strings(texts: impl Iterator<Item = Vec<u8>>) -> Result<Vec<CString>, Error> {
    texts
        .map(|text| CString::new(text).map_err(|_| Error::ZeroByte))
        .collect()
}

/// As exec wants them: with a null at the end.
fn pointers(texts: &[CString]) -> Vec<*const libc::c_char> {
    let pointers = texts.iter().map(|text| text.as_ptr());
    pointers.chain([std::ptr::null()]).collect()
}

/// Reading and writing end; neither outlives exec.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors, which have no other owner.
    unsafe {
        if libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok((OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])))
    }
}

fn descriptor_of(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers; the descriptor is new.
    unsafe {
        match i32::try_from(libc::syscall(libc::SYS_pidfd_open, pid, 0)) {
            Ok(descriptor) if descriptor >= 0 => Ok(OwnedFd::from_raw_fd(descriptor)),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    /// Missing programs and those that cannot run are told apart, as shells do.
    #[test]
    fn refusals() {
        let path = OsStr::new("/nowhere:/usr/bin:/bin");
        assert!(find(OsStr::new("sh"), path).is_ok());
        for (name, code) in [
            ("no-such-program", 127),
            ("/no/such", 127),
            ("/etc", 126),
            ("/etc/passwd", 126),
        ] {
            assert_eq!(
                find(OsStr::new(name), path).unwrap_err().exit_code(),
                code,
                "{name}"
            );
        }
        assert!(matches!(Command::prepare(&[]), Err(Error::Empty)));
    }

    /// The exit code is the command's own, or 128 and its signal.
    #[test]
    fn exit_codes() {
        for (command, code) in [(&["true"][..], 0), (&["sh", "-c", "exit 7"], 7)] {
            let words: Vec<OsString> = command.iter().map(OsString::from).collect();
            let mut command = Command::prepare(&words).unwrap();
            assert!(!command.has_ended().unwrap());
            command.go().unwrap();
            assert_eq!(command.wait().unwrap(), code, "{words:?}");
        }
        let mut command = Command::prepare(&words("sleep 600")).unwrap();
        command.go().unwrap();
        command.signal(libc::SIGTERM);
        assert_eq!(command.wait().unwrap(), 128 + libc::SIGTERM as u8);
    }

    /// What was never let go ends with its handle, and so does what was not released.
    #[test]
    fn nobody_stays_behind() {
        for go in [false, true] {
            let mut command = Command::prepare(&words("sleep 600")).unwrap();
            if go {
                command.go().unwrap();
            }
            let pid = command.pid();
            drop(command);
            // SAFETY: asks whether there is such a process.
            assert_eq!(unsafe { libc::kill(pid, 0) }, -1);
        }
    }
}
