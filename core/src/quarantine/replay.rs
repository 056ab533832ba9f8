//! Records of the quarantine on their way through the pipeline again.
//!
//! One position of a replay is one record, with all of its items that are wanted, so that it is read and decoded once. A
//! row of it goes to the `INSERT`s that lack it and to no other ([`Target`]): what a sink has it does not get twice.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use arrow::array::RecordBatch;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};

use super::file::{decode, entries};
use super::{Item, SetAside, TOPIC, Why};
use crate::ids::{Epoch, SplitId};
use crate::protocol::{Intent, JobPaths};
use crate::source::{Error, FileRef, OffsetRange, Record, split_evenly};

/// Rows of one file that are items of one record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub epoch: Epoch,
    pub split: SplitId,
    /// The attempt that was chosen.
    pub attempt: String,
    pub rows: Vec<u32>,
}

/// A record that is sent again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Replay {
    /// At least one.
    pub places: Vec<Place>,
    /// Of the record, about.
    pub bytes: u64,
}

impl Replay {
    pub fn items(&self) -> impl Iterator<Item = Item> + '_ {
        let of = |place: &Place| (place.epoch, place.split);
        self.places.iter().flat_map(move |place| {
            let (epoch, split) = of(place);
            place.rows.iter().map(move |row| Item { epoch, split, row: *row })
        })
    }

    fn file(&self) -> FileRef {
        FileRef { name: self.to_string(), size: self.bytes, etag: None, at: None }
    }
}

/// `3/1/ATTEMPT/0,4 5/0/ATTEMPT/2`: epoch, split, attempt and rows of each place.
impl fmt::Display for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = |place: &Place| {
            let rows: Vec<String> = place.rows.iter().map(u32::to_string).collect();
            format!("{}/{}/{}/{}", place.epoch, place.split, place.attempt, rows.join(","))
        };
        f.write_str(&self.places.iter().map(place).collect::<Vec<_>>().join(" "))
    }
}

/// Reads what `Display` writes.
impl FromStr for Replay {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let place = |text: &str| {
            let mut parts = text.split('/');
            let place = Place {
                epoch: Epoch(parts.next()?.parse().ok()?),
                split: SplitId(parts.next()?.parse().ok()?),
                attempt: parts.next()?.to_owned(),
                rows: parts.next()?.split(',').map(|row| row.parse().ok()).collect::<Option<_>>()?,
            };
            parts.next().is_none().then_some(place)
        };
        let places = text.split(' ').map(place).collect::<Option<_>>();
        let places = places.ok_or_else(|| format!("'{text}' does not name items of the quarantine"))?;
        Ok(Replay { places, bytes: 0 })
    }
}

/// The records that ranges of the quarantine name.
pub fn replays(ranges: &[OffsetRange]) -> impl Iterator<Item = Replay> + '_ {
    let files = ranges.iter().filter(|range| range.topic == TOPIC).flat_map(|range| &range.files);
    // What cannot be read here is an error where its records are read.
    files.filter_map(|file| Some(Replay { bytes: file.size, ..file.name.parse().ok()? }))
}

/// Splits of about `split_bytes`, `lanes` at most, over the positions of the quarantine from `start` on.
pub fn cut(records: &[Replay], start: i64, split_bytes: u64, lanes: u32) -> Vec<Vec<OffsetRange>> {
    let files: Vec<FileRef> = records.iter().map(Replay::file).collect();
    let bytes = files.iter().map(|file| file.size).sum::<u64>();
    let end = start + files.len() as i64;
    let range =
        OffsetRange { topic: TOPIC.to_owned(), partition: 0, start, end, bytes, files, topic_id: None, expired: false };
    split_evenly(&[range], split_bytes.max(bytes.div_ceil(u64::from(lanes.max(1)))))
}

/// The items that were sent again, each with the last epoch that did so. It folds from a job's log.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Replayed(BTreeMap<Epoch, BTreeMap<SplitId, BTreeMap<u32, Epoch>>>);

impl Replayed {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The epoch that sent it again.
    pub fn epoch(&self, item: &Item) -> Option<Epoch> {
        self.0.get(&item.epoch)?.get(&item.split)?.get(&item.row).copied()
    }

    pub fn add(&mut self, intent: &Intent) {
        for split in &intent.splits {
            for item in replays(&split.ranges).flat_map(|replay| replay.items().collect::<Vec<_>>()) {
                let rows = self.0.entry(item.epoch).or_default().entry(item.split).or_default();
                rows.insert(item.row, intent.epoch);
            }
        }
    }
}

impl Intent {
    /// Records that it sends again, by the epoch that set them aside first.
    pub fn replayed(&self) -> BTreeMap<Epoch, u64> {
        let mut epochs = BTreeMap::new();
        for replay in self.splits.iter().flat_map(|split| replays(&split.ranges)) {
            let first = replay.places.iter().map(|place| place.epoch).min();
            *epochs.entry(first.unwrap_or_default()).or_default() += 1;
        }
        epochs
    }
}

/// What is wanted of a record that is sent again.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Target {
    /// All of it, by every `INSERT`.
    whole: bool,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq)]
struct Part {
    /// None: every alert.
    alert: Option<i32>,
    /// None: every `INSERT`.
    inserts: Option<BTreeSet<String>>,
    hash: Option<u128>,
}

impl Target {
    fn add(&mut self, why: &Why) {
        self.whole |= why.alert.is_none() && why.lacking.is_none();
        let inserts = why.lacking.as_ref().map(|names| names.iter().cloned().collect());
        self.parts.push(Part { alert: why.alert, inserts, hash: why.hash });
    }

    /// What to set aside of it: no more than was wanted.
    pub fn narrow(&self, why: &Why) -> Vec<Why> {
        if self.whole {
            return vec![why.clone()];
        }
        let both = |lacking: &Option<Vec<String>>, inserts: &Option<BTreeSet<String>>| match (lacking, inserts) {
            (Some(lacking), Some(inserts)) => {
                Some(lacking.iter().filter(|name| inserts.contains(*name)).cloned().collect::<Vec<_>>())
            }
            (None, Some(inserts)) => Some(inserts.iter().cloned().collect()),
            (lacking, None) => lacking.clone(),
        };
        let of_alert = |part: &&Part| part.alert.is_none() || why.alert.is_none() || part.alert == why.alert;
        let narrowed = self.parts.iter().filter(of_alert).map(|part| Why {
            alert: why.alert.or(part.alert),
            lacking: both(&why.lacking, &part.inserts),
            hash: why.hash.or(part.hash),
            ..why.clone()
        });
        narrowed.filter(|why| why.lacking.as_ref().is_none_or(|lacking| !lacking.is_empty())).collect()
    }

    /// Whether an alert is wanted by any `INSERT`.
    pub fn wants_alert(&self, alert: i32) -> bool {
        self.whole || self.parts.iter().any(|part| part.alert.is_none_or(|wanted| wanted == alert))
    }

    /// Whether an `INSERT` lacks the row of an alert that has this hash.
    pub fn wants(&self, alert: i32, insert: &str, hash: u128) -> bool {
        let wants = |part: &Part| {
            part.alert.is_none_or(|wanted| wanted == alert)
                && part.inserts.as_ref().is_none_or(|inserts| inserts.contains(insert))
                && part.hash.is_none_or(|wanted| wanted == hash)
        };
        self.whole || self.parts.iter().any(wants)
    }
}

/// Reads records from quarantine files. It keeps the file that it read last: records of one file come together.
#[derive(Debug)]
pub struct Reader {
    store: Arc<dyn ObjectStore>,
    paths: JobPaths,
    last: Option<(Place, Vec<RecordBatch>)>,
}

impl Reader {
    pub fn new(store: Arc<dyn ObjectStore>, paths: JobPaths) -> Self {
        Self { store, paths, last: None }
    }

    /// The record, and what is wanted of it.
    pub async fn read(&mut self, name: &str) -> Result<(Record, Target), Error> {
        let failed = |reason: String| Error::Read { location: TOPIC.to_owned(), reason };
        let replay: Replay = name.parse().map_err(failed)?;
        let (mut target, mut record) = (Target::default(), None);
        for place in &replay.places {
            for row in &place.rows {
                let item = self.item(place, *row).await?;
                target.add(&item.why);
                record.get_or_insert(item.record);
            }
        }
        Ok((record.ok_or_else(|| failed(format!("'{name}' names no item")))?, target))
    }

    async fn item(&mut self, place: &Place, row: u32) -> Result<SetAside, Error> {
        let path = self.paths.quarantined(place.epoch, place.split, &place.attempt);
        let failed = |reason: String| Error::Read { location: path.to_string(), reason };
        let same = |last: &Place| (last.epoch, last.split, &last.attempt) == (place.epoch, place.split, &place.attempt);
        if !self.last.as_ref().is_some_and(|(last, _)| same(last)) {
            let read = async { self.store.get(&path).await?.bytes().await };
            let bytes = read.await.map_err(|error| failed(error.to_string()))?;
            let batches = decode(bytes).map_err(|error| failed(error.to_string()))?;
            self.last = Some((place.clone(), batches));
        }
        let mut row = row as usize;
        for batch in self.last.iter().flat_map(|(_, batches)| batches) {
            if row < batch.num_rows() {
                let entries = entries(&batch.slice(row, 1)).map_err(|error| failed(error.to_string()))?;
                return entries.into_iter().next().ok_or_else(|| failed("a row is empty".to_owned()));
            }
            row -= batch.num_rows();
        }
        Err(failed("it has fewer items than are named".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;
    use object_store::path::Path;

    use super::super::Stage;
    use super::super::file::encode;
    use super::super::file::tests::{attempt, item, refused};
    use super::*;
    use crate::protocol::Split;

    fn replay(text: &str, bytes: u64) -> Replay {
        Replay { bytes, ..text.parse().unwrap() }
    }

    #[test]
    fn a_replay_is_named_by_its_items() {
        let name = "3/1/wBq_0_17-fedcba987654/0,4 5/0/x-y/2";
        let replay = replay(name, 0);
        assert_eq!(replay.to_string(), name);
        let items: Vec<_> = replay.items().map(|item| (item.epoch.0, item.split.0, item.row)).collect();
        assert_eq!(items, [(3, 1, 0), (3, 1, 4), (5, 0, 2)]);
        for wrong in ["", "3/1/a", "3/1/a/x", "3/1/a/1/2", "a.avro"] {
            assert!(wrong.parse::<Replay>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn positions_go_on_and_no_more_splits_than_lanes_are_made() {
        let records: Vec<_> = (0..10).map(|row| replay(&format!("0/0/a/{row}"), 100)).collect();
        let splits = cut(&records, 7, 150, 3);
        assert!(splits.len() <= 3, "{}", splits.len());
        let spans: Vec<_> = splits.iter().flatten().map(|range| (range.start, range.end, range.files.len())).collect();
        assert_eq!((spans[0].0, spans[spans.len() - 1].1), (7, 17));
        assert!(spans.windows(2).all(|pair| pair[0].1 == pair[1].0));
        assert!(splits.iter().flatten().all(|range| range.len() == range.files.len() as u64));
        assert_eq!(cut(&records, 0, 1 << 20, 16).len(), 1);
    }

    #[test]
    fn a_log_tells_which_epoch_sent_an_item_again() {
        let ranges = cut(&[replay("3/1/a/0,4", 9), replay("5/0/b/2", 9)], 0, 1 << 20, 16).remove(0);
        let splits = vec![Split { id: SplitId(0), ranges }];
        let intent = Intent { epoch: Epoch(8), revision: 0, clock: 0, seed: 0, splits, modules: BTreeMap::new() };
        let mut replayed = Replayed::default();
        replayed.add(&intent);
        let item = |epoch, split, row| Item { epoch: Epoch(epoch), split: SplitId(split), row };
        assert_eq!(replayed.epoch(&item(3, 1, 4)), Some(Epoch(8)));
        assert_eq!(replayed.epoch(&item(3, 1, 1)), None);
        assert_eq!(intent.replayed(), [(Epoch(3), 1), (Epoch(5), 1)].into());
        let json = serde_json::to_string(&replayed).unwrap();
        assert_eq!(serde_json::from_str::<Replayed>(&json).unwrap(), replayed);
    }

    #[tokio::test]
    async fn a_record_is_read_once_with_all_that_is_wanted_of_it() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let paths = JobPaths::new(&Path::from("warehouse"), "ztf");
        let pieces = Why { hash: None, ..refused("ztf.raw", 2) };
        let items = [item(4, Why::decode("it ends early")), item(9, refused("ztf.objects", 0)), item(9, pieces)];
        let file = encode(&attempt(3, 1), &items).unwrap();
        store.put(&paths.quarantined(Epoch(3), SplitId(1), "t-a"), file.into()).await.unwrap();
        let mut reader = Reader::new(store, paths);
        let (record, target) = reader.read("3/1/t-a/1,2").await.unwrap();
        assert_eq!((record.offset, record.value.as_ref()), (9, &b"record 9"[..]));
        assert_eq!([0, 1, 2].map(|alert| target.wants_alert(alert)), [true, false, true]);
        assert!(target.wants(0, "ztf.objects", u128::MAX - 1) && !target.wants(0, "ztf.objects", 5));
        assert!(target.wants(2, "ztf.raw", 5) && !target.wants(2, "ztf.objects", 5));
        let narrowed = target.narrow(&Why::decode("it is another schema's now"));
        let lacking: Vec<_> = narrowed.iter().map(|why| (why.stage, why.alert, why.lacking.clone().unwrap())).collect();
        assert_eq!(lacking[0], (Stage::Decode, Some(0), vec!["ztf.objects".to_owned()]));
        assert_eq!(lacking[1], (Stage::Decode, Some(2), vec!["ztf.raw".to_owned()]));
        let (_, target) = reader.read("3/1/t-a/0").await.unwrap();
        assert!(target.wants_alert(6) && target.wants(6, "any", 1));
        assert!(reader.read("3/1/t-a/3").await.unwrap_err().to_string().contains("fewer items"));
        assert!(reader.read("3/2/t-a/0").await.is_err());
    }
}
