//! The kernel accepts every program.
use memleak_record::kernel::{Kernel, LoadOptions};
#[test]
fn the_kernel_accepts_the_probes() {
    let kernel = Kernel::load(LoadOptions {
        ring_bytes: 1 << 20,
        row_capacity: 1000,
        page_size: 4096,
        sample_every: 0,
    });
    if let Err(e) = &kernel {
        println!("{e:?}\n{e}");
    }
    assert!(kernel.is_ok());
    println!("{:?}", kernel.unwrap().counters());
}
