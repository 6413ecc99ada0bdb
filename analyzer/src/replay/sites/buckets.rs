//! Time in buckets: few, of equal width, however long a trace turns out to be.

/// Largest number of buckets; a long trace has between half of it and all of it.
pub const MAX_BUCKETS: i64 = 64;
const INITIAL_WIDTH_NS: i64 = 1_000_000;

/// How time is cut. The clock starts with the first call of [`Buckets::advance`].
#[derive(Clone, Copy, Debug)]
pub struct Buckets {
    start: Option<i64>,
    width: i64,
    /// The bucket that is being filled, and when it ends.
    present: i64,
    end: i64,
}

impl Default for Buckets {
    fn default() -> Self {
        Buckets {
            start: None,
            width: INITIAL_WIDTH_NS,
            present: 0,
            end: i64::MIN,
        }
    }
}

impl Buckets {
    /// Whether `now` lies behind the bucket being filled.
    #[inline]
    pub fn is_due(&self, now: i64) -> bool {
        now >= self.end
    }

    /// Goes on to the bucket of `now` (nanoseconds of the trace's clock). Where the buckets are used up
    /// their width doubles; how often it did is returned.
    pub fn advance(&mut self, now: i64) -> u32 {
        let start = *self.start.get_or_insert(now);
        self.present = now.saturating_sub(start) / self.width;
        let mut doubled = 0;
        while self.present >= MAX_BUCKETS {
            self.width *= 2;
            self.present /= 2;
            doubled += 1;
        }
        self.end = self.end_of(self.present as u32);
        doubled
    }

    /// The bucket being filled.
    pub fn present(&self) -> u32 {
        self.present as u32
    }

    /// Width of the buckets in nanoseconds.
    pub fn width(&self) -> i64 {
        self.width
    }

    /// When a bucket ends: nanoseconds of the trace's clock.
    pub fn end_of(&self, bucket: u32) -> i64 {
        let start = self.start.unwrap_or_default();
        start.saturating_add((i64::from(bucket) + 1) * self.width)
    }
}
