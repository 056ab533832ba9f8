//! All sinks of one attempt at a split, opened and finished together.
//!
//! Together, because what goes to Kafka on one cluster is one transaction, and that one commits last: once its rows are
//! visible nothing is left that could fail but the receipt, and a re-run finds the lane's mark.

mod archive;
mod found;
mod lanes;
mod limits;
mod marks;
mod outbox;
mod sift;
mod table;
mod topic;

use std::collections::BTreeSet;

use async_trait::async_trait;
use redpoll_core::digest::Digest;
use redpoll_core::objects::Stores;
use redpoll_core::protocol::{Recomputed, SinkReceipt};
use redpoll_core::sink::{Attempt, Error, OpenSink, Refused, Rows, SinkKind, SinkSet};

use archive::ArchiveSink;
use lanes::{Lanes, content};
use limits::Limits;
use outbox::OutboxSink;
use table::TableSink;
use topic::{FolderSink, KafkaSink};

pub use archive::{Author, archive_schema};
pub use found::{Asked, Contents, Found, FoundAt, Queued, open as contents};
pub use marks::marker;
pub use table::open_table;
pub use topic::{
    KEY_COLUMN, PARTITION_COLUMN, SchemaId, TIMESTAMP_COLUMN, TopicFormat, check_schema, check_topic_options,
    kafka_topic, register_schema, topic_schema,
};

/// Rows and digest of what a sink took so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Taken {
    rows: u64,
    digest: Digest,
}

impl Taken {
    /// Adds the rows that were not refused.
    fn add(&mut self, rows: &Rows, refused: &[Refused]) {
        self.rows += (rows.hashes.len() - refused.len()) as u64;
        let written = (0..).zip(&rows.hashes).filter(|(row, _)| !is_refused(refused, *row));
        self.digest += Digest::of(written.map(|(_, hash)| *hash));
    }

    fn receipt(self) -> SinkReceipt {
        SinkReceipt { rows: self.rows, written: self.digest, ..SinkReceipt::default() }
    }
}

/// Whether a row is among those that were refused, which are in order.
fn is_refused(refused: &[Refused], row: usize) -> bool {
    refused.binary_search_by_key(&row, |refused| refused.row).is_ok()
}

/// Lanes of exactly-once Kafka sinks, and so the most splits of an epoch.
pub const LANES: u32 = 16;

enum Sink {
    Archive(Box<ArchiveSink>),
    Table(TableSink),
    Folder(FolderSink),
    Kafka(KafkaSink),
    Outbox(OutboxSink),
}

struct Sinks {
    sinks: Vec<Sink>,
    lanes: Lanes,
}

/// Opens the sinks of an attempt. `store` is the address of the cluster's embedded store, if it has one.
pub async fn open(
    attempt: &Attempt,
    sinks: &[OpenSink],
    stores: &Stores,
    store: Option<&str>,
    lanes: u32,
) -> Result<Box<dyn SinkSet>, Error> {
    let mut lanes = Lanes::new(attempt, lanes);
    let limits = Limits::ask(sinks).await?;
    let mut opened = Vec::with_capacity(sinks.len());
    // Several INSERTs may write one table: their places in the plan keep their files apart.
    for (place, sink) in sinks.iter().enumerate() {
        opened.push(match sink.spec.kind {
            SinkKind::Delta => Sink::Archive(Box::new(ArchiveSink::open(attempt, place, sink)?)),
            SinkKind::Store => Sink::Table(TableSink::open(attempt, sink, store)?),
            SinkKind::Topic if sink.spec.url.starts_with("kafka://") => {
                Sink::Kafka(KafkaSink::open(sink, &limits, &mut lanes).await?)
            }
            SinkKind::Topic => Sink::Folder(FolderSink::open(attempt, place, sink, stores)?),
            SinkKind::Outbox => Sink::Outbox(OutboxSink::open(attempt, place, sink, stores)?),
        });
    }
    Ok(Box::new(Sinks { sinks: opened, lanes }))
}

#[async_trait]
impl SinkSet for Sinks {
    async fn write(&mut self, index: usize, rows: &Rows) -> Result<Vec<Refused>, Error> {
        match &mut self.sinks[index] {
            Sink::Archive(sink) => sink.write(rows).await,
            Sink::Table(sink) => sink.write(rows).await,
            Sink::Folder(sink) => sink.write(rows),
            Sink::Kafka(sink) => sink.write(rows, &self.lanes).await,
            Sink::Outbox(sink) => sink.write(rows),
        }
    }

    async fn finish(self: Box<Self>) -> Result<Vec<SinkReceipt>, Error> {
        let mut receipts = Vec::with_capacity(self.sinks.len());
        let mut topics = Vec::new();
        for (place, sink) in self.sinks.into_iter().enumerate() {
            receipts.push(match sink {
                Sink::Archive(sink) => sink.finish().await?,
                Sink::Table(sink) => sink.finish(),
                Sink::Folder(sink) => sink.finish().await?,
                Sink::Outbox(sink) => sink.finish().await?,
                Sink::Kafka(sink) => {
                    topics.push((place, sink.cluster(), sink.name().to_owned(), sink.taken()));
                    sink.taken().receipt()
                }
            });
        }
        for (cluster, there) in self.lanes.finish(&topics).await? {
            let of_cluster = || topics.iter().filter(|(_, of, ..)| *of == cluster);
            let ours = content(of_cluster().map(|(_, _, name, taken)| (name.as_str(), *taken)));
            let mut told = BTreeSet::new();
            for (place, _, name, taken) in of_cluster().filter(|(_, _, name, _)| ours.get(name) != there.get(name)) {
                // Several INSERTs into one topic are one sink: the first of them stands for all.
                let first = told.insert(name);
                let out = there.get(name).filter(|_| first).copied().unwrap_or_default();
                let recomputed = Some(Recomputed { rows: taken.rows, digest: taken.digest });
                receipts[*place] = SinkReceipt { recomputed, ..out.receipt() };
            }
        }
        Ok(receipts)
    }
}
