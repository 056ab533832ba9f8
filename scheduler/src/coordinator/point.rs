//! Points in a source: where a job begins, is set to, or ends.
//!
//! A point becomes offsets once, when a run is asked for, and those are logged: `latest` or a time asked again later
//! would be another place.

use redpoll_core::revision::Move;
use redpoll_core::source::{self, Offsets, Source, Start, TopicPartition, offsets_as_list};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Point {
    #[default]
    Earliest,
    Latest,
    /// The first record at or after this time, milliseconds since 1970-01-01 UTC.
    Timestamp(i64),
    /// These offsets; a topic partition that is not named is not meant.
    Offsets(#[serde(with = "offsets_as_list")] Offsets),
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Source(#[from] source::Error),
    #[error("{0}")]
    Refused(String),
}

impl Point {
    /// Where a topic partition begins that the point does not name.
    pub fn start(&self) -> Start {
        match self {
            Self::Latest => Start::Latest,
            Self::Timestamp(time) => Start::Timestamp(*time),
            Self::Earliest | Self::Offsets(_) => Start::Earliest,
        }
    }

    /// Where a new job begins; none where the source finds that by itself, as a folder does.
    pub async fn begin(&self, source: &dyn Source) -> Result<Option<Offsets>, Error> {
        let mut begin = source.begin(self.start()).await?;
        if let Self::Offsets(named) = self {
            let ends = source.begin(Start::Latest).await?.unwrap_or_default();
            let begin = begin.get_or_insert_default();
            for (at, offset) in named {
                within(at, *offset, begin, &ends)?;
                begin.insert(at.clone(), *offset);
            }
        }
        Ok(begin)
    }

    /// What setting a job to this point comes to, that would read on from `offsets`.
    pub async fn moves(&self, source: &dyn Source, offsets: &Offsets) -> Result<Vec<Move>, Error> {
        let Some(earliest) = source.begin(Start::Earliest).await? else {
            return Err(Error::Refused(
                "files are read once each, in the order in which they came, so a job cannot be set to others of them; \
                 to read them again, give it another --name"
                    .to_owned(),
            ));
        };
        let mut wanted = self.begin(source).await?.unwrap_or_default();
        if let Self::Offsets(named) = self {
            wanted.retain(|at, _| named.contains_key(at));
        }
        let moves = wanted.into_iter().map(|(at, to)| {
            let from = offsets.get(&at).or_else(|| earliest.get(&at)).copied().unwrap_or(to);
            Move { topic: at.topic, partition: at.partition, from, to }
        });
        Ok(moves.filter(|moved| moved.from != moved.to).collect())
    }

    /// Where a job ends that ends at this point: one past the last offset that it reads.
    pub async fn end(&self, source: &dyn Source) -> Result<Offsets, Error> {
        let Some(earliest) = source.begin(Start::Earliest).await? else {
            let reason = "files have no positions to end at; end with what is there now by --available-now";
            return Err(Error::Refused(reason.to_owned()));
        };
        let mut end = match self {
            Self::Offsets(named) => named.clone(),
            point => source.begin(point.start()).await?.unwrap_or_default(),
        };
        let unknown = end.keys().find(|at| !earliest.contains_key(at));
        let missing: Vec<String> =
            earliest.keys().filter(|at| !end.contains_key(at)).map(TopicPartition::to_string).collect();
        match (unknown, missing.is_empty()) {
            (Some(at), _) => Err(Error::Refused(no_partition(at, &earliest))),
            (None, false) => Err(Error::Refused(format!(
                "--to names no end for {}; name one for each topic partition, or a time for all",
                missing.join(", ")
            ))),
            (None, true) => {
                // Nothing lies there to be read, and nothing will: its offsets never reach the end.
                end.retain(|at, end| earliest.get(at).is_some_and(|begin| *end > *begin));
                Ok(end)
            }
        }
    }
}

fn within(at: &TopicPartition, offset: i64, earliest: &Offsets, ends: &Offsets) -> Result<(), Error> {
    match (earliest.get(at), ends.get(at)) {
        (Some(begin), Some(end)) if (*begin..=*end).contains(&offset) => Ok(()),
        (Some(begin), Some(end)) => {
            Err(Error::Refused(format!("there is no {at}@{offset}: the broker has {at}@{begin} to {at}@{end}")))
        }
        _ => Err(Error::Refused(no_partition(at, earliest))),
    }
}

fn no_partition(at: &TopicPartition, known: &Offsets) -> String {
    match known.is_empty() {
        true => format!("{at} is a position in a topic, and the source is none; give a time"),
        false => {
            let known: Vec<String> = known.keys().map(TopicPartition::to_string).collect();
            format!("the source has no {at}; it has {}", known.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use futures::StreamExt;
    use futures::stream::BoxStream;
    use redpoll_core::source::{OffsetRange, Record};

    use super::*;

    /// Partition 0 holds 5..20, partition 1 nothing; at time 1000 lies offset 12.
    #[derive(Debug)]
    struct Topic;

    /// A folder: its offsets are what a job makes of them.
    #[derive(Debug)]
    struct Folder;

    fn at(partition: i32) -> TopicPartition {
        TopicPartition { topic: "ztf".into(), partition }
    }

    #[async_trait]
    impl Source for Topic {
        async fn available(&self, _: &Offsets, _: Start, _: u64) -> Result<Vec<OffsetRange>, source::Error> {
            Ok(Vec::new())
        }

        async fn begin(&self, start: Start) -> Result<Option<Offsets>, source::Error> {
            let first = match start {
                Start::Earliest => 5,
                Start::Latest => 20,
                Start::Timestamp(time) => 12 + (time - 1000),
            };
            Ok(Some([(at(0), first), (at(1), 0)].into()))
        }

        fn read(&self, _: OffsetRange) -> BoxStream<'static, Result<Record, source::Error>> {
            futures::stream::empty().boxed()
        }
    }

    #[async_trait]
    impl Source for Folder {
        async fn available(&self, _: &Offsets, _: Start, _: u64) -> Result<Vec<OffsetRange>, source::Error> {
            Ok(Vec::new())
        }

        fn read(&self, _: OffsetRange) -> BoxStream<'static, Result<Record, source::Error>> {
            futures::stream::empty().boxed()
        }
    }

    fn offsets(of: &[(i32, i64)]) -> Point {
        Point::Offsets(of.iter().map(|(partition, offset)| (at(*partition), *offset)).collect())
    }

    async fn refused(point: Point) -> String {
        point.begin(&Topic).await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn a_new_job_begins_at_a_time_or_at_named_offsets_and_elsewhere_at_the_first() {
        assert_eq!(Point::Timestamp(1000).begin(&Topic).await.unwrap().unwrap()[&at(0)], 12);
        assert_eq!(offsets(&[(0, 7)]).begin(&Topic).await.unwrap(), Some([(at(0), 7), (at(1), 0)].into()));
        assert!(Point::Earliest.begin(&Folder).await.unwrap().is_none());
        assert_eq!(refused(offsets(&[(0, 4)])).await, "there is no ztf[0]@4: the broker has ztf[0]@5 to ztf[0]@20");
        assert_eq!(refused(offsets(&[(3, 4)])).await, "the source has no ztf[3]; it has ztf[0], ztf[1]");
        let folder = offsets(&[(0, 7)]).begin(&Folder).await.unwrap_err().to_string();
        assert!(folder.ends_with("give a time"), "{folder}");
    }

    #[tokio::test]
    async fn a_job_is_set_to_the_named_offsets_alone_and_a_move_to_where_it_stands_is_none() {
        let now: Offsets = [(at(0), 15)].into();
        let moves = offsets(&[(0, 7)]).moves(&Topic, &now).await.unwrap();
        assert_eq!(moves.iter().map(Move::to_string).collect::<Vec<_>>(), ["ztf[0]: 7..15 are read again"]);
        let moves = Point::Latest.moves(&Topic, &now).await.unwrap();
        assert_eq!(moves.iter().map(Move::skips).collect::<Vec<_>>(), [5]);
        assert!(offsets(&[(0, 15)]).moves(&Topic, &now).await.unwrap().is_empty());
        let folder = Point::Timestamp(1).moves(&Folder, &now).await.unwrap_err().to_string();
        assert!(folder.ends_with("another --name"), "{folder}");
    }

    #[tokio::test]
    async fn an_end_is_named_for_each_topic_partition_and_may_lie_ahead() {
        assert_eq!(Point::Timestamp(1000).end(&Topic).await.unwrap(), [(at(0), 12)].into());
        assert_eq!(offsets(&[(0, 30), (1, 0)]).end(&Topic).await.unwrap(), [(at(0), 30)].into());
        let error = offsets(&[(0, 30)]).end(&Topic).await.unwrap_err().to_string();
        assert!(error.starts_with("--to names no end for ztf[1]"), "{error}");
        assert!(Point::Timestamp(1).end(&Folder).await.unwrap_err().to_string().contains("--available-now"));
    }
}
