//! Runs a program of the kernel by hand: a change of a map that must not meet another one half-way.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

const TEST_RUN: libc::c_int = 10;

/// `union bpf_attr` for a run of a program.
#[repr(C)]
#[derive(Default)]
struct Run {
    program: u32,
    result: u32,
    data: [u32; 2],
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_bytes: u32,
    context_bytes_out: u32,
    context: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch: u32,
    unused: u32,
}

/// Runs a raw tracepoint's program with these arguments; returns its result.
pub fn run(program: BorrowedFd<'_>, arguments: &[u64]) -> io::Result<u32> {
    let mut run = Run {
        program: program.as_raw_fd() as u32,
        context_bytes: size_of_val(arguments) as u32,
        context: arguments.as_ptr() as u64,
        ..Run::default()
    };
    // SAFETY: the arguments are as many bytes as it says, and only read.
    let done = unsafe { libc::syscall(libc::SYS_bpf, TEST_RUN, &raw mut run, size_of::<Run>()) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(run.result)
}
