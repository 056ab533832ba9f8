//! The records of a topic as consumers tell them apart: by their headers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt};
use rdkafka::Message;
use rdkafka::message::{BorrowedMessage, Headers};
use redpoll_core::source::{OffsetRange, TopicPartition};
use tokio::time::Instant;

use super::client::Cluster;
use super::offsets::{bounds, partitions};
use super::source::reading::{Arrived, Reading};
use super::{Config, Error, Isolation, Source, SourceError, Topics};

/// Topic partitions that are read at a time.
const AHEAD: usize = 4;
/// How long transactions that are open when a topic is looked at may take to end. One that takes longer hides its records,
/// and those behind it, from every reader.
const SETTLING: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(50);

/// A record without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    pub partition: i32,
    pub offset: i64,
    /// The header `redpoll-job`.
    pub job: Option<String>,
    /// `redpoll-epoch`.
    pub epoch: Option<String>,
    /// `redpoll-source`; see [`super::Position`].
    pub source: Option<String>,
}

impl Arrived for Delivered {
    fn of(_: &Arc<str>, message: &BorrowedMessage<'_>) -> Self {
        let header = |name: &str| {
            let headers = message.headers()?;
            let value = headers.iter().find(|header| header.key == name)?.value?;
            Some(String::from_utf8_lossy(value).into_owned())
        };
        Delivered {
            partition: message.partition(),
            offset: message.offset(),
            job: header("redpoll-job"),
            epoch: header("redpoll-epoch"),
            source: header("redpoll-source"),
        }
    }

    fn offset(&self) -> i64 {
        self.offset
    }
}

/// What a reader of committed records gets of everything that is there now. Brokers answer a commit before they write the
/// marks that show its records, so right after one there are fewer.
async fn settled(
    config: &Config,
    partitions: &[TopicPartition],
) -> Result<BTreeMap<TopicPartition, (i64, i64)>, Error> {
    let uncommitted = Config { isolation: Isolation::ReadUncommitted, ..config.clone() };
    let all = bounds(&Cluster::of(&uncommitted), partitions).await?;
    let deadline = Instant::now() + SETTLING;
    loop {
        let held = bounds(&Cluster::of(config), partitions).await?;
        let is_there = |(at, (_, end)): (&TopicPartition, &(i64, i64))| held[at].1 >= *end;
        if all.iter().all(is_there) || Instant::now() >= deadline {
            return Ok(held);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A topic that is looked through.
pub struct Deliveries {
    source: Source,
    held: Vec<(TopicPartition, (i64, i64))>,
}

impl Deliveries {
    /// What a reader of committed records finds there now.
    pub async fn open(config: &Config, topic: &str) -> Result<Self, SourceError> {
        let topics = Topics::Names(vec![topic.to_owned()]);
        let config = Config { isolation: Isolation::ReadCommitted, ..config.with_topics(topics.clone()) };
        let partitions = partitions(&Cluster::of(&config), &config, &topics).await?;
        let held = settled(&config, &partitions).await?.into_iter().collect();
        Ok(Self { source: Source::new(config)?, held })
    }

    /// Topic partitions whose first records are gone, each with its first offset.
    pub fn shortened(&self) -> impl Iterator<Item = (i32, i64)> {
        let begun = self.held.iter().map(|(at, (earliest, _))| (at.partition, *earliest));
        begun.filter(|(_, earliest)| *earliest > 0)
    }

    /// All records, those of one topic partition in order.
    pub fn records(&self) -> BoxStream<'static, Result<Delivered, SourceError>> {
        let ranges: Vec<_> = self.held.iter().filter(|(_, (from, end))| from < end).cloned().collect();
        let source = self.source.clone();
        let read = move |(TopicPartition { topic, partition }, (start, end))| {
            let range = OffsetRange { topic, partition, start, end, ..OffsetRange::default() };
            let reading = Reading::<Delivered>::new(source.clone(), range);
            stream::try_unfold(reading, |mut reading| async {
                Ok(reading.next().await?.map(|record| (record, reading)))
            })
            .boxed()
        };
        stream::iter(ranges.into_iter().map(read)).flatten_unordered(AHEAD).boxed()
    }
}
