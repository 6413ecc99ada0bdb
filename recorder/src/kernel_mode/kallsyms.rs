//! The kernel's symbols, from `/proc/kallsyms`.

use std::io;

const KALLSYMS: &str = "/proc/kallsyms";

/// What code without a module belongs to.
pub const KERNEL: &str = "[kernel]";

/// A symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol<'a> {
    pub address: u64,
    pub name: &'a str,
    /// `[kernel]`, or the module's name in brackets.
    pub module: &'a str,
}

/// Functions by address.
#[derive(Debug, Default)]
pub struct Kallsyms {
    text: String,
    /// Address, and where its line lies in the text.
    functions: Vec<(u64, usize)>,
}

impl Kallsyms {
    /// Reads those of the running kernel; `None` where this user may not see addresses
    /// (`kernel.kptr_restrict`, CAP_SYSLOG).
    pub fn read() -> io::Result<Option<Kallsyms>> {
        Ok(Kallsyms::parse(std::fs::read_to_string(KALLSYMS)?))
    }

    /// Of the text of the file.
    pub fn parse(text: String) -> Option<Kallsyms> {
        let mut functions = Vec::new();
        let mut at = 0;
        for line in text.split_inclusive('\n') {
            if let Some((symbol, kind)) = parse_line(line)
                && matches!(kind, 't' | 'T' | 'w' | 'W')
            {
                functions.push((symbol.address, at));
            }
            at += line.len();
        }
        if functions.iter().all(|(address, _)| *address == 0) {
            return None;
        }
        // Of several names at one address the first one is kept in front.
        functions.sort_by_key(|(address, _)| *address);
        Some(Kallsyms { text, functions })
    }

    /// The function at an address.
    pub fn find(&self, address: u64) -> Option<Symbol<'_>> {
        let behind = self
            .functions
            .partition_point(|(start, _)| *start <= address);
        let start = self.functions.get(behind.checked_sub(1)?)?.0;
        let first = self.functions.partition_point(|(at, _)| *at < start);
        self.symbol(first)
    }

    /// Functions with their ends, in order of address.
    pub fn functions(&self) -> impl Iterator<Item = (Symbol<'_>, u64)> {
        (0..self.functions.len()).filter_map(|index| {
            let symbol = self.symbol(index)?;
            let end = self.functions[index..]
                .iter()
                .find(|(address, _)| *address > symbol.address);
            Some((symbol, end.map_or(u64::MAX, |(address, _)| *address)))
        })
    }

    /// Address of a symbol of any kind.
    pub fn address_of(&self, name: &str) -> Option<u64> {
        self.text
            .lines()
            .filter_map(parse_line)
            .find(|(symbol, _)| symbol.name == name && symbol.module == KERNEL)
            .map(|(symbol, _)| symbol.address)
    }

    fn symbol(&self, index: usize) -> Option<Symbol<'_>> {
        let (_, at) = self.functions.get(index)?;
        Some(parse_line(self.text.get(*at..)?.lines().next()?)?.0)
    }
}

/// `ffffffff81000000 T name`, and behind a tab the module in brackets.
fn parse_line(line: &str) -> Option<(Symbol<'_>, char)> {
    let mut fields = line.split_whitespace();
    let address = u64::from_str_radix(fields.next()?, 16).ok()?;
    let kind = fields.next()?.chars().next()?;
    let symbol = Symbol {
        address,
        name: fields.next()?,
        module: fields.next().unwrap_or(KERNEL),
    };
    Some((symbol, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "ffffffff81000000 T first\nffffffff81000100 t second\n\
        ffffffff81000100 T alias\nffffffff82000000 D vmemmap_base\n\
        ffffffffc0000000 t inside\t[ext4]\n";

    /// Functions by address, with their module; data is found by name only.
    #[test]
    fn symbols() {
        let symbols = Kallsyms::parse(TEXT.to_owned()).unwrap();
        let name = |address| {
            symbols
                .find(address)
                .map(|found| (found.name, found.module))
        };
        assert_eq!(name(0xffff_ffff_8100_00ff), Some(("first", KERNEL)));
        assert_eq!(name(0xffff_ffff_8100_0100), Some(("second", KERNEL)));
        assert_eq!(name(0xffff_ffff_c000_0123), Some(("inside", "[ext4]")));
        assert_eq!(name(0x1000), None);
        assert_eq!(
            symbols.address_of("vmemmap_base"),
            Some(0xffff_ffff_8200_0000)
        );
        assert_eq!(symbols.address_of("inside"), None);
        let ends: Vec<u64> = symbols.functions().map(|(_, end)| end & 0xffff).collect();
        assert_eq!(ends, [0x100, 0, 0, 0xffff]);
    }

    /// Where addresses are hidden, there are no symbols.
    #[test]
    fn hidden() {
        let text = "0000000000000000 T first\n0000000000000000 T second\n";
        assert!(Kallsyms::parse(text.to_owned()).is_none());
    }
}
