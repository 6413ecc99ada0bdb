//! Growth that a slope does not see: in few large steps, and below a load that rises and falls.

use super::trend::{Course, maximum, minimum};

/// A step changes what is held by this share of it or more.
const STEP: f64 = 0.1;
/// Steps needed, and how many times as long as the one before the last pause between two may be.
const STEPS: usize = 3;
const LONGER: usize = 3;
/// Falls up to this share are none.
const FALL: f64 = 0.05;
/// What quarters' floors gain, as a share of the last one, and what the last gain must be of the one before.
const GAIN: f64 = 0.2;
const LASTING: f64 = 0.5;

/// Whether it never fell and rose in steps, as a table does that takes twice the room when it is full, and
/// stands still now for no longer than between two of them.
pub fn rises_in_steps(course: &Course) -> bool {
    let mut highest: f64 = 0.0;
    for held in &course.held {
        if *held < (1.0 - FALL) * highest {
            return false;
        }
        highest = highest.max(*held);
    }
    let pairs = course.held.windows(2).enumerate();
    let steps = pairs.filter(|(_, pair)| pair[0] > 0.0 && pair[1] - pair[0] >= STEP * pair[1]);
    let steps: Vec<usize> = steps.map(|(at, _)| at + 1).collect();
    let [.., third, second, last] = steps[..] else {
        return false;
    };
    let standing = course.held.len() - 1 - last;
    steps.len() >= STEPS && last - second <= LONGER * (second - third) && standing <= last - second
}

/// Whether each quarter holds more than the one before, at its least and at its most, and goes on so.
pub fn quarters_rise(course: &Course) -> bool {
    let floors = course.floors();
    let tops = course.quarters().map(maximum);
    let rise = |values: [f64; 4]| values.windows(2).all(|pair| pair[0] < pair[1]);
    let [_, second, third, fourth] = floors;
    let gain = fourth - second;
    rise(floors)
        && rise(tops)
        && gain >= GAIN * fourth
        && fourth - third >= LASTING * (third - second)
        && tops[3] - tops[1] >= LASTING * gain
        // What is held now is no less than the quarter before held at its least.
        && minimum(course.tail(0.1)) >= third
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course(held: impl Iterator<Item = f64>) -> Course {
        Course {
            step: 1.0,
            held: held.collect(),
        }
    }

    /// Doubling is growth; a step long ago, a fall, and one late step after a start are not.
    #[test]
    fn steps() {
        let doubling =
            |until: i32| course((1..=64).map(move |at| f64::from(1 << at.min(until).ilog2())));
        assert!(rises_in_steps(&doubling(64)));
        assert!(!rises_in_steps(&doubling(16)));
        let at_start = |at: i32| f64::from(at.min(4)) + if at > 55 { 2.0 } else { 0.0 };
        assert!(!rises_in_steps(&course((1..=64).map(at_start))));
        let falls = |at: i32| if at % 8 == 0 { 1.0 } else { f64::from(at) };
        assert!(!rises_in_steps(&course((1..=64).map(falls))));
    }

    /// Waves that rise are growth, whatever their height; waves alone are not, and neither are waves
    /// above what fills up.
    #[test]
    fn waves() {
        let wave = |at: i32| 150.0 + 100.0 * (f64::from(at) * std::f64::consts::TAU / 16.0).sin();
        assert!(quarters_rise(&course(
            (0..64).map(|at| wave(at) + 2.0 * f64::from(at))
        )));
        assert!(!quarters_rise(&course((0..64).map(wave))));
        let fills = |at: i32| wave(at) + 100.0 * (1.0 - (-f64::from(at) / 12.0).exp());
        assert!(!quarters_rise(&course((0..64).map(fills))));
    }
}
