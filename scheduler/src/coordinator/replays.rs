//! Records of the quarantine that are to be sent again: asked for at any time, put into an epoch between two others.
//!
//! An item is sent again once, however often and by whom it is asked for, unless that is meant. What was sent again
//! folds from the log's intents, so a scheduler that takes a job over knows it too.

use std::collections::{BTreeSet, VecDeque};

use redpoll_core::protocol::Intent;
use redpoll_core::quarantine::{Item, Place, Replay, Replayed, cut};
use redpoll_core::source::OffsetRange;
use serde::{Deserialize, Serialize};

/// Most records of one epoch: its intent names each of them.
const MAX_RECORDS: usize = 4096;

/// What is to be sent again.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Asked {
    pub records: Vec<Replay>,
    /// Items too that were sent again before.
    pub again: bool,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Accepted {
    /// Records that will be sent again.
    pub records: u64,
    /// Records left out: they were sent again before, or will be.
    pub left_out: u64,
}

/// Bounds of an epoch, as its job is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub split_bytes: u64,
    pub lanes: u32,
}

#[derive(Debug, Default)]
pub(super) struct Replays {
    replayed: Replayed,
    waiting: VecDeque<(Replay, bool)>,
    /// Items of those that wait.
    items: BTreeSet<Item>,
}

impl Replays {
    /// What the log says was sent again.
    pub fn begin(&mut self, replayed: Replayed) {
        self.replayed = replayed;
    }

    pub fn ask(&mut self, asked: Asked) -> Accepted {
        let mut accepted = Accepted::default();
        for record in asked.records {
            let (items, replayed) = (&self.items, &self.replayed);
            let wanted = |item: &Item| !items.contains(item) && (asked.again || replayed.epoch(item).is_none());
            match only(record, wanted) {
                Some(record) => {
                    self.items.extend(record.items());
                    self.waiting.push_back((record, asked.again));
                    accepted.records += 1;
                }
                None => accepted.left_out += 1,
            }
        }
        accepted
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Records that wait.
    pub fn len(&self) -> u64 {
        self.waiting.len() as u64
    }

    /// Splits of the next epoch, over the positions of the quarantine from `start` on; none if nothing waits.
    pub fn next_epoch(&mut self, start: i64, bounds: Bounds) -> Option<Vec<Vec<OffsetRange>>> {
        let (mut records, mut bytes) = (Vec::new(), 0);
        let room = bounds.split_bytes.saturating_mul(u64::from(bounds.lanes));
        while let Some((record, again)) = self.waiting.pop_front() {
            bytes += record.bytes;
            if records.len() == MAX_RECORDS || (bytes > room && !records.is_empty()) {
                self.waiting.push_front((record, again));
                break;
            }
            record.items().for_each(|item| _ = self.items.remove(&item));
            // A request may have come before the log was read.
            let replayed = &self.replayed;
            records.extend(only(record, |item| again || replayed.epoch(item).is_none()));
        }
        (!records.is_empty()).then(|| cut(&records, start, bounds.split_bytes, bounds.lanes))
    }

    /// An intent with them is on its way.
    pub fn planned(&mut self, intent: &Intent) {
        self.replayed.add(intent);
    }
}

/// The record with the items that are wanted, if there are any.
fn only(record: Replay, wanted: impl Fn(&Item) -> bool) -> Option<Replay> {
    let places = record.places.into_iter().filter_map(|place| {
        let Place { epoch, split, attempt, rows } = place;
        let rows: Vec<u32> = rows.into_iter().filter(|row| wanted(&Item { epoch, split, row: *row })).collect();
        (!rows.is_empty()).then_some(Place { epoch, split, attempt, rows })
    });
    let places: Vec<Place> = places.collect();
    (!places.is_empty()).then_some(Replay { places, bytes: record.bytes })
}

#[cfg(test)]
mod tests {
    use redpoll_core::ids::Epoch;

    use super::*;

    const BOUNDS: Bounds = Bounds { split_bytes: 100, lanes: 2 };

    fn asked(names: &[&str], again: bool) -> Asked {
        let record = |name: &&str| Replay { bytes: 90, ..name.parse().unwrap() };
        Asked { records: names.iter().map(record).collect(), again }
    }

    fn accepted(records: u64, left_out: u64) -> Accepted {
        Accepted { records, left_out }
    }

    fn intent(splits: Vec<Vec<OffsetRange>>) -> Intent {
        let splits = (0..).zip(splits).map(|(id, ranges)| serde_json::json!({ "id": id, "ranges": ranges }));
        let splits: Vec<_> = splits.collect();
        serde_json::from_value(
            serde_json::json!({ "epoch": 7, "revision": 0, "clock": 0, "seed": 0, "splits": splits }),
        )
        .unwrap()
    }

    #[test]
    fn an_item_is_sent_again_once_however_often_it_is_asked_for() {
        let mut replays = Replays::default();
        assert_eq!(replays.ask(asked(&["0/0/a/1,2", "0/0/a/3"], false)), accepted(2, 0));
        assert_eq!(replays.ask(asked(&["0/0/a/2", "0/0/a/4"], false)), accepted(1, 1));
        // Two hundred bytes are an epoch.
        let first = replays.next_epoch(0, BOUNDS).unwrap();
        assert_eq!(first.iter().flatten().map(OffsetRange::len).sum::<u64>(), 2);
        replays.planned(&intent(first));
        assert_eq!(replays.ask(asked(&["0/0/a/1", "0/0/a/3", "0/0/a/4"], false)), accepted(0, 3));
        assert_eq!(replays.ask(asked(&["0/0/a/1"], true)), accepted(1, 0));
        let second = replays.next_epoch(2, BOUNDS).unwrap();
        let names: Vec<_> = second.iter().flatten().flat_map(|range| &range.files).map(|file| &file.name).collect();
        assert_eq!(names, ["0/0/a/4", "0/0/a/1"]);
        assert!(replays.next_epoch(4, BOUNDS).is_none() && replays.is_empty());
    }

    #[test]
    fn what_the_log_sent_again_is_left_out_though_it_was_asked_for_before_the_log_was_read() {
        let mut replays = Replays::default();
        replays.ask(asked(&["0/0/a/1", "0/0/a/2"], false));
        let mut replayed = Replayed::default();
        replayed.add(&intent(cut(&asked(&["0/0/a/1"], false).records, 0, 100, 2)));
        replays.begin(replayed);
        let splits = replays.next_epoch(1, BOUNDS).unwrap();
        assert_eq!(splits[0][0].files[0].name, "0/0/a/2");
        assert_eq!(intent(splits).replayed(), [(Epoch(0), 1)].into());
    }
}
