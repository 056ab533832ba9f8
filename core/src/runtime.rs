//! What a plan's steps need of the process that runs them: clients, decoders and module workers.
//!
//! The scheduler makes plans without any of it; an executor hands its own in when it decodes a plan.

use std::fmt;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use bytes::Bytes;
use object_store::ObjectStore;
use serde::{Deserialize, Serialize};

use crate::protocol::Growth;
use crate::sink::{self, Attempt, OpenSink, Rows, SinkSet};
use crate::source::{self, Record, Source};

/// A table of alerts: where it is read and how its bytes are framed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceSpec {
    pub name: String,
    /// Absolute URL, or `kafka://…`.
    pub url: String,
    pub options: std::collections::BTreeMap<String, String>,
}

/// What a decoder made of some records.
#[derive(Debug)]
pub struct Decoded {
    pub batch: RecordBatch,
    /// For each row, the index of its record.
    pub record_of_row: Vec<u32>,
    pub failed: Vec<Failed>,
    /// Fields of these records' writers that the table does not have.
    pub growth: Vec<Growth>,
}

/// A record that does not decode: none of its alerts is in the batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// Index of the record.
    pub record: usize,
    /// Which schema it was written with, if that was found: `id:1100` of a registry, else `crc64:` and the CRC-64-AVRO
    /// of the schema's text in hexadecimal.
    pub fingerprint: Option<String>,
    pub error: String,
}

/// Turns records into rows of one schema.
#[async_trait]
pub trait Decode: Send {
    /// Decodes each record wholly or not at all. Fails only when it cannot go on at all (a registry that is down).
    async fn decode(&mut self, records: &[Record]) -> Result<Decoded, source::Error>;
}

/// A version of a science module, as a plan names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    pub module: String,
    /// Its fingerprint.
    pub lock: String,
    /// URL of the registry that has its bundle, for executors that do not have this version. Modules that every process
    /// was started with have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundles: Option<String>,
}

/// What a module returned for some rows.
#[derive(Debug)]
pub struct Evaluated {
    /// As long as the arguments; null where the module failed.
    pub values: ArrayRef,
    /// Rows on which the module failed, with the reason.
    pub failures: Vec<(usize, String)>,
}

/// Tells the rows of a sink apart by what the sink itself keeps of them.
pub trait Marker: Send + Sync {
    /// One mark a row; none of a row that the sink would refuse, or that has nothing to be told by.
    fn marks(&self, rows: &Rows) -> Result<Vec<Option<Bytes>>, sink::Error>;
}

/// A place for a split in the memory of a process, given back when this is dropped.
pub type Admission = Box<dyn Send + Sync>;

#[async_trait]
pub trait Runtime: fmt::Debug + Send + Sync {
    /// Name of the executor, for receipts.
    fn executor(&self) -> &str;

    /// Waits until a split of about so many bytes may be worked on beside those that are. An attempt holds one place
    /// at a time, to its end.
    async fn admit(&self, _split_bytes: u64) -> Admission {
        Box::new(())
    }

    async fn source(&self, spec: &SourceSpec) -> Result<Arc<dyn Source>, source::Error>;

    /// A decoder for rows of `schema`, a part of the table's reader schema `reader`.
    fn decoder(
        &self,
        spec: &SourceSpec,
        reader: &SchemaRef,
        schema: &SchemaRef,
    ) -> Result<Box<dyn Decode>, source::Error>;

    /// The schema that a record was written with, as [`Failed`] names it.
    fn fingerprint(&self, _spec: &SourceSpec, _record: &Record) -> Option<String> {
        None
    }

    /// Opens all sinks of an attempt.
    async fn sinks(&self, attempt: &Attempt, sinks: &[OpenSink]) -> Result<Box<dyn SinkSet>, sink::Error>;

    /// How rows of a sink are told apart there, beside their origin. `id` is the column that names an alert. Nothing is
    /// written.
    fn marker(&self, sink: &OpenSink, id: Option<&str>) -> Result<Option<Box<dyn Marker>>, sink::Error>;

    /// Calls a science module. `args` has one column for each input of the module, in order.
    async fn evaluate(&self, version: &Version, args: RecordBatch) -> Result<Evaluated, String>;

    /// The object store of a URL, and the path in it.
    fn objects(&self, url: &str) -> Result<(Arc<dyn ObjectStore>, object_store::path::Path), String>;
}
