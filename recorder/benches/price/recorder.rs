//! The recorder as a user runs it, and what it needs.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use memleak_trace::{Description, TraceReader};

/// A recorder at work.
pub struct Recorder {
    child: Child,
    stderr: std::io::Lines<BufReader<ChildStderr>>,
    trace: PathBuf,
}

/// What a finished recording was.
pub struct Recorded {
    pub events: u64,
    pub lost: u64,
    /// Frames of the deepest stack.
    pub frames: usize,
    pub file_bytes: u64,
    /// From the signal until the recorder says that the trace is closed.
    pub close_ms: f64,
    /// From the signal until its process has ended.
    pub exit_ms: f64,
}

impl Recorder {
    /// Records a process with these further options.
    pub fn start(pid: u32, options: &[&str]) -> anyhow::Result<Recorder> {
        let trace = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("price.parquet");
        let mut child = Command::new(env!("CARGO_BIN_EXE_memleak-record"))
            .args(["--force", "-p", &pid.to_string(), "-o"])
            .arg(&trace)
            .args(options)
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start memleak-record")?;
        let stderr = child
            .stderr
            .take()
            .context("memleak-record has no stderr")?;
        let mut recorder = Recorder {
            child,
            stderr: BufReader::new(stderr).lines(),
            trace,
        };
        recorder.wait_for("recording")?;
        Ok(recorder)
    }

    /// CPU time so far, user and system.
    pub fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split(' ')
            .collect();
        // Fields 14 and 15 of proc(5); the first one here is an empty string before field 3.
        let ticks: f64 = fields[12].parse::<f64>()? + fields[13].parse::<f64>()?;
        // SAFETY: sysconf has no preconditions.
        Ok(ticks / unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64)
    }

    /// Largest resident memory so far; the ring is shown apart by the header.
    pub fn peak_memory_bytes(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .context("no VmHWM")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse()?;
        Ok(kib * 1024)
    }

    /// Ends the recording as Ctrl-C does, and reads what it wrote.
    pub fn finish(mut self) -> anyhow::Result<Recorded> {
        let start = Instant::now();
        // SAFETY: a signal to our own child.
        unsafe {
            libc::kill(self.child.id() as i32, libc::SIGINT);
        }
        self.wait_for("recorded")?;
        let close_ms = start.elapsed().as_secs_f64() * 1e3;
        let status = self.child.wait()?;
        let exit_ms = start.elapsed().as_secs_f64() * 1e3;
        ensure!(status.success(), "memleak-record failed: {status}");
        let (events, lost, frames) = self.count()?;
        let file_bytes = std::fs::metadata(&self.trace)?.len();
        Ok(Recorded {
            events,
            lost,
            frames,
            file_bytes,
            close_ms,
            exit_ms,
        })
    }

    /// Events in the trace, those that it says were lost, and frames of the deepest stack.
    fn count(&self) -> anyhow::Result<(u64, u64, usize)> {
        let mut reader = TraceReader::open(&self.trace)?;
        let (mut events, mut lost, mut frames) = (0, 0, 0);
        while let Some(batch) = reader.next_batch()? {
            events += batch.ops.iter().filter(|op| op.is_event()).count() as u64;
            let depths = batch.stacks.iter().map(|stack| stack.frames.len());
            frames = depths.fold(frames, usize::max);
            for (_, note) in batch.notes {
                if let Description::Loss { count, .. } = note.what {
                    lost += count;
                }
            }
        }
        ensure!(reader.condition().complete, "the trace is not complete");
        Ok((events, lost, frames))
    }

    fn wait_for(&mut self, word: &str) -> anyhow::Result<()> {
        let mut said = Vec::new();
        for line in self.stderr.by_ref() {
            let line = line?;
            if line.starts_with(word) {
                return Ok(());
            }
            said.push(line);
        }
        bail!("memleak-record ended: {}", said.join("; "))
    }
}
