//! What the machine says of its kernel memory.

use super::kallsyms::Kallsyms;

const POSSIBLE: &str = "/sys/devices/system/cpu/possible";

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
pub fn vmemmap_at(symbols: Option<&Kallsyms>) -> u64 {
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
