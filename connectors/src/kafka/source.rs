//! Topics as a source: ranges from what the brokers hold, records of a range from a consumer at its exact offset.
//!
//! The difficult part is the end of a range. Offsets of transaction markers, aborted and compacted records bring
//! nothing, so the last offsets of a range may never arrive. A range is at its end when
//! - a record at or beyond the end arrives, or
//! - the consumer reports the end of the partition. A broker that has just become leader may report an end before the
//!   one that was planned with, so this counts only if the brokers' end is verified to be at or beyond the range's end
//!   first, the report comes from an assignment made after that, and the leader is the same then.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use rdkafka::Message;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use redpoll_core::source::{Error, OffsetRange, Offsets, Record, Source as _, Start, TopicPartition};

use super::client::{Cluster, Lease, Retries, reason};
use super::offsets::{bounds, leaders, missing_topic, offsets_at, partitions};
use super::share::{Backlog, share};
use super::{Config, Severity, Topics, code, severity};

/// Records read to estimate the size of a topic's records, and how long that may take.
const SAMPLE: i64 = 8;
const SAMPLE_TIMEOUT: Duration = Duration::from_secs(3);
/// Topics sampled at the same time.
const SAMPLED_TOPICS: usize = 4;

/// First offset and end of each topic partition.
type Held = BTreeMap<TopicPartition, (i64, i64)>;

/// Topics of one cluster.
#[derive(Clone)]
pub struct Source {
    config: Arc<Config>,
    cluster: Arc<Cluster>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("kafka::Source").field(&self.config).finish()
    }
}

impl Source {
    pub fn new(config: Config) -> Result<Self, Error> {
        if matches!(&config.topic, Topics::Names(names) if names.is_empty()) {
            return Err(Error::Option {
                option: "topic".into(),
                location: format!("kafka://{}", config.servers()),
                reason: "no topic is named; write kafka://host:port/topic or set the option".into(),
            });
        }
        let cluster = Cluster::of(&config);
        Ok(Source { config: Arc::new(config), cluster })
    }

    /// The present topic partitions and the offset where `start` lies in each. A job that starts at `latest` pins this
    /// once: asked again later, the latest offset is another, and what came in between would never be read.
    pub async fn begin(&self, start: Start) -> Result<Offsets, Error> {
        self.begin_within(&self.held().await?, start).await
    }

    /// First offset and end of every present topic partition.
    async fn held(&self) -> Result<Held, Error> {
        let partitions = partitions(&self.cluster, &self.config, &self.config.topic).await?;
        Ok(bounds(&self.cluster, &partitions).await?)
    }

    async fn begin_within(&self, held: &Held, start: Start) -> Result<Offsets, Error> {
        let at_time = match start {
            Start::Timestamp(millis) => {
                let partitions: Vec<_> = held.keys().cloned().collect();
                offsets_at(&self.cluster, &partitions, millis).await?
            }
            Start::Earliest | Start::Latest => Offsets::new(),
        };
        let begin = held.iter().map(|(tp, (earliest, end))| {
            let offset = match start {
                Start::Earliest => *earliest,
                Start::Latest => *end,
                // No record is that late, or the end has moved on since it was asked for.
                Start::Timestamp(_) if !(0..*end).contains(&at_time[tp]) => *end,
                Start::Timestamp(_) => at_time[tp],
            };
            (tp.clone(), offset)
        });
        Ok(begin.collect())
    }

    /// Everything from `from` (else `start`) to the present ends, whatever its size; `bytes` is not yet estimated.
    async fn backlog(&self, from: &Offsets, start: Start) -> Result<Vec<OffsetRange>, Error> {
        let held = self.held().await?;
        let new: Held = held.clone().into_iter().filter(|(tp, _)| !from.contains_key(tp)).collect();
        let begin = self.begin_within(&new, start).await?;
        let mut ranges = Vec::new();
        for (tp, (earliest, end)) in held {
            let start = from.get(&tp).copied().unwrap_or_else(|| begin[&tp]);
            let TopicPartition { topic, partition } = tp;
            if start < earliest {
                return Err(Error::Expired { topic, partition, start, end, earliest });
            }
            if start > end {
                let location = format!("{topic}[{partition}]");
                let reason = format!("offset {start} lies beyond the end {end}: was the topic created anew?");
                return Err(Error::Read { location, reason });
            }
            if start < end {
                ranges.push(OffsetRange { topic, partition, start, end, bytes: 0, files: Vec::new() });
            }
        }
        Ok(ranges)
    }

    fn record_bytes(&self, topic: &str) -> f64 {
        self.cluster.record_bytes(topic).unwrap_or(self.config.record_bytes as f64).max(1.0)
    }

    /// Reads a few records of each topic whose record size is not known. Only an estimate hangs on it, so a sample
    /// that fails or takes long is left out.
    async fn sample(&self, backlog: &[OffsetRange]) {
        let mut unknown: Vec<&OffsetRange> = Vec::new();
        for range in backlog {
            let seen = unknown.last().is_some_and(|last| last.topic == range.topic);
            if !seen && self.cluster.record_bytes(&range.topic).is_none() {
                unknown.push(range);
            }
        }
        let samples = unknown.into_iter().map(|range| range.slice(range.start, range.end.min(range.start + SAMPLE)));
        stream::iter(samples.map(|range| self.read(range).try_for_each(|_| async { Ok(()) })))
            .for_each_concurrent(SAMPLED_TOPICS, |sample| async {
                if !matches!(tokio::time::timeout(SAMPLE_TIMEOUT, sample).await, Ok(Ok(()))) {
                    tracing::debug!(source = ?self, "record size could not be sampled");
                }
            })
            .await;
    }
}

#[async_trait]
impl redpoll_core::source::Source for Source {
    async fn available(&self, from: &Offsets, start: Start, max_bytes: u64) -> Result<Vec<OffsetRange>, Error> {
        let backlog = self.backlog(from, start).await?;
        self.sample(&backlog).await;
        let sizes: Vec<_> = backlog
            .iter()
            .map(|range| Backlog { offsets: range.len(), record_bytes: self.record_bytes(&range.topic) })
            .collect();
        let taken = share(&sizes, max_bytes);
        let ranges = backlog.into_iter().zip(sizes).zip(taken).filter(|(_, taken)| *taken > 0);
        Ok(ranges
            .map(|((range, size), taken)| OffsetRange {
                end: range.start + taken as i64,
                bytes: (taken as f64 * size.record_bytes) as u64,
                ..range
            })
            .collect())
    }

    fn read(&self, range: OffsetRange) -> BoxStream<'static, Result<Record, Error>> {
        let reading = Reading::new(self.clone(), range);
        stream::try_unfold(reading, |mut reading| async { Ok(reading.next().await?.map(|record| (record, reading))) })
            .boxed()
    }
}

/// One range on its way through a consumer.
struct Reading {
    source: Source,
    range: OffsetRange,
    topic: Arc<str>,
    /// First offset that was not delivered.
    next: i64,
    lease: Option<Lease>,
    retries: Retries,
    end: End,
    records: u64,
    bytes: u64,
}

/// What is known about the range's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Unknown,
    /// The brokers hold the range up to its end; this broker led before the present assignment was made.
    Verified {
        leader: i32,
    },
}

/// What a consumer brought.
enum Arrival {
    Record(Record),
    /// A record beyond the range: nothing is left before it.
    Beyond,
    EndOfPartition,
    OutOfRange,
    Missing,
    Permanent(String),
    Stalled(String),
}

impl Reading {
    fn new(source: Source, range: OffsetRange) -> Self {
        let (topic, next, retries) = (Arc::from(range.topic.as_str()), range.start, Retries::new(&source.config));
        Reading { source, range, topic, next, lease: None, retries, end: End::Unknown, records: 0, bytes: 0 }
    }

    async fn next(&mut self) -> Result<Option<Record>, Error> {
        while self.next < self.range.end {
            if self.lease.is_none() {
                let lease = self.source.cluster.lease(&self.range.topic, self.range.partition, self.next);
                self.lease = Some(lease.await?);
            }
            match self.arrival().await {
                Arrival::Record(record) => {
                    self.next = record.offset + 1;
                    self.retries = Retries::new(&self.source.config);
                    self.records += 1;
                    self.bytes += (record.value.len() + record.key.as_ref().map_or(0, Bytes::len)) as u64;
                    return Ok(Some(record));
                }
                Arrival::Beyond => break,
                Arrival::EndOfPartition if self.at_end().await? => break,
                Arrival::EndOfPartition => {}
                Arrival::OutOfRange => self.out_of_range().await?,
                Arrival::Missing => return Err(self.missing().await),
                Arrival::Permanent(reason) => return Err(self.failed(reason)),
                Arrival::Stalled(reason) => self.again(reason).await?,
            }
        }
        self.lease = None;
        self.source.cluster.learn(&self.range.topic, self.records, self.bytes);
        // Asked again after the end, the stream ends again and learns nothing twice.
        (self.next, self.records) = (self.range.end, 0);
        Ok(None)
    }

    /// Waits for the consumer. Errors of connections pass by: librdkafka connects again, and the deadline is ours.
    async fn arrival(&self) -> Arrival {
        let Some(lease) = &self.lease else { return Arrival::Stalled("no consumer".into()) };
        let deadline = tokio::time::Instant::now() + self.source.config.stall_timeout;
        let mut last = None;
        loop {
            let Ok(message) = tokio::time::timeout_at(deadline, lease.reader().recv()).await else {
                let waited = self.source.config.stall_timeout;
                return Arrival::Stalled(last.unwrap_or_else(|| format!("nothing arrived in {waited:?}")));
            };
            match message {
                Ok(message) if message.offset() >= self.range.end => return Arrival::Beyond,
                Ok(message) if message.offset() >= self.next => return Arrival::Record(self.record(&message)),
                Ok(_) => {}
                Err(KafkaError::PartitionEOF(partition)) if partition == self.range.partition => {
                    return Arrival::EndOfPartition;
                }
                Err(error) => match arrival_of(&error) {
                    Some(arrival) => return arrival,
                    None => last = Some(reason(&error)),
                },
            }
        }
    }

    fn record(&self, message: &BorrowedMessage<'_>) -> Record {
        Record {
            topic: self.topic.clone(),
            partition: message.partition(),
            offset: message.offset(),
            timestamp: message.timestamp().to_millis(),
            key: message.key().map(Bytes::copy_from_slice),
            value: Bytes::copy_from_slice(message.payload().unwrap_or_default()),
        }
    }

    /// The consumer says that the partition ends here: is the range at its end? If that is not yet certain, the
    /// consumer is assigned again and will say so again.
    async fn at_end(&mut self) -> Result<bool, Error> {
        let leader = self.leader().await?;
        if matches!((self.end, leader), (End::Verified { leader: before }, Some(now)) if before == now) {
            return Ok(true);
        }
        self.lease = None;
        let (_, end) = self.held().await?;
        match leader {
            Some(leader) if end >= self.range.end => self.end = End::Verified { leader },
            Some(_) => self.again(format!("the broker's end is {end}, before the end of the range")).await?,
            None => self.again("no broker leads the topic partition".into()).await?,
        }
        Ok(false)
    }

    async fn leader(&self) -> Result<Option<i32>, Error> {
        let leaders = leaders(&self.source.cluster, &self.range.topic).await?.unwrap_or_default();
        Ok(leaders.get(&self.range.partition).copied().flatten())
    }

    /// First offset and end that the brokers hold now.
    async fn held(&self) -> Result<(i64, i64), Error> {
        let tp = self.range.topic_partition();
        let bounds = bounds(&self.source.cluster, std::slice::from_ref(&tp)).await?;
        Ok(bounds[&tp])
    }

    async fn out_of_range(&mut self) -> Result<(), Error> {
        let (earliest, end) = self.held().await?;
        if self.next < earliest {
            let OffsetRange { topic, partition, end, .. } = self.range.clone();
            return Err(Error::Expired { topic, partition, start: self.next, end, earliest });
        }
        self.again(format!("the broker holds no offset {}, it ends at {end}", self.next)).await
    }

    /// Gives the consumer back, and after a pause starts again at the next offset; an error at the limit of retries.
    async fn again(&mut self, reason: String) -> Result<(), Error> {
        self.lease = None;
        self.end = End::Unknown;
        tracing::warn!(topic = %self.topic, partition = self.range.partition, offset = self.next, reason, "reading again");
        if self.retries.pause().await { Ok(()) } else { Err(self.failed(reason)) }
    }

    async fn missing(&self) -> Error {
        missing_topic(&self.source.cluster, &self.source.config, &self.range.topic).await.into()
    }

    fn failed(&self, reason: String) -> Error {
        let brokers = self.source.config.servers();
        let location = format!("{}[{}] at {brokers}, offset {}", self.topic, self.range.partition, self.next);
        Error::Read { location, reason }
    }
}

/// What an error of the consumer means for the range; nothing if librdkafka gets over it by itself.
fn arrival_of(error: &KafkaError) -> Option<Arrival> {
    use RDKafkaErrorCode as Code;
    match code(error) {
        // The group is a name only.
        Some(Code::GroupAuthorizationFailed | Code::PartitionEOF) => None,
        Some(
            Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::Resolve
            | Code::OperationTimedOut
            | Code::RequestTimedOut
            | Code::NotLeaderForPartition
            | Code::LeaderNotAvailable
            | Code::CoordinatorNotAvailable
            | Code::CoordinatorLoadInProgress
            | Code::NotCoordinator
            | Code::NetworkException,
        ) => None,
        Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => Some(Arrival::OutOfRange),
        _ => Some(match severity(error) {
            Severity::Missing => Arrival::Missing,
            Severity::Permanent => Arrival::Permanent(reason(error)),
            Severity::Transient => Arrival::Stalled(reason(error)),
        }),
    }
}
