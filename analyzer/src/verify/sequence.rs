//! Whether parts of one recording that are verified together follow each other.

use std::collections::BTreeMap;

use super::{Check, Outcome};

/// Adds a check to each part of a recording of which several parts are given.
pub fn check(outcomes: &mut [Outcome]) {
    let mut recordings: BTreeMap<String, Vec<(u32, usize)>> = BTreeMap::new();
    for (index, outcome) in outcomes.iter().enumerate() {
        if let Some(part) = &outcome.part {
            let parts = recordings.entry(part.recording.clone()).or_default();
            parts.push((part.number, index));
        }
    }
    for mut parts in recordings.into_values().filter(|parts| parts.len() > 1) {
        parts.sort_unstable();
        let mut before = None;
        for (number, index) in parts {
            outcomes[index].checks.push(follows(before, number));
            before = Some(number);
        }
    }
}

/// `before`: the number of the part before, among those given.
fn follows(before: Option<u32>, number: u32) -> Check {
    const NAME: &str = "sequence";
    match before {
        Some(before) if before == number => {
            Check::new(NAME, false, format!("part {number} is given twice"))
        }
        Some(before) if before + 1 < number => Check::new(
            NAME,
            false,
            format!("part {number} does not follow part {before}"),
        ),
        Some(before) => Check::new(NAME, true, format!("part {number} follows part {before}")),
        None => Check::new(
            NAME,
            true,
            format!("part {number} is the first of those given"),
        ),
    }
}
