//! Opens a trace and decodes it on a thread of its own, ahead of the replay.

use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use memleak_trace::reader::Condition;
use memleak_trace::{Batch, Header, TraceError};

use crate::parts::PartsReader;
use crate::series::Series;

/// Batches decoded ahead; enough to keep both threads busy, few enough to bound memory.
const AHEAD: usize = 4;

/// A recording being read.
#[derive(Debug)]
pub struct Source {
    header: Header,
    rows: u64,
    batches: Receiver<Result<Batch, TraceError>>,
    /// Batches that are not needed any more.
    back: Sender<Batch>,
    decoder: JoinHandle<Condition>,
}

impl Source {
    /// Opens a recording and begins to decode it.
    pub fn open(series: &Series) -> Result<Source, TraceError> {
        let mut reader = PartsReader::open(series.clone())?;
        let header = reader.header().clone();
        let rows = reader.rows();
        let (sender, batches) = bounded(AHEAD);
        let (back, spent) = bounded(AHEAD);
        let decoder = std::thread::spawn(move || {
            loop {
                if let Ok(batch) = spent.try_recv() {
                    reader.recycle(batch);
                }
                let next = reader.next_batch().transpose();
                let Some(batch) = next else { break };
                let failed = batch.is_err();
                // The other side is gone when the analysis failed: nothing is left to do.
                if sender.send(batch).is_err() || failed {
                    break;
                }
            }
            reader.condition()
        });
        Ok(Source {
            header,
            rows,
            batches,
            back,
            decoder,
        })
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Rows in the readable part, for progress.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The next rows, in file order; `None` at the end.
    pub fn next_batch(&mut self) -> Option<Result<Batch, TraceError>> {
        self.batches.recv().ok()
    }

    /// Takes a batch back that is not needed any more: its memory is used again.
    pub fn recycle(&self, batch: Batch) {
        // Where nobody wants it, it is not needed.
        let _ = self.back.try_send(batch);
    }

    /// The file's condition, known in full once it is read.
    pub fn finish(self) -> anyhow::Result<Condition> {
        drop(self.batches);
        self.decoder
            .join()
            .map_err(|_| anyhow::anyhow!("the decoder stopped by a bug; please report it"))
    }
}
