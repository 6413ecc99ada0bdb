//! The course of what a stack held, in a few characters.

use super::TimelinePoint;

const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A character for each of `width` equal parts of the time up to `at_ns` (nanoseconds since the start): the
/// most that was held in it, against the most of all. Nothing held is a space. Empty if nothing ever was.
pub fn sparkline(points: &[TimelinePoint], at_ns: u64, width: usize) -> String {
    let mut points = points.iter().peekable();
    let mut held = 0;
    let parts = (1..=width as u128).map(|part| {
        let end = (u128::from(at_ns) * part / width as u128) as u64;
        let mut most = held;
        while let Some(point) = points.next_if(|point| point.at_ns <= end) {
            held = point.bytes;
            most = most.max(held);
        }
        most
    });
    let parts: Vec<u64> = parts.collect();
    let most = parts.iter().copied().max().unwrap_or(0);
    if most == 0 {
        return String::new();
    }
    let level = |value: u64| {
        let above = u128::from(value) * LEVELS.len() as u128;
        let index = above.div_ceil(u128::from(most)) as usize;
        let level = index.checked_sub(1).and_then(|index| LEVELS.get(index));
        *level.unwrap_or(&' ')
    };
    parts.into_iter().map(level).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(held: &[(u64, u64)]) -> String {
        let points = held.iter().map(|(at_ns, bytes)| TimelinePoint {
            at_ns: *at_ns,
            bytes: *bytes,
            count: 1,
        });
        sparkline(&points.collect::<Vec<_>>(), 24, 24)
    }

    /// A leak rises, a block stays, what was held for a moment is seen, nothing is nothing, and the
    /// largest value is the highest bar.
    #[test]
    fn courses() {
        let leak: Vec<(u64, u64)> = (1..=24).map(|at| (at, at)).collect();
        assert_eq!(line(&leak), "▁▁▁▂▂▂▃▃▃▄▄▄▅▅▅▆▆▆▇▇▇███");
        assert_eq!(line(&[(13, 5)]), "            ████████████");
        assert_eq!(line(&[(1, 80), (2, 1)]), "██▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁");
        assert_eq!(line(&[(12, 3), (13, 0)]), "           ██           ");
        assert_eq!(line(&[(3, 0)]), "");
        assert_eq!(line(&[]), "");
    }

    /// Several points share a part where there are more of them than parts; the last one counts on.
    #[test]
    fn points_share_parts() {
        let points: Vec<TimelinePoint> = (0..100)
            .map(|at_ns| TimelinePoint {
                at_ns,
                bytes: if at_ns == 30 { 8 } else { 1 },
                count: 1,
            })
            .collect();
        assert_eq!(sparkline(&points, 100, 4), "▁█▁▁");
    }
}
