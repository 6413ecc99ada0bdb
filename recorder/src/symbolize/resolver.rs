//! Frames to names, with blazesym. It is named in this file only.

use std::collections::{BTreeMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::{CodeInfo, Input, Sym, Symbolizer};
use memleak_trace::FileId;
use memleak_trace::describe::{InlinedFunction, Symbol};
use memleak_trace::stack::Location;

use crate::modules::OpenedFile;
use crate::symbolize::Request;
use crate::symbolize::perf_map::PerfMaps;

/// Names frames; keeps what it parsed.
pub struct Resolver {
    blazesym: Symbolizer,
    /// Files whose debug information cannot be read: only their symbol tables are used.
    undebuggable: HashSet<FileId>,
    perf_maps: PerfMaps,
}

impl Resolver {
    pub fn new() -> Self {
        Resolver {
            blazesym: new_blazesym(),
            undebuggable: HashSet::new(),
            perf_maps: PerfMaps::default(),
        }
    }

    /// A row for every request, with names where they are known.
    pub fn resolve(&mut self, requests: Vec<Request>) -> Vec<Symbol> {
        let mut symbols = Vec::with_capacity(requests.len());
        let mut by_file: BTreeMap<FileId, Vec<(Request, u64)>> = BTreeMap::new();
        for request in requests {
            match (request.frame.location(), &request.file) {
                (Location::File { file, offset }, Some(_)) => {
                    by_file.entry(file).or_default().push((request, offset));
                }
                (Location::File { .. } | Location::Anonymous { .. }, _) => {
                    symbols.push(self.compiled_at_run_time(&request));
                }
                (Location::Kernel { .. }, _) => symbols.push(unnamed(&request)),
            }
        }
        for group in by_file.into_values() {
            self.resolve_file(&group, &mut symbols);
        }
        symbols
    }

    /// Frames of one file, with their offsets.
    fn resolve_file(&mut self, group: &[(Request, u64)], symbols: &mut Vec<Symbol>) {
        let first = symbols.len();
        symbols.extend(group.iter().map(|(request, _)| unnamed(request)));
        // A file that was written over would lend its new names to the old code.
        let Some(file) = group.first().and_then(|(request, _)| request.file.as_ref()) else {
            return;
        };
        if !file.is_unchanged() {
            return;
        }
        let offsets: Vec<u64> = group
            .iter()
            .map(|(request, offset)| offset.saturating_sub(before(request)))
            .collect();
        let rows = symbols.iter_mut().skip(first);
        for ((row, (request, _)), sym) in rows.zip(group).zip(self.look_up(file, &offsets)) {
            if let Some(sym) = sym {
                fill(row, sym, before(request));
            }
        }
    }

    /// Names at file offsets: with debug information, else from the symbol tables, else none.
    fn look_up(&mut self, file: &OpenedFile, offsets: &[u64]) -> Vec<Option<Sym<'static>>> {
        if !self.undebuggable.contains(&file.id()) {
            if let Some(mut syms) = self.ask(file, offsets, true) {
                for (sym, offset) in syms.iter_mut().zip(offsets) {
                    self.find_start(file, sym.as_mut(), *offset);
                }
                return syms;
            }
            // Offset 0 holds no code: if even that fails, it is the file that cannot be read.
            if self.ask(file, &[0], true).is_none() {
                self.undebuggable.insert(file.id());
            } else if offsets.len() > 1 {
                // One frame of the batch is at fault; the others shall have their names.
                return offsets
                    .iter()
                    .flat_map(|offset| self.look_up(file, &[*offset]))
                    .collect();
            }
        }
        self.ask(file, offsets, false)
            .unwrap_or_else(|| vec![None; offsets.len()])
    }

    /// Debug information gives no start for a function in several pieces (hot and cold code):
    /// blazesym says 0 then. The symbol table knows where the piece begins.
    fn find_start(&mut self, file: &OpenedFile, sym: Option<&mut Sym<'static>>, offset: u64) {
        let Some(sym) = sym.filter(|sym| sym.addr == 0) else {
            return;
        };
        let plain = self.ask(file, &[offset], false);
        if let Some(Some(plain)) = plain.and_then(|mut found| found.pop()) {
            sym.addr = plain.addr;
            sym.offset = plain.offset;
        }
    }

    /// `None` if the file cannot be read this way.
    fn ask(
        &mut self,
        file: &OpenedFile,
        offsets: &[u64],
        debug_syms: bool,
    ) -> Option<Vec<Option<Sym<'static>>>> {
        let mut elf = Elf::new(file.lasting_path());
        elf.debug_syms = debug_syms;
        let source = Source::Elf(elf);
        let blazesym = &self.blazesym;
        // Files are anyone's bytes; a parser that gives up on them must not end the thread.
        let found = catch_unwind(AssertUnwindSafe(|| {
            let found = blazesym
                .symbolize(&source, Input::FileOffset(offsets))
                .ok()?;
            Some(
                found
                    .into_iter()
                    .map(|one| one.into_sym().map(Sym::into_owned))
                    .collect::<Vec<_>>(),
            )
        }));
        match found {
            Ok(found) => found.filter(|found| found.len() == offsets.len()),
            Err(_) => {
                self.blazesym = new_blazesym();
                None
            }
        }
    }

    fn compiled_at_run_time(&mut self, request: &Request) -> Symbol {
        let mut symbol = unnamed(request);
        let back = before(request);
        if let Some((name, offset)) = self
            .perf_maps
            .find(request.pid, request.address.saturating_sub(back))
        {
            symbol.function = Some(name);
            symbol.function_offset = Some(offset + back);
        }
        symbol
    }
}

/// Files are opened by descriptor, which always leads to the same one: nothing to reload.
fn new_blazesym() -> Symbolizer {
    Symbolizer::builder().enable_auto_reload(false).build()
}

/// A return address lies one past the call, and may already belong to the next line or function.
fn before(request: &Request) -> u64 {
    u64::from(request.frame.is_return_address())
}

fn unnamed(request: &Request) -> Symbol {
    let file = request.file.as_ref();
    Symbol {
        frame: request.frame,
        address: request.address,
        module: file
            .map(|file| file.path().to_owned())
            .or_else(|| request.module.clone()),
        build_id: file.and_then(|file| file.build_id()).map(str::to_owned),
        ..Symbol::default()
    }
}

/// `before` is how far in front of the frame's address the name was looked up.
fn fill(row: &mut Symbol, sym: Sym<'_>, before: u64) {
    if !sym.name.is_empty() {
        row.function = Some(sym.name.into_owned());
        row.function_offset = (sym.addr != 0).then_some(sym.offset as u64 + before);
    }
    (row.file, row.line) = place(sym.code_info.as_deref());
    // blazesym lists the outermost first.
    row.inlined = sym
        .inlined
        .iter()
        .rev()
        .map(|inlined| {
            let (file, line) = place(inlined.code_info.as_ref());
            InlinedFunction {
                function: inlined.name.to_string(),
                file,
                line,
            }
        })
        .collect();
}

fn place(code: Option<&CodeInfo<'_>>) -> (Option<String>, Option<u32>) {
    code.map_or((None, None), |code| {
        (Some(code.to_path().display().to_string()), code.line)
    })
}
