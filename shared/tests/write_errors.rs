//! A write that fails at any byte: the error names the file, and what was written stays readable.
//!
//! The limit on the size of files is the process's own: this is the only test in its file.

mod common;

use common::{create, put, random_rows, read_rows};
use memleak_trace::{TraceError, TraceReader};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// From here on a write past `bytes` fails, as on a full disk.
fn limit_files(bytes: u64) {
    let limit = libc::rlimit {
        rlim_cur: bytes,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: `limit` is valid; the signal would only kill this test.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &limit), 0);
    }
}

#[test]
fn fails_at_any_byte() {
    let dir = tempfile::tempdir().unwrap();
    let rows = random_rows(1, 3000);
    let mut limit = 2000;
    let (mut failures, mut stock_readable) = (0, 0);
    loop {
        let path = dir.path().join(format!("{limit}.parquet"));
        limit_files(libc::RLIM_INFINITY);
        let mut writer = create(&path);
        limit_files(limit.max(writer.bytes()));
        let mut durable = 0;
        let failed = rows.chunks(100).find_map(|chunk| {
            chunk.iter().for_each(|row| put(&mut writer, row).unwrap());
            let result = writer.checkpoint().err();
            durable += if result.is_none() { chunk.len() } else { 0 };
            result
        });
        let error = match failed {
            Some(error) => {
                let again = writer.checkpoint().unwrap_err().to_string();
                assert!(again.contains("earlier write failed"), "{again}");
                assert!(writer.finish().is_err());
                error
            }
            None => match writer.finish() {
                Ok(_) => break,
                Err(error) => error,
            },
        };
        failures += 1;
        assert!(matches!(error, TraceError::Io { .. }), "{error:?}");
        let message = error.to_string();
        assert!(
            message.contains(".parquet: cannot write: File too large"),
            "{message}"
        );
        let mut reader = TraceReader::open(&path).unwrap();
        assert!(
            read_rows(&mut reader).unwrap() == rows[..durable],
            "limit {limit}"
        );
        assert!(!reader.condition().complete && reader.condition().verified);
        let file = std::fs::File::open(&path).unwrap();
        stock_readable += usize::from(ParquetRecordBatchReaderBuilder::try_new(file).is_ok());
        limit += 7919;
    }
    assert!(failures > 20, "{failures}");
    assert_eq!(stock_readable, failures, "a footer was there before");
}
