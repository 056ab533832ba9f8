//! Where the records of a split came from: to read again those that are to be set aside, and, of records of the
//! quarantine, to tell what is wanted of each.
//!
//! Rows on their way have no bytes of their records any more, and to keep all of them for the few that a sink refuses
//! would double the memory of a split. So they are read a second time.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures::TryStreamExt;
use object_store::ObjectStore;

use crate::protocol::JobPaths;
use crate::quarantine::{Reader, Target};
use crate::runtime::SourceSpec;
use crate::source::{Error, OffsetRange, Record, Source};

/// Topic, partition and offset of a record, as rows have it.
pub(super) type Position = (Arc<str>, i32, i64);

#[derive(Debug, Default, Clone)]
pub(super) struct Origin {
    /// The table of alerts.
    pub spec: Option<SourceSpec>,
    /// Ranges that were read from the source.
    source: Option<Arc<dyn Source>>,
    ranges: Vec<OffsetRange>,
    /// Records of the quarantine, each by its name there, with what is wanted.
    objects: Option<(Arc<dyn ObjectStore>, JobPaths)>,
    replayed: HashMap<Position, (String, Target)>,
}

impl Origin {
    pub fn read_from(&mut self, source: &Arc<dyn Source>, range: &OffsetRange) {
        self.source = Some(source.clone());
        self.ranges.push(range.clone());
    }

    pub fn quarantine(&mut self, store: &Arc<dyn ObjectStore>, paths: &JobPaths) {
        self.objects = Some((store.clone(), paths.clone()));
    }

    pub fn replays(&mut self, record: &Record, name: &str, target: Target) {
        let position = (record.topic.clone(), record.partition, record.offset);
        self.replayed.insert(position, (name.to_owned(), target));
    }

    /// Whether records of the quarantine are among them.
    pub fn is_replay(&self) -> bool {
        !self.replayed.is_empty()
    }

    /// What is wanted of a record; `None`: it comes from the source, and everything is.
    pub fn target(&self, topic: &str, partition: i32, offset: i64) -> Option<&Target> {
        if !self.is_replay() {
            return None;
        }
        self.replayed.get(&(topic.into(), partition, offset)).map(|(_, target)| target)
    }

    /// The records at these positions, each once, in any order.
    pub async fn read_again(&self, positions: Vec<Position>) -> Result<HashMap<Position, Record>, Error> {
        let mut found = HashMap::new();
        let mut of_range: BTreeMap<usize, Vec<Position>> = BTreeMap::new();
        let mut reader = self.objects.clone().map(|(store, paths)| Reader::new(store, paths));
        for position in positions {
            match (self.replayed.get(&position), &mut reader) {
                (Some((name, _)), Some(reader)) => _ = found.insert(position, reader.read(name).await?.0),
                _ => of_range.entry(self.range_of(&position)?).or_default().push(position),
            }
        }
        for (range, positions) in of_range {
            self.read_range(&self.ranges[range], positions, &mut found).await?;
        }
        Ok(found)
    }

    fn range_of(&self, position: &Position) -> Result<usize, Error> {
        let (topic, partition, offset) = position;
        let holds = |range: &OffsetRange| {
            let file = usize::try_from(offset - range.start).ok().and_then(|i| range.files.get(i));
            range.partition == *partition
                && (range.start..range.end).contains(offset)
                // A record of a folder has the name of its file.
                && file.map_or(range.topic == **topic, |file| file.name == **topic)
        };
        let location = format!("{topic}[{partition}]@{offset}");
        let reason = "it is in no range of the split".to_owned();
        self.ranges.iter().position(holds).ok_or(Error::Read { location, reason })
    }

    /// One pass over the part of a range that holds all of them.
    async fn read_range(
        &self,
        range: &OffsetRange,
        positions: Vec<Position>,
        found: &mut HashMap<Position, Record>,
    ) -> Result<(), Error> {
        let missing = |reason: &str| Error::Read { location: range.topic.clone(), reason: reason.to_owned() };
        let source = self.source.as_ref().ok_or_else(|| missing("its source is not open"))?;
        let offsets = positions.iter().map(|(_, _, offset)| *offset);
        let (Some(first), Some(last)) = (offsets.clone().min(), offsets.max()) else { return Ok(()) };
        let mut wanted: HashMap<i64, Position> = positions.into_iter().map(|position| (position.2, position)).collect();
        let mut records = source.read(range.slice(first, last + 1));
        while let Some(record) = records.try_next().await? {
            if let Some(position) = wanted.remove(&record.offset) {
                found.insert(position, record);
            }
        }
        match wanted.is_empty() {
            true => Ok(()),
            false => Err(missing("records that were read are not there any more, and could not be set aside")),
        }
    }
}
