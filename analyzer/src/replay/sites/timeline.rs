//! How much each site held over time, from the same pass as everything else.
//!
//! How long a trace is turns out only at its end, so the buckets' width doubles whenever they are used up. At
//! the end of a bucket only the sites touched in it are noted; the others hold what they held.

use super::Site;
use super::buckets::Buckets;

/// What a site held at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// Nanoseconds of the trace's clock.
    pub at: i64,
    /// Bytes outstanding.
    pub bytes: u64,
    pub count: u64,
}

/// What a site held at the end of a bucket, in 16 bytes: there can be a million sites.
#[derive(Clone, Copy, Debug)]
struct Sample {
    bucket: u32,
    count: u32,
    bytes: u64,
}

/// The samples of every site.
#[derive(Debug, Default)]
pub struct Timeline {
    buckets: Buckets,
    end: i64,
    /// Sites touched in this bucket, each once.
    touched: Vec<u32>,
    samples: Vec<Vec<Sample>>,
}

impl Timeline {
    /// Notes the touched sites and goes on to the bucket of `now`. The first call starts the clock.
    pub fn advance(&mut self, now: i64, sites: &mut [Site]) {
        self.note_touched(sites);
        for _ in 0..self.buckets.advance(now) {
            self.join_pairs();
        }
    }

    /// A site's figures changed for the first time in this bucket.
    pub fn touch(&mut self, site: u32) {
        self.touched.push(site);
    }

    /// Ends the last bucket at `now`.
    pub fn finish(&mut self, now: i64, sites: &mut [Site]) {
        self.note_touched(sites);
        self.end = now;
    }

    /// What a site held at the end of each bucket in which it changed, and at the end. Between two
    /// points it held what the earlier one says.
    pub fn points(&self, site: u32) -> Vec<Point> {
        let Some(samples) = self.samples.get(site as usize) else {
            return Vec::new();
        };
        let mut points: Vec<Point> = samples
            .iter()
            .map(|sample| Point {
                at: self.buckets.end_of(sample.bucket).min(self.end),
                bytes: sample.bytes,
                count: u64::from(sample.count),
            })
            .collect();
        if let Some(last) = points.last().copied().filter(|last| last.at < self.end) {
            points.push(Point {
                at: self.end,
                ..last
            });
        }
        points
    }

    /// The buckets in which a site changed.
    pub fn changed_in(&self, site: u32) -> impl Iterator<Item = u32> {
        let samples = self.samples.get(site as usize);
        samples.into_iter().flatten().map(|sample| sample.bucket)
    }

    fn note_touched(&mut self, sites: &mut [Site]) {
        for site in self.touched.drain(..) {
            let index = site as usize;
            let Some(figures) = sites.get_mut(index) else {
                continue;
            };
            figures.touched = false;
            if index >= self.samples.len() {
                self.samples.resize(index + 1, Vec::new());
            }
            let samples = &mut self.samples[index];
            // Doubling would leave half of it empty: the timelines of many sites would take twice
            // their memory.
            if samples.len() == samples.capacity() {
                samples.reserve_exact((samples.len() / 2).clamp(4, 16));
            }
            samples.push(Sample {
                bucket: self.buckets.present(),
                count: u32::try_from(figures.count).unwrap_or(u32::MAX),
                bytes: figures.bytes,
            });
        }
    }

    /// Joins each two neighbouring buckets: what was held at the end of the pair is the later value.
    fn join_pairs(&mut self) {
        for samples in &mut self.samples {
            let mut kept: usize = 0;
            for index in 0..samples.len() {
                let sample = Sample {
                    bucket: samples[index].bucket / 2,
                    ..samples[index]
                };
                if kept > 0 && samples[kept - 1].bucket == sample.bucket {
                    kept -= 1;
                }
                samples[kept] = sample;
                kept += 1;
            }
            samples.truncate(kept);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Sites;
    use memleak_trace::{Op, StackId};

    const MS: i64 = 1_000_000;

    /// Points stand at the ends of buckets, only where something changed, and at the end.
    #[test]
    fn points_are_sparse_and_end_at_the_end() {
        let mut sites = Sites::default();
        let site = sites.find(Some(StackId(0)), Op::Malloc, 1, 0);
        for (at, bytes) in [(0, 10), (1, 20), (5 * MS, 40)] {
            sites.advance(at);
            sites.allocate(site, bytes);
        }
        sites.finish(9 * MS);
        let points: Vec<_> = sites
            .points(site)
            .iter()
            .map(|p| (p.at, p.bytes, p.count))
            .collect();
        assert_eq!(points, [(MS, 30, 2), (6 * MS, 70, 3), (9 * MS, 70, 3)]);
    }

    /// However long the trace, the buckets are few, rising, and agree with the values at their ends.
    #[test]
    fn buckets_double_and_stay_true() {
        let mut sites = Sites::default();
        let site = sites.find(None, Op::Malloc, 1, 0);
        let step = 700_000;
        let steps = 100_000;
        for index in 0..steps {
            sites.advance(index * step);
            sites.allocate(site, 1);
        }
        sites.finish(steps * step);
        let points = sites.points(site);
        assert!((32..=65).contains(&points.len()), "{}", points.len());
        for point in &points {
            // Allocation i happens at i × step; those before the point's moment are held.
            let held = (point.at + step - 1) / step;
            assert_eq!(point.count as i64, held.min(steps), "at {}", point.at);
        }
        assert!(points.windows(2).all(|pair| pair[0].at < pair[1].at));
    }
}
