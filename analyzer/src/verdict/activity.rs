//! Until when a process was busy. A recording often goes on a little after the work has stopped; what
//! does not change then says nothing about how memory is held.

use std::collections::HashMap;

use crate::replay::{MAX_BUCKETS, Sites};

/// A bucket with fewer than this share of the busy ones' changing stacks is idle.
const IDLE: f64 = 0.1;
/// No more than this share of the recording is left out: what stands still for longer stands still.
const LONGEST: f64 = 1.0 / 3.0;

/// By process: the end of its last busy bucket, if idle ones follow up to `at` and are not too many
/// (nanoseconds of the trace's clock).
pub fn busy_until(sites: &Sites, at: i64) -> HashMap<i32, i64> {
    let mut changing: HashMap<i32, Vec<u32>> = HashMap::new();
    for (number, site) in sites.as_slice().iter().enumerate() {
        let buckets = changing
            .entry(site.pid)
            .or_insert_with(|| vec![0; MAX_BUCKETS as usize]);
        for bucket in sites.changed_in(number as u32) {
            if let Some(count) = buckets.get_mut(bucket as usize) {
                *count += 1;
            }
        }
    }
    let start = sites.bucket_end(0) - sites.bucket_ns();
    let busy = changing.into_iter().filter_map(|(pid, buckets)| {
        let used = ((at - start) / sites.bucket_ns().max(1)).clamp(1, MAX_BUCKETS) as usize;
        let mut sorted = buckets[..used].to_vec();
        sorted.sort_unstable();
        // Three quarters of the buckets may be quieter.
        let typical = f64::from(sorted[used * 3 / 4]);
        let last = buckets
            .iter()
            .rposition(|count| *count > 0 && f64::from(*count) >= IDLE * typical)?;
        let end = sites.bucket_end(last as u32);
        let idle = (at - end) as f64;
        (idle > 0.0 && idle <= LONGEST * (at - start) as f64).then_some((pid, end))
    });
    busy.collect()
}
