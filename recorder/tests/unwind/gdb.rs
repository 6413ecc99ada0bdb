//! Stacks as gdb sees them in a running process.

use std::process::{Command, Stdio};

/// One stack; leaf first, from malloc's caller on.
pub type Backtrace = Vec<GdbFrame>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GdbFrame {
    /// A return address.
    pub address: u64,
    /// What gdb calls the function, if it does.
    pub name: Option<String>,
}

/// Backtraces of so many calls of malloc, taken by chance among them. The process runs on after.
pub fn backtraces(pid: u32, count: usize) -> Vec<Backtrace> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/unwind/gdb.py");
    let output = Command::new("gdb")
        .args(["-nx", "-q", "-batch", "-iex", "set debuginfod enabled off"])
        .args(["-p", &pid.to_string()])
        .args(["-ex", &format!("python COUNT = {count}")])
        .args(["-ex", &format!("source {script}")])
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("gdb: {error}; make setup installs it"));
    let text = String::from_utf8_lossy(&output.stdout);
    let mut stacks: Vec<Backtrace> = Vec::new();
    for line in text.lines() {
        if line == "stack" {
            stacks.push(Vec::new());
        } else if let Some(frame) = line.strip_prefix("frame 0x") {
            let (address, name) = frame.split_once(' ').unwrap_or((frame, ""));
            stacks.last_mut().unwrap().push(GdbFrame {
                address: u64::from_str_radix(address, 16).unwrap(),
                name: (!name.is_empty()).then(|| name.to_owned()),
            });
        }
    }
    assert_eq!(
        stacks.len(),
        count,
        "gdb said: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    stacks
}
