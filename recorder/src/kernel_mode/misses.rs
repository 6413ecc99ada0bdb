//! Events that the kernel did not hand to a probe, because the probe was running on that CPU.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

const OBJ_GET_INFO_BY_FD: libc::c_int = 15;

/// `struct bpf_prog_info` up to the field that is asked for; `include/uapi/linux/bpf.h`.
#[repr(C)]
struct ProgramInfo {
    before: [u64; 25],
    run_cnt: u64,
    recursion_misses: u64,
}

const _: () = assert!(std::mem::offset_of!(ProgramInfo, recursion_misses) == 208);

/// `union bpf_attr` of that command.
#[repr(C)]
struct Request {
    program: u32,
    length: u32,
    info: u64,
}

/// How often the kernel passed over a program since it was loaded.
pub fn misses(program: BorrowedFd<'_>) -> io::Result<u64> {
    let mut info = ProgramInfo {
        before: [0; 25],
        run_cnt: 0,
        recursion_misses: 0,
    };
    let request = Request {
        program: program.as_raw_fd() as u32,
        length: size_of::<ProgramInfo>() as u32,
        info: (&raw mut info) as u64,
    };
    // SAFETY: the kernel fills at most `length` bytes of `info`; pointers in it are null.
    let done = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            OBJ_GET_INFO_BY_FD,
            &raw const request,
            size_of::<Request>(),
        )
    };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(info.recursion_misses)
}
