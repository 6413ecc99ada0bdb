//! As whom a command runs: under sudo, as the user who called it.

use std::ffi::{CStr, CString};
use std::io;
use std::os::unix::ffi::OsStrExt;

use crate::output;

/// A user with all groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    uid: libc::uid_t,
    gid: libc::gid_t,
    groups: Vec<libc::gid_t>,
    /// What the user's environment has of its own: name and value.
    variables: Vec<(&'static str, Vec<u8>)>,
}

/// Who called sudo; `None` if nobody did.
pub fn caller() -> Option<User> {
    let caller = output::sudo_caller()?;
    Some(User::of(caller.uid, caller.gid))
}

/// Our environment, `NAME=value` each, with the user's own variables instead of root's.
pub fn environment(user: Option<&User>) -> impl Iterator<Item = Vec<u8>> {
    let own: Vec<(&'static str, Vec<u8>)> = user.map_or(Vec::new(), |user| user.variables.clone());
    let replaced: Vec<&str> = own.iter().map(|(name, _)| *name).collect();
    let kept = std::env::vars_os().filter(move |(name, _)| !replaced.iter().any(|own| name == own));
    let kept = kept.map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat());
    kept.chain(
        own.into_iter()
            .map(|(name, value)| [name.as_bytes(), b"=", &value].concat()),
    )
}

impl User {
    /// The user with this number, as the system's databases know it.
    fn of(uid: libc::uid_t, gid: libc::gid_t) -> User {
        let mut user = User {
            uid,
            gid,
            groups: vec![gid],
            variables: Vec::new(),
        };
        // SAFETY: one thread runs this early; the entry is read before anything asks for another.
        unsafe {
            let entry = libc::getpwuid(uid);
            if entry.is_null() {
                return user;
            }
            let name: CString = CStr::from_ptr((*entry).pw_name).to_owned();
            let home = CStr::from_ptr((*entry).pw_dir).to_bytes().to_vec();
            for variable in ["USER", "LOGNAME"] {
                user.variables.push((variable, name.as_bytes().to_vec()));
            }
            user.variables.push(("HOME", home));
            user.groups = groups_of(&name, gid);
        }
        user
    }

    /// Makes this process the user's. Allocates nothing.
    pub fn become_it(&self) -> io::Result<()> {
        // SAFETY: numbers, and a list with its length. Groups first: later they cannot be set.
        let done = unsafe {
            libc::setgroups(self.groups.len(), self.groups.as_ptr()) == 0
                && libc::setgid(self.gid) == 0
                && libc::setuid(self.uid) == 0
        };
        match done {
            true => Ok(()),
            false => Err(io::Error::last_os_error()),
        }
    }
}

/// All groups of a user.
///
/// # Safety
/// As for getgrouplist(3): nothing else may read the group database at the same time.
unsafe fn groups_of(name: &CStr, gid: libc::gid_t) -> Vec<libc::gid_t> {
    let mut groups = vec![gid; 64];
    loop {
        let mut count = groups.len() as libc::c_int;
        // SAFETY: room for as many groups as it says.
        let found =
            unsafe { libc::getgrouplist(name.as_ptr(), gid, groups.as_mut_ptr(), &mut count) };
        let count = usize::try_from(count).unwrap_or(0);
        if found >= 0 || count <= groups.len() {
            groups.truncate(count);
            return groups;
        }
        groups.resize(count, gid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// root is in the databases of every system: its home and groups are found.
    #[test]
    fn known_and_unknown_users() {
        let root = User::of(0, 0);
        assert!(root.variables.contains(&("HOME", b"/root".to_vec())));
        assert!(root.groups.contains(&0));
        let unknown = User::of(4_000_000_000, 4_000_000_000);
        assert_eq!(
            (unknown.groups.as_slice(), unknown.variables.len()),
            (&[4_000_000_000][..], 0)
        );
    }

    /// The user's variables replace ours, once.
    #[test]
    fn variables() {
        let root = User::of(0, 0);
        let homes: Vec<Vec<u8>> = environment(Some(&root))
            .filter(|text| text.starts_with(b"HOME="))
            .collect();
        assert_eq!(homes, [b"HOME=/root".to_vec()]);
    }
}
