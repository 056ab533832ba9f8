//! The marks of lanes: which epochs of a job are out on a Kafka cluster.
//!
//! A mark is an offset that group `redpoll.<job>` has committed for partition `lane` of topic `redpoll.marks`, with a
//! text as its metadata. It says: every epoch below it is out.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::{Offset, TopicPartitionList};
use redpoll_core::ids::{Epoch, Lane};

use super::client::{Cluster, Words};
use super::offsets::{create_topic, grow_topic, leaders};
use super::{Config, Error};

/// Holds no records: offsets can only be committed for a topic that exists.
pub const MARKS_TOPIC: &str = "redpoll.marks";
/// The broker's `offset.metadata.max.bytes` unless it is changed.
pub const METADATA_LIMIT: usize = 4096;

/// What a lane has out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The last epoch that is out. Later than the one asked for only if the job has gone on without the caller.
    pub epoch: Epoch,
    /// The text that was committed with that epoch.
    pub metadata: String,
}

/// Readies a cluster for a job before it starts: the topic of marks with a partition per lane (none for a job without
/// transactions). Gives back which of `topics` the cluster lacks.
pub async fn prepare(config: &Config, topics: &[String], lanes: u32) -> Result<Vec<String>, Error> {
    let cluster = Cluster::of(config);
    if lanes > 0 {
        let present = leaders(&cluster, MARKS_TOPIC).await?.map_or(0, |leaders| leaders.len() as u32);
        if present == 0 {
            create_topic(config, MARKS_TOPIC, lanes, &Default::default()).await?;
        } else if present < lanes {
            grow_topic(config, MARKS_TOPIC, lanes).await?;
        }
    }
    let mut missing = Vec::new();
    for topic in topics {
        if leaders(&cluster, topic).await?.is_none() {
            missing.push(topic.clone());
        }
    }
    Ok(missing)
}

pub(super) fn group(job: &str) -> String {
    format!("redpoll.{job}")
}

/// A lane's mark as librdkafka takes it.
pub(super) fn list(lane: Lane, offset: Offset, metadata: &str) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(1);
    let mut mark = list.add_partition(MARKS_TOPIC, lane.0 as i32);
    mark.set_offset(offset)?;
    if !metadata.is_empty() {
        mark.set_metadata(metadata);
    }
    Ok(list)
}

/// A lane's mark and its metadata; 0 and nothing where none was ever committed. Waits while a transaction that touches
/// it is open.
pub(super) fn committed(client: &BaseConsumer<Words>, lane: Lane, timeout: Duration) -> KafkaResult<(i64, String)> {
    let list = client.committed_offsets(list(lane, Offset::Invalid, "")?, timeout)?;
    let elements = list.elements();
    let mark = elements.first().ok_or(KafkaError::NoMessageReceived)?;
    mark.error()?;
    match mark.offset() {
        Offset::Offset(offset) => Ok((offset, mark.metadata().to_owned())),
        _ => Ok((0, String::new())),
    }
}

/// As [`committed`], asked again while the error may pass.
pub(super) async fn read(cluster: &Cluster, job: &str, lane: Lane) -> Result<(i64, String), Error> {
    let action = format!("reading the mark of lane {lane} of job {job}");
    cluster.ask_as(&group(job), &action, move |client, timeout| committed(client, lane, timeout)).await
}
