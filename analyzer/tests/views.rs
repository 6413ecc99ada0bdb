//! The views on a trace that the test writes: text against golden files, and requests that cannot be met.
//! `notebooks/tests/test_views.py` holds their figures against SQL.
//!
//! `UPDATE_GOLDEN=1` writes the golden files anew; look at the difference before committing it.

#[allow(dead_code, reason = "the other tests need more of it")]
mod sample;

use sample::{golden, with_trace};

/// Every view as text, and some as CSV and JSON.
#[test]
fn views_are_as_they_were() {
    let directory = with_trace("views");
    let cases: &[(&str, &str)] = &[
        ("top.txt", "top -T 2 trace.parquet"),
        ("top-function.txt", "top --by function trace.parquet"),
        (
            "top-line.txt",
            "top --by line --sort total-count trace.parquet",
        ),
        (
            "top-module.csv",
            "top --by module --format csv trace.parquet",
        ),
        ("top-thread.txt", "top --by thread trace.parquet"),
        ("top-size.txt", "top --by size --domain heap trace.parquet"),
        ("tree.txt", "tree trace.parquet"),
        (
            "tree-inverted.txt",
            "tree --inverted --depth 1 trace.parquet",
        ),
        (
            "tree-folded.txt",
            "tree --folded --sort total-bytes trace.parquet",
        ),
        (
            "timeline.txt",
            "timeline --buckets 5 --domain heap trace.parquet",
        ),
        (
            "timeline.json",
            "timeline --buckets 2 -T 1 --per-stack --format json trace.parquet",
        ),
        ("ages.txt", "ages trace.parquet"),
        ("sizes.txt", "sizes trace.parquet"),
        ("lifetimes.txt", "lifetimes trace.parquet"),
        ("peak.txt", "peak -T 2 trace.parquet"),
        ("temporary.txt", "temporary trace.parquet"),
        (
            "temporary.csv",
            "temporary --within 1us --format csv trace.parquet",
        ),
        ("window.txt", "window --from 1s --to 95% trace.parquet"),
        (
            "window-stacks.csv",
            "window --from 1s --per-stack --format csv trace.parquet",
        ),
        ("diff.txt", "diff --from 50% trace.parquet"),
        ("diff-itself.txt", "diff trace.parquet trace.parquet"),
        (
            "allocs.txt",
            "allocs --sort age --function leak trace.parquet",
        ),
        (
            "events.txt",
            "events --from 8900ms --op malloc,realloc,free trace.parquet",
        ),
        ("series.txt", "series 5 2 -T 1 trace.parquet"),
        ("export.csv", "export --from 8900ms trace.parquet"),
    ];
    for (name, line) in cases {
        let arguments: Vec<&str> = line.split(' ').collect();
        golden(
            &format!("views/{name}"),
            &sample::run(&directory, &arguments),
        );
    }
}

/// Requests that cannot be met: exit status 2, and a sentence that says what to do.
#[test]
fn requests_that_cannot_be_met() {
    let directory = with_trace("views_refused");
    let cases: &[(&str, &str)] = &[
        ("top --at 11s trace.parquet", "lasted 10.0 s"),
        ("top --from 11s trace.parquet", "lasted 10.0 s"),
        (
            "top --from 5s --to 4s trace.parquet",
            "choose an earlier --from",
        ),
        ("window trace.parquet", "--from or --to"),
        ("diff trace.parquet", "second trace"),
        ("series 1 many trace.parquet", "COUNT"),
        (
            "export --form parquet trace.parquet",
            "--output FILE.parquet",
        ),
        ("peak --older 1s trace.parquet", "no meaning for peak"),
        (
            "events --only-temporary trace.parquet",
            "no meaning for events",
        ),
    ];
    for (line, expected) in cases {
        let arguments: Vec<&str> = line.split(' ').collect();
        let output = sample::analyze(&directory, &arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{line}: {errors}");
        assert!(errors.contains(expected), "{line}: {errors}");
        assert!(output.stdout.is_empty(), "{line}");
    }
}

/// The gate: status 3 with a sentence, after the report; suppressed stacks do not count and are told.
#[test]
fn gate() {
    let directory = with_trace("gate");
    std::fs::write(
        directory.join("known.txt"),
        "# known\nfunction ^leak_large$ # bounded\n",
    )
    .expect("a file");
    std::fs::write(directory.join("wrong.txt"), "leak_large\n").expect("a file");
    // The heap holds 19480 bytes in 9 allocations, of which leak_large has 8192 in one.
    let cases: &[(&str, i32, &str)] = &[
        (
            "--fail-on outstanding>10KiB",
            3,
            "heap: 19,480 bytes are outstanding",
        ),
        ("--fail-on outstanding>48KiB", 0, ""),
        ("--fail-on outstanding>47KiB", 3, "mapping: 49,152 bytes"),
        (
            "--fail-on outstanding>1MiB --fail-on count>8",
            3,
            "heap: 9 allocations",
        ),
        ("--fail-on count>8 --suppressions known.txt", 0, ""),
        ("--fail-on count>8 -T 1", 3, "heap: 9 allocations"),
        ("--fail-on growth>1/s --domain mapping", 0, ""),
        ("--fail-on leaks>5", 2, "expected outstanding>SIZE"),
        ("--suppressions missing.txt", 1, "missing.txt"),
        ("--suppressions wrong.txt", 1, "wrong.txt:1"),
    ];
    for (line, status, expected) in cases {
        let mut arguments: Vec<&str> = line.split(' ').collect();
        arguments.push("trace.parquet");
        let output = sample::analyze(&directory, &arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(*status), "{line}: {errors}");
        assert!(errors.contains(expected), "{line}: {errors}");
        assert_eq!(output.stdout.is_empty(), matches!(status, 1 | 2), "{line}");
    }
    let text = sample::analyze(
        &directory,
        &["--suppressions", "known.txt", "trace.parquet"],
    );
    let text = String::from_utf8(text.stdout).expect("UTF-8");
    assert!(text.contains("suppressed: 8192 bytes in 1 allocations of 1 stacks: bounded"));
    assert!(!text.contains("leak_large+"), "{text}");
}

/// A leak by the clock trips a growth limit below its rate, and none above it.
#[test]
fn growth() {
    let directory = sample::directory("growth");
    let path = directory.join("trace.parquet");
    let mut trace = sample::Sample::create(&path, &sample::header());
    trace.note(0, memleak_trace::Description::Open);
    // A table at the start, which is no growth, and 1000 bytes each 10 ms: 100,000 bytes a second.
    trace.event(1, memleak_trace::Op::Malloc, 0x10, 1 << 30, Some(0));
    for index in 0..1000 {
        let addr = 0x1000 + index as u64 * 0x1000;
        let after = index * sample::S / 100;
        trace.event(after, memleak_trace::Op::Malloc, addr, 1000, Some(1));
    }
    let reason = "stopped".to_owned();
    trace.note(10 * sample::S, memleak_trace::Description::Close { reason });
    trace.finish();
    for (limit, status) in [
        ("90000/s", 3),
        ("110000/s", 0),
        ("5MiB/min", 3),
        ("6MiB/min", 0),
    ] {
        let condition = format!("growth>{limit}");
        let output = sample::analyze(&directory, &["--fail-on", &condition, "trace.parquet"]);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{limit}: {errors}");
    }
    // Half a second is no time to judge growth.
    let short = ["--fail-on", "growth>1/s", "--at", "500ms", "trace.parquet"];
    let output = sample::analyze(&directory, &short);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("too short"));
}

/// `events | head` is quiet.
#[test]
fn broken_pipe_is_quiet() {
    let directory = with_trace("events_pipe");
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_memleak-analyze"))
        .args(["events", "trace.parquet"])
        .current_dir(&directory)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("memleak-analyze runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("its end");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
