//! The objects of the epoch protocol: what is logged, what an attempt leaves behind, and where they lie.
//!
//! Everything is under `<warehouse>/_redpoll/jobs/<job>/`. The log decides; receipts are evidence; files that no log
//! entry names do not exist for any reader.

use std::collections::BTreeMap;

use object_store::path::Path;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::ids::{Epoch, SplitId, Term};
use crate::ledger;
use crate::revision::{Change, Move, Outline};
use crate::source::{OffsetRange, Offsets, Start};

/// A piece of the source that one task reads, from the intent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Split {
    pub id: SplitId,
    pub ranges: Vec<OffsetRange>,
}

/// What an epoch covers, fixed before any task starts. A re-run uses all of it, so it computes the same rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    pub epoch: Epoch,
    /// Which `Spec` entry of the log the epoch runs, counted from 0.
    pub revision: u32,
    /// What `now()` reads, milliseconds since 1970-01-01 UTC.
    pub clock: i64,
    /// The same in each run of the epoch, for what draws at random. No function of SQL does: `random()` and `uuid()` are
    /// refused.
    pub seed: u64,
    pub splits: Vec<Split>,
    /// Locks of the modules that the plan calls, by module name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub modules: BTreeMap<String, String>,
}

impl Intent {
    /// The offsets after this epoch, on top of those before it.
    pub fn advance(&self, offsets: &mut Offsets) {
        for range in self.splits.iter().flat_map(|split| &split.ranges) {
            let next = offsets.entry(range.topic_partition()).or_insert(range.end);
            *next = (*next).max(range.end);
        }
    }
}

/// A job as its user gave it. A changed pipeline is a new revision.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Spec {
    /// Random, given once: names the job's transactions in Kafka and Delta.
    pub uid: String,
    pub revision: u32,
    pub pipeline: Pipeline,
    /// How it is run, as its scheduler understands it.
    pub config: serde_json::Value,
    /// Where the job begins, for a source that is not read from its earliest offsets: `latest` asked again after a
    /// restart would be another place.
    #[serde(default, skip_serializing_if = "Offsets::is_empty", with = "crate::source::offsets_as_list")]
    pub begin: Offsets,
    /// Where a topic partition begins that appears later, and a source that has no offsets yet.
    #[serde(default)]
    pub start: Start,
    /// What the alerts turned out to have beyond the columns that the pipeline declares.
    #[serde(default, skip_serializing_if = "Grown::is_empty")]
    pub grown: Grown,
    /// What the pipeline came to when it was planned. Logs of old have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outline: Option<Outline>,
    /// Against the revision before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
    /// Positions that are read again or never, by the will of whoever runs the job.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moves: Vec<Move>,
    /// Where the job ends, if it ends at positions.
    #[serde(default, skip_serializing_if = "Offsets::is_empty", with = "crate::source::offsets_as_list")]
    pub end: Offsets,
}

/// Fields that one writer has and the plan that met its alerts does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Growth {
    /// The writer's schema, as the quarantine names it.
    pub fingerprint: String,
    /// An Avro schema as JSON text: a record of these fields alone, nested ones in the records they stand in.
    pub fields: String,
}

/// All growth of a job so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grown {
    /// As [`Growth::fields`], in the order they were met.
    #[serde(default)]
    pub fields: Vec<String>,
    /// Dotted paths of fields that a table of the job cannot take, with the reason. They are not read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub passed_over: BTreeMap<String, String>,
    /// No further field is read.
    #[serde(default)]
    pub closed: bool,
}

impl Grown {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The text of a pipeline and what its variables and relative paths mean.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pipeline {
    pub text: String,
    /// Name of the file, for messages.
    pub file: String,
    /// Folder that relative paths in the text start from.
    pub folder: String,
    /// Folder that relative paths in `--set` start from.
    pub working_folder: String,
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
    /// Statements that follow the text, by the name of their table: filters that were deployed to the job.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub filters: BTreeMap<String, String>,
}

/// One numbered entry of a job's log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "a log is read one entry at a time")]
pub enum Entry {
    /// A scheduler begins to reign over the job.
    Term {
        term: Term,
        scheduler: String,
        /// URL at which it may be asked whether it still runs the job.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<String>,
    },
    Spec(Spec),
    Intent(Intent),
    /// For each split, exactly one receipt is chosen. From here only forward.
    Prepared {
        epoch: Epoch,
        attempts: BTreeMap<SplitId, String>,
    },
    /// Epochs `from..=to` are visible in every sink.
    Committed {
        from: Epoch,
        to: Epoch,
        tables: BTreeMap<String, u64>,
        ledger: Vec<ledger::Line>,
    },
    /// The job ended, and why.
    Stopped {
        reason: String,
    },
}

/// What one attempt at a split wrote, put before its task reports done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    pub epoch: Epoch,
    pub split: SplitId,
    pub attempt: String,
    /// Of the plan that it ran.
    #[serde(default)]
    pub revision: u32,
    /// Which executor ran it.
    pub executor: String,
    pub sources: Vec<ledger::SourceCounts>,
    /// In the order of the pipeline.
    pub views: Vec<ledger::ViewCounts>,
    pub sinks: BTreeMap<String, SinkReceipt>,
    /// Rows that a module failed on, by module.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failures: BTreeMap<String, u64>,
    /// Alerts set aside since a module failed on them, by module.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub withheld: BTreeMap<String, u64>,
    /// Items that it left in the quarantine.
    #[serde(default)]
    pub set_aside: Option<u64>,
    /// Fields that the plan does not have. Then no sink was finished: the split is to run again with them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub growth: Vec<Growth>,
    /// Seconds from the start of the attempt to this receipt.
    pub seconds: f64,
}

/// What a sink took from one split.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SinkReceipt {
    pub rows: u64,
    /// Of the rows the sink was given by the view.
    pub wanted: Digest,
    /// Of the rows the sink says it wrote.
    pub written: Digest,
    /// Rows that the sink refused, and that went to quarantine.
    #[serde(default)]
    pub refused: u64,
    #[serde(default)]
    pub refused_digest: Digest,
    /// What this attempt computed, where its Kafka lane was out already with other rows than these: readers have the
    /// rows that are counted above, by the lane's mark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recomputed: Option<Recomputed>,
    /// Delta: `Add` actions of the data files, as JSON.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<serde_json::Value>,
}

/// Rows that were computed and not written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recomputed {
    pub rows: u64,
    pub digest: Digest,
}

impl SinkReceipt {
    /// Adds what another split, or another `INSERT` into the same table, wrote. Data files are not carried over.
    pub(crate) fn add(&mut self, other: &SinkReceipt) {
        // Of a sum of which a part was out, all of the other parts were computed as they are.
        if self.recomputed.is_some() || other.recomputed.is_some() {
            let own = |of: &SinkReceipt| of.recomputed.unwrap_or(Recomputed { rows: of.rows, digest: of.written });
            let (mut sum, more) = (own(self), own(other));
            sum.rows += more.rows;
            sum.digest += more.digest;
            self.recomputed = Some(sum);
        }
        self.rows += other.rows;
        self.refused += other.refused;
        self.refused_digest += other.refused_digest;
        self.wanted += other.wanted;
        self.written += other.written;
    }
}

/// Names of a job's objects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobPaths {
    root: String,
}

impl JobPaths {
    /// Below the prefix of the warehouse.
    pub fn new(warehouse: &Path, job: &str) -> Self {
        Self { root: jobs(warehouse).join(job).to_string() }
    }

    fn root(&self) -> Path {
        Path::from(self.root.as_str())
    }

    pub fn log(&self) -> Path {
        self.root().join("log")
    }

    /// Twenty digits, so that names sort as numbers.
    pub fn entry(&self, seq: u64) -> Path {
        self.log().join(format!("{seq:020}.json"))
    }

    /// The fold of the entries before `seq`. Its name sorts after those of all entries.
    pub fn checkpoint(&self, seq: u64) -> Path {
        self.log().join(format!("checkpoint-{seq:020}.json"))
    }

    /// Ledger lines and choices of epochs whose log entries may be swept.
    pub fn history(&self) -> Path {
        self.root().join("history")
    }

    pub fn receipts(&self, epoch: Epoch) -> Path {
        self.epoch(epoch).join("receipts")
    }

    pub fn receipt(&self, epoch: Epoch, split: SplitId, attempt: &str) -> Path {
        self.receipts(epoch).join(format!("{split:06}-{attempt}.json", split = split.0))
    }

    /// What attempts left behind.
    pub fn epochs(&self) -> Path {
        self.root().join("epochs")
    }

    pub fn quarantined(&self, epoch: Epoch, split: SplitId, attempt: &str) -> Path {
        self.epoch(epoch).join("quarantine").join(format!("{split:06}-{attempt}.parquet", split = split.0))
    }

    /// The epoch below whose folder an object lies.
    pub fn epoch_of(&self, path: &Path) -> Option<Epoch> {
        let below = path.as_ref().strip_prefix(self.epochs().as_ref())?.strip_prefix('/')?;
        below.split('/').next()?.parse().ok().map(Epoch)
    }

    fn epoch(&self, epoch: Epoch) -> Path {
        self.epochs().join(format!("{:012}", epoch.0))
    }
}

/// Where all jobs of a warehouse lie.
pub fn jobs(warehouse: &Path) -> Path {
    warehouse.clone().join("_redpoll").join("jobs")
}
