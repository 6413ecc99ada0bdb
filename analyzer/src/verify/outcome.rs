//! The result of a verification, as text and as JSON (`schemas/verify-v1.json`).

use std::io::Write;
use std::path::PathBuf;

use memleak_trace::header::Part;
use serde::Serialize;

/// One thing that was checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// A word that stays the same over versions.
    pub name: &'static str,
    pub sound: bool,
    /// A sentence: what holds, or what is wrong and where first.
    pub detail: String,
}

impl Check {
    pub fn new(name: &'static str, sound: bool, detail: String) -> Check {
        Check {
            name,
            sound,
            detail,
        }
    }
}

/// What was found in one trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub path: PathBuf,
    /// Which part of a recording it is; `None` if it is all of it.
    pub part: Option<Part>,
    pub checks: Vec<Check>,
}

impl Outcome {
    /// Whether every check holds.
    pub fn sound(&self) -> bool {
        self.checks.iter().all(|check| check.sound)
    }
}

/// A line per check, behind the trace's name. `quiet`: only what is wrong.
pub fn write_text(outcomes: &[Outcome], quiet: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    for outcome in outcomes {
        let path = outcome.path.display();
        for check in &outcome.checks {
            let word = if check.sound { "ok" } else { "WRONG" };
            if !check.sound || !quiet {
                writeln!(out, "{path}: {word:5} {}: {}", check.name, check.detail)?;
            }
        }
        if !quiet {
            let verdict = if outcome.sound() {
                "sound"
            } else {
                "NOT sound"
            };
            writeln!(out, "{path}: {verdict}")?;
        }
    }
    Ok(())
}

/// All outcomes as one object.
pub fn write_json(outcomes: &[Outcome], out: &mut dyn Write) -> anyhow::Result<()> {
    #[derive(Serialize)]
    struct Trace<'a> {
        path: String,
        sound: bool,
        checks: &'a [Check],
    }
    #[derive(Serialize)]
    struct Document<'a> {
        schema: &'static str,
        sound: bool,
        traces: Vec<Trace<'a>>,
    }
    let traces = outcomes
        .iter()
        .map(|outcome| Trace {
            path: outcome.path.display().to_string(),
            sound: outcome.sound(),
            checks: &outcome.checks,
        })
        .collect();
    let document = Document {
        schema: "memleak-verify/1",
        sound: outcomes.iter().all(Outcome::sound),
        traces,
    };
    serde_json::to_writer_pretty(&mut *out, &document)?;
    Ok(writeln!(out)?)
}
