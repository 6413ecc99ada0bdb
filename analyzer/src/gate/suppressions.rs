//! A file of stacks that are known and do not count, each with a reason.
//!
//! ```text
//! # a comment
//! function ^cache_insert$   # the cache is bounded by its configuration
//! module ^libpython         # interned strings live as long as the interpreter
//! file third_party/         # reported upstream
//! ```

use std::path::Path;

use anyhow::{Context, bail};
use regex::Regex;

use crate::report::Frame;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Function,
    Module,
    File,
}

#[derive(Debug)]
struct Suppression {
    kind: Kind,
    pattern: Regex,
    reason: String,
}

/// The lines of a suppression file, in order.
#[derive(Debug, Default)]
pub struct Suppressions(Vec<Suppression>);

impl Suppressions {
    /// Reads a file; an error names the line.
    pub fn read(path: &Path) -> anyhow::Result<Suppressions> {
        let failed = || format!("{}: cannot read the suppressions", path.display());
        let text = std::fs::read_to_string(path).with_context(failed)?;
        let mut all = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let place = || format!("{}:{}", path.display(), index + 1);
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                all.push(suppression(line).with_context(place)?);
            }
        }
        Ok(Suppressions(all))
    }

    /// The reason of the first line that matches a stack.
    pub fn reason(&self, frames: &[Frame]) -> Option<&str> {
        let matching = self.0.iter().find(|suppression| {
            frames.iter().any(|frame| {
                let name = match suppression.kind {
                    Kind::Function => &frame.function,
                    Kind::Module => &frame.module,
                    Kind::File => &frame.file,
                };
                name.as_ref()
                    .is_some_and(|name| suppression.pattern.is_match(name))
            })
        });
        matching.map(|suppression| suppression.reason.as_str())
    }
}

/// `KIND REGEX # reason`; a pattern with ` #` in it writes it as ` [#]`.
fn suppression(line: &str) -> anyhow::Result<Suppression> {
    const FORM: &str = "expected `function REGEX # reason` (or module, or file)";
    let (rule, reason) = line.split_once(" #").context(FORM)?;
    let (kind, pattern) = rule.trim().split_once(char::is_whitespace).context(FORM)?;
    let kind = match kind {
        "function" => Kind::Function,
        "module" => Kind::Module,
        "file" => Kind::File,
        _ => bail!(FORM),
    };
    let reason = reason.trim();
    if reason.is_empty() {
        bail!("a suppression needs a reason: {FORM}");
    }
    Ok(Suppression {
        kind,
        pattern: Regex::new(pattern.trim())?,
        reason: reason.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines that are rules, and the first that matches wins; what is none says so.
    #[test]
    fn rules() {
        let rules = [
            "function ^make_ # bounded",
            "module libz  #  upstream bug 12",
            "file a[.]c # old",
        ];
        let rules = rules.map(|rule| suppression(rule).expect("a rule"));
        let suppressions = Suppressions(rules.into());
        let frame = |function: &str, module: &str| Frame {
            function: Some(function.into()),
            module: Some(module.into()),
            ..Frame::default()
        };
        let reason = |frames: &[Frame]| suppressions.reason(frames).map(str::to_owned);
        assert_eq!(
            reason(&[frame("x", "a"), frame("make_it", "libz.so")]),
            Some("bounded".into())
        );
        assert_eq!(
            reason(&[frame("remake_", "libz.so")]),
            Some("upstream bug 12".into())
        );
        assert_eq!(reason(&[frame("main", "prog")]), None);
        assert_eq!(reason(&[]), None);
        for wrong in [
            "function make",
            "function make #",
            "leak make # why",
            "function ( # why",
            "function# why",
        ] {
            assert!(suppression(wrong).is_err(), "{wrong}");
        }
    }
}
