//! A recording in parts is one trace, whatever order its files are given in; what is missing is said.

#[allow(dead_code, reason = "the other tests need more of it")]
mod sample;

use std::path::Path;

use memleak_trace::describe::CONTINUED;
use memleak_trace::header::Part;
use memleak_trace::{Description, Op};
use sample::Sample;
use serde_json::Value;

/// A part between two moments (nanoseconds after the start), with these events: time, operation,
/// address, size, stack.
fn part(
    directory: &Path,
    recording: &str,
    number: u32,
    (from, to): (i64, i64),
    last: bool,
    events: &[(i64, Op, u64, u64, Option<i32>)],
) {
    let mut header = sample::header();
    header.part = Some(Part {
        recording: recording.into(),
        number,
    });
    let path = directory.join(format!("{recording}.{number:06}.parquet"));
    let mut sample = Sample::create(&path, &header);
    sample.describe(from, from);
    for (after, op, addr, size, stack) in events {
        sample.event(*after, *op, *addr, *size, *stack);
    }
    let reason = if last {
        "the duration is over"
    } else {
        CONTINUED
    };
    sample.note(
        to,
        Description::Close {
            reason: reason.into(),
        },
    );
    sample.finish();
}

/// Three parts: a block that lives through all, one that is freed in the third, a reallocation
/// across the first seam, and a block of the second part alone.
fn three_parts(directory: &Path, recording: &str) {
    part(
        directory,
        recording,
        1,
        (0, 1000),
        false,
        &[
            (10, Op::Malloc, 0x1000, 100, Some(0)),
            (20, Op::Malloc, 0x2000, 200, Some(1)),
            (30, Op::Malloc, 0x3000, 300, Some(0)),
            (40, Op::ReallocRelease, 0x3000, 0, None),
        ],
    );
    part(
        directory,
        recording,
        2,
        (1000, 2000),
        false,
        &[
            (1010, Op::Realloc, 0x4000, 400, Some(2)),
            (1020, Op::Malloc, 0x5000, 50, Some(0)),
            (1030, Op::Free, 0x5000, 0, None),
        ],
    );
    part(
        directory,
        recording,
        3,
        (2000, 3000),
        true,
        &[
            (2010, Op::Free, 0x2000, 0, None),
            (2020, Op::Malloc, 0x6000, 7, Some(1)),
        ],
    );
}

fn json(directory: &Path, files: &[&str]) -> Value {
    let output = sample::analyze(directory, &[&["--format", "json"], files].concat());
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Bytes, count and total count of the heap.
fn heap(report: &Value) -> (u64, u64, u64) {
    let heap = &report["domains"]["heap"];
    let figure = |name: &str| heap[name].as_u64().expect("a number");
    (figure("bytes"), figure("count"), figure("total_count"))
}

/// Live blocks, reallocations and stacks go on from part to part, in whatever order the parts are given.
#[test]
fn parts_are_one_trace() {
    let directory = sample::directory("parts_one_trace");
    three_parts(&directory, "a");
    let files = ["a.000003.parquet", "a.000001.parquet", "a.000002.parquet"];
    let report = json(&directory, &files);
    assert_eq!(heap(&report), (507, 3, 6));
    let trace = &report["trace"];
    assert_eq!(trace["complete"], true, "{trace}");
    assert_eq!(trace["events"], 9);
    assert_eq!(trace["duration_ns"], 3000);
    assert_eq!(trace["end_reason"], "the duration is over");
    assert_eq!(trace["lost"]["total"], 0);
    for (name, count) in trace["anomalies"].as_object().expect("counts") {
        assert_eq!(count, 0, "{name}");
    }
    let numbers: Vec<u64> = trace["parts"]
        .as_array()
        .expect("parts")
        .iter()
        .filter_map(|part| part["number"].as_u64())
        .collect();
    assert_eq!(numbers, [1, 2, 3]);
    for stack in report["stacks"].as_array().expect("stacks") {
        assert!(!stack["frames"].as_array().expect("frames").is_empty());
    }
    let half = json(&directory, &[&["--at", "1.5us"], &files[..]].concat());
    assert_eq!(heap(&half), (700, 3, 5));
}

/// Without a middle part the report is incomplete, names the part, and leaves in doubt what was
/// allocated before it.
#[test]
fn a_missing_part_is_said() {
    let directory = sample::directory("parts_missing");
    three_parts(&directory, "a");
    let report = json(&directory, &["a.000001.parquet", "a.000003.parquet"]);
    let trace = &report["trace"];
    assert_eq!(trace["complete"], false);
    let remarks = trace["remarks"].to_string();
    assert!(remarks.contains("Part 2 is not given"), "{remarks}");
    let lost = &trace["lost"];
    assert_eq!(lost["by_cause"]["part of the recording missing"], 0);
    let window = &lost["windows"]["part of the recording missing"][0];
    assert_eq!(
        (&window["from_ns"], &window["to_ns"]),
        (&1000.into(), &2000.into())
    );
    let uncertain = |report: &Value| -> u64 {
        let stacks = report["stacks"].as_array().expect("stacks");
        stacks
            .iter()
            .filter_map(|stack| stack["uncertain_bytes"].as_u64())
            .sum()
    };
    assert_eq!(uncertain(&report), 100 + 300);
}

/// Without the first part its blocks are unknown and their frees old; without the last the recording
/// goes on.
#[test]
fn a_missing_beginning_or_end_is_said() {
    let directory = sample::directory("parts_ends");
    three_parts(&directory, "a");
    let report = json(&directory, &["a.000002.parquet", "a.000003.parquet"]);
    assert_eq!(heap(&report), (407, 2, 3));
    assert_eq!(report["trace"]["complete"], false);
    assert_eq!(report["trace"]["lost"]["total"], 0);
    assert_eq!(report["trace"]["anomalies"]["free_before_attach"], 1);
    let remarks = report["trace"]["remarks"].to_string();
    assert!(remarks.contains("Part 1 is not given"), "{remarks}");

    let report = json(&directory, &["a.000001.parquet", "a.000002.parquet"]);
    assert_eq!(heap(&report), (700, 3, 5));
    assert_eq!(report["trace"]["complete"], false);
    let remarks = report["trace"]["remarks"].to_string();
    assert!(remarks.contains("goes on in a later part"), "{remarks}");
}

/// Parts of two recordings with the same addresses and stack numbers: two reports, nothing mixed.
#[test]
fn recordings_stay_apart() {
    let directory = sample::directory("parts_two_recordings");
    three_parts(&directory, "a");
    part(
        &directory,
        "b",
        1,
        (0, 500),
        true,
        &[(10, Op::Malloc, 0x1000, 5, Some(2))],
    );
    let files = [
        "a.000001.parquet",
        "b.000001.parquet",
        "a.000003.parquet",
        "a.000002.parquet",
    ];
    let reports = json(&directory, &files);
    assert_eq!(reports["schema"], "memleak-reports/1");
    assert_eq!(heap(&reports["reports"][0]), (507, 3, 6));
    assert_eq!(heap(&reports["reports"][1]), (5, 1, 1));
    let text = sample::analyze(&directory, &files);
    let text = String::from_utf8(text.stdout).expect("text");
    assert_eq!(text.matches("trace: complete").count(), 2, "{text}");
}

/// Views take the parts of a recording together too; of several recordings they say that they show one.
#[test]
fn views_take_parts_together() {
    let directory = sample::directory("parts_views");
    three_parts(&directory, "a");
    part(&directory, "b", 1, (0, 500), true, &[]);
    let files = ["a.000003.parquet", "a.000001.parquet", "a.000002.parquet"];
    let view = |arguments: &[&str]| {
        let output = sample::analyze(&directory, &[arguments, &files[..]].concat());
        assert!(output.status.success(), "{output:?}");
        assert!(output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let rows = |arguments: &[&str]| -> Vec<Value> {
        let text = view(&[arguments, &["--format", "json"]].concat());
        let document: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(document["trace"]["parts"][2]["number"], 3);
        document["rows"].as_array().expect("rows").clone()
    };
    let sum = |rows: &[Value], column: &str| -> u64 {
        rows.iter().filter_map(|row| row[column].as_u64()).sum()
    };
    assert_eq!(sum(&rows(&["allocs"]), "size"), 507);
    assert_eq!(sum(&rows(&["top", "--from", "1us"]), "total_count"), 3);
    assert_eq!(rows(&["events"]).len(), 9);
    // A line of names, and a lifetime for each of six blocks.
    assert_eq!(view(&["export"]).lines().count(), 7);
    for series in [&["series", "1us"][..], &["series", "1us", "3"]] {
        let mut rows = rows(series);
        rows.retain(|row| row["at_ns"] == 3000);
        assert_eq!(sum(&rows, "bytes"), 507);
    }
    for view in ["top", "events", "export"] {
        let several = sample::analyze(&directory, &[view, files[1], "b.000001.parquet"]);
        let said = String::from_utf8_lossy(&several.stderr).into_owned();
        assert_eq!(several.status.code(), Some(2), "{said}");
        assert!(said.contains("of several recordings"), "{said}");
    }
}

/// `diff` takes the parts of both recordings, the older one's first, and three recordings are too many.
#[test]
fn diff_takes_parts() {
    let directory = sample::directory("parts_diff");
    three_parts(&directory, "a");
    part(
        &directory,
        "b",
        1,
        (0, 500),
        true,
        &[(10, Op::Malloc, 0x1000, 900, Some(0))],
    );
    part(&directory, "c", 1, (0, 500), true, &[]);
    let rows = |files: &[&str]| -> Vec<Value> {
        let arguments = [&["diff", "--format", "json", "--match", "offsets"], files].concat();
        let output = sample::analyze(&directory, &arguments);
        assert!(output.status.success(), "{output:?}");
        let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        document["rows"].as_array().expect("rows").clone()
    };
    let older = ["a.000002.parquet", "a.000003.parquet", "a.000001.parquet"];
    let files = [&older[..], &["b.000001.parquet"]].concat();
    let found = rows(&files);
    // Outstanding in a: 100 and 400 and 7 bytes on three stacks; in b: 900 on the first.
    let sides = |column: &str| -> u64 { found.iter().filter_map(|row| row[column].as_u64()).sum() };
    assert_eq!((sides("a_bytes"), sides("b_bytes")), (507, 900));
    assert_eq!(found[0]["delta_bytes"], 800);
    let turned = rows(&[&["b.000001.parquet"], &older[..]].concat());
    assert_eq!(turned.last().expect("a row")["delta_bytes"], -800);
    // One recording is compared with an earlier moment of its own.
    let since = rows(&[&["--from", "1us"], &older[..]].concat());
    assert!(!since.is_empty());
    for (wrong, said) in [
        (older.to_vec(), "--from MOMENT"),
        ([&files[..], &["c.000001.parquet"]].concat(), "are of more"),
    ] {
        let output = sample::analyze(&directory, &[&["diff"], &wrong[..]].concat());
        assert_eq!(output.status.code(), Some(2));
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(errors.contains(said), "{errors}");
    }
}

/// The gate judges each recording for itself and names the one that trips; CSV holds one recording.
#[test]
fn each_recording_is_judged() {
    let directory = sample::directory("parts_gate");
    three_parts(&directory, "a");
    let block = [(10, Op::Malloc, 0x1000, 5, Some(2))];
    part(&directory, "b", 1, (0, 500), true, &block);
    let files = [
        "b.000001.parquet",
        "a.000001.parquet",
        "a.000002.parquet",
        "a.000003.parquet",
    ];
    let judge = |options: &[&str]| {
        let output = sample::analyze(&directory, &[options, &files[..]].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    };
    let (status, said) = judge(&["--fail-on", "outstanding>506"]);
    assert_eq!(status, Some(3), "{said}");
    assert!(said.contains("a.000003.parquet: --fail-on"), "{said}");
    assert!(!said.contains("b.000001.parquet"), "{said}");
    // Together they hold 512.
    assert_eq!(judge(&["--fail-on", "outstanding>507"]).0, Some(0));
    let (status, said) = judge(&["--format", "csv"]);
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("one recording"), "{said}");
}

/// The same part twice cannot be right.
#[test]
fn the_same_part_twice_is_refused() {
    let directory = sample::directory("parts_twice");
    three_parts(&directory, "a");
    let first = directory.join("a.000001.parquet");
    std::fs::copy(&first, directory.join("copy.parquet")).expect("a copy");
    let output = sample::analyze(&directory, &["a.000001.parquet", "copy.parquet"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("are the same part of a recording"), "{said}");
}

/// Each part is sound by itself, though its stacks and calls began in earlier ones.
#[test]
fn each_part_is_sound() {
    let directory = sample::directory("parts_sound");
    three_parts(&directory, "a");
    for number in 1..=3 {
        let file = format!("a.{number:06}.parquet");
        let output = sample::analyze(&directory, &["verify", "--quiet", &file]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}");
    }
    let files = ["a.000001.parquet", "a.000002.parquet", "a.000003.parquet"];
    let together = sample::analyze(&directory, &[&["verify"][..], &files].concat());
    let said = String::from_utf8_lossy(&together.stdout).into_owned();
    assert!(
        together.status.success() && said.contains("part 3 follows part 2"),
        "{said}"
    );
    let gap = sample::analyze(&directory, &["verify", "--quiet", files[2], files[0]]);
    let said = String::from_utf8_lossy(&gap.stdout).into_owned();
    assert_eq!(gap.status.code(), Some(1));
    assert!(
        said.contains("sequence: part 3 does not follow part 1"),
        "{said}"
    );
}
