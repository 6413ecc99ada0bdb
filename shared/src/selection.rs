//! Which heap blocks a recording keeps: size bounds, and sampling with its probabilities.
//!
//! A block is kept by chance with `threshold / 2^32`, a whole number of 2^-32 computed with integers
//! alone. The probes compute the same number (`bpf/selection.h`), so that a block's weight, its
//! reciprocal, is that of the draw that was really made: estimates have no bias from rounding.

use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::op::{Domain, Effect};

/// The blocks that are kept. Mappings always are: a part of one may be unmapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// Bytes asked for, inclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_size: Option<u64>,
    /// Bytes asked for, inclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_size: Option<u64>,
    /// Of those, which ones; `None`: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling: Option<Sampling>,
}

/// How blocks are chosen at random, each independently of all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sampling {
    /// One allocation in so many, whatever its size.
    OneIn(u32),
    /// As if a point fell on every so many bytes by chance (a Poisson process), and a block were
    /// kept if one falls on it: with probability `1 - exp(-size / bytes)`.
    Bytes(u32),
}

/// The name in the header's `requires` of a trace that lacks blocks by their size.
pub const SIZE_FILTER: &str = "size filter";
/// The name in the header's `requires` of a trace whose blocks were sampled.
pub const SAMPLING: &str = "sampling";

/// The threshold of a block that is always kept: 2^32.
pub const CERTAIN: u64 = 1 << 32;

/// Largest distance of sampling points: 1 GiB. A block of one byte still has a chance of 4 in 2^32.
pub const LARGEST_BYTES: u32 = 1 << 30;

impl Selection {
    /// Whether every block is kept.
    pub fn is_everything(&self) -> bool {
        *self == Selection::default()
    }

    /// What a reader must know of, to read a trace of these blocks rightly.
    pub fn requires(&self) -> Vec<String> {
        let filters = self.min_size.is_some() || self.max_size.is_some();
        let names = [(filters, SIZE_FILTER), (self.sampling.is_some(), SAMPLING)];
        let needed = names.into_iter().filter(|(needed, _)| *needed);
        needed.map(|(_, name)| name.to_owned()).collect()
    }

    /// What the probes need.
    pub fn numbers(&self) -> Numbers {
        let sampling = match self.sampling {
            None => Numbers::ALL,
            Some(sampling) => sampling.numbers(),
        };
        Numbers {
            least_size: self.min_size.unwrap_or(0),
            most_size: self.max_size.unwrap_or(u64::MAX),
            ..sampling
        }
    }
}

/// A selection as the probes know it (`bpf/selection.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    pub least_size: u64,
    pub most_size: u64,
    /// The threshold of every block; 0: it depends on the size.
    pub threshold: u64,
    /// From bytes to exponents with [`EXPONENT_BITS`] binary places.
    pub scale: u64,
    /// From this size on a block is always kept.
    pub certain_size: u64,
}

impl Numbers {
    const ALL: Numbers = Numbers {
        least_size: 0,
        most_size: u64::MAX,
        threshold: CERTAIN,
        scale: 0,
        certain_size: 0,
    };
}

/// Binary places of an exponent `size / bytes`; it is below 2^5.
pub const EXPONENT_BITS: u32 = 56;

/// `exp(-x)` is below 2^-33 from this `x` on: rounded, nothing is missed.
const CERTAIN_EXPONENT: u64 = 23;

/// Entries of [`exponentials`]: whole numbers below 32, then multiples of 2^-8, then of 2^-16.
pub const EXPONENTIALS: usize = 32 + 256 + 256;

/// 1 with 63 binary places.
const ONE: u64 = 1 << 63;

/// `exp(-i)`, `exp(-i / 2^8)` and `exp(-i / 2^16)`, each with 63 binary places: their products are
/// the exponentials of all multiples of 2^-16 below 32.
pub fn exponentials() -> [u64; EXPONENTIALS] {
    std::array::from_fn(|index| {
        let exponent = match index {
            0..32 => index as f64,
            32..288 => (index - 32) as f64 / 256.0,
            _ => (index - 288) as f64 / 65536.0,
        };
        (f64::exp(-exponent) * ONE as f64) as u64
    })
}

/// The product of two numbers of at most 1, with 63 binary places; up to 6 too small in the last
/// one. The probes have no wider product than 64 bits.
fn product(a: u64, b: u64) -> u64 {
    let (a_high, a_low) = (a >> 32, a & 0xffff_ffff);
    let (b_high, b_low) = (b >> 32, b & 0xffff_ffff);
    (a_high * b_high + ((a_high * b_low) >> 32) + ((a_low * b_high) >> 32)) << 1
}

impl Sampling {
    fn numbers(self) -> Numbers {
        match self {
            Sampling::OneIn(count) => Numbers {
                threshold: one_in(count),
                ..Numbers::ALL
            },
            Sampling::Bytes(bytes) => {
                let bytes = u64::from(bytes.clamp(1, LARGEST_BYTES));
                Numbers {
                    threshold: 0,
                    scale: ((1u64 << EXPONENT_BITS) + bytes / 2) / bytes,
                    certain_size: CERTAIN_EXPONENT * bytes,
                    ..Numbers::ALL
                }
            }
        }
    }
}

/// 2^32 / count, rounded, and at least 1.
fn one_in(count: u32) -> u64 {
    let count = u64::from(count.max(1));
    (CERTAIN + count / 2) / count
}

/// The inverse probabilities of a sampling: how many blocks each kept one stands for.
#[derive(Clone, Debug)]
pub struct Weights {
    numbers: Numbers,
    exponentials: Box<[u64; EXPONENTIALS]>,
}

impl Weights {
    pub fn new(sampling: Sampling) -> Weights {
        Weights {
            numbers: sampling.numbers(),
            exponentials: Box::new(exponentials()),
        }
    }

    /// 2^32 times the probability with which a block of `size` bytes was kept: 1 to 2^32. A block of
    /// no bytes counts as one of one byte.
    pub fn threshold(&self, size: u64) -> u64 {
        let Numbers {
            threshold,
            scale,
            certain_size,
            ..
        } = self.numbers;
        if threshold != 0 {
            return threshold;
        }
        if size >= certain_size {
            return CERTAIN;
        }
        let exponent = size.max(1) * scale;
        let table = |index: u64| self.exponentials[index as usize];
        // What is below 2^-16: the first terms of the series; the next one is below 2^-50.
        let rest = (exponent & ((1 << 40) - 1)) << 7;
        let missed = ONE - rest + (product(rest, rest) >> 1);
        let missed = product(missed, table((exponent >> 56) & 31));
        let missed = product(missed, table(32 + ((exponent >> 48) & 255)));
        let missed = product(missed, table(288 + ((exponent >> 40) & 255)));
        (CERTAIN - ((missed + (1 << 30)) >> 31)).max(1)
    }

    /// How many blocks the one that this event allocates stands for; `None` if it allocates none,
    /// or in a domain that is not sampled.
    pub fn of(&self, event: &Event) -> Option<f64> {
        let allocates = matches!(event.op.effect(), Effect::Allocate | Effect::Outcome);
        let is_block = event.op.domain() == Some(Domain::Heap) && event.addr != 0;
        (allocates && is_block).then(|| self.weight(event.size))
    }

    /// How many blocks of this size a kept one stands for; at least 1.
    pub fn weight(&self, size: u64) -> f64 {
        CERTAIN as f64 / self.threshold(size) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The integers are the formula's values to the last of 32 binary places, for all distances.
    #[test]
    fn thresholds_are_those_of_the_formula() {
        for bytes in [1, 7, 512, 65_536, 1_000_000, LARGEST_BYTES] {
            let weights = Weights::new(Sampling::Bytes(bytes));
            let mut last = 0;
            let mut size = 1u64;
            while size < 1 << 40 {
                let exact = -f64::exp_m1(-(size as f64) / f64::from(bytes)) * CERTAIN as f64;
                let threshold = weights.threshold(size);
                assert!(
                    (threshold as f64 - exact).abs() < 1.0 + exact * 1e-8,
                    "{size} of {bytes}: {threshold}, exact {exact}"
                );
                assert!(threshold >= last, "{size} of {bytes}");
                last = threshold;
                size += size / 7 + 1;
            }
            assert_eq!(last, CERTAIN);
            assert_eq!(weights.threshold(0), weights.threshold(1));
        }
    }

    /// One in N is N to nine digits; one in one is certain.
    #[test]
    fn one_in_so_many() {
        for count in [1u32, 2, 100, 1 << 20] {
            let weight = Weights::new(Sampling::OneIn(count)).weight(12345);
            let error = weight / f64::from(count) - 1.0;
            assert!(error.abs() <= f64::from(count) / CERTAIN as f64, "{count}");
        }
        assert_eq!(Weights::new(Sampling::OneIn(1)).threshold(1), CERTAIN);
    }

    /// The header holds only what was asked for, and names what a reader must know.
    #[test]
    fn as_json() {
        let json = |selection: &Selection| serde_json::to_string(selection).expect("json");
        let everything = Selection::default();
        assert_eq!(json(&everything), "{}");
        assert!(everything.is_everything() && everything.requires().is_empty());
        let selection = Selection {
            min_size: Some(16),
            max_size: None,
            sampling: Some(Sampling::Bytes(65_536)),
        };
        let text = r#"{"min_size":16,"sampling":{"bytes":65536}}"#;
        assert_eq!(json(&selection), text);
        let read: Selection = serde_json::from_str(text).expect("read");
        assert_eq!(read, selection);
        assert_eq!(selection.requires(), [SIZE_FILTER, SAMPLING]);
    }
}
