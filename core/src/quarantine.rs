//! What was set aside: records that do not decode, alerts on which a science module failed that says so or an expression
//! errs, and rows that a sink refused.
//!
//! An attempt leaves them as one Parquet file beside its receipt ([`file`]): each an *item* with the bytes of its record,
//! the place, the reason, and which `INSERT`s lack it. An item is named by epoch, split and its row in the file of the
//! attempt that was chosen. It is never changed and never removed.
//!
//! The quarantine is also a source: what is sent again is a range of the topic partition [`TOPIC`], whose positions are
//! counted over the life of the job, with one *file* for each position that says which items it is ([`replay`]). So a
//! replay is an ordinary epoch, and the log of a job tells which items were sent again, and in which epoch.

mod file;
mod listing;
mod replay;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{Epoch, SplitId};
use crate::source::Record;

pub use file::{decode, encode, refused, schema};
pub use listing::{Error, Listed, Records, State, list, table, table_schema};
pub use replay::{Place, Reader, Replay, Replayed, Target, cut, replays};

/// Stands for the quarantine where a range names its topic. No topic of Kafka and no URL is called so.
pub const TOPIC: &str = "redpoll:quarantine";

/// What could not take a record or an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    Decode,
    Module,
    /// Its `WHERE`.
    View,
    /// And the expressions of its `INSERT`.
    Sink,
}

impl Stage {
    fn as_str(self) -> &'static str {
        match self {
            Stage::Decode => "decode",
            Stage::Module => "module",
            Stage::View => "view",
            Stage::Sink => "sink",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An item's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Item {
    /// That set it aside.
    pub epoch: Epoch,
    pub split: SplitId,
    /// Its row in the file of the chosen attempt.
    pub row: u32,
}

/// A record or an alert set aside, with the reason.
#[derive(Debug, Clone)]
pub struct SetAside {
    pub record: Record,
    /// Of the schema it was written with, see [`crate::runtime::Failed`].
    pub fingerprint: Option<String>,
    pub why: Why,
}

/// Why, and who lacks it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    pub stage: Stage,
    /// The module, view or sink.
    pub by: Option<String>,
    pub error: String,
    /// Which alert of its record, from 0; none: all of them.
    pub alert: Option<i32>,
    /// The `INSERT`s that lack it; none: all of them.
    pub lacking: Option<Vec<String>>,
    /// Of an alert that became several rows: which of them, by its hash.
    pub hash: Option<u128>,
}

impl Why {
    /// A record that does not decode.
    pub fn decode(error: &str) -> Self {
        let (stage, error) = (Stage::Decode, error.to_owned());
        Self { stage, by: None, error, alert: None, lacking: None, hash: None }
    }
}
