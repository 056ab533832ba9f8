//! Exactly once: what a split attempt writes to Kafka, and the mark that says so, in one transaction.
//!
//! A lane is a transactional id, `redpoll.<job>.<lane>`. Its mark is the offset that group `redpoll.<job>` has
//! committed for partition `lane` of topic `redpoll.marks`: the first epoch that is not yet out. An attempt
//! 1. takes the lane: `init_transactions` aborts what another attempt left open and shuts that attempt out,
//! 2. reads the mark, and writes nothing if its epoch is already out,
//! 3. sends its records, adds the mark with its metadata, commits.
//!
//! The order matters: a mark that is part of an open transaction cannot be read, and step 1 closes all of those.
//!
//! Taking a lane costs 0.1 to 0.6 s, so a process keeps its producer for the next epoch. It may be used again only if
//! the mark is as it left it; otherwise another attempt has had the lane since. If another took the lane and left no
//! mark, the commit is refused, and the split is run again.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use rdkafka::Offset;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::producer::Producer as _;
use redpoll_core::fault;
use redpoll_core::ids::{Epoch, Lane};

use super::client::{Cluster, blocking, in_background, reason};
use super::producer::{Batch, Producer};
use super::{Config, Error, Isolation, Mark, Outgoing, Written, code, marks};

/// A producer that waits longer than this for its lane's next epoch is closed.
const IDLE_LIMIT: Duration = Duration::from_secs(600);
/// How long an abort may take that nobody waits for.
const ABORT_TIMEOUT: Duration = Duration::from_secs(10);

/// Producers between two epochs of their lane, by cluster and transactional id.
pub(super) static IDLE: LazyLock<DashMap<String, Idle>> = LazyLock::new(DashMap::new);

pub(super) struct Idle {
    producer: Arc<Producer>,
    /// The lane's mark when the producer was last used.
    mark: i64,
    since: Instant,
}

/// Whether an attempt has anything to write.
pub enum Opened {
    Already(Mark),
    Producing(Transaction),
}

/// A lane that was taken: its names and clients.
struct Taken {
    job: String,
    lane: Lane,
    epoch: Epoch,
    config: Config,
    cluster: Arc<Cluster>,
}

/// The open transaction of one split attempt. Records are visible to `read_committed` readers only after
/// [`Transaction::commit`]; dropped before that, it is aborted in the background.
pub struct Transaction {
    taken: Arc<Taken>,
    producer: Option<Arc<Producer>>,
    batch: Arc<Batch>,
    mark: i64,
}

impl Transaction {
    /// Takes the lane for an attempt at `epoch`. Takes 0.1 to 0.6 s for the first epoch in a process: start it while
    /// the split is being fetched. Whoever held the lane before can commit nothing more.
    pub async fn open(config: &Config, job_uid: &str, lane: Lane, epoch: Epoch) -> Result<Opened, Error> {
        // Marks are read by the isolation that waits for stable ones, whatever the table's readers do.
        let config = Config { isolation: Isolation::ReadCommitted, ..config.clone() };
        let cluster = Cluster::of(&config);
        let taken = Arc::new(Taken { job: job_uid.to_owned(), lane, epoch, config, cluster });
        let (producer, mark) = match taken.reuse().await {
            Some(reused) => reused,
            None => {
                let producer = taken.init().await?;
                (producer, marks::read(&taken.cluster, &taken.job, taken.lane).await?)
            }
        };
        let (next, metadata) = mark;
        if next > epoch.0 as i64 {
            taken.keep(producer, next);
            return Ok(Opened::Already(Mark { epoch: Epoch(next as u64 - 1), metadata }));
        }
        producer.inner().begin_transaction().map_err(|error| taken.error(&producer, &error))?;
        fault::at("after-lane-taken");
        let batch = Batch::new(job_uid, epoch);
        Ok(Opened::Producing(Transaction { taken, producer: Some(producer), batch, mark: next }))
    }

    /// Hands a record over; waits while more than `buffer.bytes` are unacknowledged.
    pub async fn send(&self, record: Outgoing<'_>) -> Result<(), Error> {
        let producer = self.producer();
        let sent = producer.send(&self.batch, record).await;
        sent.map_err(|error| match self.taken.error(producer, &error) {
            Error::Aborted { job, lane, epoch, reason } => {
                Error::Aborted { job, lane, epoch, reason: format!("writing to topic {}: {reason}", record.topic) }
            }
            other => other,
        })
    }

    /// Waits until everything sent so far is acknowledged; an error if any record was not delivered.
    pub async fn flush(&self) -> Result<Written, Error> {
        match (self.batch.finished().await, self.producer().fatal()) {
            (Ok(written), _) => Ok(written),
            (Err(_), Some((code, reason))) => Err(self.taken.over(code, reason)),
            (Err(error), None) => Err(error),
        }
    }

    /// Makes the records and the mark visible together. `metadata` (at most 4096 bytes) is what a later attempt at
    /// this epoch gets instead. After an error nothing is visible, except after [`Error::Broker`]: the brokers did not
    /// answer in time, and the next [`Transaction::open`] tells.
    pub async fn commit(mut self, metadata: String) -> Result<Written, Error> {
        match self.try_commit(metadata).await {
            Ok(written) => {
                if let Some(producer) = self.producer.take() {
                    self.taken.keep(producer, self.taken.epoch.0 as i64 + 1);
                }
                Ok(written)
            }
            Err(error) => {
                self.give_up().await;
                Err(error)
            }
        }
    }

    /// Gives the transaction up: nothing of it will be visible.
    pub async fn abort(mut self) {
        self.give_up().await;
    }

    fn producer(&self) -> &Arc<Producer> {
        self.producer.as_ref().expect("a transaction holds its producer until it ends")
    }

    async fn try_commit(&self, metadata: String) -> Result<Written, Error> {
        let (taken, producer) = (self.taken.clone(), self.producer().clone());
        if metadata.len() > marks::METADATA_LIMIT {
            let (job, lane) = (taken.job.clone(), taken.lane);
            return Err(Error::Metadata { job, lane, bytes: metadata.len(), limit: marks::METADATA_LIMIT });
        }
        let written = self.flush().await?;
        fault::at("before-kafka-commit");
        let group = taken.cluster.asking(&marks::group(&taken.job))?;
        let commit = move || {
            let marks = marks::list(taken.lane, Offset::Offset(taken.epoch.0 as i64 + 1), &metadata)?;
            let group = group.group_metadata().ok_or(KafkaError::NoMessageReceived)?;
            let deadline = Instant::now() + taken.config.transaction_timeout;
            let (inner, timeout) = (producer.inner(), taken.config.request_timeout);
            insist(deadline, || inner.send_offsets_to_transaction(&marks, &group, timeout))?;
            fault::at("after-kafka-mark");
            // An answer that does not come in time leaves the commit going on; the next call waits for the same one.
            insist(deadline, || inner.commit_transaction(timeout))
        };
        let taken = &self.taken;
        match blocking(commit).await {
            Ok(()) => {
                fault::at("after-kafka-commit");
                Ok(written)
            }
            Err(KafkaError::Transaction(error)) if error.is_retriable() => {
                Err(taken.unanswered(&KafkaError::Transaction(error)))
            }
            Err(error) => Err(taken.error(self.producer(), &error)),
        }
    }

    async fn give_up(&mut self) {
        let Some(producer) = self.producer.take() else { return };
        let (taken, mark) = (self.taken.clone(), self.mark);
        blocking(move || {
            if abort(&producer, taken.config.request_timeout) {
                taken.keep(producer, mark);
            }
        })
        .await;
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if let Some(producer) = self.producer.take() {
            // Open, it would hold back all readers of its topics until the lane is taken again or times out.
            in_background(move || {
                abort(&producer, ABORT_TIMEOUT);
            });
        }
    }
}

/// Whether the producer can be used again.
fn abort(producer: &Producer, timeout: Duration) -> bool {
    let aborted = insist(Instant::now() + timeout, || producer.inner().abort_transaction(timeout));
    if let Err(error) = &aborted {
        tracing::debug!(%error, "transaction was not aborted");
    }
    aborted.is_ok() && producer.fatal().is_none()
}

/// Repeats a step of a transaction while librdkafka says that repeating may help.
fn insist(deadline: Instant, step: impl Fn() -> KafkaResult<()>) -> KafkaResult<()> {
    let mut pause = Duration::from_millis(20);
    loop {
        match step() {
            Err(KafkaError::Transaction(error)) if error.is_retriable() && Instant::now() + pause < deadline => {
                std::thread::sleep(pause);
                pause = (2 * pause).min(Duration::from_secs(1));
            }
            other => return other,
        }
    }
}

impl Taken {
    fn idle_key(&self) -> String {
        idle_key(&self.config, &self.job, self.lane)
    }

    /// The producer of the lane's last epoch in this process, if nobody has had the lane since.
    async fn reuse(&self) -> Option<(Arc<Producer>, (i64, String))> {
        let (_, idle) = IDLE.remove(&self.idle_key())?;
        let client = self.cluster.asking(&marks::group(&self.job)).ok()?;
        let (lane, timeout) = (self.lane, self.config.request_timeout);
        // Asked once: a mark that cannot be read is one that another attempt has in an open transaction.
        let mark = blocking(move || marks::committed(&client, lane, timeout)).await;
        match mark {
            Ok(mark) if mark.0 == idle.mark && idle.producer.fatal().is_none() => Some((idle.producer, mark)),
            _ => {
                in_background(move || drop(idle));
                None
            }
        }
    }

    async fn init(&self) -> Result<Arc<Producer>, Error> {
        let (config, client) =
            (self.config.clone(), self.config.transactional(&transactional_id(&self.job, self.lane))?);
        let started = blocking(move || {
            let producer = Producer::new(&config, &client)?;
            let deadline = Instant::now() + config.request_timeout * (1 + config.retries as u32);
            insist(deadline, || producer.inner().init_transactions(config.request_timeout))?;
            Ok(producer)
        });
        let action = format!("taking lane {} of job {}", self.lane, self.job);
        started.await.map(Arc::new).map_err(|error| self.cluster.failed(&action, &error))
    }

    /// Keeps a producer for the lane's next epoch, and closes those that waited too long for theirs.
    fn keep(&self, producer: Arc<Producer>, mark: i64) {
        let replaced = IDLE.insert(self.idle_key(), Idle { producer, mark, since: Instant::now() });
        let old: Vec<_> =
            IDLE.iter().filter(|idle| idle.since.elapsed() > IDLE_LIMIT).map(|idle| idle.key().clone()).collect();
        let old: Vec<_> = old
            .into_iter()
            .filter_map(|key| IDLE.remove_if(&key, |_, idle| idle.since.elapsed() > IDLE_LIMIT))
            .collect();
        if replaced.is_some() || !old.is_empty() {
            in_background(move || drop((replaced, old)));
        }
    }

    fn error(&self, producer: &Producer, error: &KafkaError) -> Error {
        match (producer.fatal(), code(error)) {
            (Some((code, reason)), _) => self.over(code, reason),
            (None, Some(code)) => self.over(code, reason(error)),
            (None, None) => self.aborted(reason(error)),
        }
    }

    /// The attempt is over, for a reason of this code.
    fn over(&self, code: RDKafkaErrorCode, reason: String) -> Error {
        use RDKafkaErrorCode as Code;
        match code {
            Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch => {
                Error::Fenced { job: self.job.clone(), lane: self.lane, epoch: self.epoch, reason }
            }
            _ => self.aborted(reason),
        }
    }

    fn aborted(&self, reason: String) -> Error {
        Error::Aborted { job: self.job.clone(), lane: self.lane, epoch: self.epoch, reason }
    }

    /// The brokers did not say whether the commit was made.
    fn unanswered(&self, error: &KafkaError) -> Error {
        let action = format!("committing epoch {} of job {}, lane {}", self.epoch, self.job, self.lane);
        self.cluster.failed(&action, error)
    }
}

fn transactional_id(job: &str, lane: Lane) -> String {
    format!("redpoll.{job}.{lane}")
}

pub(super) fn idle_key(config: &Config, job: &str, lane: Lane) -> String {
    format!("{} {}", transactional_id(job, lane), config.key())
}
