//! The Kafka clusters that an attempt writes to, each with one transaction or one idempotent producer.

use std::collections::BTreeMap;

use redpoll_core::digest::Digest;
use redpoll_core::ids::Lane;
use redpoll_core::sink::{Attempt, Error, SinkSpec};
use tracing::warn;

use super::Taken;
use crate::kafka::{Config, METADATA_LIMIT, Mark, Opened, Outgoing, Sink, Transaction, cluster_id};

/// How much a topic's readers may rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    ExactlyOnce,
    AtLeastOnce,
}

impl Delivery {
    /// As the option of a sink says.
    pub fn of(sink: &SinkSpec) -> Result<Self, Error> {
        match sink.options.get("delivery").map_or("exactly-once", String::as_str) {
            "exactly-once" => Ok(Self::ExactlyOnce),
            "at-least-once" => Ok(Self::AtLeastOnce),
            other => {
                Err(Error::new(&sink.name, format!("delivery '{other}' is neither exactly-once nor at-least-once")))
            }
        }
    }
}

enum Cluster {
    Transaction(Transaction),
    /// This split is already out: nothing is written, and its mark says what readers have.
    Out(Mark),
    Idempotent(Sink),
}

pub(super) struct Lanes {
    attempt: Attempt,
    lane: Lane,
    /// The sink that opened a cluster names it in messages.
    clusters: Vec<(String, Config, Delivery, Cluster)>,
}

impl Lanes {
    pub fn new(attempt: &Attempt, lanes: u32) -> Self {
        Self { attempt: attempt.clone(), lane: Lane(attempt.split.0 % lanes.max(1)), clusters: Vec::new() }
    }

    /// The cluster of a sink, by number; opened by the first sink that needs it.
    pub async fn open(&mut self, sink: &str, config: &Config, delivery: Delivery) -> Result<usize, Error> {
        let failed = |error: crate::kafka::Error| Error::new(sink, error);
        if let Some(index) = self.known(config, delivery).await.map_err(failed)? {
            return Ok(index);
        }
        let Attempt { job_uid, epoch, .. } = &self.attempt;
        let cluster = match delivery {
            Delivery::ExactlyOnce => {
                match Transaction::open(config, job_uid, self.lane, *epoch).await.map_err(failed)? {
                    Opened::Producing(transaction) => Cluster::Transaction(transaction),
                    Opened::Already(mark) => Cluster::Out(mark),
                }
            }
            Delivery::AtLeastOnce => Cluster::Idempotent(Sink::open(config, job_uid, *epoch).await.map_err(failed)?),
        };
        self.clusters.push((sink.to_owned(), config.clone(), delivery, cluster));
        Ok(self.clusters.len() - 1)
    }

    /// The number of a cluster that is open. Tables may name one cluster by different brokers of it: a second transaction
    /// of the lane would shut the first one out.
    async fn known(&self, config: &Config, delivery: Delivery) -> Result<Option<usize>, crate::kafka::Error> {
        let open = || self.clusters.iter().enumerate().filter(|(_, (_, _, how, _))| *how == delivery);
        let brokers = sorted_brokers(config);
        if let Some((index, _)) = open().find(|(_, (_, other, ..))| sorted_brokers(other) == brokers) {
            return Ok(Some(index));
        }
        for (index, (_, other, ..)) in open() {
            let (ours, theirs) = (cluster_id(config).await?, cluster_id(other).await?);
            if ours.is_some() && ours == theirs {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    /// Bytes of a record as brokers count them, before compression.
    pub fn batch_bytes(&self, record: &Outgoing<'_>) -> usize {
        record.batch_bytes(&self.attempt.job_uid, self.attempt.epoch)
    }

    pub async fn send(&self, cluster: usize, record: Outgoing<'_>) -> Result<(), Error> {
        let (sink, _, _, cluster) = &self.clusters[cluster];
        let sent = match cluster {
            Cluster::Transaction(transaction) => transaction.send(record).await,
            Cluster::Idempotent(producer) => producer.send(record).await,
            Cluster::Out(_) => Ok(()),
        };
        sent.map_err(|error| Error::new(sink, error))
    }

    /// Commits what sinks took, given as (place, cluster, name, taken). Comes back with what is there instead, by cluster
    /// and sink, where the lane was out already with other rows.
    pub async fn finish(self, topics: &[(usize, usize, String, Taken)]) -> Result<Vec<(usize, Content)>, Error> {
        let mut others = Vec::new();
        for (index, (sink, _, _, cluster)) in self.clusters.into_iter().enumerate() {
            let ours = topics.iter().filter(|(_, of, ..)| *of == index);
            let ours = content(ours.map(|(_, _, name, taken)| (name.as_str(), *taken)));
            let failed = |error: crate::kafka::Error| Error::new(&sink, error);
            match cluster {
                Cluster::Transaction(transaction) => {
                    transaction.commit(metadata(self.attempt.ranges, &ours)).await.map_err(failed)?;
                }
                Cluster::Idempotent(producer) => {
                    producer.finish().await.map_err(failed)?;
                }
                // Later epochs of the lane are out too: then this split was, and its own mark is gone.
                Cluster::Out(found) if found.epoch != self.attempt.epoch => {}
                Cluster::Out(found) => match there(&found.metadata, self.attempt.ranges, &ours) {
                    There::Same => {}
                    There::Other(content) => {
                        let Attempt { job, epoch, split, .. } = &self.attempt;
                        warn!(job, %epoch, %split, lane = %self.lane, sink, "this run computed other rows than those that are out");
                        others.push((index, content));
                    }
                    There::Elsewhere => {
                        let reason = format!(
                            "lane {} already holds what epoch {} read at other positions of the source: the job's log \
                             lost entries; restore it whole, or go on under another name",
                            self.lane, found.epoch
                        );
                        return Err(Error::new(&sink, reason));
                    }
                    There::Unknown(sum) => {
                        let reason = format!(
                            "lane {} already holds {sum} of epoch {}, but this run computed {}, and the lane's mark had \
                             no room to say what each topic got; replay the epoch with the modules that it first ran with",
                            self.lane,
                            found.epoch,
                            sum_of(&ours)
                        );
                        return Err(Error::new(&sink, reason));
                    }
                },
            }
        }
        Ok(others)
    }
}

pub(super) fn sorted_brokers(config: &Config) -> Vec<String> {
    let mut sorted = config.brokers.clone();
    sorted.sort();
    sorted
}

/// Rows and digest of each sink that got rows.
pub(super) type Content = BTreeMap<String, Taken>;

/// What sinks took, those of one name together.
pub(super) fn content<'a>(sinks: impl Iterator<Item = (&'a str, Taken)>) -> Content {
    let mut content = Content::new();
    for (name, taken) in sinks.filter(|(_, taken)| taken.rows > 0) {
        let sum = content.entry(name.to_owned()).or_default();
        sum.rows += taken.rows;
        sum.digest += taken.digest;
    }
    content
}

fn sum_of(content: &Content) -> String {
    let mut sum = Taken::default();
    for taken in content.values() {
        sum.rows += taken.rows;
        sum.digest += taken.digest;
    }
    format!("{} {}", sum.rows, sum.digest)
}

/// The text of a lane's mark: which positions were read and the sum over all sinks, then a line for each sink, as far as
/// brokers take them all.
fn metadata(ranges: u64, content: &Content) -> String {
    let head = format!("{ranges:016x} {}", sum_of(content));
    let mut text = head.clone();
    for (name, taken) in content {
        // Names of tables have no line ends.
        text += &format!("\n{name} {} {}", taken.rows, taken.digest);
    }
    match text.len() <= METADATA_LIMIT {
        true => text,
        false => head,
    }
}

/// What a lane that is out has, as its mark says.
#[derive(Debug, PartialEq)]
enum There {
    /// The rows that this attempt computed.
    Same,
    Other(Content),
    /// What was read at other positions of the source.
    Elsewhere,
    /// Other rows, and only their sum is known.
    Unknown(String),
}

fn there(metadata: &str, ranges: u64, ours: &Content) -> There {
    let mut lines = metadata.lines();
    let (read, sum) = lines.next().and_then(|head| head.split_once(' ')).unwrap_or_default();
    if u64::from_str_radix(read, 16).is_ok_and(|read| read != ranges) {
        return There::Elsewhere;
    }
    if sum == sum_of(ours) {
        return There::Same;
    }
    let sink = |line: &str| {
        let mut words = line.rsplitn(3, ' ');
        let digest = Digest(u128::from_str_radix(words.next()?, 16).ok()?);
        let rows = words.next()?.parse().ok()?;
        Some((words.next()?.to_owned(), Taken { rows, digest }))
    };
    match lines.map(sink).collect::<Option<Content>>() {
        Some(content) if sum_of(&content) == sum => There::Other(content),
        _ => There::Unknown(sum.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(rows: u64, digest: u128) -> Taken {
        Taken { rows, digest: Digest(digest) }
    }

    #[test]
    fn a_mark_tells_what_each_topic_got() {
        let first = content(
            [("ztf.sso", taken(3, 7)), ("my young ones", taken(1, u128::MAX)), ("none", taken(0, 0))].into_iter(),
        );
        let mark = metadata(5, &first);
        assert_eq!(there(&mark, 5, &first), There::Same);
        let again = content([("ztf.sso", taken(2, 5))].into_iter());
        assert_eq!(there(&mark, 5, &again), There::Other(first.clone()));
        // A first run without rows has a mark too.
        let nothing = Content::new();
        assert_eq!(there(&metadata(5, &nothing), 5, &again), There::Other(nothing));
        assert_eq!(there(&mark, 6, &first), There::Elsewhere);
    }

    #[test]
    fn several_inserts_into_one_topic_are_one_line() {
        let both = content([("a", taken(3, 7)), ("a", taken(1, 2))].into_iter());
        assert_eq!(both["a"], taken(4, 9));
    }

    #[test]
    fn a_mark_of_too_many_topics_has_their_sum_and_still_tells_the_same_rows() {
        let names: Vec<String> = (0..200).map(|i| format!("filter_number_{i}")).collect();
        let many = content(names.iter().map(|name| (name.as_str(), taken(5, 11))));
        let mark = metadata(5, &many);
        assert!(mark.len() <= METADATA_LIMIT && !mark.contains('\n'), "{mark}");
        assert_eq!(there(&mark, 5, &many), There::Same);
        assert_eq!(there(&mark, 5, &Content::new()), There::Unknown(sum_of(&many)));
        assert_eq!(there("", 5, &many), There::Unknown(String::new()));
    }
}
