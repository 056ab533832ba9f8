//! What a sink holds now, row by row: read again by whoever compares it with what should be there.

mod archive;
mod folder;
mod outbox;
mod table;
mod topic;

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::ObjectStore;
use object_store::path::Path;
use redpoll_core::ids::{Epoch, SplitId};
use redpoll_core::objects::Stores;
use redpoll_core::sink::{Error, SinkKind, SinkSpec};

/// A row, as far as the sink says where it is from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Of the job that is asked about.
    pub epoch: Option<Epoch>,
    pub origin: Option<FoundAt>,
    /// Which split wrote it, and which place in the plan: of topics in folders.
    pub place: Option<(SplitId, usize)>,
    /// See [`super::marker`].
    pub mark: Option<Bytes>,
    /// Where it is in the sink, for people.
    pub at: String,
    /// The sink says that this job wrote it. Else it may be another's.
    pub ours: bool,
}

/// Where a row was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundAt {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    /// Number of the alert in its record, where the sink keeps it.
    pub row: Option<u32>,
}

/// What of a sink belongs to one job.
pub struct Contents {
    pub rows: BoxStream<'static, Result<Vec<Found>, Error>>,
    /// Of a topic: its partitions whose first records have expired, each with its first offset.
    pub shortened: Vec<(i32, i64)>,
}

/// Whose rows are asked for.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub job: &'a str,
    pub job_uid: &'a str,
    /// The column that names an alert.
    pub id: Option<&'a str>,
    /// Objects of the job's messages for the table, if it is one of messages.
    pub queued: Option<Queued<'a>>,
}

/// Objects that hold messages, each with its epoch.
#[derive(Debug, Clone, Copy)]
pub struct Queued<'a> {
    pub store: &'a Arc<dyn ObjectStore>,
    pub objects: &'a [(Epoch, Path)],
}

/// Opens a sink for reading. Rows that say that they are another job's are left out; rows that do not say whose they
/// are, as in a wide-column table, are all there. `store` is the address of the cluster's embedded store.
pub async fn open(sink: &SinkSpec, asked: Asked<'_>, stores: &Stores, store: Option<&str>) -> Result<Contents, Error> {
    match sink.kind {
        SinkKind::Delta => archive::open(sink, asked).await,
        SinkKind::Topic if sink.url.starts_with("kafka://") => topic::open(sink, asked).await,
        SinkKind::Topic => folder::open(sink, asked, stores).await,
        SinkKind::Store => table::open(sink, store),
        SinkKind::Outbox => Ok(outbox::open(sink, asked.queued)),
    }
}
