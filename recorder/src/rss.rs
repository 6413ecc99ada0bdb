//! Resident memory of a process, as the kernel counts it.

use memleak_trace::describe::RssKind;

/// The line of `/proc/PID/status` for each kind.
const FIELDS: [(RssKind, &str); 3] = [
    (RssKind::Anonymous, "RssAnon:"),
    (RssKind::File, "RssFile:"),
    (RssKind::Shared, "RssShmem:"),
];

/// Resident bytes by kind, from the text of `/proc/PID/status`; `None` when the process has no
/// memory any more (it is exiting) or never had (a kernel thread).
pub fn parse(status: &str) -> Option<[(RssKind, u64); 3]> {
    let mut resident = [(RssKind::Anonymous, 0); 3];
    for (place, (kind, field)) in resident.iter_mut().zip(FIELDS) {
        let value = status.lines().find_map(|line| line.strip_prefix(field))?;
        let kib: u64 = value.trim().strip_suffix(" kB")?.trim().parse().ok()?;
        *place = (kind, kib * 1024);
    }
    Some(resident)
}

/// Resident bytes of a living process by kind; `None` if it has none or is gone.
///
/// Ask a living thread where the leader may have exited: a zombie shows no memory.
pub fn read(task: i32) -> Option<[(RssKind, u64); 3]> {
    parse(&std::fs::read_to_string(format!("/proc/{task}/status")).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tcat\nVmHWM:\t    1832 kB\nVmRSS:\t    1832 kB\nRssAnon:\t      92 kB\n\
                          RssFile:\t    1740 kB\nRssShmem:\t       4 kB\nVmData:\t     360 kB\n";

    /// The three kinds, in bytes.
    #[test]
    fn kinds_in_bytes() {
        assert_eq!(
            parse(STATUS),
            Some([
                (RssKind::Anonymous, 92 * 1024),
                (RssKind::File, 1740 * 1024),
                (RssKind::Shared, 4 * 1024),
            ])
        );
    }

    /// A kernel thread and a zombie have no such lines.
    #[test]
    fn no_memory() {
        assert_eq!(parse("Name:\tkthreadd\nState:\tS (sleeping)\n"), None);
    }

    /// The three kinds are all of VmRSS, on the running kernel.
    #[test]
    fn own_memory() {
        let resident = read(std::process::id() as i32).unwrap();
        assert!(resident.iter().all(|(kind, _)| RssKind::ALL.contains(kind)));
        assert!(resident[0].1 > 0 && resident[1].1 > 0);
    }
}
