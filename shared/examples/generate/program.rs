//! A program that never ran: threads with call sites that allocate, free, reallocate and map.

use memleak_trace::{Event, FileId, FrameId, Op, SpaceId, Stack, StackEnd, StackId};

use crate::allocator::Arena;
use crate::numbers::{Numbers, mix};

pub const PID: i32 = 4242;
pub const SPACE: SpaceId = SpaceId(1);
pub const FILES: u32 = 6;
const PAGE: u64 = 4096;
const MAPPINGS: usize = 400;
/// Nanoseconds between the two times that two threads may read in the wrong order.
const SWAPPED_NS: i64 = 3_000;

/// What is generated.
#[derive(Clone, Copy)]
pub struct Shape {
    pub events: u64,
    /// Live blocks, once the program has started up.
    pub live: u64,
    pub stacks: u64,
    pub threads: u64,
    pub seed: u64,
}

/// A live block, small because there are millions of them.
#[derive(Clone, Copy)]
struct Block {
    addr: u64,
    size: u32,
    arena: u32,
}

pub struct Program {
    shape: Shape,
    numbers: Numbers,
    arenas: Vec<Arena>,
    live: Vec<Block>,
    mappings: Vec<(u64, u64)>,
    map_top: u64,
    ts: i64,
    thread: u64,
    told: Vec<bool>,
}

impl Program {
    pub fn new(shape: Shape, start: i64) -> Self {
        let base = |index: u64| match index {
            0 => 0x5555_5575_0000,
            index => 0x7f00_0000_0000 + (index << 36),
        };
        Program {
            shape,
            numbers: Numbers::new(shape.seed),
            arenas: (0..shape.threads.div_ceil(2))
                .map(|index| Arena::new(base(index)))
                .collect(),
            live: Vec::new(),
            mappings: Vec::new(),
            map_top: 0x7e00_0000_0000,
            ts: start,
            thread: 0,
            told: vec![false; shape.stacks as usize],
        }
    }

    /// The next call: one event, or the two of a reallocation. `tell` takes each with the stack that
    /// it is the first to use.
    pub fn step<E>(
        &mut self,
        tell: &mut impl FnMut(&Event, Option<&Stack>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.ts += 60 + self.numbers.skewed(4000) as i64;
        if self.numbers.one_in(24) {
            self.thread = self.numbers.skewed(self.shape.threads);
        }
        if self.numbers.one_in(4000) {
            return self.map(tell);
        }
        if !self.live.is_empty() && self.numbers.one_in(40) {
            return self.reallocate(tell);
        }
        if self.allocates() {
            let stack = self.stack_of(|function| function != Function::Realloc);
            let size = self.size(stack);
            let arena = (self.thread / 2) as u32;
            let addr = self.arenas[arena as usize].allocate(u64::from(size));
            self.live.push(Block { addr, size, arena });
            let op = match Function::of(stack) {
                Function::Calloc => Op::Calloc,
                _ => Op::Malloc,
            };
            let event = self.event(op, addr, u64::from(size), Some(stack));
            return self.tell_with_stack(&event, tell);
        }
        let block = self.take_block();
        self.arenas[block.arena as usize].free(block.addr, u64::from(block.size));
        tell(&self.event(Op::Free, block.addr, 0, None), None)
    }

    /// Grows fast until the live set is as large as asked for, then keeps it.
    fn allocates(&mut self) -> bool {
        let live = self.live.len() as u64;
        let of_1000 = match live.cmp(&self.shape.live) {
            _ if live == 0 => 1000,
            std::cmp::Ordering::Less if live * 10 < self.shape.live * 9 => 800,
            std::cmp::Ordering::Less => 520,
            _ => 480,
        };
        self.numbers.below(1000) < of_1000
    }

    /// Mostly a young block, else any.
    fn take_block(&mut self) -> Block {
        let count = self.live.len() as u64;
        let age = match self.numbers.below(10) {
            0..8 => self.numbers.skewed(count.min(4096)),
            8 => self.numbers.skewed(count),
            _ => self.numbers.below(count),
        };
        self.live.swap_remove((count - 1 - age) as usize)
    }

    fn reallocate<E>(
        &mut self,
        tell: &mut impl FnMut(&Event, Option<&Stack>) -> Result<(), E>,
    ) -> Result<(), E> {
        let block = self.take_block();
        tell(&self.event(Op::ReallocRelease, block.addr, 0, None), None)?;
        self.ts += 80;
        let size = (block.size.saturating_mul(2)).min(1 << 20);
        self.arenas[block.arena as usize].free(block.addr, u64::from(block.size));
        let addr = self.arenas[block.arena as usize].allocate(u64::from(size));
        self.live.push(Block {
            addr,
            size,
            arena: block.arena,
        });
        let stack = self.stack_of(|function| function == Function::Realloc);
        let event = self.event(Op::Realloc, addr, u64::from(size), Some(stack));
        self.tell_with_stack(&event, tell)
    }

    fn map<E>(
        &mut self,
        tell: &mut impl FnMut(&Event, Option<&Stack>) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.mappings.len() >= MAPPINGS {
            let index = self.numbers.below(MAPPINGS as u64) as usize;
            let (addr, length) = self.mappings.swap_remove(index);
            return tell(&self.event(Op::Munmap, addr, length, None), None);
        }
        let length = (1 + self.numbers.skewed(256)) * PAGE;
        let addr = self.map_top;
        self.map_top += length + PAGE;
        self.mappings.push((addr, length));
        let stack = self.numbers.below(self.shape.stacks.min(16));
        let event = self.event(Op::Mmap, addr, length, Some(stack));
        self.tell_with_stack(&event, tell)
    }

    fn event(&mut self, op: Op, addr: u64, size: u64, stack: Option<u64>) -> Event {
        let swapped = self.numbers.one_in(50_000);
        Event {
            ts: self.ts - if swapped { SWAPPED_NS } else { 0 },
            pid: PID,
            tid: PID + self.thread as i32,
            op,
            space: SPACE,
            addr,
            size,
            stack: stack.map(|stack| StackId(stack as i32)),
        }
    }

    /// A stack, one of the few hot ones more likely, that calls a function as wanted.
    fn stack_of(&mut self, wanted: impl Fn(Function) -> bool) -> u64 {
        loop {
            let stack = self.numbers.skewed(self.shape.stacks);
            if wanted(Function::of(stack)) {
                return stack;
            }
        }
    }

    /// A call site mostly asks for the same size.
    fn size(&mut self, stack: u64) -> u32 {
        let kind = mix(stack);
        let usual = 16 + kind % 240;
        let size = match self.numbers.below(16) {
            0..12 => usual,
            12..15 => 8 + self.numbers.skewed(1024),
            _ => 8 + self.numbers.skewed(64 << 10),
        };
        size as u32
    }

    fn tell_with_stack<E>(
        &mut self,
        event: &Event,
        tell: &mut impl FnMut(&Event, Option<&Stack>) -> Result<(), E>,
    ) -> Result<(), E> {
        let first = event.stack.filter(|stack| !self.told[stack.0 as usize]);
        if let Some(stack) = first {
            self.told[stack.0 as usize] = true;
        }
        tell(event, first.map(stack).as_ref())
    }
}

/// What a stack calls: its first frame is a call of one function.
#[derive(Clone, Copy, PartialEq)]
enum Function {
    Malloc,
    Calloc,
    Realloc,
}

impl Function {
    fn of(stack: u64) -> Function {
        match stack % 16 {
            7 => Function::Calloc,
            3 | 11 => Function::Realloc,
            _ => Function::Malloc,
        }
    }
}

/// The frames of a stack: those near the root are shared with many others.
fn stack(id: StackId) -> Stack {
    let number = id.0 as u64;
    let depth = 6 + mix(number) % 26;
    let frame = |level: u64| {
        // The root has level `depth`; two levels nearer to the leaf the tree has twice the branches.
        let branch = number % (1 << ((depth - level) / 2).min(20));
        function_frame(mix(branch ^ level << 32) % FUNCTIONS)
    };
    Stack {
        id,
        frames: std::iter::once(function_frame(FUNCTIONS + number))
            .chain((1..=depth).map(frame))
            .collect(),
        end: StackEnd::Complete,
    }
}

/// Functions that are called from elsewhere; each stack has one of its own besides.
pub const FUNCTIONS: u64 = 8_000;

/// A return address in a function.
pub fn function_frame(number: u64) -> FrameId {
    let file = FileId(1 + (number % u64::from(FILES)) as u32);
    FrameId::in_file(file, 0x1000 + number * 0x40 + 0x1b).unwrap_or_default()
}
