//! Which arguments of a function say what: part of what its probes are told.

use crate::layout::{
    COOKIE_BYTES, COOKIE_FAILURE_FREES, COOKIE_OUT, COOKIE_PTR, COOKIE_SIZE, COOKIE_TIMES,
};

/// Numbers of arguments, from 1 to 6; 0 where a function has none of the kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    size: u8,
    times: u8,
    ptr: u8,
    out: u8,
    bytes: u16,
    failure_frees: bool,
}

const NONE: Arguments = Arguments {
    size: 0,
    times: 0,
    ptr: 0,
    out: 0,
    bytes: 0,
    failure_frees: false,
};

/// The bytes asked for.
pub const fn size(number: u8) -> Arguments {
    NONE.size(number)
}

/// The block to free or to change.
pub const fn ptr(number: u8) -> Arguments {
    NONE.ptr(number)
}

/// Where the address is put; the result is 0 then, or an error.
pub const fn out(number: u8) -> Arguments {
    NONE.out(number)
}

impl Arguments {
    /// Adds the bytes asked for.
    pub const fn size(self, number: u8) -> Arguments {
        Arguments {
            size: number,
            ..self
        }
    }

    /// Adds how many times the size is asked for.
    pub const fn times(self, number: u8) -> Arguments {
        Arguments {
            times: number,
            ..self
        }
    }

    /// Adds the block to free or to change.
    pub const fn ptr(self, number: u8) -> Arguments {
        Arguments {
            ptr: number,
            ..self
        }
    }

    /// Adds where the address is put.
    pub const fn out(self, number: u8) -> Arguments {
        Arguments {
            out: number,
            ..self
        }
    }

    /// Adds the bytes of every block, where no argument says it.
    pub const fn bytes(self, bytes: u16) -> Arguments {
        Arguments { bytes, ..self }
    }

    /// A reallocation that frees the block if it fails.
    pub const fn failure_frees(self) -> Arguments {
        Arguments {
            failure_frees: true,
            ..self
        }
    }

    /// Whether it is known how large a block is.
    pub fn has_size(self) -> bool {
        self.size != 0 || self.bytes != 0
    }

    /// Whether two things say so.
    pub fn has_two_sizes(self) -> bool {
        self.size != 0 && self.bytes != 0
    }

    pub fn has_times(self) -> bool {
        self.times != 0
    }

    pub fn has_ptr(self) -> bool {
        self.ptr != 0
    }

    pub fn has_out(self) -> bool {
        self.out != 0
    }

    /// As the probes are told.
    pub fn cookie(self) -> u64 {
        let failure = if self.failure_frees {
            COOKIE_FAILURE_FREES
        } else {
            0
        };
        u64::from(self.size) << COOKIE_SIZE
            | u64::from(self.times) << COOKIE_TIMES
            | u64::from(self.ptr) << COOKIE_PTR
            | u64::from(self.out) << COOKIE_OUT
            | u64::from(self.bytes) << COOKIE_BYTES
            | failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each number has its own place, and the largest ones fit.
    #[test]
    fn cookies() {
        assert_eq!(size(1).cookie(), 1 << COOKIE_SIZE);
        let all = out(6).size(6).times(6).failure_frees();
        let expected =
            6 << COOKIE_OUT | 6 << COOKIE_SIZE | 6 << COOKIE_TIMES | COOKIE_FAILURE_FREES;
        assert_eq!(all.cookie(), expected);
        assert_eq!(
            ptr(6).bytes(u16::MAX).cookie(),
            6 << COOKIE_PTR | 0xffff << COOKIE_BYTES
        );
    }
}
