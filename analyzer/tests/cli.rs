//! The program on traces that the test writes: reports against golden files, and every option.
//!
//! `UPDATE_GOLDEN=1` writes the golden files anew; look at the difference before committing it.

#[allow(dead_code, reason = "the other tests need more of it")]
mod sample;

use std::path::Path;

use sample::{golden, run, with_trace};
use serde_json::Value;

fn json(directory: &Path, arguments: &[&str]) -> Value {
    let mut all = vec!["--format", "json", "trace.parquet"];
    all.extend(arguments);
    serde_json::from_str(&run(directory, &all)).expect("JSON")
}

/// The whole report as text, with each allocation, and without our additions.
#[test]
fn text_reports() {
    let directory = with_trace("text");
    golden("default.txt", &run(&directory, &["trace.parquet"]));
    golden(
        "allocations.txt",
        &run(
            &directory,
            &["-a", "--top", "2", "-z", "2k", "trace.parquet"],
        ),
    );
    golden(
        "combined.txt",
        &run(&directory, &["-C", "--older", "8s", "trace.parquet"]),
    );
    golden(
        "half.txt",
        &run(&directory, &["--at", "50%", "trace.parquet"]),
    );
}

/// The whole report as JSON.
#[test]
fn json_report() {
    let directory = with_trace("json");
    golden(
        "default.json",
        &run(&directory, &["--format", "json", "trace.parquet"]),
    );
    golden(
        "allocations.json",
        &run(
            &directory,
            &["--format", "json", "-a", "-T", "1", "trace.parquet"],
        ),
    );
}

/// What the sample holds, figure by figure: golden files alone would bless a wrong one.
#[test]
fn figures_are_the_samples_own() {
    let report = json(&with_trace("figures"), &[]);
    let trace = &report["trace"];
    assert_eq!(trace["started"], "2026-01-01T00:00:00Z");
    assert_eq!(trace["duration_ns"], 10 * sample::S);
    assert_eq!(trace["events"], 7 + 80 + 4 + 4 + 2);
    assert_eq!(trace["complete"], true);
    assert_eq!(trace["lost"]["by_cause"]["ring full"], 3);
    assert_eq!(trace["processes"][0]["exit"], 128 + 15);
    assert_eq!(trace["stacks"]["complete"], 7 + 40 + 2 + 1);
    assert_eq!(trace["stacks"]["incomplete"]["no_mapping"], 1);
    assert_eq!(trace["stacks"]["incomplete"]["missing"], 1);
    assert_eq!(trace["anomalies"]["free_before_attach"], 1);
    assert_eq!(trace["anomalies"]["already_freed"], 1);
    assert_eq!(trace["anomalies"]["implicit_frees"], 0);
    let heap = &report["domains"]["heap"];
    assert_eq!(heap["bytes"], 1024 + 8192 + 5 * 2048 + 16 + 8);
    assert_eq!(heap["count"], 9);
    assert_eq!(
        heap["total_bytes"],
        1024 + 8192 + 5 * 2048 + 4000 + 1200 + 24
    );
    assert_eq!(heap["total_count"], 51);
    assert_eq!(heap["peak_bytes"], 1024 + 8192 + 5 * 2048 + 1200);
    assert_eq!(heap["peak_at_ns"], 9 * sample::S + 2);
    assert_eq!(report["domains"]["mapping"]["bytes"], 12 * 4096);
    assert_eq!(report["domains"]["mapping"]["count"], 1);

    let stacks = report["stacks"].as_array().expect("stacks");
    let figures: Vec<_> = stacks
        .iter()
        .map(|s| {
            (
                s["op"].as_str(),
                s["bytes"].as_u64(),
                s["count"].as_u64(),
                s["total_count"].as_u64(),
            )
        })
        .collect();
    let row = |op, bytes, count, total| (Some(op), Some(bytes), Some(count), Some(total));
    assert_eq!(
        figures,
        [
            row("mmap", 12 * 4096, 1, 1),
            row("malloc", 5 * 2048, 5, 5),
            row("malloc", 8192, 1, 1),
            row("malloc", 1024, 1, 1),
            row("calloc", 16, 1, 1),
            row("malloc", 8, 1, 1),
            row("malloc", 0, 0, 41),
            row("realloc", 0, 0, 1),
        ]
    );
    let names: Vec<_> = stacks[1]["frames"]
        .as_array()
        .expect("frames")
        .iter()
        .map(|f| &f["function"])
        .collect();
    assert_eq!(names, ["grow", "push", "leak_with_loop", "main"]);
    assert_eq!(stacks[4]["frames"][0]["function"], Value::Null);
    assert_eq!(stacks[4]["frames"][0]["module"], "libz.so.1");
    assert_eq!(stacks[6]["verdict"], "churn");
    assert_eq!(stacks[1]["verdict"], "static");
}

/// Of every stack: the histogram and the end of the timeline sum up to what is outstanding.
#[test]
fn histogram_and_timeline_sum_up() {
    let directory = with_trace("sums");
    for at in ["100%", "1s", "9s"] {
        let report = json(&directory, &["--at", at]);
        for stack in report["stacks"].as_array().expect("stacks") {
            let sum = |key: &str| -> u64 {
                let bins = stack["age_histogram"].as_array().expect("bins");
                bins.iter().filter_map(|bin| bin[key].as_u64()).sum()
            };
            let last = stack["timeline"]
                .as_array()
                .and_then(|points| points.last())
                .expect("a point");
            for key in ["bytes", "count"] {
                assert_eq!(Some(sum(key)), stack[key].as_u64(), "{at} {stack}");
                assert_eq!(last[key], stack[key], "{at} {stack}");
            }
            assert_eq!(last["at_ns"], report["at_ns"]);
        }
    }
}

/// The state at an earlier moment: only what was allocated by then; names are known all the same.
#[test]
fn at_a_moment() {
    let directory = with_trace("at");
    let report = json(&directory, &["--at", "300ms"]);
    assert_eq!(report["at_ns"], 3 * sample::S / 10);
    assert_eq!(report["domains"]["heap"]["bytes"], 1024 + 8192);
    assert_eq!(report["stacks"].as_array().map(Vec::len), Some(2));
    assert_eq!(report["stacks"][0]["frames"][0]["function"], "leak_large");
    assert_eq!(report["stacks"][0]["oldest_age_ns"], sample::S / 10);
    assert_eq!(report["trace"]["resident"][0]["anonymous_bytes"], 1 << 20);
    // The same moment as a share.
    assert_eq!(
        json(&directory, &["--at", "3%"])["stacks"],
        report["stacks"]
    );
    let late = sample::analyze(&directory, &["--at", "11s", "trace.parquet"]);
    assert_eq!(late.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&late.stderr).contains("lasted 10.0 s"));
}

/// A report goes to a file; an existing one needs --force, and the trace itself is never replaced.
#[test]
fn output_files() {
    let directory = with_trace("output");
    let before = std::fs::read(directory.join("trace.parquet")).expect("the trace");
    assert_eq!(run(&directory, &["trace.parquet", "--output", "r.txt"]), "");
    let report = std::fs::read_to_string(directory.join("r.txt")).expect("the report");
    assert_eq!(report, run(&directory, &["trace.parquet"]));
    let again = sample::analyze(&directory, &["trace.parquet", "--output", "r.txt"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("--force"));
    run(
        &directory,
        &[
            "trace.parquet",
            "--output",
            "r.txt",
            "--force",
            "--format",
            "json",
        ],
    );
    assert!(
        std::fs::read_to_string(directory.join("r.txt"))
            .expect("the report")
            .starts_with('{')
    );
    let itself = sample::analyze(
        &directory,
        &["trace.parquet", "--output", "./trace.parquet", "--force"],
    );
    assert_eq!(itself.status.code(), Some(1));
    assert_eq!(
        std::fs::read(directory.join("trace.parquet")).expect("the trace"),
        before
    );
}

/// `| head` is quiet: a reader that goes away is no failure.
#[test]
fn broken_pipe_is_quiet() {
    let directory = with_trace("pipe");
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_memleak-analyze"))
        .args(["--format", "json", "trace.parquet"])
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
