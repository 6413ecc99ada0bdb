//! Records a process with the library's own parts, and keeps stacks and samples instead of a trace.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use memleak_record::discover::Discovery;
use memleak_record::kernel::{Kernel, LoadOptions, Place, Scope};
use memleak_record::layout::{self, SPACE_OWN, Space};
use memleak_record::modules::Modules;
use memleak_record::wire::{RawSample, RawStack, Record, StackHash, decode, decode_sample};
use memleak_trace::{SpaceId, StackEnd};

pub const SPACE: SpaceId = SpaceId(1);

/// A test that never gets what it wants ends with what it has.
const LIMIT: Duration = Duration::from_secs(30);

/// What was recorded of a process.
pub struct Recording {
    pub modules: Modules,
    pub stacks: HashMap<StackHash, RawStack>,
    pub samples: Vec<RawSample>,
    /// Allocations by the end of their stack; those whose stack is unknown under `None`.
    pub allocations: HashMap<Option<StackEnd>, u64>,
}

/// How to record.
#[derive(Clone, Copy)]
pub struct Options {
    /// Of how many stacks one is a sample.
    pub sample_every: u32,
    /// How many samples to wait for.
    pub wanted: usize,
    /// The functions to probe; all if empty. (To detach a probe takes a tenth of a second.)
    pub only: &'static [&'static str],
}

/// Records a process that runs already, and has opened its libraries, until there are enough
/// samples. `start` makes it work.
pub fn record(pid: u32, executable: &str, options: Options, start: impl FnOnce()) -> Recording {
    let enough = |recording: &Recording| recording.samples.len() >= options.wanted;
    record_until(pid, executable, options, start, enough)
}

/// As `record`, until it is enough.
pub fn record_until(
    pid: u32,
    executable: &str,
    options: Options,
    start: impl FnOnce(),
    enough: impl Fn(&Recording) -> bool,
) -> Recording {
    let mut modules = Modules::new();
    modules.refresh(pid as i32, SPACE).unwrap();
    let mut discovery = Discovery::default();
    let files = discovery.read(modules.mapped(SPACE), &modules, executable);
    let mut kernel = Kernel::load(LoadOptions {
        ring_bytes: 64 << 20,
        row_capacity: 2 * discovery.row_count() as u32,
        page_size: 4096,
        pause_at: 0,
        selection: Default::default(),
        tracked_blocks: 1,
        counting: false,
        hold_ns: 0,
        follow: false,
        sample_every: options.sample_every,
        with_kernel: None,
    })
    .expect("recording needs the rights of root");
    let (rows, left_out) = discovery.mapping_rows(modules.mapped(SPACE), kernel.rows());
    assert!(left_out.is_empty(), "no room for the rows of {left_out:?}");
    let place = Place {
        slot: 0,
        pid,
        space: SPACE.0 as u32,
    };
    let space = Space {
        id: place.space,
        pid,
        flags: SPACE_OWN,
        ..Space::default()
    };
    kernel.introduce(pid, space).unwrap();
    kernel.set_mappings(place, &rows, 0).unwrap();
    let points = discovery.points(&files);
    assert!(!points.is_empty(), "no allocator found in {executable}");
    let scope = Scope::ProcessOf(NonZeroU32::new(pid).unwrap());
    for point in &points {
        if !options.only.is_empty() && !options.only.contains(&point.symbol.as_str()) {
            continue;
        }
        kernel.attach(point, scope).unwrap();
    }
    let mut ring = kernel.take_ring().unwrap();
    let mut recording = Recording {
        modules,
        stacks: HashMap::new(),
        samples: Vec::new(),
        allocations: HashMap::new(),
    };
    kernel.set_recording(layout::Recording::Open).unwrap();
    start();
    let began = Instant::now();
    while !enough(&recording) && began.elapsed() < LIMIT {
        while let Some(record) = ring.next() {
            recording.take(&record);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    kernel.set_recording(layout::Recording::Closed).unwrap();
    std::thread::sleep(Duration::from_millis(2));
    while let Some(record) = ring.next() {
        recording.take(&record);
    }
    recording
}

impl Recording {
    fn take(&mut self, bytes: &[u8]) {
        if let Some(sample) = decode_sample(bytes) {
            self.samples.push(sample);
            return;
        }
        match decode(bytes).unwrap() {
            Record::Stack(stack) => {
                self.stacks.insert(stack.hash, stack);
            }
            // A release has no stack, and no size where it is a point.
            Record::Event(event) => {
                let Some(hash) = event.stack else { return };
                let end = self.stacks.get(&hash).map(|stack| stack.end);
                *self.allocations.entry(end).or_default() += 1;
            }
            Record::Exec(exec) => panic!("process {} executed another program", exec.pid),
            Record::Fork(fork) => panic!("process {} was followed", fork.pid),
            // The watched program may end with the test.
            Record::Exit(_) => {}
            Record::KernelAlloc(..) | Record::Cache(_) => panic!("the kernel is not recorded"),
        }
    }
}
