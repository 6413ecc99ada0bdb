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
    /// Their numbers are below this.
    pub cpu_numbers: u32,
    /// Address of the variable that holds the address of the first `struct page`; 0: not known.
    pub vmemmap_at: u64,
    pub tables: Tables,
}

/// The kernel's tables for walking its stacks (ORC). All 0: it has none, or they are not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    pub code_start: u64,
    pub code_end: u64,
    /// Where the rows' code begins: `count` numbers of 32 bits, each counted from its own place.
    pub addresses: u64,
    pub rows: u64,
    pub count: u32,
}

impl Tables {
    /// As the kernel's symbols have them.
    fn find(symbols: &Kallsyms) -> Option<Tables> {
        let addresses = symbols.address_of("__start_orc_unwind_ip")?;
        let end = symbols.address_of("__stop_orc_unwind_ip")?;
        Some(Tables {
            code_start: symbols.address_of("_stext")?,
            code_end: symbols.address_of("_etext")?,
            addresses,
            rows: symbols.address_of("__start_orc_unwind")?,
            count: u32::try_from(end.checked_sub(addresses)? / 4).ok()?,
        })
    }
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
        let cpus = Cpus::read();
        Ok(Facts {
            page_size,
            possible_cpus: cpus.possible,
            cpu_numbers: cpus.numbers,
            vmemmap_at: vmemmap_at(symbols.as_ref()),
            tables: symbols.as_ref().and_then(Tables::find).unwrap_or_default(),
        })
    }
}

/// CPUs that there may be: percpu memory is taken for each of them.
pub fn possible_cpus() -> u32 {
    Cpus::read().possible
}

/// The CPUs that there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cpus {
    possible: u32,
    /// Above the highest number of one.
    numbers: u32,
}

impl Cpus {
    fn read() -> Cpus {
        let text = std::fs::read_to_string(POSSIBLE).unwrap_or_default();
        Cpus::parse(&text).unwrap_or_else(|| {
            let online = std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u32);
            Cpus {
                possible: online,
                numbers: online,
            }
        })
    }

    /// Of a list such as `0-3,8`.
    fn parse(list: &str) -> Option<Cpus> {
        let mut cpus = Cpus {
            possible: 0,
            numbers: 0,
        };
        for range in list.trim().split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
            cpus.possible += last.checked_sub(first)? + 1;
            cpus.numbers = cpus.numbers.max(last + 1);
        }
        Some(cpus)
    }
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

    /// The tables are taken only if all of their ends are known.
    #[test]
    fn tables() {
        let text = "ffffffff81000000 T _stext\nffffffff82200000 T _etext\n\
            ffffffff83000000 R __start_orc_unwind_ip\nffffffff83000400 R __stop_orc_unwind_ip\n\
            ffffffff83000400 R __start_orc_unwind\n";
        let symbols = Kallsyms::parse(text.to_owned()).unwrap();
        let tables = Tables::find(&symbols).unwrap();
        assert_eq!((tables.count, tables.rows), (256, 0xffff_ffff_8300_0400));
        let symbols = Kallsyms::parse(text.replace("_etext", "other")).unwrap();
        assert_eq!(Tables::find(&symbols), None);
    }

    /// Lists of CPUs as the kernel writes them.
    #[test]
    fn lists() {
        for (list, possible, numbers) in [("0\n", 1, 1), ("0-3\n", 4, 4), ("0-1,4,6-7", 5, 8)] {
            let cpus = Some(Cpus { possible, numbers });
            assert_eq!(Cpus::parse(list), cpus, "{list}");
        }
        assert_eq!(Cpus::parse(""), None);
        assert_eq!(Cpus::parse("3-1"), None);
        let cpus = Cpus::read();
        assert!(possible_cpus() >= 1 && cpus.numbers >= possible_cpus());
    }
}
