//! What the source holds and what ought to become of it: a pure function of the seed, of an epoch's clock, and of the
//! pipeline that ran it, which is but a number here.
//!
//! A record is absent, broken, or holds one to three alerts. What is sent again from the quarantine has met a better
//! pipeline: most of it is well now, some is not, and is set aside once more. A view cuts alerts by two rules, one of
//! which asks for the time: a run with another clock than its intent's computes other rows.

use std::collections::{BTreeMap, BTreeSet};

use redpoll_core::digest::{Digest, row_hash};
use redpoll_core::ledger::{SourceCounts, ViewCounts};
use redpoll_core::protocol::Split;
use redpoll_core::quarantine::TOPIC;
use redpoll_core::source::OffsetRange;
use serde::{Deserialize, Serialize};

/// The sinks, in the order of the pipeline.
pub const SINKS: [Sink; 5] = [Sink::Raw, Sink::Science, Sink::Store, Sink::Candidates, Sink::Alerts];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sink {
    /// Delta: every alert.
    Raw,
    /// Delta: alerts that the view kept.
    Science,
    /// Wide-column: alerts that the view kept; one in sixteen has no row key and is refused.
    Store,
    /// Kafka, exactly once: some of those that the view kept.
    Candidates,
    /// Kafka, at least once: alerts that the view kept.
    Alerts,
}

impl Sink {
    pub fn name(self) -> &'static str {
        match self {
            Sink::Raw => "raw",
            Sink::Science => "science",
            Sink::Store => "store",
            Sink::Candidates => "candidates",
            Sink::Alerts => "alerts",
        }
    }

    pub fn is_archive(self) -> bool {
        matches!(self, Sink::Raw | Sink::Science)
    }
}

/// Where an alert was read: record and place in the record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Alert {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub row: u32,
}

impl std::fmt::Display for Alert {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}[{}]@{}.{}", self.topic, self.partition, self.offset, self.row)
    }
}

impl Alert {
    fn hash(&self) -> u128 {
        row_hash(&self.topic, self.partition, self.offset, self.row)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    Absent,
    Broken,
    Alerts(u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Kept,
    Cut(&'static str),
    Unknown(&'static str),
}

const RULES: [&str; 2] = ["nbad = 0", "jd < now()"];

/// An item of the quarantine: a record, or an alert that the store lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAside {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub alert: Option<u32>,
}

/// The items that a record of the quarantine is sent again for, by its name.
pub type Items<'a> = dyn Fn(&str) -> Vec<SetAside> + 'a;

/// All that a split's rows come to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outcome {
    pub sources: Vec<SourceCounts>,
    pub view: ViewCounts,
    /// What goes to the quarantine, in its order there.
    pub set_aside: Vec<SetAside>,
    /// Alerts that the store refuses, of its rows.
    pub refused: BTreeSet<Alert>,
    /// Rows that each sink is given, in order of reading.
    pub rows: BTreeMap<Sink, Vec<Alert>>,
}

#[derive(Debug, Clone, Copy)]
pub struct Truth {
    pub seed: u64,
}

impl Truth {
    fn draw(self, topic: &str, partition: i32, offset: i64, row: u32, salt: u64) -> u64 {
        (row_hash(topic, partition, offset, row) as u64 ^ self.seed ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15))
            .wrapping_mul(0xd6e8_feb8_6659_fd93)
            >> 33
    }

    pub fn record(self, topic: &str, partition: i32, offset: i64) -> Record {
        // A folder's positions are its files: none is absent.
        match self.draw(topic, partition, offset, u32::MAX, 1) % 16 {
            0 if topic == "ztf" => Record::Absent,
            1 => Record::Broken,
            2 => Record::Alerts(3),
            3 => Record::Alerts(2),
            _ => Record::Alerts(1),
        }
    }

    pub fn fate(self, alert: &Alert, clock: i64, pipeline: u32) -> Fate {
        let Alert { topic, partition, offset, row } = alert;
        match self.draw(topic, *partition, *offset, *row, 2) % 8 {
            0 => Fate::Cut(RULES[0]),
            1 => Fate::Unknown(RULES[0]),
            2 => Fate::Unknown(RULES[1]),
            n if (n + clock as u64 + u64::from(pipeline)).is_multiple_of(3) => Fate::Cut(RULES[1]),
            _ => Fate::Kept,
        }
    }

    pub fn wants(self, sink: Sink, alert: &Alert, fate: Fate) -> bool {
        let Alert { topic, partition, offset, row } = alert;
        match sink {
            Sink::Raw => true,
            Sink::Candidates => fate == Fate::Kept && !self.draw(topic, *partition, *offset, *row, 3).is_multiple_of(4),
            _ => fate == Fate::Kept,
        }
    }

    /// A row without a row key. Of those that are sent again some have one by then.
    fn refuses(self, alert: &Alert, again: bool) -> bool {
        let Alert { topic, partition, offset, row } = alert;
        let n = self.draw(topic, *partition, *offset, *row, 4);
        n.is_multiple_of(16) && (!again || n.is_multiple_of(64))
    }

    /// By a clock and a pipeline; `items` tells what the names of records of the quarantine stand for.
    pub fn outcome(self, split: &Split, by: (i64, u32), items: &Items<'_>) -> Outcome {
        let mut outcome = Outcome {
            view: ViewCounts { view: "good".into(), from: "alerts".into(), root: true, ..ViewCounts::default() },
            rows: SINKS.iter().map(|sink| (*sink, Vec::new())).collect(),
            ..Outcome::default()
        };
        for range in &split.ranges {
            match range.topic == TOPIC {
                true => self.add_replays(&mut outcome, range, by, items),
                false => self.add(&mut outcome, range, by),
            }
        }
        outcome
    }

    fn add(self, outcome: &mut Outcome, range: &OffsetRange, by: (i64, u32)) {
        let (topic, partition) = (&range.topic, range.partition);
        let mut counts = SourceCounts {
            topic: topic.clone(),
            partition,
            start: range.start,
            end: range.end,
            ..SourceCounts::default()
        };
        for offset in range.start..range.end {
            // What a file holds depends on its name, not on the position that it was given.
            let (topic, offset) = match range.files.get((offset - range.start) as usize) {
                Some(file) => (&file.name, 0),
                None => (topic, offset),
            };
            counts.fetched += 1;
            match self.record(topic, partition, offset) {
                Record::Absent => {
                    counts.fetched -= 1;
                    counts.absent += 1;
                }
                Record::Broken => {
                    counts.quarantined += 1;
                    outcome.set_aside.push(SetAside { topic: topic.clone(), partition, offset, alert: None });
                }
                Record::Alerts(n) => {
                    counts.records += 1;
                    counts.decoded += u64::from(n);
                    for row in 0..n {
                        outcome.take(self, Alert { topic: topic.clone(), partition, offset, row }, by);
                    }
                }
            }
        }
        outcome.sources.push(counts);
    }

    fn add_replays(self, outcome: &mut Outcome, range: &OffsetRange, by: (i64, u32), items: &Items<'_>) {
        let (topic, start, end) = (range.topic.clone(), range.start, range.end);
        let mut counts = SourceCounts { topic, start, end, fetched: range.len(), ..SourceCounts::default() };
        for file in &range.files {
            let items = items(&file.name);
            let Some(SetAside { topic, partition, offset, .. }) = items.first().cloned() else { continue };
            let whole = items.iter().any(|item| item.alert.is_none());
            let n = self.draw(&topic, partition, offset, u32::MAX, 5);
            if whole && n.is_multiple_of(4) {
                counts.quarantined += 1;
                outcome.set_aside.push(SetAside { topic, partition, offset, alert: None });
                continue;
            }
            counts.records += 1;
            let rows: Vec<u32> = match whole {
                true => (0..1 + (n % 3) as u32).collect(),
                false => items.iter().filter_map(|item| item.alert).collect(),
            };
            counts.decoded += rows.len() as u64;
            for row in rows {
                let alert = Alert { topic: topic.clone(), partition, offset, row };
                let sinks: &[Sink] = if whole { &SINKS } else { &[Sink::Store] };
                outcome.take_for(self, alert, by, sinks, true);
            }
        }
        outcome.sources.push(counts);
    }
}

impl Outcome {
    fn take(&mut self, truth: Truth, alert: Alert, by: (i64, u32)) {
        self.take_for(truth, alert, by, &SINKS, false);
    }

    fn take_for(&mut self, truth: Truth, alert: Alert, by: (i64, u32), sinks: &[Sink], again: bool) {
        let (clock, pipeline) = by;
        let (fate, view) = (truth.fate(&alert, clock, pipeline), &mut self.view);
        view.rows += 1;
        match fate {
            Fate::Kept => {
                view.kept += 1;
                view.digest += Digest(alert.hash());
            }
            Fate::Cut(rule) => *view.cut.entry(rule.into()).or_default() += 1,
            Fate::Unknown(rule) => *view.unknown.entry(rule.into()).or_default() += 1,
        }
        for sink in sinks.iter().copied().filter(|sink| truth.wants(*sink, &alert, fate)) {
            self.rows.entry(sink).or_default().push(alert.clone());
            if sink == Sink::Store && truth.refuses(&alert, again) {
                let Alert { topic, partition, offset, row } = alert.clone();
                self.set_aside.push(SetAside { topic, partition, offset, alert: Some(row) });
                self.refused.insert(alert.clone());
            }
        }
    }

    fn is_refused(&self, sink: Sink, alert: &Alert) -> bool {
        sink == Sink::Store && self.refused.contains(alert)
    }

    /// Rows that readers of a sink see.
    pub fn written(&self, sink: Sink) -> impl Iterator<Item = &Alert> {
        self.rows[&sink].iter().filter(move |alert| !self.is_refused(sink, alert))
    }

    /// Of all rows that a sink is given.
    pub fn wanted_digest(&self, sink: Sink) -> Digest {
        Digest::of(self.rows[&sink].iter().map(Alert::hash))
    }

    /// Of those that it takes.
    pub fn digest(&self, sink: Sink) -> Digest {
        Digest::of(self.written(sink).map(Alert::hash))
    }

    /// Of those that it refuses.
    pub fn refused_digest(&self, sink: Sink) -> Digest {
        Digest::of(self.rows[&sink].iter().filter(|alert| self.is_refused(sink, alert)).map(Alert::hash))
    }
}
