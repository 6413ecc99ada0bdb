//! What the recorder says to whoever watches it.

use std::fmt::Arguments;
use std::io::{self, Write};

/// Writes a line to stderr. That nobody listens (`2>&1 | head -1`, a terminal that is gone) is no
/// reason to stop recording, as it would be for `eprintln!`, which panics then.
pub fn say(line: Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{line}");
}
