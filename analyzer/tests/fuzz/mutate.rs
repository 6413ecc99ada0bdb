//! Changes to bytes, as damage and malice make them.

/// Numbers from a seed: SplitMix64 (Steele, Lea, Flood 2014).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

/// Numbers that break arithmetic.
const NASTY: [u64; 8] = [
    0,
    1,
    0x7f,
    0xff,
    0x7fff_ffff,
    0xffff_ffff,
    i64::MAX as u64,
    u64::MAX,
];

/// A copy with one to eight changes. Half of them hit the places that hold structure: the end, and
/// the neighbourhood of the magics.
pub fn mutate(original: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = original.to_vec();
    let structure = structure(original);
    for _ in 0..=random.below(8) {
        if bytes.len() < 16 {
            break;
        }
        let at = match random.below(2) {
            0 => random.below(bytes.len()),
            _ => {
                let near = structure[random.below(structure.len())];
                near.saturating_sub(random.below(600)).min(bytes.len() - 1)
            }
        };
        change(&mut bytes, at, random);
    }
    bytes
}

fn change(bytes: &mut Vec<u8>, at: usize, random: &mut Random) {
    let end = (at + 1 + random.below(64)).min(bytes.len());
    match random.below(8) {
        0 => bytes[at] ^= 1 << random.below(8),
        1 => bytes[at] = random.next() as u8,
        2 => {
            let number = NASTY[random.below(NASTY.len())].to_le_bytes();
            let width = [1, 2, 4, 8][random.below(4)].min(bytes.len() - at);
            bytes[at..at + width].copy_from_slice(&number[..width]);
        }
        3 => bytes[at..end].fill(0xff),
        4 => {
            bytes.drain(at..end);
        }
        5 => {
            let piece = bytes[at..end].to_vec();
            bytes.splice(at..at, piece);
        }
        6 => {
            let from = random.below(bytes.len() - (end - at) + 1);
            let piece = bytes[from..from + (end - at)].to_vec();
            bytes[at..end].copy_from_slice(&piece);
        }
        _ => bytes.truncate(at.max(1)),
    }
}

/// Offsets behind every magic, and the end.
fn structure(bytes: &[u8]) -> Vec<usize> {
    let magic = |(at, window): (usize, &[u8])| (window == b"MEMLEAK1").then_some(at + 8);
    let mut places: Vec<usize> = bytes.windows(8).enumerate().filter_map(magic).collect();
    places.push(bytes.len());
    places
}
