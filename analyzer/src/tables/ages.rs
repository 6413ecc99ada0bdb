//! The bins of age histograms.

const MS: u64 = 1_000_000;
const S: u64 = 1_000 * MS;

/// Lower bounds of the bins in nanoseconds: 1-2-5 decades from 1 ms to about a day;
/// the last bin is open.
const BOUNDS: [u64; 26] = [
    0,
    MS,
    2 * MS,
    5 * MS,
    10 * MS,
    20 * MS,
    50 * MS,
    100 * MS,
    200 * MS,
    500 * MS,
    S,
    2 * S,
    5 * S,
    10 * S,
    20 * S,
    50 * S,
    100 * S,
    200 * S,
    500 * S,
    1_000 * S,
    2_000 * S,
    5_000 * S,
    10_000 * S,
    20_000 * S,
    50_000 * S,
    100_000 * S,
];

/// The bin of an age in nanoseconds.
pub fn age_bin(ns: u64) -> usize {
    BOUNDS.partition_point(|bound| *bound <= ns) - 1
}

/// Nanoseconds: the least age of a bin, and that of the next one (none for the last bin).
pub fn age_bounds(bin: usize) -> (u64, Option<u64>) {
    let bound = |index: usize| BOUNDS.get(index).copied();
    (bound(bin).unwrap_or_default(), bound(bin + 1))
}
