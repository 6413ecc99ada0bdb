//! Resident memory beside what is outstanding, and how the gap between them is to be read.

use std::cmp::Ordering;

use super::{Report, ResidentReport};
use crate::units::show_size;

/// Lines for each process of which resident memory is known.
pub fn lines(report: &Report) -> Vec<String> {
    let all = &report.trace.resident;
    let mut lines: Vec<String> = all.iter().map(line).collect();
    match &all[..] {
        [] => {}
        [only] if report.trace.processes.len() <= 1 => {
            let heap = report.domains.get("heap");
            lines.extend(gap(
                only.now.anonymous_bytes,
                heap.map_or(0, |heap| heap.bytes),
            ));
        }
        // Domains are those of all processes together.
        _ => lines.push(format!(
            "  (anonymous memory above the outstanding heap is {ABOVE})"
        )),
    }
    lines
}

const ABOVE: &str = "blocks older than the recording, memory that the allocator keeps free, its overhead, \
                     mappings, thread stacks";

fn line(resident: &ResidentReport) -> String {
    let now = &resident.now;
    let before = resident.at_start.anonymous_bytes;
    let (sign, change) = match now.anonymous_bytes.checked_sub(before) {
        Some(growth) => ('+', growth),
        None => ('-', before - now.anonymous_bytes),
    };
    format!(
        "resident memory of {}: {} anonymous ({sign}{} since the start), {} file, {} shared, {} in all",
        resident.pid,
        show_size(now.anonymous_bytes),
        show_size(change),
        show_size(now.file_bytes),
        show_size(now.shared_bytes),
        show_size(now.total()),
    )
}

fn gap(anonymous: u64, heap: u64) -> Option<String> {
    let difference = show_size(anonymous.abs_diff(heap));
    match anonymous.cmp(&heap) {
        Ordering::Greater => Some(format!(
            "  anonymous is {difference} above the outstanding heap: {ABOVE}"
        )),
        Ordering::Less => Some(format!(
            "  anonymous is {difference} below the outstanding heap: pages that were never written, or swapped out, are not resident"
        )),
        Ordering::Equal => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The gap is told with its size and with what it can consist of, in both directions.
    #[test]
    fn the_gap_has_a_size() {
        let above = gap(3 << 20, 1 << 20).expect("a gap");
        assert!(
            above.contains("2.0 MiB above") && above.contains("older"),
            "{above}"
        );
        let below = gap(1 << 20, 3 << 20).expect("a gap");
        assert!(
            below.contains("2.0 MiB below") && below.contains("swapped"),
            "{below}"
        );
        assert_eq!(gap(5, 5), None);
    }
}
