//! Revisions of a job: what its pipeline makes of alerts, and how that differs from the revision before.
//!
//! A file may change without any row changing (a comment), and rows may change without the file (a module, a schema).
//! So what is logged with each revision, and compared, is its [`Outline`]: two pipelines of one outline write the same
//! rows from the same alerts.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::Epoch;
use crate::sink::SinkSpec;

/// What a pipeline does, with its views expanded and nothing in it that cannot alter a row.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Outline {
    pub reads: Reads,
    /// Types of the alerts' fields, by dotted path.
    pub fields: BTreeMap<String, String>,
    /// Views that cut, in the order of the pipeline.
    pub views: Vec<View>,
    pub sinks: Vec<SinkSpec>,
    pub inserts: Vec<Insert>,
    /// Fingerprints of the modules that are called, by name.
    pub modules: BTreeMap<String, String>,
}

/// Where alerts come from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Reads {
    /// Name of the table.
    pub table: String,
    /// Of Kafka.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub brokers: Vec<String>,
    /// Names of topics, a pattern of them, or the location of files.
    pub places: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    pub name: String,
    /// The nearest view below it that cuts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<String>,
    pub rules: Vec<Rule>,
}

/// A condition of a `WHERE`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// As its author wrote it, for people.
    pub text: String,
    /// Over the columns of the alerts, for comparison.
    pub means: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Insert {
    pub sink: String,
    /// The nearest view that cuts its rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<String>,
    /// Conditions of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// What is done to rows before lists are taken apart, if any are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<String>,
    /// Names of the columns, and what each is.
    pub columns: Vec<(String, String)>,
}

/// One thing that a revision does otherwise than the revision before it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Change {
    pub what: String,
    /// Tables whose rows differ by it from now on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<String>,
    /// Rows differ by the will of whoever runs the job, who is asked first. Otherwise it is only told.
    #[serde(default)]
    pub asks: bool,
    /// Whoever deployed a module or a filter meant it: nobody is asked again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub meant: bool,
}

impl Change {
    /// Whether whoever runs the job has to agree.
    pub fn is_open(&self) -> bool {
        self.asks && !self.meant
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tables.is_empty() {
            true => f.write_str(&self.what),
            false => write!(f, "{} (rows of {})", self.what, self.tables.join(", ")),
        }
    }
}

/// A topic partition that is set to another offset than the one that was next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    pub topic: String,
    pub partition: i32,
    pub from: i64,
    pub to: i64,
}

impl Move {
    /// Positions that are never read; negative where positions are read again.
    pub fn skips(&self) -> i64 {
        self.to - self.from
    }
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, partition, from, to } = self;
        match to > from {
            true => write!(f, "{topic}[{partition}]: {from}..{to} are skipped"),
            false => write!(f, "{topic}[{partition}]: {to}..{from} are read again"),
        }
    }
}

/// A revision as the fold of a log remembers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revised {
    pub revision: u32,
    /// The first epoch that was planned by it.
    pub first: Epoch,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moves: Vec<Move>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_says_which_positions_are_skipped_or_read_again() {
        let to = |to| Move { topic: "ztf".into(), partition: 1, from: 40, to };
        assert_eq!((to(50).to_string(), to(50).skips()), ("ztf[1]: 40..50 are skipped".into(), 10));
        assert_eq!((to(30).to_string(), to(30).skips()), ("ztf[1]: 30..40 are read again".into(), -10));
    }
}
