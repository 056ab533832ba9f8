//! The contract of a sink: what one attempt at a split writes, and what it may claim afterwards.

use std::collections::BTreeMap;

use arrow::array::UInt32Array;
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::ids::{Epoch, SplitId};
use crate::protocol::SinkReceipt;

/// Which kind of table a sink is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SinkKind {
    Delta,
    Topic,
    Store,
}

/// A table that an `INSERT` of the pipeline writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkSpec {
    /// Name of the table in the pipeline: the sink's name in the ledger.
    pub name: String,
    pub kind: SinkKind,
    /// Absolute URL.
    pub url: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partition_by: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

/// Who writes: the names that make an attempt's output its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub job: String,
    /// Random, given to the job once.
    pub job_uid: String,
    pub epoch: Epoch,
    pub split: SplitId,
    /// What the split reads, see [`crate::digest::ranges_hash`].
    pub ranges: u64,
    /// Unique among all attempts at all splits.
    pub attempt: String,
    /// The intent's clock, milliseconds since 1970-01-01 UTC.
    pub clock: i64,
    /// Fingerprints of the modules that the plan calls, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub modules: BTreeMap<String, String>,
}

/// Rows for one sink.
#[derive(Debug)]
pub struct Rows {
    /// The columns of the sink's `INSERT`.
    pub batch: RecordBatch,
    /// Where the rows came from: the columns of [`crate::steps::meta_fields`].
    pub meta: RecordBatch,
    /// One hash a row, see [`crate::digest::row_hash`].
    pub hashes: Vec<u128>,
}

impl Rows {
    /// Those that were not refused.
    pub fn without(&self, refused: &[Refused]) -> Result<Rows, ArrowError> {
        let keep = |row: &usize| refused.binary_search_by_key(row, |refused| refused.row).is_err();
        let kept: Vec<usize> = (0..self.hashes.len()).filter(keep).collect();
        let rows = UInt32Array::from_iter_values(kept.iter().map(|row| *row as u32));
        let hashes = kept.into_iter().map(|row| self.hashes[row]).collect();
        Ok(Rows { batch: take_record_batch(&self.batch, &rows)?, meta: take_record_batch(&self.meta, &rows)?, hashes })
    }

    pub fn digest(&self) -> Digest {
        Digest::of(self.hashes.iter().copied())
    }
}

/// A row that a sink does not take, whatever is tried: its value is the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Index of the row in the batch.
    pub row: usize,
    pub reason: String,
}

/// All sinks of one attempt. Dropped before `finish`, it leaves nothing that any reader sees: data files without a log
/// entry, an aborted transaction, and puts that the next attempt repeats.
#[async_trait]
pub trait SinkSet: Send {
    /// Takes rows for the sink at `index` of the list that the set was opened with. Returns when the rows are
    /// buffered within the sinks' memory bounds: a slow sink holds its caller. Rows that cannot be written for a value of
    /// theirs come back, in order of the batch, and the others are taken: an error is one of the sink.
    async fn write(&mut self, index: usize, rows: &Rows) -> Result<Vec<Refused>, Error>;

    /// Makes everything durable and, where the sink allows, visible; Kafka transactions commit last. One receipt for
    /// each sink, in order; `wanted` is left for the caller.
    async fn finish(self: Box<Self>) -> Result<Vec<SinkReceipt>, Error>;
}

/// A sink with the schema of the rows it gets.
#[derive(Debug, Clone)]
pub struct OpenSink {
    pub spec: SinkSpec,
    pub schema: SchemaRef,
}

#[derive(Debug, thiserror::Error)]
#[error("sink {sink}: {reason}")]
pub struct Error {
    pub sink: String,
    pub reason: String,
}

impl Error {
    pub fn new(sink: &str, reason: impl ToString) -> Self {
        Self { sink: sink.to_owned(), reason: reason.to_string() }
    }
}
