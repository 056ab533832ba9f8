//! What an audit tells: sums of what was compared, findings, and what could not be compared.

use std::collections::BTreeMap;

use redpoll_core::ids::Epoch;
use redpoll_core::sink::SinkKind;
use serde::{Deserialize, Serialize};

use super::Question;

/// Notes that are kept; what is beyond is counted.
const MAX_NOTES: usize = 100;

/// What is wrong with a row, a position or a sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A sink lacks a row that an alert should have there.
    Missing,
    /// A sink has a row more often than it should.
    Doubled,
    /// A sink has a row that no alert of the epoch should have there.
    Unexpected,
    /// A source position that is neither fetched nor absent nor quarantined, or is so twice.
    Position,
    /// A sum of the ledger that does not hold, or is another when the epoch is computed again.
    Ledger,
    /// A sink, or a part of it, that cannot be read.
    Unreadable,
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub kind: Kind,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sink: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub epoch: Option<Epoch>,
    /// The alert's id, where the table of alerts names the column that holds it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub alert: Option<String>,
    /// Where the alert is in the source: `topic`, `partition`, `offset`, and the alert's number in its record.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub position: Option<(String, i32, i64, u32)>,
    /// How many rows.
    pub n: u64,
    /// All of it in words.
    pub text: String,
}

/// What of one sink was compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkSums {
    pub name: String,
    pub kind: SinkKind,
    /// What tells its rows apart, for people.
    pub by: String,
    /// Rows that the epochs should have there, as far as they were computed again.
    pub wanted: u64,
    /// Rows of these epochs that are there; of a wide-column table all of its rows.
    pub found: u64,
    /// Records with equal headers beyond the first, in a topic that promises no more than `at-least-once`.
    pub repeats: u64,
    /// Rows that have expired in a topic.
    pub expired: u64,
    /// Rows that may be of other jobs, or in a wide-column table of epochs under way.
    pub others: u64,
}

/// The answer of an audit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub job: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub night: Option<u32>,
    /// Committed epochs that were compared.
    pub epochs: u64,
    /// Those of them that were computed again, wholly or in part.
    pub again: u64,
    /// Source positions in them.
    pub positions: u64,
    pub absent: u64,
    pub quarantined: u64,
    pub alerts: u64,
    pub sinks: Vec<SinkSums>,
    /// How many findings there are of each kind.
    pub found: BTreeMap<Kind, u64>,
    /// The first of them, as many as were asked for.
    pub findings: Vec<Finding>,
    /// What could not be compared, or not wholly.
    pub notes: Vec<String>,
    pub more_notes: u64,
    limit: usize,
}

impl Report {
    pub(super) fn new(job: &str, question: &Question) -> Self {
        Self {
            job: job.to_owned(),
            night: question.night,
            epochs: 0,
            again: 0,
            positions: 0,
            absent: 0,
            quarantined: 0,
            alerts: 0,
            sinks: Vec::new(),
            found: BTreeMap::new(),
            findings: Vec::new(),
            notes: Vec::new(),
            more_notes: 0,
            limit: question.limit,
        }
    }

    pub fn is_clean(&self) -> bool {
        self.found.is_empty()
    }

    pub(super) fn add(&mut self, finding: Finding) {
        *self.found.entry(finding.kind).or_default() += finding.n;
        if self.findings.len() < self.limit {
            self.findings.push(finding);
        }
    }

    /// Adds a finding that is no row's.
    pub(super) fn tell(&mut self, kind: Kind, sink: Option<&str>, epoch: Option<Epoch>, text: String) {
        let sink = sink.map(str::to_owned);
        self.add(Finding { kind, sink, epoch, alert: None, position: None, n: 1, text });
    }

    /// The same words count once.
    pub(super) fn note(&mut self, text: impl Into<String>) {
        let text = text.into();
        if self.notes.contains(&text) {
            return;
        }
        match self.notes.len() < MAX_NOTES {
            true => self.notes.push(text),
            false => self.more_notes += 1,
        }
    }
}
