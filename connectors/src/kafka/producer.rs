//! A producer with a bound on what waits in it, and the account of what one split attempt gave it.
//!
//! Bytes that are not yet acknowledged are paid for with credit; a writer without credit waits, so a slow broker slows
//! the reading and nothing grows. Every record carries its origin in headers, in transactions too: a reader can then
//! tell repeats where the broker's guarantee has failed.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::Message;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use redpoll_core::ids::Epoch;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::client::{Words, reason};
use super::{Config, Error};

/// Where a record comes from: topic, partition, offset; and which alert of a source record that holds several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub offset: i64,
    pub index: u32,
}

/// A record to write. The bytes are copied into the producer.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    pub topic: &'a str,
    /// None: by the key's hash, or any if there is no key.
    pub partition: Option<i32>,
    pub key: Option<&'a [u8]>,
    pub value: &'a [u8],
    pub source: Option<Position<'a>>,
}

impl Outgoing<'_> {
    /// Bytes of a batch of this record alone, as `job` writes it in `epoch`, before compression: what brokers hold
    /// against `max.message.bytes`. From Kafka's record batches of version 2.
    pub fn batch_bytes(&self, job: &str, epoch: Epoch) -> usize {
        const BATCH_HEAD: usize = 61;
        // Attributes, and the distances to the first offset and time of the batch, which are 0.
        const RECORD_HEAD: usize = 3;
        let (epoch, source) = (epoch.to_string(), self.source.map(|source| source.to_string()));
        let headers =
            [Some((JOB_HEADER, job)), Some((EPOCH_HEADER, &*epoch)), source.as_deref().map(|at| (SOURCE_HEADER, at))];
        let headers = headers.into_iter().flatten();
        let sized = |n: usize| varint_bytes(n) + n;
        let named: usize = headers.clone().map(|(name, value)| sized(name.len()) + sized(value.len())).sum();
        let head = RECORD_HEAD + varint_bytes(headers.count());
        BATCH_HEAD + sized(head + named + self.key.map_or(1, |key| sized(key.len())) + sized(self.value.len()))
    }
}

/// Bytes of a length as a zigzag varint.
fn varint_bytes(n: usize) -> usize {
    let bits = u64::BITS - ((n as u64) << 1 | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

const JOB_HEADER: &str = "redpoll-job";
const EPOCH_HEADER: &str = "redpoll-epoch";
const SOURCE_HEADER: &str = "redpoll-source";

/// What a split attempt wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written {
    pub records: u64,
    /// Keys and values.
    pub bytes: u64,
}

/// The text of the header `redpoll-source`: `topic:partition:offset`, and `#index` from the second alert on.
impl fmt::Display for Position<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.topic, self.partition, self.offset)?;
        if self.index > 0 { write!(f, "#{}", self.index) } else { Ok(()) }
    }
}

impl<'a> Position<'a> {
    /// Reads what `Display` writes.
    pub fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.rsplitn(3, ':');
        let (offset, partition, topic) = (parts.next()?, parts.next()?, parts.next()?);
        let (offset, index) = offset.split_once('#').unwrap_or((offset, "0"));
        let number = |text: &str| i64::from_str(text).ok();
        Some(Position {
            topic,
            partition: i32::try_from(number(partition)?).ok()?,
            offset: number(offset)?,
            index: u32::try_from(number(index)?).ok()?,
        })
    }
}

pub(super) struct Producer {
    inner: ThreadedProducer<Reports>,
    credit: Arc<Semaphore>,
    capacity: u32,
}

impl Producer {
    pub(super) fn new(config: &Config, client: &ClientConfig) -> KafkaResult<Self> {
        let capacity = u32::try_from(config.buffer_bytes.max(1)).unwrap_or(u32::MAX);
        let credit = Arc::new(Semaphore::new(capacity as usize));
        Ok(Producer { inner: client.create_with_context(Reports::default())?, credit, capacity })
    }

    pub(super) fn inner(&self) -> &ThreadedProducer<Reports> {
        &self.inner
    }

    /// The error after which this producer can do nothing more.
    pub(super) fn fatal(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.inner.client().fatal_error()
    }

    /// Hands a record over; waits while too much is unacknowledged. Whether it was delivered, `batch` knows.
    pub(super) async fn send(&self, batch: &Arc<Batch>, record: Outgoing<'_>) -> KafkaResult<()> {
        let bytes = record.value.len() + record.key.map_or(0, <[u8]>::len);
        let price = u32::try_from(bytes).unwrap_or(u32::MAX).clamp(1, self.capacity);
        let credit = self.credit.clone().acquire_many_owned(price).await.expect("the credit is never closed");
        let receipt = Box::new(InFlight { batch: batch.clone(), _credit: credit });
        let mut message = BaseRecord::with_opaque_to(record.topic, receipt).payload(record.value);
        message.key = record.key;
        message.partition = record.partition;
        message.headers = Some(batch.headers(record.source));
        batch.sent(bytes);
        loop {
            match self.inner.send(message) {
                Ok(()) => return Ok(()),
                // Only small records meet this, by their number.
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    message = back;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err((error, _)) => {
                    batch.done(Some((record.topic.to_owned(), reason(&error))));
                    return Err(error);
                }
            }
        }
    }
}

/// Receives delivery reports from librdkafka's threads.
#[derive(Default)]
pub(super) struct Reports(Words);

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error(error, reason);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<InFlight>;

    fn delivery(&self, result: &DeliveryResult<'_>, sent: Box<InFlight>) {
        let failure = match result {
            Ok(_) => None,
            Err((error, message)) => Some((message.topic().to_owned(), self.0.explain(error))),
        };
        if failure.is_none() {
            self.0.clear();
        }
        sent.batch.done(failure);
    }
}

/// A record on its way. Its credit comes back when librdkafka has reported on it.
pub(super) struct InFlight {
    batch: Arc<Batch>,
    _credit: OwnedSemaphorePermit,
}

/// The records of one split attempt.
pub(super) struct Batch {
    job: String,
    epoch: String,
    state: Mutex<State>,
    idle: Notify,
}

#[derive(Default)]
struct State {
    in_flight: u64,
    written: Written,
    failed: u64,
    first_failure: Option<(String, String)>,
}

impl Batch {
    pub(super) fn new(job: &str, epoch: Epoch) -> Arc<Self> {
        let (job, epoch) = (job.to_owned(), epoch.to_string());
        Arc::new(Batch { job, epoch, state: Mutex::default(), idle: Notify::new() })
    }

    fn headers(&self, source: Option<Position<'_>>) -> OwnedHeaders {
        let headers = OwnedHeaders::new_with_capacity(3)
            .insert(Header { key: JOB_HEADER, value: Some(&self.job) })
            .insert(Header { key: EPOCH_HEADER, value: Some(&self.epoch) });
        match source {
            Some(source) => headers.insert(Header { key: SOURCE_HEADER, value: Some(&source.to_string()) }),
            None => headers,
        }
    }

    fn sent(&self, bytes: usize) {
        let mut state = self.state.lock();
        state.in_flight += 1;
        state.written.records += 1;
        state.written.bytes += bytes as u64;
    }

    fn done(&self, failure: Option<(String, String)>) {
        let mut state = self.state.lock();
        state.in_flight -= 1;
        if let Some(failure) = failure {
            state.failed += 1;
            state.first_failure.get_or_insert(failure);
        }
        if state.in_flight == 0 {
            self.idle.notify_waiters();
        }
    }

    /// Waits for the reports on everything sent so far; an error if any record was not delivered.
    pub(super) async fn finished(&self) -> Result<Written, Error> {
        loop {
            let idle = self.idle.notified();
            if self.state.lock().in_flight == 0 {
                break;
            }
            idle.await;
        }
        let state = self.state.lock();
        match &state.first_failure {
            None => Ok(state.written),
            Some((topic, reason)) => Err(Error::Delivery {
                topic: topic.clone(),
                failed: state.failed,
                sent: state.written.records,
                reason: reason.clone(),
            }),
        }
    }
}
