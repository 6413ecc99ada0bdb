//! Frames to names: in files by the shared resolver, elsewhere by what compilers leave behind.

use std::collections::{BTreeMap, HashMap};

use memleak_names::{Name, Object};
use memleak_trace::FileId;
use memleak_trace::describe::Symbol;
use memleak_trace::stack::Location;

use crate::modules::OpenedFile;
use crate::symbolize::Request;
use crate::symbolize::kernel_names::KernelNames;
use crate::symbolize::perf_map::PerfMaps;

/// Names frames; keeps what it parsed.
pub struct Resolver {
    names: memleak_names::Resolver,
    /// The files met, with their debug information; `None` where the file makes no sense.
    objects: HashMap<FileId, Option<Object>>,
    perf_maps: PerfMaps,
    kernel: KernelNames,
}

impl Resolver {
    pub fn new() -> Self {
        Resolver {
            names: memleak_names::Resolver::new(),
            objects: HashMap::new(),
            perf_maps: PerfMaps::default(),
            kernel: KernelNames::default(),
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
                (Location::Kernel { .. }, _) => symbols.push(self.kernel.symbol(&request)),
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
        for ((row, (request, _)), name) in rows.zip(group).zip(self.look_up(file, &offsets)) {
            if let Some(name) = name {
                name.fill(row, before(request));
            }
        }
    }

    /// Names at file offsets.
    fn look_up(&mut self, file: &OpenedFile, offsets: &[u64]) -> Vec<Option<Name>> {
        let object = self
            .objects
            .entry(file.id())
            .or_insert_with(|| Object::new(file.shared_file(), file.debug_files().iter().cloned()));
        match object {
            Some(object) => self.names.names(object, offsets),
            None => vec![None; offsets.len()],
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
