//! Maps of the kernel by their descriptor, without memory of our own: the watchdog uses them after a
//! fork, when nothing may be allocated.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

const LOOKUP: libc::c_int = 1;
const UPDATE: libc::c_int = 2;
const DELETE: libc::c_int = 3;
const NEXT_KEY: libc::c_int = 4;

/// `union bpf_attr` for commands on elements.
#[repr(C)]
struct Element {
    map: u32,
    unused: u32,
    key: u64,
    /// Value, or next key.
    value: u64,
    flags: u64,
}

fn call(
    command: libc::c_int,
    map: BorrowedFd<'_>,
    key: u64,
    value: *const libc::c_void,
) -> io::Result<()> {
    let element = Element {
        map: map.as_raw_fd() as u32,
        unused: 0,
        key,
        value: value as u64,
        flags: 0,
    };
    // SAFETY: key and value point to what the map's definition says; the callers see to it.
    let done = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            &raw const element,
            size_of::<Element>(),
        )
    };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The key behind `key`, or the first one; `None` at the end.
pub fn next_key(map: BorrowedFd<'_>, key: Option<u32>) -> Option<u32> {
    let mut next = 0u32;
    let from = key.as_ref().map_or(0, |key| std::ptr::from_ref(key) as u64);
    call(NEXT_KEY, map, from, (&raw mut next).cast()).ok()?;
    Some(next)
}

/// The value at `key`; `None` if there is none. `T` must be the map's type of values.
pub fn lookup<T: aya::Pod + Default>(map: BorrowedFd<'_>, key: u32) -> Option<T> {
    let mut value = T::default();
    let at = std::ptr::from_ref(&key) as u64;
    call(LOOKUP, map, at, (&raw mut value).cast()).ok()?;
    Some(value)
}

/// Takes `key` out; whether it was there.
pub fn delete(map: BorrowedFd<'_>, key: u32) -> bool {
    let at = std::ptr::from_ref(&key) as u64;
    call(DELETE, map, at, std::ptr::null()).is_ok()
}

/// Puts `value` at `key`. `T` must be the map's type of values.
pub fn update<T: aya::Pod>(map: BorrowedFd<'_>, key: u32, value: &T) -> io::Result<()> {
    let at = std::ptr::from_ref(&key) as u64;
    call(UPDATE, map, at, std::ptr::from_ref(value).cast())
}
