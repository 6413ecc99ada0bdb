//! The kernel accepts every program, with and without what tests switch on. Needs root.

use memleak_record::functions::LOADER_PROGRAMS;
use memleak_record::kernel::{Kernel, LoadOptions};
use memleak_record::kernel_mode::KernelOptions;
use memleak_record::kernel_mode::beside::{Beside, settings};
use memleak_record::kernel_mode::choice::Choice;
use memleak_record::layout::Counters;
use memleak_trace::Selection;
use memleak_trace::selection::Sampling;

fn options(sample_every: u32, selection: Selection) -> LoadOptions {
    LoadOptions {
        ring_bytes: 1 << 20,
        row_capacity: 1000,
        page_size: 4096,
        pause_at: 0,
        selection,
        tracked_blocks: 1 << 20,
        counting: false,
        hold_ns: 0,
        follow: false,
        sample_every,
        with_kernel: None,
    }
}

fn load(sample_every: u32, selection: Selection) {
    let kernel = Kernel::load(options(sample_every, selection));
    if let Err(error) = &kernel {
        // The verifier's log has its lines only so.
        println!("{error}");
    }
    assert_eq!(kernel.unwrap().counters().unwrap(), Counters::default());
}

#[test]
fn the_kernel_accepts_the_probes() {
    load(0, Selection::default());
}

#[test]
fn the_kernel_accepts_the_probes_that_ship_samples() {
    load(100, Selection::default());
}

/// Of the two programs that hold a thread, this kernel needs one; the verifier sees both.
#[test]
fn the_kernel_accepts_both_ways_to_wait() {
    let mut kernel = Kernel::load(LoadOptions {
        hold_ns: 1_000_000,
        ..options(0, Selection::default())
    })
    .unwrap();
    for name in LOADER_PROGRAMS {
        kernel.load_program(name).unwrap();
    }
}

/// Whatever is left out: the verifier sees other branches each time.
#[test]
fn the_kernel_accepts_the_probes_that_choose() {
    let sampling = [Sampling::OneIn(100), Sampling::Bytes(65_536)].map(Some);
    for sampling in sampling.into_iter().chain([None]) {
        let selection = Selection {
            min_size: Some(16),
            max_size: Some(1 << 20),
            sampling,
        };
        load(0, selection);
    }
}

/// The object that has the probes in the kernel, too, with and without stacks; all are attached.
#[test]
fn the_kernel_accepts_the_probes_on_both_sides() {
    for stacks in [true, false] {
        let kernel_options = KernelOptions {
            percpu: true,
            stacks,
            choice: Choice {
                recorded: true,
                ..Choice::default()
            },
        };
        let mut kernel = Kernel::load(LoadOptions {
            with_kernel: settings(Some(&kernel_options), 4096, 1 << 20).unwrap(),
            ..options(0, Selection::default())
        })
        .unwrap();
        let beside = Beside::attach(&mut kernel, &kernel_options).unwrap();
        for place in ["kmalloc", "kfree", "mm_page_alloc", "percpu_alloc_percpu"] {
            assert!(beside.probes.iter().any(|probe| probe.function == place));
        }
    }
}
