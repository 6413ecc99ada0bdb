//! Names of kernel code.

use std::time::{Duration, Instant};

use memleak_trace::describe::Symbol;

use crate::kernel_mode::kallsyms::Kallsyms;
use crate::symbolize::Request;

/// Symbols are not read again for this long: modules may be loaded, but not that often.
const PAUSE: Duration = Duration::from_secs(5);

/// The kernel's symbols, read when the first one is asked for.
#[derive(Debug, Default)]
pub struct KernelNames {
    symbols: Option<Kallsyms>,
    read: Option<Instant>,
}

impl KernelNames {
    /// A row for a frame in the kernel; without a name where the symbols cannot be read.
    pub fn symbol(&mut self, request: &Request) -> Symbol {
        let mut row = Symbol {
            frame: request.frame,
            address: request.address,
            ..Symbol::default()
        };
        // A return address: the call lies before it.
        let call = request.address.saturating_sub(1);
        if let Some(found) = self.symbols().and_then(|symbols| symbols.find(call)) {
            row.function = Some(found.name.to_owned());
            row.function_offset = Some(request.address - found.address);
            row.module = Some(found.module.to_owned());
        }
        row
    }

    fn symbols(&mut self) -> Option<&Kallsyms> {
        let is_due = self.read.is_none_or(|read| read.elapsed() >= PAUSE);
        if is_due {
            self.read = Some(Instant::now());
            let read = Kallsyms::read().ok().flatten();
            self.symbols = read.or(self.symbols.take());
        }
        self.symbols.as_ref()
    }
}
