//! What the brokers hold: topics, their partitions, first and last offsets.
//!
//! Offsets of all topic partitions are asked in one request per leading broker. The end is the last stable offset
//! unless the config reads uncommitted records: nothing of an open transaction lies before it.

use std::collections::BTreeMap;

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::metadata::MetadataTopic;
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset, TopicPartitionList};
use redpoll_core::source::{Offsets, TopicPartition};
use regex::Regex;

use super::client::{Cluster, Retries, Words, in_background};
use super::{Config, Error, Severity, Topics, severity};

/// A topic as `redpoll topics` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    pub name: String,
    pub partitions: Vec<PartitionOffsets>,
}

/// The offsets that a topic partition holds, `earliest..end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionOffsets {
    pub partition: i32,
    pub earliest: i64,
    /// One past the last offset that may be read.
    pub end: i64,
}

/// The topics that `config` names, with their offsets, by name; all topics of the cluster if it names none.
pub async fn topics(config: &Config) -> Result<Vec<Topic>, Error> {
    let cluster = Cluster::of(config);
    let wanted = match &config.topic {
        Topics::Names(names) if names.is_empty() => Topics::Pattern("^".into()),
        other => other.clone(),
    };
    let partitions = partitions(&cluster, config, &wanted).await?;
    let bounds = bounds(&cluster, &partitions).await?;
    let mut topics = BTreeMap::<String, Vec<PartitionOffsets>>::new();
    for (TopicPartition { topic, partition }, (earliest, end)) in bounds {
        topics.entry(topic).or_default().push(PartitionOffsets { partition, earliest, end });
    }
    Ok(topics.into_iter().map(|(name, partitions)| Topic { name, partitions }).collect())
}

/// Partitions of a topic.
pub async fn n_partitions(config: &Config, topic: &str) -> Result<i32, Error> {
    let topics = Topics::Names(vec![topic.to_owned()]);
    let found = partitions(&Cluster::of(config), config, &topics).await?;
    Ok(i32::try_from(found.len()).unwrap_or(i32::MAX))
}

/// Creates a topic unless it is there; `settings` are the broker's, such as `retention.ms`. Replication is the
/// brokers' default.
pub(super) async fn create_topic(
    config: &Config,
    name: &str,
    n_partitions: u32,
    settings: &BTreeMap<String, String>,
) -> Result<(), Error> {
    let mut topic = NewTopic::new(name, n_partitions as i32, TopicReplication::Fixed(-1));
    topic.config = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    administer(config, &Change::Create(topic)).await?;
    await_partitions(config, name, n_partitions).await
}

/// Adds partitions to a topic until it has `n_partitions`; a topic that has more is left alone.
pub(super) async fn grow_topic(config: &Config, name: &str, n_partitions: u32) -> Result<(), Error> {
    let more = NewPartitions::new(name, n_partitions as usize);
    administer(config, &Change::Grow(more)).await?;
    await_partitions(config, name, n_partitions).await
}

/// A change of the cluster.
enum Change<'a> {
    Create(NewTopic<'a>),
    Grow(NewPartitions<'a>),
}

impl Change<'_> {
    fn action(&self) -> String {
        match self {
            Change::Create(topic) => format!("creating topic {}", topic.name),
            Change::Grow(topic) => format!("adding partitions to topic {}", topic.topic_name),
        }
    }

    /// The error that says it is so already, perhaps by another job that starts at the same time.
    fn done(&self) -> RDKafkaErrorCode {
        match self {
            Change::Create(_) => RDKafkaErrorCode::TopicAlreadyExists,
            Change::Grow(_) => RDKafkaErrorCode::InvalidPartitions,
        }
    }

    async fn make(&self, admin: &AdminClient<Words>, options: &AdminOptions) -> KafkaResult<()> {
        let results = match self {
            Change::Create(topic) => admin.create_topics([topic], options).await?,
            Change::Grow(topic) => admin.create_partitions([topic], options).await?,
        };
        match results.into_iter().next() {
            Some(Err((_, code))) if code != self.done() => Err(KafkaError::AdminOp(code)),
            _ => Ok(()),
        }
    }
}

/// Changes the cluster, again while the error may pass.
async fn administer(config: &Config, change: &Change<'_>) -> Result<(), Error> {
    let admin = admin(config)?;
    let timeout = Some(config.request_timeout);
    let options = AdminOptions::new().request_timeout(timeout).operation_timeout(timeout);
    let mut retries = Retries::new(config);
    let outcome = loop {
        match change.make(&admin, &options).await {
            Err(error) if severity(&error) == Severity::Transient && retries.pause().await => {}
            outcome => break outcome.map_err(|error| Cluster::of(config).failed(&change.action(), &error)),
        }
    };
    // Its thread takes a moment to end.
    in_background(move || drop(admin));
    outcome
}

pub(super) fn admin(config: &Config) -> Result<AdminClient<Words>, Error> {
    let settings = config.consumer(&config.group)?;
    let admin = settings.create_with_context(Words::default());
    admin.map_err(|error| Cluster::of(config).failed("starting a client", &error))
}

/// Waits until every partition of a new topic has a leader, which comes a moment after its creation.
async fn await_partitions(config: &Config, name: &str, at_least: u32) -> Result<(), Error> {
    let cluster = Cluster::of(config);
    let mut retries = Retries::new(config);
    loop {
        let leaders = leaders(&cluster, name).await?.unwrap_or_default();
        if leaders.values().flatten().count() >= at_least as usize {
            return Ok(());
        }
        if !retries.pause().await {
            let (action, brokers) = (format!("waiting for topic {name}"), config.servers());
            let reason = format!("fewer than {at_least} partitions have a leader");
            return Err(Error::Broker { action, brokers, reason });
        }
    }
}

/// The partitions of a topic and the broker that leads each, if any does just now; none if there is no such topic.
pub(super) async fn leaders(cluster: &Cluster, name: &str) -> Result<Option<BTreeMap<i32, Option<i32>>>, Error> {
    let topic = name.to_owned();
    let ask = move |client: &BaseConsumer<Words>, timeout| {
        let metadata = client.fetch_metadata(Some(&topic), timeout)?;
        let Some(topic) = metadata.topics().first() else { return Ok(None) };
        match topic.error().map(RDKafkaErrorCode::from) {
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => return Ok(None),
            Some(code) => return Err(KafkaError::MetadataFetch(code)),
            None => {}
        }
        Ok(Some(topic.partitions().iter().map(|p| (p.id(), (p.leader() >= 0).then_some(p.leader()))).collect()))
    };
    cluster.ask(&format!("asking for topic {name}"), ask).await
}

/// The topic partitions of `topics`, in order. A name that the cluster lacks is an error, a pattern may match nothing.
pub(super) async fn partitions(
    cluster: &Cluster,
    config: &Config,
    topics: &Topics,
) -> Result<Vec<TopicPartition>, Error> {
    let mut found = match topics {
        Topics::Names(names) => {
            let mut found = Vec::new();
            for name in names {
                match leaders(cluster, name).await? {
                    Some(leaders) => found.extend(leaders.into_keys().map(|partition| (name.clone(), partition))),
                    None => return Err(missing_topic(cluster, config, name).await),
                }
            }
            found
        }
        Topics::Pattern(pattern) => {
            let regex = Regex::new(pattern).map_err(|error| Error::Option {
                option: "topic".into(),
                location: format!("kafka://{}", config.servers()),
                reason: error.to_string(),
            })?;
            let all = all_partitions(cluster).await?;
            all.into_iter().filter(|(topic, _)| regex.is_match(topic) && !internal(topic)).collect()
        }
    };
    found.sort();
    Ok(found.into_iter().map(|(topic, partition)| TopicPartition { topic, partition }).collect())
}

/// Topics that hold the brokers' and our own book-keeping; a pattern does not mean them.
fn internal(topic: &str) -> bool {
    topic.starts_with("__") || topic == super::MARKS_TOPIC
}

async fn all_partitions(cluster: &Cluster) -> Result<Vec<(String, i32)>, Error> {
    let ask = |client: &BaseConsumer<Words>, timeout| {
        let metadata = client.fetch_metadata(None, timeout)?;
        let each = |topic: &MetadataTopic| {
            topic.partitions().iter().map(|partition| (topic.name().to_owned(), partition.id())).collect::<Vec<_>>()
        };
        Ok(metadata.topics().iter().flat_map(each).collect())
    };
    cluster.ask("listing topics", ask).await
}

/// Says what to do about a topic that is not there, with the nearest name if one is near.
pub(super) async fn missing_topic(cluster: &Cluster, config: &Config, name: &str) -> Error {
    let others = all_partitions(cluster).await.unwrap_or_default();
    let nearest = others
        .iter()
        .map(|(topic, _)| (strsim::jaro_winkler(topic, name), topic))
        .filter(|(likeness, topic)| *likeness > 0.85 && !internal(topic))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let remedy = match nearest {
        Some((_, topic)) => format!("did you mean '{topic}'? else create it, or have its producer create it"),
        None => "create it, or have its producer create it, before the job starts".into(),
    };
    Error::Missing { topic: name.into(), brokers: config.servers(), remedy }
}

/// First offset and end of each topic partition.
pub(super) async fn bounds(
    cluster: &Cluster,
    partitions: &[TopicPartition],
) -> Result<BTreeMap<TopicPartition, (i64, i64)>, Error> {
    // ListOffsets takes -2 and -1 in place of a timestamp for the first offset and the end.
    let earliest = offsets_at(cluster, partitions, -2).await?;
    let ends = offsets_at(cluster, partitions, -1).await?;
    let bounds = partitions.iter().map(|tp| (tp.clone(), (earliest[tp], ends[tp])));
    Ok(bounds.collect())
}

/// The first offset at or after a time in milliseconds, of each topic partition; where there is none, -1.
pub(super) async fn offsets_at(
    cluster: &Cluster,
    partitions: &[TopicPartition],
    timestamp: i64,
) -> Result<Offsets, Error> {
    if partitions.is_empty() {
        return Ok(Offsets::new());
    }
    let asked = partitions.to_vec();
    let ask = move |client: &BaseConsumer<Words>, timeout| {
        let mut list = TopicPartitionList::with_capacity(asked.len());
        for tp in &asked {
            list.add_partition_offset(&tp.topic, tp.partition, Offset::from_raw(timestamp))?;
        }
        let answer = client.offsets_for_times(list, timeout)?;
        let offset = |element: &TopicPartitionListElem<'_>| {
            element.error()?;
            let tp = TopicPartition { topic: element.topic().to_owned(), partition: element.partition() };
            Ok((tp, element.offset().to_raw().unwrap_or(-1)))
        };
        answer.elements().iter().map(offset).collect::<KafkaResult<Offsets>>()
    };
    let answer = cluster.ask("asking for offsets", ask).await?;
    match partitions.iter().find(|tp| !answer.contains_key(tp)) {
        Some(tp) => Err(cluster.failed(&format!("asking for offsets of {tp}"), &KafkaError::NoMessageReceived)),
        None => Ok(answer),
    }
}
