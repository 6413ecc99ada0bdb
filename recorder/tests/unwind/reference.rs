//! The other unwinder: framehop, over the same registers, stack bytes and files. It evaluates no
//! expression that reads memory; `expressions.rs` does.

use std::cell::Cell;
use std::collections::HashMap;

use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};
use framehop::{ExplicitModuleSectionInfo, FrameAddress, Module, Unwinder};
use memleak_record::modules::{Modules, OpenedFile};
use memleak_record::wire::RawSample;
use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};
use object::{Endianness, Object, ObjectSection, ReadCache, ReadRef, elf};

use super::expressions::{Expressions, Registers, Step};
use super::recording::SPACE;

/// How the other walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// At the outermost frame.
    Root,
    /// It came to a word behind the bytes that were shipped.
    Window,
    /// It went wrong.
    Failed,
}

/// The other walk of a stack: addresses, leaf first.
pub struct Walk {
    pub addresses: Vec<FrameAddress>,
    pub end: End,
}

/// The unwinder for one process.
pub struct Reference {
    unwinder: UnwinderX86_64<Vec<u8>>,
    cache: CacheX86_64,
    modules: Vec<Loaded>,
}

/// A mapping of a file.
struct Loaded {
    addresses: std::ops::Range<u64>,
    /// Where address 0 of the file would lie.
    base: u64,
    expressions: Expressions,
}

impl Reference {
    pub fn new(modules: &Modules) -> Reference {
        let mut unwinder = UnwinderX86_64::new();
        let mut loaded = Vec::new();
        let mut known = HashMap::new();
        for mapped in modules.mapped(SPACE) {
            let Some(file) = mapped.file.and_then(|id| modules.file(id)) else {
                continue;
            };
            let sections = known.entry(file.id()).or_insert_with(|| sections(file));
            let Some((sections, segments, expressions)) = sections else {
                continue;
            };
            let Some(base) = segments.iter().find_map(|(offset, address, length)| {
                (mapped.file_offset <= offset + length
                    && mapped.file_offset + mapped.length > *offset)
                    .then(|| {
                        (mapped.start + offset)
                            .wrapping_sub(mapped.file_offset)
                            .wrapping_sub(*address)
                    })
            }) else {
                continue;
            };
            let addresses = mapped.start..mapped.start + mapped.length;
            loaded.push(Loaded {
                addresses: addresses.clone(),
                base,
                expressions: expressions.clone(),
            });
            unwinder.add_module(Module::new(
                mapped.path.clone(),
                addresses,
                base,
                sections.clone(),
            ));
        }
        Reference {
            unwinder,
            cache: CacheX86_64::new(),
            modules: loaded,
        }
    }

    /// Walks up to `limit` frames. The first address is a return address already.
    pub fn walk(&mut self, sample: &RawSample, limit: usize) -> Walk {
        let beyond = Cell::new(false);
        let mut read = |address: u64| {
            let word = address
                .checked_sub(sample.rsp)
                .and_then(|at| sample.stack.get(at as usize..)?.first_chunk::<8>());
            beyond.set(beyond.get() || (word.is_none() && address >= sample.rsp));
            word.map(|word| u64::from_le_bytes(*word)).ok_or(())
        };
        let mut registers = UnwindRegsX86_64::new(sample.rip, sample.rsp, sample.rbp);
        let mut addresses = Vec::new();
        let mut next = FrameAddress::from_return_address(sample.rip);
        let mut end = End::Root;
        while let Some(address) = next {
            addresses.push(address);
            if addresses.len() == limit {
                break;
            }
            next = match self.step(address, &mut registers, &mut read) {
                Ok(next) => next,
                Err(()) => {
                    end = End::Failed;
                    None
                }
            };
            // framehop tries the frame pointer then; what it finds is a guess.
            if beyond.get() {
                end = End::Window;
                // It would remember to guess there.
                self.cache = CacheX86_64::new();
                break;
            }
        }
        Walk { addresses, end }
    }
}

impl Reference {
    /// The caller of `address`, `None` behind the outermost frame.
    fn step(
        &mut self,
        address: FrameAddress,
        registers: &mut UnwindRegsX86_64,
        read: &mut impl FnMut(u64) -> Result<u64, ()>,
    ) -> Result<Option<FrameAddress>, ()> {
        let lookup = address.address_for_lookup();
        let now = Registers {
            ip: address.address(),
            sp: registers.sp(),
            bp: registers.bp(),
        };
        let by_expression = self
            .modules
            .iter()
            .find(|module| module.addresses.contains(&lookup))
            .and_then(|module| {
                let lookup = lookup.wrapping_sub(module.base);
                module.expressions.step(lookup, now, read)
            });
        let Some(step) = by_expression else {
            let next = self
                .unwinder
                .unwind_frame(address, registers, &mut self.cache, read)
                .map_err(drop)?;
            return Ok(next.and_then(FrameAddress::from_return_address));
        };
        let Step {
            registers: caller,
            interrupted,
        } = step.ok_or(())?;
        *registers = UnwindRegsX86_64::new(caller.ip, caller.sp, caller.bp);
        Ok(match interrupted {
            true => Some(FrameAddress::from_instruction_pointer(caller.ip)),
            false => FrameAddress::from_return_address(caller.ip),
        })
    }
}

/// Offset, address and length of each executable segment.
type Segments = Vec<(u64, u64, u64)>;

type Sections = ExplicitModuleSectionInfo<Vec<u8>>;

fn sections(file: &OpenedFile) -> Option<(Sections, Segments, Expressions)> {
    let cache = ReadCache::new(file.file());
    let elf = ElfFile64::<Endianness, _>::parse(&cache).ok()?;
    let data = |name: &str| Some(elf.section_by_name(name)?.data().ok()?.to_vec());
    let range = |name: &str| {
        let section = elf.section_by_name(name)?;
        Some(section.address()..section.address() + section.size())
    };
    let debug_frame = data(".debug_frame");
    let sections = ExplicitModuleSectionInfo {
        text_svma: range(".text"),
        got_svma: range(".got"),
        eh_frame_svma: range(".eh_frame"),
        // framehop reads one of the two; where there are both, `.eh_frame` has the start-up code only.
        eh_frame: data(".eh_frame").filter(|_| debug_frame.is_none()),
        eh_frame_hdr_svma: range(".eh_frame_hdr"),
        eh_frame_hdr: data(".eh_frame_hdr"),
        debug_frame,
        ..Default::default()
    };
    let address = |name| range(name).map_or(0, |range| range.start);
    let bases = gimli::BaseAddresses::default()
        .set_eh_frame(address(".eh_frame"))
        .set_text(address(".text"))
        .set_got(address(".got"));
    let expressions = Expressions::new(data(".eh_frame").unwrap_or_default(), bases);
    Some((sections, segments(&elf), expressions))
}

fn segments<'data, R: ReadRef<'data>>(file: &ElfFile64<'data, Endianness, R>) -> Segments {
    let endian = file.elf_header().endian().unwrap();
    file.elf_program_headers()
        .iter()
        .filter(|segment| segment.p_type(endian) == elf::PT_LOAD)
        .filter(|segment| segment.p_flags(endian) & elf::PF_X != 0)
        .map(|segment| {
            (
                segment.p_offset(endian),
                segment.p_vaddr(endian),
                segment.p_filesz(endian),
            )
        })
        .collect()
}
