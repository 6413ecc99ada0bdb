//! Whether a process can be recorded.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Duration;

use object::read::elf::ElfFile64;
use object::{Object, ReadCache};

/// Why a process cannot be recorded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no process {0}; pidof NAME or pgrep NAME finds one")]
    NoProcess(i32),
    #[error("{pid} is a thread of process {process}; record the whole process with -p {process}")]
    Thread { pid: i32, process: i32 },
    #[error("process {0} is memleak-record itself; give the pid of another process")]
    Ourselves(i32),
    #[error(
        "process {0} is a kernel thread, which has no user-space memory; give the pid of a program"
    )]
    KernelThread(i32),
    #[error(
        "process {0} has ended and waits for its parent (a zombie); give the pid of a running process"
    )]
    Zombie(i32),
    #[error("process {0} is not a 64-bit x86 program; only those can be recorded")]
    NotX86_64(i32),
    #[error(
        "process {0} is a Go program: return probes crash Go when it moves a stack, and its memory is not from malloc; use Go's own profiler (net/http/pprof)"
    )]
    Go(i32),
    #[error("cannot read {}: {source}; run memleak-record as root, outside of containers", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
}

/// A process that can be recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub pid: i32,
    pub ppid: i32,
    /// A thread that lives: the leader, or another one where the leader has exited.
    pub living_thread: i32,
    /// The arguments it was started with.
    pub command: Vec<String>,
    /// Path of the program, as the process sees it.
    pub executable: String,
}

/// What `/proc/PID/stat` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    state: char,
    ppid: i32,
    /// `PF_` flags of the task.
    flags: u64,
}

const PF_KTHREAD: u64 = 0x0020_0000;
const EM_X86_64: u16 = 62;

/// What a program file is, as far as it decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    X86_64,
    Go,
    Other,
}

/// Checks the process, and collects what the header tells of it.
pub fn check(pid: i32) -> Result<Target, Error> {
    if pid == std::process::id() as i32 {
        return Err(Error::Ourselves(pid));
    }
    let stat = stat(pid).ok_or(Error::NoProcess(pid))?;
    if let Some(process) = process_of(pid).filter(|process| *process != pid) {
        return Err(Error::Thread { pid, process });
    }
    if stat.flags & PF_KTHREAD != 0 {
        return Err(Error::KernelThread(pid));
    }
    let living_thread = living_thread(pid).ok_or(Error::Zombie(pid))?;
    let readable = |name: &str| {
        let path = PathBuf::from(format!("/proc/{living_thread}/{name}"));
        // The permission is checked when the file is opened.
        File::open(&path).map_err(|source| Error::Unreadable { path, source })
    };
    readable("maps")?;
    match program(readable("exe")?) {
        Program::X86_64 => {}
        Program::Go => return Err(Error::Go(pid)),
        Program::Other => return Err(Error::NotX86_64(pid)),
    }
    Ok(Target {
        pid,
        ppid: stat.ppid,
        living_thread,
        command: command(living_thread),
        executable: executable(living_thread),
    })
}

/// The arguments that the task's process was started with; none if it has ended.
pub fn command(task: i32) -> Vec<String> {
    parse_command(&std::fs::read(format!("/proc/{task}/cmdline")).unwrap_or_default())
}

/// Path of its program, as the process sees it; empty if it has ended.
pub fn executable(task: i32) -> String {
    let link = std::fs::read_link(format!("/proc/{task}/exe")).unwrap_or_default();
    link.display()
        .to_string()
        .trim_end_matches(" (deleted)")
        .to_owned()
}

/// Its parent; `None` if it has ended.
pub fn parent(task: i32) -> Option<i32> {
    stat(task).map(|stat| stat.ppid)
}

/// The threads of a process, the leader first; empty if there is no such process.
pub fn threads(pid: i32) -> Vec<i32> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/task"));
    let names = entries
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name());
    let mut threads: Vec<i32> = names
        .filter_map(|name| name.to_str()?.parse().ok())
        .collect();
    threads.sort_unstable_by_key(|thread| (*thread != pid, *thread));
    threads
}

/// A thread of the process that has not exited: the leader if it lives, as others need not stay.
pub fn living_thread(pid: i32) -> Option<i32> {
    threads(pid).into_iter().find(|task| is_alive(*task))
}

/// Whether the task exists and has not exited.
pub fn is_alive(task: i32) -> bool {
    stat(task).is_some_and(|stat| !is_dead(stat.state))
}

/// Zombie or dead.
fn is_dead(state: char) -> bool {
    matches!(state, 'Z' | 'X' | 'x')
}

fn stat(task: i32) -> Option<Stat> {
    parse_stat(&std::fs::read_to_string(format!("/proc/{task}/stat")).ok()?)
}

/// `pid (name) state ppid pgrp session tty tpgid flags …`; the name may hold blanks and brackets.
fn parse_stat(stat: &str) -> Option<Stat> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_whitespace();
    Some(Stat {
        state: fields.next()?.chars().next()?,
        ppid: fields.next()?.parse().ok()?,
        flags: fields.nth(4)?.parse().ok()?,
    })
}

/// CPU time that a process has used, ended threads included; `None` if it is gone.
pub fn cpu_time(pid: i32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // utime and stime, in ticks.
    let mut fields = stat
        .get(stat.rfind(')')? + 1..)?
        .split_whitespace()
        .skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    // SAFETY: sysconf has no preconditions.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1);
    Some(Duration::from_secs_f64(
        (user + system) as f64 / ticks as f64,
    ))
}

/// The process that a task belongs to.
fn process_of(task: i32) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{task}/status")).ok()?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("Tgid:"))?
        .trim()
        .parse()
        .ok()
}

/// Arguments end with a zero each; a program that rewrote its title may leave more of them.
fn parse_command(cmdline: &[u8]) -> Vec<String> {
    let arguments = cmdline.trim_ascii_end();
    let end = arguments
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    match end {
        0 => Vec::new(),
        _ => arguments[..end]
            .split(|byte| *byte == 0)
            .map(|a| String::from_utf8_lossy(a).into_owned())
            .collect(),
    }
}

fn program(mut file: File) -> Program {
    let mut head = [0; 20];
    match file.read_exact(&mut head) {
        Ok(()) if is_x86_64(&head) && is_go(file) => Program::Go,
        Ok(()) if is_x86_64(&head) => Program::X86_64,
        _ => Program::Other,
    }
}

/// 64-bit class, little endian, machine x86_64 (x32 programs are of the 32-bit class).
fn is_x86_64(head: &[u8; 20]) -> bool {
    head.starts_with(b"\x7fELF\x02\x01") && u16::from_le_bytes([head[18], head[19]]) == EM_X86_64
}

fn is_go(file: File) -> bool {
    let cache = ReadCache::new(file);
    ElfFile64::<object::Endianness, _>::parse(&cache).is_ok_and(|elf| {
        elf.section_by_name(".go.buildinfo").is_some()
            || elf.section_by_name(".note.go.buildid").is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name with blanks and brackets does not shift the fields.
    #[test]
    fn stat_lines() {
        assert_eq!(
            parse_stat("12 (a) b (c) S 1 12 12 0 -1 4194560 99 0"),
            Some(Stat {
                state: 'S',
                ppid: 1,
                flags: 4_194_560
            })
        );
        let kernel = parse_stat("2 (kthreadd) S 0 0 0 0 -1 2129984 0 0").unwrap();
        assert_ne!(kernel.flags & PF_KTHREAD, 0);
        assert_eq!(parse_stat("12 (x"), None);
    }

    /// Zeros at the end are no arguments; an empty argument in the middle is one.
    #[test]
    fn command_lines() {
        assert_eq!(parse_command(b"a\0b c\0\0d\0"), ["a", "b c", "", "d"]);
        assert_eq!(parse_command(b"title\0\0\0\0"), ["title"]);
        assert!(parse_command(b"").is_empty());
    }

    /// i386, x32 and other machines are told from x86_64.
    #[test]
    fn elf_heads() {
        let head = |class, machine: u16| {
            let mut head = [0; 20];
            head[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, 1]);
            head[18..].copy_from_slice(&machine.to_le_bytes());
            head
        };
        assert!(is_x86_64(&head(2, EM_X86_64)));
        assert!(!is_x86_64(&head(1, 3)), "i386");
        assert!(!is_x86_64(&head(1, EM_X86_64)), "x32");
        assert!(!is_x86_64(&head(2, 183)), "aarch64");
        assert!(!is_x86_64(b"#!/bin/sh\necho hello"));
    }

    /// A pid past the kernel's limit, ourselves, one of our threads.
    #[test]
    fn refusals() {
        let own = std::process::id() as i32;
        assert!(matches!(check(i32::MAX), Err(Error::NoProcess(_))));
        assert!(matches!(check(own), Err(Error::Ourselves(_))));
        // Tests run on threads of their own.
        // SAFETY: takes no argument and cannot fail.
        let thread = unsafe { libc::gettid() };
        assert!(matches!(check(thread), Err(Error::Thread { process, .. }) if process == own));
        assert_eq!(threads(own).first(), Some(&own));
        assert!(threads(own).contains(&thread));
        assert_eq!(living_thread(own), Some(own));
    }

    /// A child that runs is accepted; once it ended and is not waited for, it is a zombie.
    #[test]
    fn child() {
        let mut child = std::process::Command::new("sleep")
            .arg("600")
            .spawn()
            .unwrap();
        let pid = child.id() as i32;
        // Until it has called exec, the child is a copy of this program.
        let target = loop {
            let target = check(pid).unwrap();
            if target.command == ["sleep", "600"] {
                break target;
            }
        };
        assert_eq!(
            (target.ppid, target.living_thread),
            (std::process::id() as i32, pid)
        );
        assert!(target.executable.starts_with('/'), "{}", target.executable);
        child.kill().unwrap();
        while living_thread(pid).is_some() {
            std::thread::yield_now();
        }
        assert!(matches!(check(pid), Err(Error::Zombie(_))));
        child.wait().unwrap();
        assert!(matches!(check(pid), Err(Error::NoProcess(_))));
    }
}
