//! The course of what a stack held: level, floors, and a robust slope with its confidence interval.

use crate::replay::Point;

/// Moments at which a course is looked at, at most; a trace has no finer timeline.
const MOMENTS: i64 = 64;

/// What was held at moments of equal distance; the last is the moment of the report.
#[derive(Clone, Debug, PartialEq)]
pub struct Course {
    /// Nanoseconds between two moments.
    pub step: f64,
    /// Bytes.
    pub held: Vec<f64>,
}

impl Course {
    /// From a timeline (points where something changed, and the end), whose points are `bucket`
    /// nanoseconds apart at least. `None` if it is shorter than `shortest` buckets.
    pub fn new(points: &[Point], bucket: i64, shortest: i64) -> Option<Course> {
        let (first, last) = (points.first()?, points.last()?);
        let span = last.at - first.at;
        let moments = (span / bucket.max(1)).min(MOMENTS);
        if moments < shortest {
            return None;
        }
        let step = span as f64 / moments as f64;
        let mut next = points.iter().peekable();
        let mut now = 0.0;
        let held = (1..=moments).map(|moment| {
            let at = first.at + (moment as f64 * step).round() as i64;
            while let Some(point) = next.next_if(|point| point.at <= at) {
                now = point.bytes as f64;
            }
            now
        });
        let held = held.collect();
        Some(Course { step, held })
    }

    /// The last part of the course, a share of it, but not less than two moments.
    pub fn tail(&self, share: f64) -> &[f64] {
        let count = (self.held.len() as f64 * share).ceil() as usize;
        &self.held[self.held.len() - count.clamp(2, self.held.len())..]
    }

    /// The four quarters.
    pub fn quarters(&self) -> [&[f64]; 4] {
        let count = self.held.len();
        std::array::from_fn(|quarter| &self.held[count * quarter / 4..count * (quarter + 1) / 4])
    }

    /// The least that was held in each quarter.
    pub fn floors(&self) -> [f64; 4] {
        self.quarters().map(minimum)
    }

    /// What the level gained in the second, third and last quarter: differences of the medians
    /// around the quarters' ends, scaled to the length of a quarter.
    pub fn gains(&self) -> [f64; 3] {
        let count = self.held.len();
        let half = (count / 16).max(1);
        let at = |quarter: usize| {
            let centre = (count * quarter / 4).clamp(half, count - 1 - half);
            let level = median(self.held[centre - half..=centre + half].to_vec());
            (centre as f64, level)
        };
        std::array::from_fn(|index| {
            let ((from, low), (to, high)) = (at(index + 1), at(index + 2));
            (high - low) / (to - from).max(1.0) * count as f64 / 4.0
        })
    }

    /// What was still held ever after, at each moment: the least of all later values. It never falls.
    pub fn retained(&self) -> Vec<f64> {
        let mut retained = self.held.clone();
        for index in (0..retained.len().saturating_sub(1)).rev() {
            retained[index] = retained[index].min(retained[index + 1]);
        }
        retained
    }
}

/// A line through values: the median of the slopes between each two of them (Theil 1950, Sen 1968),
/// with the confidence interval that follows from Kendall's rank statistic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slope {
    /// Change from one value to the next.
    pub slope: f64,
    /// 99 % confidence interval.
    pub low: f64,
    pub high: f64,
    /// How far values lie from the line: 1.4826 times the median distance, which is the standard
    /// deviation if they are normally distributed.
    pub noise: f64,
}

/// Quantile of the normal distribution for 99 % on both sides.
const Z: f64 = 2.576;

/// The slope of values at equal distances; at least two.
pub fn slope(values: &[f64]) -> Slope {
    let count = values.len();
    let mut slopes = Vec::with_capacity(count * count / 2);
    for (from, low) in values.iter().enumerate() {
        let later = values.iter().enumerate().skip(from + 1);
        slopes.extend(later.map(|(to, high)| (high - low) / (to - from) as f64));
    }
    slopes.sort_unstable_by(f64::total_cmp);
    let pairs = slopes.len() as f64;
    let count = count as f64;
    let slope = middle(&slopes);
    let offsets = values.iter().enumerate();
    let offsets: Vec<f64> = offsets
        .map(|(at, value)| value - slope * at as f64)
        .collect();
    let offset = median(offsets.clone());
    let at = |rank: f64| {
        let rank = (rank.round().max(0.0) as usize).min(slopes.len() - 1);
        slopes[rank]
    };
    let kendall = (count * (count - 1.0) * (2.0 * count + 5.0) / 18.0).sqrt();
    let dependence = dependence(&offsets);
    let spread = Z * kendall * ((1.0 + dependence) / (1.0 - dependence)).sqrt();
    let distances = offsets.iter().map(|value| (value - offset).abs());
    Slope {
        slope,
        low: at((pairs - spread) / 2.0),
        high: at((pairs + spread) / 2.0),
        noise: 1.4826 * median(distances.collect()),
    }
}

/// How much a value's distance from the line says of the next one's: their correlation, between 0 and
/// 0.95. A level that wanders has far fewer independent values than it has moments.
fn dependence(offsets: &[f64]) -> f64 {
    let mean = offsets.iter().sum::<f64>() / offsets.len() as f64;
    let variance: f64 = offsets.iter().map(|value| (value - mean).powi(2)).sum();
    let pairs = offsets.windows(2);
    let together: f64 = pairs.map(|pair| (pair[0] - mean) * (pair[1] - mean)).sum();
    match variance > 0.0 {
        true => (together / variance).clamp(0.0, 0.95),
        false => 0.0,
    }
}

/// The least of some values, at least one.
pub fn minimum(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

/// The largest of some values, none of them negative.
pub fn maximum(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

/// The median of at least one value.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    middle(&values)
}

fn middle(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    match sorted.len() % 2 {
        0 => (sorted[half - 1] + sorted[half]) / 2.0,
        _ => sorted[half],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The slope of a line is found whatever a quarter of the values does, and its interval holds it.
    #[test]
    fn slope_is_robust() {
        let values: Vec<f64> = (0..40)
            .map(|at| {
                if at % 5 == 2 {
                    900.0
                } else {
                    3.0 * f64::from(at) + f64::from(at % 2)
                }
            })
            .collect();
        let found = slope(&values);
        assert!((found.slope - 3.0).abs() < 0.2, "{found:?}");
        assert!(
            found.low > 0.0 && found.low <= 3.0 && found.high >= 3.0,
            "{found:?}"
        );
    }

    /// Worked by hand: slopes between (0, 1), (1, 3), (2, 2), (3, 6) are 2, 1/2, 5/3, -1, 3/2, 4.
    #[test]
    fn slope_by_hand() {
        let found = slope(&[1.0, 3.0, 2.0, 6.0]);
        assert!((found.slope - (1.5 + 5.0 / 3.0) / 2.0).abs() < 1e-12);
        assert_eq!((found.low, found.high), (-1.0, 4.0));
    }

    /// A timeline holds its value until the next point.
    #[test]
    fn course_is_a_step_function() {
        let point = |at, bytes| Point {
            at,
            bytes,
            count: 1,
        };
        let points = [point(0, 5), point(2, 7), point(8, 1), point(10, 1)];
        let course = Course::new(&points, 1, 8).expect("long enough");
        assert_eq!(
            course.held,
            [5.0, 7.0, 7.0, 7.0, 7.0, 7.0, 7.0, 1.0, 1.0, 1.0]
        );
        assert_eq!(course.retained()[0], 1.0);
        assert_eq!(Course::new(&points, 2, 8), None);
    }
}
