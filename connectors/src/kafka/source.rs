//! Topics as a source: ranges from what the brokers hold, records of a range from a consumer at its exact offset.

mod held;
pub(super) mod reading;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use redpoll_core::source::{Error, Gone, OffsetRange, Offsets, Record, Source as _, Start, TopicPartition};

use super::client::Cluster;
use super::offsets::{bounds, offsets_at, partitions};
use super::share::{Backlog, share};
use super::{Config, Topics};
use reading::Reading;

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
    /// The present topic partitions and the offset where `start` lies in each. A job that starts at `latest` pins this
    /// once: asked again later, the latest offset is another, and what came in between would never be read.
    async fn begin(&self, start: Start) -> Result<Offsets, Error> {
        self.begin_within(&self.held().await?, start).await
    }

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

    async fn held(&self, ranges: Vec<OffsetRange>) -> Result<(Vec<OffsetRange>, Vec<Gone>), Error> {
        held::held(self, ranges).await
    }

    fn read(&self, range: OffsetRange) -> BoxStream<'static, Result<Record, Error>> {
        let reading = Reading::<Record>::new(self.clone(), range);
        stream::try_unfold(reading, |mut reading| async { Ok(reading.next().await?.map(|record| (record, reading))) })
            .boxed()
    }
}
