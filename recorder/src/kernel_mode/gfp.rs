//! Allocation flags of the kernel, as its own tracepoints print them.

/// Names of single bits; they are the same in every kernel from 5.17 to 6.18. Bits above differ by
/// version and configuration, and stay numbers.
const BITS: [(u32, &str); 22] = [
    (0x1, "GFP_DMA"),
    (0x2, "__GFP_HIGHMEM"),
    (0x4, "GFP_DMA32"),
    (0x8, "__GFP_MOVABLE"),
    (0x10, "__GFP_RECLAIMABLE"),
    (0x20, "__GFP_HIGH"),
    (0x40, "__GFP_IO"),
    (0x80, "__GFP_FS"),
    (0x100, "__GFP_ZERO"),
    (0x400, "__GFP_DIRECT_RECLAIM"),
    (0x800, "__GFP_KSWAPD_RECLAIM"),
    (0x1000, "__GFP_WRITE"),
    (0x2000, "__GFP_NOWARN"),
    (0x4000, "__GFP_RETRY_MAYFAIL"),
    (0x8000, "__GFP_NOFAIL"),
    (0x1_0000, "__GFP_NORETRY"),
    (0x2_0000, "__GFP_MEMALLOC"),
    (0x4_0000, "__GFP_COMP"),
    (0x8_0000, "__GFP_NOMEMALLOC"),
    (0x10_0000, "__GFP_HARDWALL"),
    (0x20_0000, "__GFP_THISNODE"),
    (0x40_0000, "__GFP_ACCOUNT"),
];

/// Names of usual combinations, the larger ones first.
const COMBINATIONS: [(u32, &str); 8] = [
    (0x10_0cca, "GFP_HIGHUSER_MOVABLE"),
    (0x10_0cc2, "GFP_HIGHUSER"),
    (0x10_0cc0, "GFP_USER"),
    (0x40_0cc0, "GFP_KERNEL_ACCOUNT"),
    (0xcc0, "GFP_KERNEL"),
    (0xc40, "GFP_NOFS"),
    (0xc00, "GFP_NOIO"),
    (0x820, "GFP_ATOMIC"),
];

/// `GFP_KERNEL|__GFP_ZERO`; `0` for no flag.
pub fn names(flags: u32) -> String {
    let mut left = flags;
    let mut names = Vec::new();
    for (bits, name) in COMBINATIONS.into_iter().chain(BITS) {
        if left & bits == bits {
            names.push(name.to_owned());
            left &= !bits;
        }
    }
    if left != 0 || flags == 0 {
        names.push(format!("{left:#x}"));
    }
    names.join("|")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Combinations by their own name, single bits behind them, unknown ones as numbers.
    #[test]
    fn flags_by_name() {
        for (flags, text) in [
            (0xcc0, "GFP_KERNEL"),
            (0xdc0, "GFP_KERNEL|__GFP_ZERO"),
            (0x40_0dc0, "GFP_KERNEL_ACCOUNT|__GFP_ZERO"),
            (0x820, "GFP_ATOMIC"),
            (0x10_0dca, "GFP_HIGHUSER_MOVABLE|__GFP_ZERO"),
            (0x800, "__GFP_KSWAPD_RECLAIM"),
            (0x8000_0cc0, "GFP_KERNEL|0x80000000"),
            (0, "0x0"),
        ] {
            assert_eq!(names(flags), text, "{flags:#x}");
        }
    }
}
