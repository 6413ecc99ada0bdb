//! What the user must be allowed to do. Root is not needed, three capabilities are.

/// Why this user may not record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(
        "recording needs {missing}, which this process lacks; run it with sudo, or allow the program for every user with: sudo setcap {all}=ep {program}"
    )]
    Missing {
        missing: String,
        all: String,
        program: String,
    },
    #[error(
        "this process is root in a user namespace only (a rootless container), where the kernel allows no probes; run memleak-record on the host"
    )]
    UserNamespace,
    #[error("cannot read this process's capabilities from /proc/self/status; mount /proc")]
    NoProc,
}

/// Number, name, and what it is needed for, as `include/uapi/linux/capability.h` numbers them.
const NEEDED: &[(u32, &str)] = &[
    // Follow the target's maps, root and exe when it belongs to another user.
    (19, "cap_sys_ptrace"),
    // Attach uprobes, read user memory in BPF.
    (38, "cap_perfmon"),
    // Load programs, create maps.
    (39, "cap_bpf"),
];

/// Includes the last two, as it did before they existed.
const SYS_ADMIN: u32 = 21;
const PERFMON: u32 = 38;

/// Checks the running process.
pub fn check() -> Result<(), Error> {
    let status = std::fs::read_to_string("/proc/self/status").map_err(|_| Error::NoProc)?;
    let effective = parse_effective(&status).ok_or(Error::NoProc)?;
    // A kernel without user namespaces has no such file.
    let uid_map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let program = std::env::current_exe().unwrap_or_else(|_| "memleak-record".into());
    check_effective(effective, &uid_map, &program.display().to_string())
}

/// The set of effective capabilities, a bit each.
fn parse_effective(status: &str) -> Option<u64> {
    let set = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(set.trim(), 16).ok()
}

fn check_effective(effective: u64, uid_map: &str, program: &str) -> Result<(), Error> {
    let has = |number: u32| {
        effective & 1 << number != 0 || (number >= PERFMON && effective & 1 << SYS_ADMIN != 0)
    };
    let names = |missing: bool| {
        NEEDED
            .iter()
            .filter(|row| !missing || !has(row.0))
            .map(|row| row.1)
            .collect::<Vec<_>>()
    };
    let missing = names(true);
    if !missing.is_empty() {
        return Err(Error::Missing {
            missing: missing.join(", ").to_uppercase(),
            all: names(false).join(","),
            program: program.to_owned(),
        });
    }
    // The first namespace maps every user to itself; only there do these capabilities count.
    let first: Vec<&str> = uid_map.split_whitespace().collect();
    if first.is_empty() || first == ["0", "0", "4294967295"] {
        Ok(())
    } else {
        Err(Error::UserNamespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "         0          0 4294967295\n";

    fn missing(effective: u64) -> String {
        match check_effective(effective, HOST, "/opt/memleak-record") {
            Ok(()) => String::new(),
            Err(Error::Missing { missing, .. }) => missing,
            Err(other) => panic!("{other}"),
        }
    }

    /// Exactly the missing ones are named; CAP_SYS_ADMIN stands for two of them.
    #[test]
    fn names_of_missing_capabilities() {
        assert_eq!(missing(0x1ff_ffff_ffff), "");
        assert_eq!(missing(1 << 19 | 1 << 38 | 1 << 39), "");
        assert_eq!(missing(1 << 19 | 1 << 21), "");
        assert_eq!(missing(1 << 21), "CAP_SYS_PTRACE");
        assert_eq!(missing(1 << 19 | 1 << 39), "CAP_PERFMON");
        assert_eq!(missing(0), "CAP_SYS_PTRACE, CAP_PERFMON, CAP_BPF");
    }

    /// The remedy is a command that can be pasted.
    #[test]
    fn remedy() {
        let sentence = check_effective(0, HOST, "/opt/memleak-record")
            .unwrap_err()
            .to_string();
        assert!(
            sentence
                .ends_with("sudo setcap cap_sys_ptrace,cap_perfmon,cap_bpf=ep /opt/memleak-record"),
            "{sentence}"
        );
    }

    /// Capabilities of another user namespace do not count.
    #[test]
    fn user_namespace() {
        let all = 0x1ff_ffff_ffff;
        assert_eq!(
            check_effective(all, "0 1000 1\n", "x"),
            Err(Error::UserNamespace)
        );
        assert_eq!(check_effective(all, "", "x"), Ok(()));
    }

    /// The line of the running kernel is understood.
    #[test]
    fn status_lines() {
        assert_eq!(
            parse_effective("CapPrm:\t01\nCapEff:\t000001fffeffffff\n"),
            Some(0x1ff_feff_ffff)
        );
        assert_eq!(parse_effective("Name:\tx\n"), None);
        let own = std::fs::read_to_string("/proc/self/status").unwrap();
        assert!(parse_effective(&own).is_some());
    }
}
