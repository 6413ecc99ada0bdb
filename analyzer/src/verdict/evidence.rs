//! What a verdict rests on, in numbers that can be checked by hand.

use serde::Serialize;

use super::survival::SURVIVOR;
use crate::units::show_duration;

/// The rule that decided, in the order in which they are tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// No verdict: fewer than eight buckets of the timeline lie behind the first allocation.
    #[default]
    TooShort,
    /// Nothing is outstanding.
    AllFreed,
    /// Allocated within a short time, unchanged since.
    UnchangedSinceStart,
    /// Allocated over some time, unchanged since.
    StoppedChanging,
    /// Nearly everything is freed again and again.
    FallsToZero,
    /// The level rises, and does not slow down.
    Rises,
    /// The level began to rise late.
    BeganToRise,
    /// The level rose and stopped rising.
    StoppedRising,
    /// The level rises ever slower, towards a ceiling.
    Slows,
    /// The level hides it, but allocations of all ages outlive their freed siblings.
    SurvivorsAccumulate,
    /// It never fell, and rose in steps.
    RisesInSteps,
    /// Each quarter holds more than the one before, at its least and at its most.
    QuartersRise,
    /// Every allocation is freed soon.
    FreedSoon,
    /// The level does not rise.
    Level,
}

/// Numbers behind a verdict. Bytes are fractions where they are slopes or medians.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Evidence {
    pub reason: Reason,
    /// From the first bucket with an allocation to the moment, and from the last bucket with a
    /// change to the moment.
    pub span_ns: u64,
    pub unchanged_ns: u64,
    /// Slope over the last three quarters of the span and its 99 % confidence interval.
    pub slope_bytes_per_second: Option<f64>,
    pub slope_low: Option<f64>,
    pub slope_high: Option<f64>,
    /// How far the level lies from the line.
    pub noise_bytes: Option<f64>,
    /// The least that was held in each quarter of the span.
    pub floor_bytes: Option<[u64; 4]>,
    /// What the level gained in the second, third and last quarter.
    pub gain_bytes: Option<[f64; 3]>,
    /// Freed siblings, and the median and the 99th percentile of their lifetimes.
    pub freed: u64,
    pub lifetime_p50_ns: Option<u64>,
    pub lifetime_p99_ns: Option<u64>,
    /// Live allocations older than that percentile.
    pub older_than_p99: Option<u64>,
    /// Live allocations that outlived it twice, and freed ones that had.
    pub survivors: Option<u64>,
    pub freed_as_old: Option<u64>,
    /// Bytes of live allocations by quarter of the span in which they were born.
    pub born_bytes: Option<[u64; 4]>,
    /// Share of allocations that outlive every lifetime seen (Kaplan–Meier).
    pub never_freed_share: Option<f64>,
}

impl Evidence {
    /// What speaks for the verdict, in a few words.
    pub fn in_words(&self) -> String {
        let span = show_duration(self.span_ns);
        let unchanged = show_duration(self.unchanged_ns);
        let slope = || self.slope_in_words();
        match self.reason {
            Reason::TooShort => "too little was seen".to_owned(),
            Reason::AllFreed => format!("all {} were freed", self.freed),
            Reason::UnchangedSinceStart | Reason::StoppedChanging => {
                format!("unchanged for the last {unchanged} of {span}")
            }
            Reason::FallsToZero => format!("falls to nothing again and again, {}", slope()),
            Reason::Rises | Reason::BeganToRise => slope(),
            Reason::StoppedRising | Reason::Slows => {
                let [second, third, last] = self.gain_bytes.unwrap_or_default().map(bytes);
                let slope = slope();
                format!(
                    "gained {second}, {third}, {last} in the last three quarters of {span}, {slope}"
                )
            }
            Reason::SurvivorsAccumulate => format!(
                "{} are older than {}, which only {} of {} freed ones reached, {}",
                self.survivors.unwrap_or(0),
                show_duration(
                    self.lifetime_p99_ns
                        .unwrap_or(0)
                        .saturating_mul(SURVIVOR as u64)
                ),
                self.freed_as_old.unwrap_or(0),
                self.freed,
                slope(),
            ),
            Reason::RisesInSteps => format!(
                "never fell, and rose in steps, the last {unchanged} ago; {}",
                slope()
            ),
            Reason::QuartersRise => {
                let floors = self.floor_bytes.unwrap_or_default();
                let [first, second, third, last] = floors.map(crate::units::show_size);
                format!(
                    "held at least {first}, {second}, {third}, {last} in the quarters of {span}"
                )
            }
            Reason::FreedSoon => format!(
                "99 % of {} freed ones lived less than {}, {}",
                self.freed,
                show_duration(self.lifetime_p99_ns.unwrap_or(0)),
                slope(),
            ),
            Reason::Level => format!("level over {span}, {}", slope()),
        }
    }

    /// Growth per second: `+1.2 KiB`. Nothing where no slope could be found.
    pub fn growth(&self) -> Option<String> {
        match self.reason {
            Reason::UnchangedSinceStart | Reason::StoppedChanging => Some(bytes(0.0)),
            _ => self.slope_bytes_per_second.map(bytes),
        }
    }

    fn slope_in_words(&self) -> String {
        format!(
            "{}/s (99 %: {} to {})",
            bytes(self.slope_bytes_per_second.unwrap_or(0.0)),
            bytes(self.slope_low.unwrap_or(0.0)),
            bytes(self.slope_high.unwrap_or(0.0)),
        )
    }
}

/// `+1.2 MiB`.
fn bytes(value: f64) -> String {
    let sign = match value.round() {
        rounded if rounded > 0.0 => "+",
        rounded if rounded < 0.0 => "-",
        _ => "",
    };
    format!(
        "{sign}{}",
        crate::units::show_size(value.abs().round() as u64)
    )
}
