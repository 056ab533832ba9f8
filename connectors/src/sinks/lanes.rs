//! The Kafka clusters that an attempt writes to, each with one transaction or one idempotent producer.

use std::collections::BTreeMap;

use redpoll_core::ids::Lane;
use redpoll_core::sink::{Attempt, Error};

use super::Taken;
use crate::kafka::{Config, Mark, Opened, Outgoing, Sink, Transaction};

/// How much a topic's readers may rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    ExactlyOnce,
    AtLeastOnce,
}

enum Cluster {
    Transaction(Transaction),
    /// This split is already out: nothing is written, and what would have been must be what is there.
    Out(Mark),
    Idempotent(Sink),
}

pub(super) struct Lanes {
    attempt: Attempt,
    lane: Lane,
    /// The sink that opened a cluster names it in messages.
    clusters: Vec<(String, Vec<String>, Delivery, Cluster)>,
}

impl Lanes {
    pub fn new(attempt: &Attempt, lanes: u32) -> Self {
        Self { attempt: attempt.clone(), lane: Lane(attempt.split.0 % lanes.max(1)), clusters: Vec::new() }
    }

    /// The cluster of a sink, by number; opened by the first sink that needs it.
    pub async fn open(&mut self, sink: &str, config: &Config, delivery: Delivery) -> Result<usize, Error> {
        let mut sorted = config.brokers.clone();
        sorted.sort();
        let same =
            |(_, brokers, how, _): &(String, Vec<String>, Delivery, Cluster)| *brokers == sorted && *how == delivery;
        if let Some(index) = self.clusters.iter().position(same) {
            return Ok(index);
        }
        let failed = |error: crate::kafka::Error| Error::new(sink, error);
        let Attempt { job_uid, epoch, .. } = &self.attempt;
        let cluster = match delivery {
            Delivery::ExactlyOnce => {
                match Transaction::open(config, job_uid, self.lane, *epoch).await.map_err(failed)? {
                    Opened::Producing(transaction) => Cluster::Transaction(transaction),
                    Opened::Already(mark) => Cluster::Out(mark),
                }
            }
            Delivery::AtLeastOnce => Cluster::Idempotent(Sink::open(config, job_uid, *epoch).await.map_err(failed)?),
        };
        self.clusters.push((sink.to_owned(), sorted, delivery, cluster));
        Ok(self.clusters.len() - 1)
    }

    pub async fn send(&self, cluster: usize, record: Outgoing<'_>) -> Result<(), Error> {
        let (sink, _, _, cluster) = &self.clusters[cluster];
        let sent = match cluster {
            Cluster::Transaction(transaction) => transaction.send(record).await,
            Cluster::Idempotent(producer) => producer.send(record).await,
            Cluster::Out(_) => Ok(()),
        };
        sent.map_err(|error| Error::new(sink, error))
    }

    /// Commits. `taken` is what all sinks of each cluster took together.
    pub async fn finish(self, taken: &BTreeMap<usize, Taken>) -> Result<(), Error> {
        for (index, (sink, _, _, cluster)) in self.clusters.into_iter().enumerate() {
            let taken = taken.get(&index).copied().unwrap_or_default();
            let mark = format!("{} {}", taken.rows, taken.digest);
            let failed = |error: crate::kafka::Error| Error::new(&sink, error);
            match cluster {
                Cluster::Transaction(transaction) => {
                    transaction.commit(mark).await.map_err(failed)?;
                }
                Cluster::Idempotent(producer) => {
                    producer.finish().await.map_err(failed)?;
                }
                // Later epochs of the lane are out too: then this split was, and its own mark is gone.
                Cluster::Out(found) if found.epoch != self.attempt.epoch || found.metadata == mark => {}
                Cluster::Out(found) => {
                    let reason = format!(
                        "lane {} already holds '{}' (rows, digest) of epoch {}, but this run computed '{mark}'",
                        self.lane, found.metadata, found.epoch
                    );
                    return Err(Error::new(&sink, reason));
                }
            }
        }
        Ok(())
    }
}
