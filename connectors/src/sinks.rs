//! All sinks of one attempt at a split, opened and finished together.
//!
//! Together, because what goes to Kafka on one cluster is one transaction, and that one commits last: once its rows are
//! visible nothing is left that could fail but the receipt, and a re-run finds the lane's mark.

mod archive;
mod lanes;
mod table;
mod topic;

use std::collections::BTreeMap;

use async_trait::async_trait;
use redpoll_core::digest::Digest;
use redpoll_core::objects::Stores;
use redpoll_core::protocol::SinkReceipt;
use redpoll_core::sink::{Attempt, Error, OpenSink, Rows, SinkKind, SinkSet};

use archive::ArchiveSink;
use lanes::Lanes;
use table::TableSink;
use topic::{FolderSink, KafkaSink};

pub use archive::archive_schema;
pub use table::open_table;
pub use topic::{KEY_COLUMN, PARTITION_COLUMN, SchemaId, TIMESTAMP_COLUMN, TopicFormat, kafka_topic, register_schema};

/// Rows and digest of what a sink took so far.
#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    rows: u64,
    digest: Digest,
}

impl Taken {
    fn add(&mut self, rows: &Rows) {
        self.rows += rows.hashes.len() as u64;
        self.digest += rows.digest();
    }

    fn receipt(self) -> SinkReceipt {
        SinkReceipt { rows: self.rows, written: self.digest, ..SinkReceipt::default() }
    }
}

/// Lanes of exactly-once Kafka sinks, and so the most splits of an epoch.
pub const LANES: u32 = 16;

enum Sink {
    Archive(Box<ArchiveSink>),
    Table(TableSink),
    Folder(FolderSink),
    Kafka(KafkaSink),
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
    let mut opened = Vec::with_capacity(sinks.len());
    // Several INSERTs may write one table: their places in the plan keep their files apart.
    for (place, sink) in sinks.iter().enumerate() {
        opened.push(match sink.spec.kind {
            SinkKind::Delta => Sink::Archive(Box::new(ArchiveSink::open(attempt, place, sink)?)),
            SinkKind::Store => Sink::Table(TableSink::open(attempt, sink, store)?),
            SinkKind::Topic if sink.spec.url.starts_with("kafka://") => {
                Sink::Kafka(KafkaSink::open(sink, &mut lanes).await?)
            }
            SinkKind::Topic => Sink::Folder(FolderSink::open(attempt, place, sink, stores)?),
        });
    }
    Ok(Box::new(Sinks { sinks: opened, lanes }))
}

#[async_trait]
impl SinkSet for Sinks {
    async fn write(&mut self, index: usize, rows: &Rows) -> Result<(), Error> {
        match &mut self.sinks[index] {
            Sink::Archive(sink) => sink.write(rows).await,
            Sink::Table(sink) => sink.write(rows).await,
            Sink::Folder(sink) => sink.write(rows),
            Sink::Kafka(sink) => sink.write(rows, &self.lanes).await,
        }
    }

    async fn finish(self: Box<Self>) -> Result<Vec<SinkReceipt>, Error> {
        let mut receipts = Vec::with_capacity(self.sinks.len());
        let mut by_cluster: BTreeMap<usize, Taken> = BTreeMap::new();
        for sink in self.sinks {
            receipts.push(match sink {
                Sink::Archive(sink) => sink.finish().await?,
                Sink::Table(sink) => sink.finish(),
                Sink::Folder(sink) => sink.finish().await?,
                Sink::Kafka(sink) => {
                    let taken = sink.taken();
                    let all = by_cluster.entry(sink.cluster()).or_default();
                    all.rows += taken.rows;
                    all.digest += taken.digest;
                    taken.receipt()
                }
            });
        }
        self.lanes.finish(&by_cluster).await?;
        Ok(receipts)
    }
}
