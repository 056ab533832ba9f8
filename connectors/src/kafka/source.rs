//! Topics as a source: ranges from what the brokers hold, records of a range from a consumer at its exact offset.

mod held;
pub(super) mod reading;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use redpoll_core::source::{Error, Gone, OffsetRange, Offsets, Record, Source as _, Start, Taken, TopicPartition};

use super::client::Cluster;
use super::offsets::{bounds, offsets_at, partitions};
use super::share::{Backlog, share};
use super::topic_ids::topic_ids;
use super::{Config, Topics};
use reading::Reading;

/// Records read to estimate the size of a topic's records, and how long that may take.
const SAMPLE: i64 = 8;
const SAMPLE_TIMEOUT: Duration = Duration::from_secs(3);
/// Topics sampled at the same time.
const SAMPLED_TOPICS: usize = 4;

/// First offset and end of each topic partition.
type Held = BTreeMap<TopicPartition, (i64, i64)>;

/// What the brokers have at present.
struct Present {
    held: Held,
    /// Ids of topics, where brokers give them.
    ids: BTreeMap<String, String>,
}

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

    async fn present(&self, topics: &Topics) -> Result<Present, Error> {
        let partitions = partitions(&self.cluster, &self.config, topics).await?;
        let mut topics: Vec<String> = partitions.iter().map(|at| at.topic.clone()).collect();
        topics.dedup();
        // Ids first: of a topic that is replaced meanwhile, ranges then have the old id, and cannot be read.
        let ids = topic_ids(&self.cluster, &topics).await?;
        Ok(Present { held: bounds(&self.cluster, &partitions).await?, ids })
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

    /// Everything from `from` (else `start`) to the present ends, whatever its size; `bytes` is not yet estimated. What
    /// has expired of it comes first.
    async fn backlog(
        &self,
        from: &Offsets,
        start: Start,
        taken: &Taken,
    ) -> Result<(Vec<OffsetRange>, Vec<OffsetRange>), Error> {
        let Present { held, ids } = self.present(&self.config.topic).await?;
        let new: Held = held.clone().into_iter().filter(|(tp, _)| !from.contains_key(tp)).collect();
        let begin = self.begin_within(&new, start).await?;
        let (mut expired, mut ranges) = (Vec::new(), Vec::new());
        for (tp, (earliest, end)) in held {
            let start = from.get(&tp).copied().unwrap_or_else(|| begin[&tp]);
            let topic_id = ids.get(&tp.topic).cloned();
            is_the_same(&tp, topic_id.as_deref(), taken.topic_id(&tp.topic), start, end)?;
            let TopicPartition { topic, partition } = tp;
            let range = OffsetRange { topic, partition, topic_id, ..OffsetRange::default() };
            if start < earliest {
                expired.push(OffsetRange { start, end: earliest, expired: true, ..range.clone() });
            }
            if start.max(earliest) < end {
                ranges.push(OffsetRange { start: start.max(earliest), end, ..range });
            }
        }
        Ok((expired, ranges))
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
    async fn begin(&self, start: Start) -> Result<Option<Offsets>, Error> {
        let present = self.present(&self.config.topic).await?;
        self.begin_within(&present.held, start).await.map(Some)
    }

    async fn available(&self, from: &Offsets, start: Start, max_bytes: u64) -> Result<Vec<OffsetRange>, Error> {
        self.available_except(from, start, max_bytes, &Taken::default()).await
    }

    async fn lost(&self, ranges: &[OffsetRange]) -> Result<Vec<Gone>, Error> {
        let mut topics: Vec<String> = ranges.iter().map(|range| range.topic.clone()).collect();
        topics.sort();
        topics.dedup();
        let present = self.present(&Topics::Names(topics)).await?;
        Ok(ranges.iter().filter(|range| !range.expired).filter_map(|range| present.lost(range)).collect())
    }

    async fn available_except(
        &self,
        from: &Offsets,
        start: Start,
        max_bytes: u64,
        taken: &Taken,
    ) -> Result<Vec<OffsetRange>, Error> {
        let (expired, backlog) = self.backlog(from, start, taken).await?;
        self.sample(&backlog).await;
        let sizes: Vec<_> = backlog
            .iter()
            .map(|range| Backlog { offsets: range.len(), record_bytes: self.record_bytes(&range.topic) })
            .collect();
        let taken = share(&sizes, max_bytes);
        let ranges = backlog.into_iter().zip(sizes).zip(taken).filter(|(_, taken)| *taken > 0);
        let ranges = ranges.map(|((range, size), taken)| OffsetRange {
            end: range.start + taken as i64,
            bytes: (taken as f64 * size.record_bytes) as u64,
            ..range
        });
        Ok(expired.into_iter().chain(ranges).collect())
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

impl Present {
    /// The part of a planned range that can no longer be read.
    fn lost(&self, range: &OffsetRange) -> Option<Gone> {
        let expired = |end: i64| OffsetRange { expired: true, ..range.slice(range.start, end) };
        let anew = matches!((&range.topic_id, self.ids.get(&range.topic)), (Some(was), Some(is)) if was != is);
        match self.held.get(&range.topic_partition()) {
            Some((earliest, _)) if !anew => (range.start < *earliest).then(|| Gone {
                range: expired(range.end.min(*earliest)),
                reason: format!("retention has deleted them, the broker begins at {earliest}"),
            }),
            _ => Some(Gone { range: expired(range.end), reason: "the topic was deleted and created anew".into() }),
        }
    }
}

/// Whether a topic is the one that was read up to `start`. A topic that was created anew begins at 0 again: by its
/// offsets alone it is noticed only until it has as many.
fn is_the_same(at: &TopicPartition, id: Option<&str>, known: Option<&str>, start: i64, end: i64) -> Result<(), Error> {
    let anew = |reason: String| Error::Recreated { topic: at.topic.clone(), reason };
    match (known, id) {
        (Some(known), Some(id)) if known != id => Err(anew(format!("its id was {known}, it is {id}"))),
        // A broker that has just begun to lead may not know of the last records yet.
        (Some(_), Some(_)) if start > end => {
            let reason = format!("the broker's end {end} lies before offset {start}, up to which was read");
            Err(Error::Read { location: at.to_string(), reason })
        }
        _ if start > end => Err(anew(format!("{at} ends at {end}, up to offset {start} was read"))),
        _ => Ok(()),
    }
}
