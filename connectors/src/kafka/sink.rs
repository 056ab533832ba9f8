//! At least once: one idempotent producer per cluster, shared by all split attempts of a process.
//!
//! The producer repeats what the network lost without doubling it. A split that is run again writes its records again;
//! equal `redpoll-source` headers of one job and epoch tell the repeats.

use std::sync::{Arc, LazyLock};

use dashmap::DashMap;
use redpoll_core::ids::Epoch;

use super::client::{Cluster, blocking};
use super::producer::{Batch, Producer};
use super::{Config, Error, Outgoing, Written};

static PRODUCERS: LazyLock<DashMap<String, Arc<Producer>>> = LazyLock::new(DashMap::new);

/// The writes of one split attempt. Dropped before `finish`, records already sent may or may not arrive.
pub struct Sink {
    cluster: Arc<Cluster>,
    producer: Arc<Producer>,
    batch: Arc<Batch>,
}

impl Sink {
    pub async fn open(config: &Config, job_uid: &str, epoch: Epoch) -> Result<Self, Error> {
        let (cluster, key) = (Cluster::of(config), config.key());
        // One that met an error it cannot get over stays with the attempts that have it.
        PRODUCERS.remove_if(&key, |_, producer| producer.fatal().is_some());
        let known = PRODUCERS.get(&key).map(|producer| producer.clone());
        let producer = match known {
            Some(producer) => producer,
            None => {
                let (config, client) = (config.clone(), config.producer()?);
                let producer = blocking(move || Producer::new(&config, &client)).await;
                let producer = Arc::new(producer.map_err(|error| cluster.failed("starting a producer", &error))?);
                PRODUCERS.entry(key).or_insert(producer).clone()
            }
        };
        Ok(Sink { cluster, producer, batch: Batch::new(job_uid, epoch) })
    }

    /// Hands a record over; waits while more than `buffer.bytes` are unacknowledged.
    pub async fn send(&self, record: Outgoing<'_>) -> Result<(), Error> {
        let sent = self.producer.send(&self.batch, record).await;
        sent.map_err(|error| self.cluster.failed(&format!("writing to topic {}", record.topic), &error))
    }

    /// Waits until everything sent so far is acknowledged; an error if any record was not delivered.
    pub async fn flush(&self) -> Result<Written, Error> {
        self.batch.finished().await
    }

    /// [`Sink::flush`], and what was written in all.
    pub async fn finish(self) -> Result<Written, Error> {
        self.flush().await
    }
}
