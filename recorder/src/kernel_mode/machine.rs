//! What the machine says of its kernel memory.

use anyhow::Context;

use super::kallsyms::Kallsyms;
use crate::talk::say;

const POSSIBLE: &str = "/sys/devices/system/cpu/possible";

/// What the probes must know of the machine.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    pub page_size: u64,
    /// CPUs that there may be.
    pub possible_cpus: u32,
    /// Address of the variable that holds the address of the first `struct page`; 0: not known.
    pub vmemmap_at: u64,
}

impl Facts {
    /// Of this machine; says so where addresses of the kernel are hidden.
    pub fn read(page_size: u64) -> anyhow::Result<Facts> {
        let symbols = Kallsyms::read().context("cannot read /proc/kallsyms; mount /proc")?;
        if symbols.is_none() {
            say(format_args!(
                "memleak-record: this user may not see addresses of the kernel: stacks have no names; run as root, and set kernel.kptr_restrict to 0 or 1"
            ));
        }
        Ok(Facts {
            page_size,
            possible_cpus: possible_cpus(),
            vmemmap_at: vmemmap_at(symbols.as_ref()),
        })
    }
}

/// CPUs that there may be: percpu memory is taken for each of them.
pub fn possible_cpus() -> u32 {
    let text = std::fs::read_to_string(POSSIBLE).unwrap_or_default();
    count(&text)
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u32))
}

/// CPUs of a list such as `0-3,8`.
fn count(list: &str) -> Option<u32> {
    let ranges = list.trim().split(',').map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        Some(last.checked_sub(first)? + 1)
    });
    ranges.sum()
}

/// Where the kernel keeps the address of its first `struct page`; 0 where that is not known.
fn vmemmap_at(symbols: Option<&Kallsyms>) -> u64 {
    symbols
        .and_then(|symbols| symbols.address_of("vmemmap_base"))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lists of CPUs as the kernel writes them.
    #[test]
    fn lists() {
        for (list, cpus) in [("0\n", Some(1)), ("0-3\n", Some(4)), ("0-1,4,6-7", Some(5))] {
            assert_eq!(count(list), cpus, "{list}");
        }
        assert_eq!(count(""), None);
        assert_eq!(count("3-1"), None);
        assert!(possible_cpus() >= 1);
    }
}
