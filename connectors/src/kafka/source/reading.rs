//! A range on its way through a consumer.
//!
//! The difficult part is the end of a range. Offsets of transaction markers, aborted and compacted records bring
//! nothing, so the last offsets of a range may never arrive. A range is at its end when
//! - a record at or beyond the end arrives, or
//! - the consumer reports the end of the partition. A broker that has just become leader may report an end before the
//!   one that was planned with, so this counts only if the brokers' end is verified to be at or beyond the range's end
//!   first, the report comes from an assignment made after that, and the leader is the same then.
//!
//! Then the topic must still be the one that was planned: an id is never given twice, so one look at the end tells of the
//! whole range.

use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use rdkafka::Message;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use redpoll_core::source::{Error, OffsetRange, Record};

use super::Source;
use crate::kafka::client::{Lease, Retries, reason};
use crate::kafka::offsets::{bounds, leaders, missing_topic};
use crate::kafka::topic_ids::topic_ids;
use crate::kafka::{Severity, code, severity};

/// What is made of a message, before its memory goes back to the consumer.
pub(in crate::kafka) trait Arrived: Sized {
    fn of(topic: &Arc<str>, message: &BorrowedMessage<'_>) -> Self;

    fn offset(&self) -> i64;
}

impl Arrived for Record {
    fn of(topic: &Arc<str>, message: &BorrowedMessage<'_>) -> Self {
        Record {
            topic: topic.clone(),
            partition: message.partition(),
            offset: message.offset(),
            timestamp: message.timestamp().to_millis(),
            key: message.key().map(Bytes::copy_from_slice),
            value: Bytes::copy_from_slice(message.payload().unwrap_or_default()),
        }
    }

    fn offset(&self) -> i64 {
        self.offset
    }
}

/// One range on its way through a consumer.
pub(in crate::kafka) struct Reading<T> {
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
    made: PhantomData<fn() -> T>,
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
enum Arrival<T> {
    Record {
        made: T,
        bytes: u64,
    },
    /// A record beyond the range: nothing is left before it.
    Beyond,
    EndOfPartition,
    OutOfRange,
    Missing,
    Permanent(String),
    Stalled(String),
}

impl<T: Arrived> Reading<T> {
    pub(in crate::kafka) fn new(source: Source, range: OffsetRange) -> Self {
        let (topic, next, retries) = (Arc::from(range.topic.as_str()), range.start, Retries::new(&source.config));
        let (records, bytes, made) = (0, 0, PhantomData);
        Reading { source, range, topic, next, lease: None, retries, end: End::Unknown, records, bytes, made }
    }

    /// The next record; none at the range's end.
    pub(in crate::kafka) async fn next(&mut self) -> Result<Option<T>, Error> {
        while self.next < self.range.end {
            if self.lease.is_none() {
                let lease = self.source.cluster.lease(&self.range.topic, self.range.partition, self.next);
                self.lease = Some(lease.await?);
            }
            match self.arrival().await {
                Arrival::Record { made, bytes } => {
                    self.next = made.offset() + 1;
                    self.retries = Retries::new(&self.source.config);
                    self.records += 1;
                    self.bytes += bytes;
                    return Ok(Some(made));
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
        self.is_the_same().await?;
        self.source.cluster.learn(&self.range.topic, self.records, self.bytes);
        // Asked again after the end, the stream ends again and learns nothing twice.
        (self.next, self.records, self.range.topic_id) = (self.range.end, 0, None);
        Ok(None)
    }

    /// Waits for the consumer. Errors of connections pass by: librdkafka connects again, and the deadline is ours.
    async fn arrival(&self) -> Arrival<T> {
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
                Ok(message) if message.offset() >= self.next => {
                    let length = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len) as u64;
                    let bytes = length(message.payload()) + length(message.key());
                    return Arrival::Record { made: T::of(&self.topic, &message), bytes };
                }
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

    async fn is_the_same(&self) -> Result<(), Error> {
        let Some(planned) = &self.range.topic_id else { return Ok(()) };
        let topic = self.range.topic.clone();
        match topic_ids(&self.source.cluster, std::slice::from_ref(&topic)).await?.remove(&topic) {
            Some(id) if id == *planned => Ok(()),
            Some(id) => Err(Error::Recreated { topic, reason: format!("its id was {planned}, it is {id}") }),
            None => Err(self.missing().await),
        }
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
fn arrival_of<T>(error: &KafkaError) -> Option<Arrival<T>> {
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
