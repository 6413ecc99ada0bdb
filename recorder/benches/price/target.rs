//! The program that is measured: `testdata/programs/churn.c`.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, ensure};

/// How a program is built.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Build {
    /// As the tests have it, with frame pointers.
    FramePointers,
    /// As distributions do.
    Optimized,
}

/// Builds the test programs; returns where they are.
pub fn build_programs(build: Build) -> anyhow::Result<PathBuf> {
    let (name, flags) = match build {
        Build::FramePointers => ("programs", None),
        Build::Optimized => (
            "programs-optimized",
            Some("CFLAGS=-O1 -fomit-frame-pointer -std=gnu11"),
        ),
    };
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/programs");
    let status = Command::new("make")
        .arg("-s")
        .arg("-C")
        .arg(sources)
        .arg(format!("OUT={}", out.display()))
        .args(flags)
        .status()
        .context("cannot run make; apt-get install make gcc")?;
    ensure!(status.success(), "the test programs do not build");
    Ok(out)
}

/// A process that allocates and frees on request.
pub struct Churn {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Churn {
    pub fn start(programs: &Path, depth: u32, pairs: u32) -> anyhow::Result<Churn> {
        let mut child = Command::new(programs.join("churn"))
            .args([depth.to_string(), pairs.to_string(), "0".to_owned()])
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start churn")?;
        let stdout = child.stdout.take().context("churn has no stdout")?;
        let mut churn = Churn {
            child,
            lines: BufReader::new(stdout).lines(),
        };
        churn.read_until(|line| (line == "ready").then_some(()))?;
        Ok(churn)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// One round; nanoseconds of CPU time per pair.
    pub fn round(&mut self) -> anyhow::Result<f64> {
        // SAFETY: a signal to our own child, which waits for it.
        unsafe {
            libc::kill(self.child.id() as i32, libc::SIGUSR1);
        }
        let ns = self.read_until(|line| {
            let round: serde_json::Value = serde_json::from_str(line).ok()?;
            Some(round.get("cpu_ns")?.as_f64()? / round.get("pairs")?.as_f64()?)
        })?;
        self.read_until(|line| (line == "done").then_some(()))?;
        Ok(ns)
    }

    /// The best of several rounds.
    pub fn best_of(&mut self, rounds: usize) -> anyhow::Result<f64> {
        let mut best = f64::INFINITY;
        for _ in 0..rounds {
            best = best.min(self.round()?);
        }
        Ok(best)
    }

    fn read_until<T>(&mut self, found: impl Fn(&str) -> Option<T>) -> anyhow::Result<T> {
        loop {
            let line = self.lines.next().context("churn has ended")??;
            if let Some(value) = found(&line) {
                return Ok(value);
            }
        }
    }
}

impl Drop for Churn {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
