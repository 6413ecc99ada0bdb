//! What the program refuses before it touches a process: exit codes and sentences.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(env!("CARGO_BIN_EXE_memleak-record"))
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

/// Wrong usage: exit 2, the reason on stderr, nothing on stdout.
#[test]
fn usage() {
    for (arguments, words) in [
        (
            &["--follow"][..],
            "a recording of the kernel has no --follow",
        ),
        (&["--kernel", "-t"], "record a process with -p PID"),
        (&["-p", "1", "-o", "-"], "a trace is not a stream"),
        (&["-p", "nobody"], "invalid value 'nobody'"),
    ] {
        let (code, stdout, stderr) = run(arguments);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(stderr.contains(words), "{stderr}");
    }
}

/// Help, version and documents go to stdout and exit 0.
#[test]
fn documents() {
    for (arguments, words) in [
        (&["--help"][..], "EXAMPLES"),
        (&["--version"], "memleak-record"),
        (&["--generate", "man"], ".TH memleak-record"),
        (&["--generate", "bash"], "complete"),
    ] {
        let (code, stdout, stderr) = run(arguments);
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{arguments:?}");
        assert!(stdout.contains(words), "{stdout}");
    }
}

/// An output that cannot be written: exit 1, one line with cause and remedy, and the file as it was.
#[test]
fn outputs() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("refusals");
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).unwrap();
    let existing = directory.join("existing.parquet");
    fs::write(&existing, "precious").unwrap();
    for (path, words) in [
        (existing.clone(), "--force"),
        (directory.clone(), "is a directory"),
        (directory.join("missing/t.parquet"), "does not exist"),
    ] {
        let (code, stdout, stderr) = run(&["-p", "1", "-o", path.to_str().unwrap()]);
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(
            stderr.starts_with("memleak-record: ") && stderr.contains(words),
            "{stderr}"
        );
    }
    assert_eq!(fs::read(&existing).unwrap(), b"precious");
}
