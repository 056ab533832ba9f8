//! librdkafka's clients, kept by the process and shared by everything with the same cluster and settings.
//!
//! Per [`Cluster`] there is one client that asks (metadata, offsets) and a few consumers that read; a consumer serves
//! one range at a time and is assigned anew for each. Calls of librdkafka that block run on tokio's blocking threads.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use dashmap::DashMap;
use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, StreamConsumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::{Offset, TopicPartitionList};

use super::{Config, Error, Severity, severity};

/// Consumer group of readers. Nothing joins it and nothing is committed in it; librdkafka wants a name.
const READERS: &str = "redpoll";

static CLUSTERS: LazyLock<DashMap<String, Arc<Cluster>>> = LazyLock::new(DashMap::new);

/// Hands librdkafka's own words to `tracing`, below the level at which somebody must act: the caller gets the error.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, reason);
    }
}

impl ConsumerContext for Quiet {}

pub(super) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, message),
        _ => tracing::warn!(target: "librdkafka", facility, message),
    }
}

pub(super) type Reader = StreamConsumer<Quiet>;

/// The clients for one set of brokers and settings.
pub(super) struct Cluster {
    config: Config,
    asking: Mutex<HashMap<String, Arc<BaseConsumer<Quiet>>>>,
    idle: Mutex<Vec<Reader>>,
    /// Mean bytes of a record, by topic, as learned from what was read.
    record_bytes: DashMap<String, f64>,
}

impl Cluster {
    pub(super) fn of(config: &Config) -> Arc<Cluster> {
        let cluster = || {
            Arc::new(Cluster {
                config: config.clone(),
                asking: Mutex::default(),
                idle: Mutex::default(),
                record_bytes: DashMap::new(),
            })
        };
        CLUSTERS.entry(config.key()).or_insert_with(cluster).clone()
    }

    /// Asks the cluster, again with growing pauses while the error may pass, `config.retries` times at most.
    pub(super) async fn ask<T, F>(&self, action: &str, question: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Fn(&BaseConsumer<Quiet>, Duration) -> KafkaResult<T> + Send + Sync + 'static,
    {
        self.ask_as(READERS, action, question).await
    }

    /// As [`Cluster::ask`], by a client of the given consumer group.
    pub(super) async fn ask_as<T, F>(&self, group: &str, action: &str, question: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Fn(&BaseConsumer<Quiet>, Duration) -> KafkaResult<T> + Send + Sync + 'static,
    {
        let client = self.asking(group)?;
        let (question, timeout) = (Arc::new(question), self.config.request_timeout);
        let mut retries = Retries::new(&self.config);
        loop {
            let (client, question) = (client.clone(), question.clone());
            let answer = blocking(move || {
                // Serves logs and errors, which would otherwise pile up.
                client.poll(Duration::ZERO);
                question(&client, timeout)
            });
            match answer.await {
                Ok(answer) => return Ok(answer),
                // A topic created a moment ago is unknown to some brokers.
                Err(error) if severity(&error) != Severity::Permanent && retries.pause().await => {}
                Err(error) => return Err(self.failed(action, &error)),
            }
        }
    }

    pub(super) fn failed(&self, action: &str, error: &KafkaError) -> Error {
        Error::Broker { action: action.into(), brokers: self.config.servers(), reason: reason(error) }
    }

    /// The client for questions; of one consumer group, so that marks are read by the group that owns them.
    pub(super) fn asking(&self, group: &str) -> Result<Arc<BaseConsumer<Quiet>>, Error> {
        let mut asking = self.asking.lock();
        if let Some(client) = asking.get(group) {
            return Ok(client.clone());
        }
        let client: BaseConsumer<Quiet> = self.create(&self.config.consumer(group)?)?;
        let client = Arc::new(client);
        asking.insert(group.to_owned(), client.clone());
        Ok(client)
    }

    fn create<T: rdkafka::config::FromClientConfigAndContext<Quiet>>(&self, client: &ClientConfig) -> Result<T, Error> {
        client.create_with_context(Quiet).map_err(|error| self.failed("starting a client", &error))
    }

    /// A consumer that reads from `offset` on.
    pub(super) async fn lease(self: &Arc<Self>, topic: &str, partition: i32, offset: i64) -> Result<Lease, Error> {
        let (cluster, topic) = (self.clone(), topic.to_owned());
        blocking(move || {
            let idle = cluster.idle.lock().pop();
            let reader = match idle {
                Some(reader) => reader,
                None => cluster.create(&cluster.config.consumer(READERS)?)?,
            };
            let lease = Lease { cluster: cluster.clone(), reader: Some(reader) };
            lease.assign(&topic, partition, offset)?;
            Ok(lease)
        })
        .await
    }

    /// Estimated bytes of a record of `topic`, if any were seen.
    pub(super) fn record_bytes(&self, topic: &str) -> Option<f64> {
        self.record_bytes.get(topic).map(|bytes| *bytes)
    }

    /// Takes what a range brought into the estimate: recent records count more, a short range counts less.
    pub(super) fn learn(&self, topic: &str, records: u64, bytes: u64) {
        if records == 0 {
            return;
        }
        let mean = bytes as f64 / records as f64;
        let weight = (records as f64 / 64.0).clamp(0.05, 0.5);
        let update = |old: &mut f64| *old += weight * (mean - *old);
        self.record_bytes.entry(topic.to_owned()).and_modify(update).or_insert(mean);
    }

    fn give_back(&self, reader: Reader) {
        if reader.unassign().is_err() {
            return;
        }
        let mut idle = self.idle.lock();
        if idle.len() < self.config.idle_consumers as usize {
            idle.push(reader);
        } else {
            // Closing waits for threads to end, and nobody else may have to wait for that.
            drop(idle);
            drop(reader);
        }
    }
}

/// A consumer in use; dropping it gives it back to the pool.
pub(super) struct Lease {
    cluster: Arc<Cluster>,
    reader: Option<Reader>,
}

impl Lease {
    pub(super) fn reader(&self) -> &Reader {
        self.reader.as_ref().expect("a lease holds its reader until it is dropped")
    }

    fn assign(&self, topic: &str, partition: i32, offset: i64) -> Result<(), Error> {
        let mut assignment = TopicPartitionList::with_capacity(1);
        assignment
            .add_partition_offset(topic, partition, Offset::Offset(offset))
            .and_then(|()| self.reader().assign(&assignment))
            .map_err(|error| self.cluster.failed(&format!("assigning {topic}[{partition}]"), &error))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.take() {
            let cluster = self.cluster.clone();
            in_background(move || cluster.give_back(reader));
        }
    }
}

/// Growing pauses with jitter, and their limit.
pub(super) struct Retries {
    left: u64,
    pause: Duration,
}

impl Retries {
    const FIRST: Duration = Duration::from_millis(50);
    const LONGEST: Duration = Duration::from_secs(5);

    pub(super) fn new(config: &Config) -> Self {
        Retries { left: config.retries, pause: Self::FIRST }
    }

    /// Waits before the next try; false if there is none.
    pub(super) async fn pause(&mut self) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        tokio::time::sleep(self.pause.mul_f64(0.5 + rand::random::<f64>())).await;
        self.pause = (self.pause * 3).min(Self::LONGEST);
        true
    }
}

/// Runs what blocks on a thread where it may.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime is shutting down and drops this future too.
        Err(_) => std::future::pending().await,
    }
}

/// The same for who cannot wait, such as `drop`; also without a runtime.
pub(super) fn in_background(work: impl FnOnce() + Send + 'static) {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn_blocking(work)),
        Err(_) => drop(std::thread::spawn(work)),
    }
}

/// librdkafka's reason without its own prefixes.
pub(super) fn reason(error: &KafkaError) -> String {
    match super::code(error) {
        Some(code) => code.to_string(),
        None => error.to_string(),
    }
}
