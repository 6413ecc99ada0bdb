//! What allocations in the kernel tell beside their size comes back, also between other rows.

mod common;

use common::{create, header};
use memleak_trace::detail::has_detail;
use memleak_trace::header::KernelRecording;
use memleak_trace::writer::WriterOptions;
use memleak_trace::{
    Description, Detail, Event, Header, Note, Op, SpaceId, TraceReader, TraceWriter,
};

/// Rows of three row groups, more than a batch each: events of both sides, losses, and details with
/// and without every part.
#[test]
fn details_between_other_rows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    let mut writer = create(&path);
    let mut expected = Vec::new();
    let mut row = 0;
    for group in 0..3 {
        // Kernel events begin late in a group, behind a batch without any.
        for index in 0..40_000i64 {
            let ts = group * 40_000 + index;
            if index % 1000 == 7 {
                writer
                    .note(&Note {
                        ts,
                        what: Description::Loss {
                            cause: "interrupted probe, release".to_owned(),
                            count: 1,
                            window_ns: ts as u64,
                        },
                    })
                    .unwrap();
            } else if index < 20_000 || index % 3 == 0 {
                let op = if index % 2 == 0 {
                    Op::Malloc
                } else {
                    Op::Kfree
                };
                writer.event(&event(ts, op), None).unwrap();
            } else {
                let detail = Detail {
                    size2: 2 * ts as u64,
                    cache: (index % 5 > 0).then(|| format!("cache {}", index % 7).into()),
                    gfp: (index % 4 > 0).then(|| "GFP_KERNEL".into()),
                    comm: (index % 6 > 0).then(|| "find".into()),
                };
                let event = event(ts, Op::KmemCacheAlloc);
                writer.detailed_event(&event, None, detail.clone()).unwrap();
                expected.push((row, detail));
            }
            row += 1;
        }
        writer.checkpoint().unwrap();
    }
    writer.finish().unwrap();
    let mut reader = TraceReader::open(&path).unwrap();
    let (mut found, mut before) = (Vec::new(), 0);
    while let Some(batch) = reader.next_batch().unwrap() {
        for at in 0..batch.len() {
            assert_eq!(batch.detail(at).is_some(), has_detail(batch.ops[at]));
        }
        let details = batch.details.iter();
        found.extend(details.map(|(at, detail)| (before + at, detail.clone())));
        before += batch.len();
    }
    assert!(found == expected);
    assert!(reader.condition().complete, "{:?}", reader.condition());
}

fn event(ts: i64, op: Op) -> Event {
    Event {
        ts,
        pid: 1,
        tid: 2,
        op,
        space: SpaceId(0),
        addr: 0xffff_8880_0000_0000 + ts as u64,
        size: 10,
        stack: None,
    }
}

/// How the kernel was recorded is in the header, and is not where it was not.
#[test]
fn header_of_the_kernel() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    let header = Header {
        kernel: Some(KernelRecording {
            possible_cpus: 4,
            coverage: vec!["all".to_owned()],
        }),
        ..header()
    };
    let writer = TraceWriter::create(&path, &header, &WriterOptions { overwrite: false }).unwrap();
    writer.finish().unwrap();
    assert_eq!(TraceReader::open(&path).unwrap().header(), &header);
}
