//! How a process ended, in words.

use crate::layout::Exit;

/// The end of a process as the kernel told it, for people: `exited with status 3`.
pub fn words(exit: Option<Exit>) -> String {
    let Some(exit) = exit.filter(|exit| exit.ended != 0) else {
        return "ended".to_owned();
    };
    let status = exit.status as i32;
    if exit.out_of_memory != 0 {
        "was killed by the OOM killer".to_owned()
    } else if libc::WIFSIGNALED(status) {
        let signal = libc::WTERMSIG(status);
        match name(signal) {
            Some(name) => format!("was killed by signal {signal} ({name})"),
            None => format!("was killed by signal {signal}"),
        }
    } else {
        format!("exited with status {}", libc::WEXITSTATUS(status))
    }
}

/// Signals that end processes.
fn name(signal: i32) -> Option<&'static str> {
    const NAMES: [(i32, &str); 11] = [
        (libc::SIGHUP, "SIGHUP"),
        (libc::SIGINT, "SIGINT"),
        (libc::SIGQUIT, "SIGQUIT"),
        (libc::SIGILL, "SIGILL"),
        (libc::SIGABRT, "SIGABRT"),
        (libc::SIGBUS, "SIGBUS"),
        (libc::SIGFPE, "SIGFPE"),
        (libc::SIGKILL, "SIGKILL"),
        (libc::SIGSEGV, "SIGSEGV"),
        (libc::SIGPIPE, "SIGPIPE"),
        (libc::SIGTERM, "SIGTERM"),
    ];
    NAMES
        .into_iter()
        .find_map(|(number, name)| (number == signal).then_some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Status, signal and OOM kill are told apart; a wait status is not an exit code.
    #[test]
    fn endings() {
        let exit = |status, out_of_memory| {
            words(Some(Exit {
                status,
                ended: 1,
                out_of_memory,
            }))
        };
        assert_eq!(exit(3 << 8, 0), "exited with status 3");
        assert_eq!(exit(11, 0), "was killed by signal 11 (SIGSEGV)");
        assert_eq!(exit(0x80 | 6, 0), "was killed by signal 6 (SIGABRT)");
        assert_eq!(exit(9, 1), "was killed by the OOM killer");
        assert_eq!(words(None), "ended");
    }
}
