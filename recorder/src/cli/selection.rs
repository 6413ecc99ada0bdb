//! The options that leave blocks out of a recording.

use clap::Args;
use memleak_trace::Selection;
use memleak_trace::quantity::parse_size;
use memleak_trace::selection::{LARGEST_BYTES, Sampling};

/// Recorded blocks that may be live at once, unless asked otherwise.
const TRACKED_BLOCKS: u32 = 4 << 20;

#[derive(Debug, Args)]
#[command(next_help_heading = "Record less")]
pub struct SelectionArgs {
    /// Record only heap blocks of at least this size (mappings are all recorded).
    #[arg(short = 'z', long, value_name = "SIZE", value_parser = parse_size)]
    min_size: Option<u64>,

    /// Record only heap blocks of at most this size.
    #[arg(short = 'Z', long, value_name = "SIZE", value_parser = parse_size)]
    max_size: Option<u64>,

    /// Record one allocation in N, by chance, with its free; reports then estimate.
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "sample_bytes")]
    sample_rate: Option<u32>,

    /// Record about one allocation per SIZE bytes, by chance: large blocks always, small ones
    /// seldom. For bytes this tells more than --sample-rate at the same cost.
    #[arg(long, value_name = "SIZE", value_parser = parse_sample_bytes)]
    sample_bytes: Option<u32>,

    /// Recorded blocks that can be live at once while blocks are left out; each costs about 100
    /// bytes of kernel memory when it is, and 16 at once.
    #[arg(long, value_name = "N", default_value_t = TRACKED_BLOCKS, value_parser = clap::value_parser!(u32).range(1..=1 << 28))]
    tracked_blocks: u32,
}

impl SelectionArgs {
    /// What to record; an error is a sentence.
    pub fn selection(&self) -> Result<Selection, String> {
        if let (Some(min), Some(max)) = (self.min_size, self.max_size)
            && min > max
        {
            return Err(format!(
                "no block has at least {min} and at most {max} bytes; exchange --min-size and --max-size"
            ));
        }
        let one_in = self.sample_rate.filter(|rate| *rate > 1);
        Ok(Selection {
            // The bounds of every size select nothing.
            min_size: self.min_size.filter(|min| *min > 0),
            max_size: self.max_size,
            sampling: one_in
                .map(Sampling::OneIn)
                .or(self.sample_bytes.map(Sampling::Bytes)),
        })
    }

    /// The options that were given, and are not the default.
    pub fn given(&self) -> impl Iterator<Item = &'static str> {
        let options = [
            (self.min_size.is_some(), "--min-size (-z)"),
            (self.max_size.is_some(), "--max-size (-Z)"),
            (self.sample_rate.is_some(), "--sample-rate (-s)"),
            (self.sample_bytes.is_some(), "--sample-bytes"),
            (self.tracked_blocks != TRACKED_BLOCKS, "--tracked-blocks"),
        ];
        options
            .into_iter()
            .filter_map(|(given, option)| given.then_some(option))
    }

    pub fn tracked_blocks(&self) -> u32 {
        self.tracked_blocks
    }
}

fn parse_sample_bytes(text: &str) -> Result<u32, String> {
    let bytes = parse_size(text).map_err(|error| error.to_string())?;
    u32::try_from(bytes)
        .ok()
        .filter(|bytes| (1..=LARGEST_BYTES).contains(bytes))
        .ok_or_else(|| "sampling takes 1 byte to 1GiB, for example 64KiB".to_owned())
}
