//! What the source holds and what ought to become of it: a pure function of the seed, of an epoch's clock, and of the
//! pipeline that ran it, which is but a number here.
//!
//! A record is absent, broken, or holds one to three alerts. A view cuts alerts by two rules, one of which asks for the
//! time: a run with another clock than its intent's computes other rows.

use std::collections::BTreeMap;

use redpoll_core::digest::{Digest, row_hash};
use redpoll_core::ledger::{SourceCounts, ViewCounts};
use redpoll_core::protocol::Split;
use redpoll_core::source::OffsetRange;

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

/// All that a split's rows come to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outcome {
    pub sources: Vec<SourceCounts>,
    pub view: ViewCounts,
    /// Positions in quarantine.
    pub broken: Vec<String>,
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

    /// A row without a row key.
    pub fn refuses(self, alert: &Alert) -> bool {
        self.draw(&alert.topic, alert.partition, alert.offset, alert.row, 4).is_multiple_of(16)
    }

    pub fn outcome(self, split: &Split, clock: i64, pipeline: u32) -> Outcome {
        let mut outcome = Outcome {
            view: ViewCounts { view: "good".into(), from: "alerts".into(), root: true, ..ViewCounts::default() },
            rows: SINKS.iter().map(|sink| (*sink, Vec::new())).collect(),
            ..Outcome::default()
        };
        for range in &split.ranges {
            self.add(&mut outcome, range, (clock, pipeline));
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
                    outcome.broken.push(format!("{topic}[{partition}]@{offset}"));
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
}

impl Outcome {
    fn take(&mut self, truth: Truth, alert: Alert, (clock, pipeline): (i64, u32)) {
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
        for sink in SINKS.into_iter().filter(|sink| truth.wants(*sink, &alert, fate)) {
            self.rows.entry(sink).or_default().push(alert.clone());
        }
    }

    pub fn digest(&self, sink: Sink) -> Digest {
        Digest::of(self.rows[&sink].iter().map(Alert::hash))
    }
}
