//! The intervals around figures that are estimated from a sample.

use super::{AgeEstimate, DomainEstimate, FiguresEstimate};
use crate::estimate::peak_interval;
use crate::replay::{Estimate, Estimated, Estimates};

/// Of a place: `outstanding` is what the report's filter let through there.
pub fn figures(
    estimates: &Estimates,
    outstanding: &Estimate,
    place: &Estimated,
) -> FiguresEstimate {
    let sampled = estimates.sampled();
    let bytes = sampled.bytes(place.sizes);
    let count = sampled.count(estimates.heap().sizes);
    let total = &place.total;
    FiguresEstimate {
        sampled_count: outstanding.sampled,
        sampled_total_count: total.sampled,
        bytes: outstanding.bytes.interval(&bytes),
        count: outstanding.count.interval(&count),
        total_bytes: total.bytes.interval(&bytes),
        total_count: total.count.interval(&count),
    }
}

/// Of what is outstanding of one age.
pub fn age(estimates: &Estimates, outstanding: &Estimate, place: &Estimated) -> AgeEstimate {
    let sampled = estimates.sampled();
    let count = sampled.count(estimates.heap().sizes);
    AgeEstimate {
        sampled_count: outstanding.sampled,
        bytes: outstanding.bytes.interval(&sampled.bytes(place.sizes)),
        count: outstanding.count.interval(&count),
    }
}

/// Of the heap.
pub fn heap(estimates: &Estimates) -> DomainEstimate {
    let (sampled, heap) = (estimates.sampled(), estimates.heap());
    let bytes = sampled.bytes(heap.sizes);
    DomainEstimate {
        figures: figures(estimates, &heap.outstanding, heap),
        peak_bytes: peak_interval(estimates.peak(), &heap.outstanding.bytes, &bytes),
    }
}
