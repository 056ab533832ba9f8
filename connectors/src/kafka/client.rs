//! librdkafka's clients, kept by the process and shared by everything with the same cluster and settings.
//!
//! Per [`Cluster`] there is one client that asks (metadata, offsets) and a few consumers that read; a consumer serves
//! one range at a time and is assigned anew for each. Calls of librdkafka that block run on tokio's blocking threads.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, StreamConsumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use super::{Config, Error, Severity, code, severity};
pub(super) use waiting::{Retries, blocking, in_background};

mod waiting;

/// A client that asked nothing for longer than this is closed when the next one is needed: each job has one of its own,
/// and jobs end.
const IDLE_LIMIT: Duration = Duration::from_secs(600);

static CLUSTERS: LazyLock<DashMap<String, Arc<Cluster>>> = LazyLock::new(DashMap::new);

/// What librdkafka suspects where a connection ends within the handshake of TLS.
const PLAINTEXT: &str = "PLAINTEXT broker listener";

/// Hands librdkafka's own words to `tracing`, below the level at which somebody must act: the caller gets the error.
/// The last trouble is kept, because a call that fails for it often says no more than that time was out.
#[derive(Debug, Default)]
pub(super) struct Words {
    trouble: Mutex<Option<(RDKafkaErrorCode, String)>>,
}

impl ClientContext for Words {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, message),
            _ => tracing::warn!(target: "librdkafka", facility, message),
        }
        // Of a handshake that nobody answers an error says no more than that brokers are down.
        if message.contains(PLAINTEXT) {
            let words = message.split_once("]: ").map_or(message, |(_, words)| words);
            self.note(RDKafkaErrorCode::BrokerTransportFailure, words);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, reason);
        // What a broker says after the handshake of TLS comes as a connection that broke.
        let code = if reason.contains("SSL alert") { Some(RDKafkaErrorCode::SSL) } else { code(&error) };
        if let Some(code) = code {
            self.note(code, reason);
        }
    }
}

impl ConsumerContext for Words {}

impl Words {
    fn note(&self, code: RDKafkaErrorCode, words: &str) {
        let mut trouble = self.trouble.lock();
        // A login or a handshake that failed explains more than the connections that were closed for it.
        if !matches!(&*trouble, Some((known, words)) if is_refusal(*known) || words.contains("SSL")) {
            *trouble = Some((code, words.to_owned()));
        }
    }

    /// Forgets what went wrong before the present call.
    pub(super) fn clear(&self) {
        *self.trouble.lock() = None;
    }

    /// Adds what librdkafka said meanwhile to the reason of an error.
    pub(super) fn explain(&self, error: &KafkaError) -> String {
        match &*self.trouble.lock() {
            Some((_, words)) if words.contains("SSL") => format!("{}: {words}; {}", reason(error), tls_remedy(words)),
            Some((code, words)) if super::code(error) != Some(*code) => format!("{}: {words}", reason(error)),
            _ => reason(error),
        }
    }

    fn is_refused(&self) -> bool {
        matches!(*self.trouble.lock(), Some((code, _)) if is_refusal(code))
    }
}

/// What no other try can change: a login, or certificates that one side does not accept.
fn is_refusal(code: RDKafkaErrorCode) -> bool {
    matches!(code, RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL)
}

/// Which option to look at when a connection with TLS is not made.
fn tls_remedy(words: &str) -> &'static str {
    match words {
        words if words.contains("alert") => {
            "the broker refuses this client: give it a certificate that the broker's CA has signed, with the options \
             'ssl.certificate.location' and 'ssl.key.location'"
        }
        words if words.contains("verif") => {
            "give the certificate of the CA that signed the broker's with the option 'ssl.ca.location', and reach the \
             broker by a name that its certificate has"
        }
        _ => {
            "does this port of the broker speak TLS, as the option 'security.protocol' says? Without TLS that is \
             'plaintext' or 'sasl_plaintext'"
        }
    }
}

pub(super) type Reader = StreamConsumer<Words>;

/// A client that asks and reads nothing.
type Asker = Arc<BaseConsumer<Words>>;

/// The clients for one set of brokers and settings.
pub(super) struct Cluster {
    config: Config,
    /// By consumer group, with the time of its last question.
    asking: Mutex<HashMap<String, (Asker, Instant)>>,
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
        F: Fn(&BaseConsumer<Words>, Duration) -> KafkaResult<T> + Send + Sync + 'static,
    {
        self.ask_as(&self.config.group, action, question).await
    }

    /// As [`Cluster::ask`], by a client of the given consumer group.
    pub(super) async fn ask_as<T, F>(&self, group: &str, action: &str, question: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Fn(&BaseConsumer<Words>, Duration) -> KafkaResult<T> + Send + Sync + 'static,
    {
        let client = self.asking(group)?;
        let (question, timeout) = (Arc::new(question), self.config.request_timeout);
        let mut retries = Retries::new(&self.config);
        loop {
            let (asking, question) = (client.clone(), question.clone());
            let answer = blocking(move || {
                asking.client().context().clear();
                let answer = question(&asking, timeout);
                serve(&asking);
                answer
            });
            let (answer, words) = (answer.await, client.client().context());
            match answer {
                Ok(answer) => return Ok(answer),
                Err(error) => {
                    // A topic created a moment ago is unknown to some brokers.
                    let lasting = severity(&error) == Severity::Permanent || words.is_refused();
                    if lasting || !retries.pause().await {
                        let (action, brokers) = (action.into(), self.config.servers());
                        return Err(Error::Broker { action, brokers, reason: words.explain(&error) });
                    }
                }
            }
        }
    }

    pub(super) fn failed(&self, action: &str, error: &KafkaError) -> Error {
        Error::Broker { action: action.into(), brokers: self.config.servers(), reason: reason(error) }
    }

    /// The client for questions; of one consumer group, so that marks are read by the group that owns them.
    pub(super) fn asking(&self, group: &str) -> Result<Arc<BaseConsumer<Words>>, Error> {
        let mut asking = self.asking.lock();
        if let Some((client, last)) = asking.get_mut(group) {
            *last = Instant::now();
            return Ok(client.clone());
        }
        let client: BaseConsumer<Words> = self.create(&self.config.consumer(group)?)?;
        let client = Arc::new(client);
        let idle: Vec<_> = asking.extract_if(|_, (_, last)| last.elapsed() > IDLE_LIMIT).collect();
        asking.insert(group.to_owned(), (client.clone(), Instant::now()));
        if !idle.is_empty() {
            in_background(move || drop(idle));
        }
        Ok(client)
    }

    fn create<T: rdkafka::config::FromClientConfigAndContext<Words>>(&self, client: &ClientConfig) -> Result<T, Error> {
        client.create_with_context(Words::default()).map_err(|error| self.failed("starting a client", &error))
    }

    /// A consumer that reads from `offset` on.
    pub(super) async fn lease(self: &Arc<Self>, topic: &str, partition: i32, offset: i64) -> Result<Lease, Error> {
        let (cluster, topic) = (self.clone(), topic.to_owned());
        blocking(move || {
            let idle = cluster.idle.lock().pop();
            let reader = match idle {
                Some(reader) => reader,
                None => cluster.create(&cluster.config.consumer(&cluster.config.group)?)?,
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

/// The name that a cluster has for itself, whichever of its brokers were named; none if they do not tell.
pub async fn cluster_id(config: &Config) -> Result<Option<String>, Error> {
    let ask = |client: &BaseConsumer<Words>, timeout| Ok(client.client().fetch_cluster_id(timeout));
    Cluster::of(config).ask("asking for the id of the cluster", ask).await
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

/// Takes in the logs and errors of a client that nobody polls for records; they would pile up.
fn serve(client: &BaseConsumer<Words>) {
    const EVENTS: usize = 64;
    for _ in 0..EVENTS {
        drop(client.poll(Duration::ZERO));
    }
}

/// librdkafka's reason without its own prefixes.
pub(super) fn reason(error: &KafkaError) -> String {
    match super::code(error) {
        Some(code) => code.to_string(),
        None => error.to_string(),
    }
}
