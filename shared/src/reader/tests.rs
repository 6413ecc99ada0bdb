//! Both ways to read the columns of events say the same.

use std::path::Path;

use super::*;
use crate::event::{Event, SpaceId};
use crate::op::Op;
use crate::stack::{FrameId, Stack, StackEnd, StackId};
use crate::writer::{TraceWriter, WriterOptions};
use crate::{Description, Note};

/// Numbers as random as it takes, the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1);
        (self.0 >> 33) % limit
    }
}

/// A trace of `rows` rows with all that events may have, in row groups of different lengths. `time`: how far each row is from the
/// one before.
fn write(path: &Path, rows: usize, mut time: impl FnMut(usize, &mut Numbers) -> i64) {
    let header = crate::writer::tests::header();
    let options = WriterOptions { overwrite: true };
    let mut writer = TraceWriter::create(path, &header, &options).unwrap();
    let mut numbers = Numbers(rows as u64);
    let ops: Vec<Op> = Op::all().filter(|op| op.is_event()).collect();
    let (mut ts, mut stacks, mut next_checkpoint) = (0i64, 0, 1);
    for row in 0..rows {
        ts = ts.wrapping_add(time(row, &mut numbers));
        if numbers.below(500) == 0 {
            let what = Description::Close {
                reason: "no reason".to_owned(),
            };
            writer.note(&Note { ts, what }).unwrap();
            continue;
        }
        // Stretches in which nothing changes, and such in which all does.
        let calm = row / 3000 % 2 == 0;
        let new = !calm && numbers.below(4) == 0;
        let stack = new.then(|| Stack {
            id: StackId(stacks),
            frames: (0..numbers.below(40))
                .map(|frame| FrameId((frame * numbers.below(9)) as i64))
                .collect(),
            end: StackEnd::ALL[numbers.below(StackEnd::ALL.len() as u64) as usize],
        });
        stacks += i32::from(new);
        let known = stacks > 0 && numbers.below(2) == 0;
        let of = match (&stack, known) {
            (Some(stack), _) => Some(stack.id),
            (None, true) => Some(StackId(numbers.below(stacks as u64) as i32)),
            (None, false) => None,
        };
        let event = Event {
            ts,
            pid: if calm { 1 } else { numbers.below(3) as i32 },
            tid: if calm { 1 } else { numbers.below(300) as i32 },
            op: ops[numbers.below(if calm { 2 } else { ops.len() as u64 }) as usize],
            space: SpaceId(if calm { 1 } else { numbers.below(5) as i32 }),
            addr: 0x5555_0000_0000 + numbers.below(1 << 30),
            size: if calm { 32 } else { numbers.below(u64::MAX) },
            stack: of,
        };
        writer.event(&event, stack.as_ref()).unwrap();
        if row == next_checkpoint {
            writer.checkpoint().unwrap();
            next_checkpoint *= 3;
        }
    }
    writer.finish().unwrap();
}

/// Reads each row group of a trace in both ways, and compares. How many groups are laid out as usual to their ends, and how many
/// there are.
fn compare(path: &Path) -> (usize, usize) {
    let opened = open(path).unwrap();
    let length = opened.condition.file_bytes;
    let (mut usual, mut all) = (0, 0);
    for group in opened.groups {
        let group = || {
            let loaded = group.load(&opened.file, length).unwrap();
            OpenGroup::new(loaded.source, loaded.metadata, loaded.index).unwrap()
        };
        let (mut here, mut other) = (group(), group());
        let events = columns(&other.source, &other.metadata, other.index, EVENT_COLUMNS);
        other.events = Events::Any(events.build().unwrap());
        // The memory of a batch with other rows is as good as new memory.
        let mut spare = Batch::default();
        loop {
            let batch = here.next_batch(spare).unwrap();
            let expected = other.next_batch(Batch::default()).unwrap();
            assert_eq!(batch, expected, "{} at {}", path.display(), here.position);
            let Some(batch) = batch else { break };
            spare = batch;
        }
        assert_eq!(here.position, here.rows);
        usual += usize::from(matches!(here.events, Events::Usual(_)));
        all += 1;
    }
    (usual, all)
}

/// Rows of every kind, also over the border of a page.
#[test]
fn our_layout_is_read_as_the_crate_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    for rows in [1, 20, 5000, PAGE_ROWS + 20_000] {
        write(&path, rows, |_, numbers| numbers.below(100_000) as i64 - 50);
        let (usual, all) = compare(&path);
        assert!(usual == all && all > 0, "{usual} of {all}");
    }
}

/// Where times jump by more than we expect, in the second page of a row group, the crate reads on.
#[test]
fn what_is_unusual_is_left_to_the_crate() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    let wild = |row, numbers: &mut Numbers| match row {
        0..150_000 => 100,
        _ => (numbers.below(1 << 31) << 32) as i64,
    };
    write(&path, 2 * PAGE_ROWS, wild);
    let (usual, all) = compare(&path);
    assert!(usual < all, "{usual} of {all}");
}

/// Whatever the bytes of a row group are: rows, or it is unusual; no panic, also without the guard around it.
#[test]
fn damaged_pages() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    write(&path, 9000, |_, numbers| numbers.below(1000) as i64);
    let opened = open(&path).unwrap();
    let last = opened.groups.last().unwrap();
    let loaded = last
        .load(&opened.file, opened.condition.file_bytes)
        .unwrap();
    let group = loaded.metadata.row_group(loaded.index);
    let mut numbers = Numbers(5);
    let mut unusual = 0;
    for _ in 0..2000 {
        let source = loaded.source.changed(|bytes| {
            for _ in 0..1 + numbers.below(3) {
                let at = numbers.below(bytes.len() as u64) as usize;
                bytes[at] = numbers.below(256) as u8;
            }
        });
        let mut left = group.num_rows() as usize;
        let Ok(mut pages) = EventPages::open(&source, group) else {
            continue;
        };
        while left > 0 {
            let rows = left.min(1000);
            match pages.next_rows(rows, Batch::default()) {
                Ok(read) => assert_eq!(read.batch.len(), rows),
                Err(Unusual) => {
                    unusual += 1;
                    break;
                }
            }
            left -= rows;
        }
    }
    assert!(unusual > 500, "{unusual}");
}

/// Traces of every version that was ever shipped, however they are laid out.
#[test]
fn committed_traces() {
    let traces = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/traces");
    for version in std::fs::read_dir(traces).unwrap() {
        for trace in std::fs::read_dir(version.unwrap().path()).unwrap() {
            let path = trace.unwrap().path();
            if path
                .extension()
                .is_some_and(|extension| extension == "parquet")
            {
                compare(&path);
            }
        }
    }
}
