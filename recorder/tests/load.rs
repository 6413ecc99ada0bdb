//! The kernel accepts every program, with and without what tests switch on. Needs root.

use memleak_record::kernel::{Kernel, LoadOptions};
use memleak_record::layout::Counters;

fn load(sample_every: u32) {
    let kernel = Kernel::load(LoadOptions {
        ring_bytes: 1 << 20,
        row_capacity: 1000,
        page_size: 4096,
        pause_at: 0,
        sample_every,
    });
    if let Err(error) = &kernel {
        // The verifier's log has its lines only so.
        println!("{error}");
    }
    assert_eq!(kernel.unwrap().counters().unwrap(), Counters::default());
}

#[test]
fn the_kernel_accepts_the_probes() {
    load(0);
}

#[test]
fn the_kernel_accepts_the_probes_that_ship_samples() {
    load(100);
}
