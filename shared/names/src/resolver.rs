//! Places in files to names, with blazesym. It is named in this file only.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::{CodeInfo, Input, Sym, Symbolizer};
use memleak_trace::describe::{InlinedFunction, Symbol};

use crate::object::Object;

/// What is known of a place in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Name {
    /// The function whose code it is, demangled; not the inlined one.
    pub function: Option<String>,
    /// Bytes from the function's start.
    pub offset: Option<u64>,
    pub file: Option<String>,
    pub line: Option<u32>,
    /// Functions inlined there, innermost first.
    pub inlined: Vec<InlinedFunction>,
}

/// Names places; keeps what it parsed.
pub struct Resolver {
    blazesym: Symbolizer,
    /// Files whose debug information cannot be read: only their symbol tables are used.
    undebuggable: HashSet<PathBuf>,
}

impl Default for Resolver {
    fn default() -> Self {
        Self::new()
    }
}

impl Resolver {
    pub fn new() -> Self {
        Resolver {
            blazesym: new_blazesym(),
            undebuggable: HashSet::new(),
        }
    }

    /// The names at offsets in the object's file: from its debug information, else from the symbol
    /// tables; `None` where there is no name. The object must live as long as `self`.
    pub fn names(&mut self, object: &Object, file_offsets: &[u64]) -> Vec<Option<Name>> {
        let mut names = vec![None; file_offsets.len()];
        for source in object.sources() {
            let unnamed: Vec<(usize, u64)> = file_offsets
                .iter()
                .enumerate()
                .filter(|(index, _)| names[*index].is_none())
                .filter_map(|(index, offset)| Some((index, object.address(*offset)?)))
                .collect();
            let addresses: Vec<u64> = unnamed.iter().map(|(_, address)| *address).collect();
            if addresses.is_empty() {
                break;
            }
            let found = self.look_up(&source, &addresses);
            for ((index, _), sym) in unnamed.into_iter().zip(found) {
                names[index] = sym.map(name);
            }
        }
        names
    }

    /// With debug information, else from the symbol tables, else none.
    fn look_up(&mut self, source: &Path, addresses: &[u64]) -> Vec<Option<Sym<'static>>> {
        if !self.undebuggable.contains(source) {
            if let Some(mut syms) = self.ask(source, addresses, true) {
                for (sym, address) in syms.iter_mut().zip(addresses) {
                    self.find_start(source, sym.as_mut(), *address);
                }
                return syms;
            }
            // Address 0 holds no code: if even that fails, it is the file that cannot be read.
            if self.ask(source, &[0], true).is_none() {
                self.undebuggable.insert(source.to_owned());
            } else if addresses.len() > 1 {
                // One of the batch is at fault; the others shall have their names.
                return addresses
                    .iter()
                    .flat_map(|address| self.look_up(source, &[*address]))
                    .collect();
            }
        }
        self.ask(source, addresses, false)
            .unwrap_or_else(|| vec![None; addresses.len()])
    }

    /// Debug information gives no start for a function in several pieces (hot and cold code):
    /// blazesym says 0 then. The symbol table knows where the piece begins.
    fn find_start(&mut self, source: &Path, sym: Option<&mut Sym<'static>>, address: u64) {
        let Some(sym) = sym.filter(|sym| sym.addr == 0) else {
            return;
        };
        let plain = self.ask(source, &[address], false);
        if let Some(Some(plain)) = plain.and_then(|mut found| found.pop()) {
            sym.addr = plain.addr;
            sym.offset = plain.offset;
        }
    }

    /// `None` if the file cannot be read this way.
    fn ask(
        &mut self,
        source: &Path,
        addresses: &[u64],
        debug_syms: bool,
    ) -> Option<Vec<Option<Sym<'static>>>> {
        let mut elf = Elf::new(source);
        elf.debug_syms = debug_syms;
        let source = Source::Elf(elf);
        let blazesym = &self.blazesym;
        // Files are anyone's bytes; a parser that gives up on them must not end the thread.
        let found = catch_unwind(AssertUnwindSafe(|| {
            let found = blazesym
                .symbolize(&source, Input::VirtOffset(addresses))
                .ok()?;
            Some(
                found
                    .into_iter()
                    .map(|one| one.into_sym().map(Sym::into_owned))
                    .collect::<Vec<_>>(),
            )
        }));
        match found {
            Ok(found) => found.filter(|found| found.len() == addresses.len()),
            Err(_) => {
                self.blazesym = new_blazesym();
                None
            }
        }
    }
}

impl Name {
    /// Puts the name into a row. `before` is how far in front of the frame's address, in bytes, it
    /// was looked up.
    pub fn fill(self, row: &mut Symbol, before: u64) {
        row.function = self.function;
        row.function_offset = self.offset.map(|offset| offset + before);
        row.file = self.file;
        row.line = self.line;
        row.inlined = self.inlined;
    }
}

/// Files are opened by descriptor, which always leads to the same one: nothing to reload.
fn new_blazesym() -> Symbolizer {
    Symbolizer::builder().enable_auto_reload(false).build()
}

fn name(sym: Sym<'_>) -> Name {
    let (file, line) = place(sym.code_info.as_deref());
    // blazesym lists the outermost first.
    let inlined = sym.inlined.iter().rev().map(|inlined| {
        let (file, line) = place(inlined.code_info.as_ref());
        InlinedFunction {
            function: inlined.name.to_string(),
            file,
            line,
        }
    });
    Name {
        inlined: inlined.collect(),
        offset: (sym.addr != 0 && !sym.name.is_empty()).then_some(sym.offset as u64),
        function: (!sym.name.is_empty()).then(|| sym.name.into_owned()),
        file,
        line,
    }
}

fn place(code: Option<&CodeInfo<'_>>) -> (Option<String>, Option<u32>) {
    code.map_or((None, None), |code| {
        (Some(code.to_path().display().to_string()), code.line)
    })
}
