//! The contract of a source: positions that can be read again, and records at those positions.
//!
//! A source is a set of *topic partitions*, each a sequence of records with dense-enough offsets. A Kafka topic is
//! that by nature. A folder or a tarball is made into one: its files, in the order they were first listed, are the
//! records 0, 1, 2, … of partition 0, and the file list travels in the range, so that a re-run reads the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};

use crate::quarantine;

/// A topic partition of Kafka, or a folder or file (partition 0).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicPartition {
    pub topic: String,
    pub partition: i32,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.topic, self.partition)
    }
}

/// Where each topic partition will be read next: the first offset not yet taken.
pub type Offsets = BTreeMap<TopicPartition, i64>;

/// [`Offsets`] as a list of `[topic, partition, offset]`: JSON has no keys but text.
pub mod offsets_as_list {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Offsets, TopicPartition};

    pub fn serialize<S: Serializer>(offsets: &Offsets, serializer: S) -> Result<S::Ok, S::Error> {
        let list: Vec<_> = offsets.iter().map(|(at, offset)| (&at.topic, at.partition, offset)).collect();
        list.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Offsets, D::Error> {
        let list = Vec::<(String, i32, i64)>::deserialize(deserializer)?;
        Ok(list.into_iter().map(|(topic, partition, offset)| (TopicPartition { topic, partition }, offset)).collect())
    }
}

/// One file of a folder or member of a tarball.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRef {
    /// Path below the source's location, or the member's name in a tarball.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// As the object store gives it: a file that changed after it was planned is an error, not other data.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub etag: Option<String>,
    /// Of a member of an uncompressed tarball: where its bytes begin in it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub at: Option<u64>,
}

/// A half-open range of offsets of one topic partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffsetRange {
    pub topic: String,
    pub partition: i32,
    /// First offset.
    pub start: i64,
    /// One past the last offset.
    pub end: i64,
    /// Estimated bytes, for cutting into splits.
    pub bytes: u64,
    /// Of a folder, a tarball or the quarantine: the files at `start..end`, one each. Empty for Kafka.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub files: Vec<FileRef>,
    /// Kafka: the id of the topic. One that is deleted and created anew has another id, and other records at the same
    /// offsets.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub topic_id: Option<String>,
    /// The source no longer holds these offsets: they count as absent, by name, and nothing is read.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub expired: bool,
}

/// `topic[partition] offsets start..end`
impl fmt::Display for OffsetRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}] offsets {}..{}", self.topic, self.partition, self.start, self.end)
    }
}

impl OffsetRange {
    pub fn topic_partition(&self) -> TopicPartition {
        TopicPartition { topic: self.topic.clone(), partition: self.partition }
    }

    /// Number of offsets.
    pub fn len(&self) -> u64 {
        u64::try_from(self.end - self.start).unwrap_or(0)
    }

    pub fn is_empty(&self) -> bool {
        self.end <= self.start
    }
}

/// A range that a source cannot give again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    pub range: OffsetRange,
    pub reason: String,
}

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.range, self.reason)
    }
}

/// What the intents of a job have taken so far beyond offsets, by topic: the files of a folder, the id of a Kafka
/// topic. It folds from the job's log, and a checkpoint of the log keeps it.
///
/// A folder needs it: no order of its files says which were taken, because a file may appear late under an early name
/// or with an early time. So it holds a name for each file that the job has read from folders: about as much as one
/// listing of them, which each look at the folder makes anyway. The members of a tarball have a fixed order, and
/// offsets alone say which were taken: their names are not kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Taken(BTreeMap<String, BTreeSet<String>>);

impl Taken {
    /// Adds the files and topic ids of an intent's ranges.
    pub fn add(&mut self, ranges: &[OffsetRange]) {
        for range in ranges {
            if let Some(id) = &range.topic_id {
                self.0.entry(range.topic.clone()).or_default().insert(id.clone());
            }
        }
        let of_folder = |range: &&OffsetRange| {
            !range.files.is_empty() && !is_tarball(&range.topic) && range.topic != quarantine::TOPIC
        };
        for range in ranges.iter().filter(of_folder) {
            let names = self.0.entry(range.topic.clone()).or_default();
            names.extend(range.files.iter().map(|file| file.name.clone()));
        }
    }

    pub fn contains(&self, topic: &str, name: &str) -> bool {
        self.0.get(topic).is_some_and(|names| names.contains(name))
    }

    /// The id of the Kafka topic that was read under this name.
    pub fn topic_id(&self, topic: &str) -> Option<&str> {
        self.0.get(topic)?.first().map(String::as_str)
    }

    /// Number of files of a topic.
    pub fn len(&self, topic: &str) -> u64 {
        self.0.get(topic).map_or(0, |names| names.len() as u64)
    }
}

/// Whether a location is a tarball, by its name.
pub fn is_tarball(location: &str) -> bool {
    let name = location.to_ascii_lowercase();
    [".tar", ".tar.gz", ".tgz"].iter().any(|suffix| name.ends_with(suffix))
}

/// A Kafka message or a file: the bytes that a source holds at one offset. It may decode to several alerts.
#[derive(Debug, Clone)]
pub struct Record {
    /// Kafka: the topic. File: the file's name.
    pub topic: Arc<str>,
    pub partition: i32,
    pub offset: i64,
    /// When the source took it, milliseconds since 1970-01-01 UTC.
    pub timestamp: Option<i64>,
    pub key: Option<Bytes>,
    pub value: Bytes,
}

/// Where a source that has never been read begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    #[default]
    Earliest,
    Latest,
    /// The first record at or after this time, milliseconds since 1970-01-01 UTC.
    Timestamp(i64),
}

/// How a source is read. Implementations are cheap to clone behind an `Arc` and hold pooled clients.
///
/// Reading has no effect on the source: nothing is consumed, committed or locked there, so any range may be read
/// again, by several tasks at once, and a dropped stream leaves nothing behind.
#[async_trait]
pub trait Source: fmt::Debug + Send + Sync {
    /// What lies between `from` and the source's present ends (Kafka: last stable offsets). A topic partition that is
    /// not in `from` begins at `start`. Ranges are non-empty and at most `max_bytes` in all (by estimate; at least
    /// one record), taken evenly over the topic partitions. Offsets after `from` that the source no longer holds come as
    /// expired ranges before those that it does.
    async fn available(&self, from: &Offsets, start: Start, max_bytes: u64) -> Result<Vec<OffsetRange>, Error>;

    /// Where `start` lies now, for each topic partition that there is; none where [`Source::available`] finds it by
    /// itself each time.
    async fn begin(&self, _start: Start) -> Result<Option<Offsets>, Error> {
        Ok(None)
    }

    /// The parts of planned ranges that can no longer be read. Empty: all can.
    async fn lost(&self, _ranges: &[OffsetRange]) -> Result<Vec<Gone>, Error> {
        Ok(Vec::new())
    }

    /// As [`Source::available`], but leaves out what `taken` holds. A job calls this: of a folder, offsets alone do not
    /// say which files are left. `from` and `taken` must be of the same log.
    async fn available_except(
        &self,
        from: &Offsets,
        start: Start,
        max_bytes: u64,
        _taken: &Taken,
    ) -> Result<Vec<OffsetRange>, Error> {
        self.available(from, start, max_bytes).await
    }

    /// Parts ranges that were read before into what is still there to be read again, and what is not.
    async fn held(&self, ranges: Vec<OffsetRange>) -> Result<(Vec<OffsetRange>, Vec<Gone>), Error> {
        Ok((ranges, Vec::new()))
    }

    /// The records of a range in offset order. Offsets that hold no record (compacted, aborted, transaction markers)
    /// are left out; the stream ends once every offset below `end` is known to be delivered or absent.
    fn read(&self, range: OffsetRange) -> BoxStream<'static, Result<Record, Error>>;

    /// Cuts ranges into splits of about `max_bytes` each, in the order given; a split may hold several ranges.
    fn split(&self, ranges: &[OffsetRange], max_bytes: u64) -> Vec<Vec<OffsetRange>> {
        split_evenly(ranges, max_bytes)
    }
}

/// Cuts each range on its own by estimated bytes, so that no split crosses a topic partition.
pub fn split_evenly(ranges: &[OffsetRange], max_bytes: u64) -> Vec<Vec<OffsetRange>> {
    let mut splits = Vec::new();
    for range in ranges.iter().filter(|range| !range.is_empty()) {
        let n = range.bytes.div_ceil(max_bytes.max(1)).clamp(1, range.len());
        let (len, n) = (range.end - range.start, n as i64);
        for i in 0..n {
            splits.push(vec![range.slice(range.start + len * i / n, range.start + len * (i + 1) / n)]);
        }
    }
    splits
}

impl OffsetRange {
    /// The part `start..end`, with its share of the bytes and its files.
    pub fn slice(&self, start: i64, end: i64) -> OffsetRange {
        let files = match self.files.is_empty() {
            true => Vec::new(),
            false => self.files[(start - self.start) as usize..(end - self.start) as usize].to_vec(),
        };
        let bytes = match files.is_empty() {
            true => self.bytes * (end - start) as u64 / self.len().max(1),
            // Archives may claim any size.
            false => files.iter().fold(0_u64, |bytes, file| bytes.saturating_add(file.size)),
        };
        let (topic, topic_id) = (self.topic.clone(), self.topic_id.clone());
        OffsetRange { topic, partition: self.partition, start, end, bytes, files, topic_id, expired: self.expired }
    }

    /// The range with the parts in `lost` marked as expired, in order of offsets.
    pub fn without(&self, lost: &[Gone]) -> Vec<OffsetRange> {
        let same = |lost: &&Gone| lost.range.topic == self.topic && lost.range.partition == self.partition;
        let mut gone: Vec<(i64, i64)> = lost
            .iter()
            .filter(same)
            .map(|lost| (lost.range.start.max(self.start), lost.range.end.min(self.end)))
            .filter(|(start, end)| start < end && !self.expired)
            .collect();
        gone.sort_unstable();
        let (mut parts, mut next) = (Vec::new(), self.start);
        for (start, end) in gone {
            let start = start.max(next);
            if start >= end {
                continue;
            }
            parts.push(self.slice(next, start));
            parts.push(OffsetRange { expired: true, bytes: 0, ..self.slice(start, end) });
            next = end;
        }
        parts.push(self.slice(next, self.end));
        parts.retain(|part| !part.is_empty());
        parts
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{location}: {reason}; {remedy}")]
    Missing { location: String, reason: String, remedy: String },
    #[error("{topic}[{partition}]: offsets {start}..{end} are no longer held by the broker (it begins at {earliest})")]
    Expired { topic: String, partition: i32, start: i64, end: i64, earliest: i64 },
    /// Its offsets say nothing about what was read: they begin again.
    #[error(
        "topic {topic} was deleted and created anew ({reason}): what it holds now is not what this job has read; stop \
         the job, and run its pipeline under another --name to read the new topic"
    )]
    Recreated { topic: String, reason: String },
    #[error("{location}: {reason}")]
    Read { location: String, reason: String },
    #[error("option '{option}' of {location}: {reason}")]
    Option { option: String, location: String, reason: String },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_cover_a_range_once_and_carry_their_files() {
        let files: Vec<_> =
            (0..5).map(|i| FileRef { name: format!("{i}.avro"), size: 10, etag: None, at: None }).collect();
        let range = OffsetRange { topic: "night".into(), start: 7, end: 12, bytes: 50, files, ..Default::default() };
        let splits = split_evenly(&[range], 20);
        let spans: Vec<_> = splits.iter().flatten().map(|r| (r.start, r.end, r.bytes, r.files.len())).collect();
        assert_eq!(spans, [(7, 8, 10, 1), (8, 10, 20, 2), (10, 12, 20, 2)]);
    }

    #[test]
    fn parts_that_are_lost_are_marked_and_every_offset_stays_in_one_part() {
        let range = |start, end| OffsetRange { topic: "ztf".into(), start, end, bytes: 100, ..Default::default() };
        let lost = |start, end| Gone { range: OffsetRange { expired: true, ..range(start, end) }, reason: "".into() };
        let parts = |whole: OffsetRange, lost: &[Gone]| -> Vec<(i64, i64, bool)> {
            whole.without(lost).iter().map(|part| (part.start, part.end, part.expired)).collect()
        };
        assert_eq!(parts(range(5, 15), &[lost(0, 8)]), [(5, 8, true), (8, 15, false)]);
        assert_eq!(
            parts(range(5, 15), &[lost(12, 15), lost(6, 8)])[..3],
            [(5, 6, false), (6, 8, true), (8, 12, false)]
        );
        assert_eq!(parts(range(5, 15), &[lost(0, 99), lost(3, 7)]), [(5, 7, true), (7, 15, true)]);
        assert_eq!(parts(range(5, 15), &[lost(15, 20)]), [(5, 15, false)]);
        let other = Gone { range: OffsetRange { partition: 1, ..lost(0, 99).range }, reason: "".into() };
        assert_eq!(parts(range(5, 15), &[other]), [(5, 15, false)]);
    }
}
