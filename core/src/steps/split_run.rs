//! What the steps of one attempt report about it: counts for the receipt, records for the quarantine.
//!
//! The top step makes a [`SplitRun`] and hands it down in the task's session configuration, so that each step finds
//! the one of its own partition without any step knowing another.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};
use datafusion::error::Result;
use datafusion::execution::TaskContext;

use super::internal;
use super::origin::Origin;
use crate::digest::row_hash;
use crate::ids::SplitId;
use crate::ledger::{ModuleCounts, Shadow, SourceCounts, ViewCounts};
use crate::protocol::Growth;
use crate::quarantine::SetAside;
use crate::runtime::{Admission, Runtime};

#[derive(Debug, Default)]
pub struct Counts {
    pub split: Option<SplitId>,
    /// [`crate::digest::ranges_hash`] of what the split reads.
    pub ranges: u64,
    pub sources: Vec<SourceCounts>,
    /// Offsets that hold a record, as half-open runs, each with the place of its range in `sources`.
    pub runs: Vec<(usize, i64, i64)>,
    pub views: BTreeMap<usize, ViewCounts>,
    /// For the quarantine.
    pub set_aside: Vec<SetAside>,
    /// Rows that a module failed on, by module.
    pub failures: BTreeMap<String, u64>,
    /// Of modules with a version in the shadow, by name.
    pub shadows: BTreeMap<String, Shadow>,
    /// Alerts set aside since a module or a view failed on them, by [`super::Withheld::name`].
    pub withheld: BTreeMap<String, u64>,
    /// What each module did and took.
    pub modules: BTreeMap<String, ModuleCounts>,
    /// Fields that the plan does not have, by the fingerprint of their writer's schema.
    pub growth: BTreeMap<String, String>,
}

/// One attempt at one split.
pub struct SplitRun {
    /// Unique among all attempts.
    pub attempt: String,
    counts: Mutex<Counts>,
    /// The split's place in memory, held until its sinks are finished.
    place: Mutex<Option<Admission>>,
    origin: Mutex<Origin>,
}

impl fmt::Debug for SplitRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SplitRun").field("attempt", &self.attempt).finish_non_exhaustive()
    }
}

impl SplitRun {
    /// Waits for a place in memory for a split, after giving up that of the split before.
    pub(super) async fn take_place(&self, runtime: &dyn Runtime, split_bytes: u64) {
        self.leave_place();
        let place = runtime.admit(split_bytes).await;
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = Some(place);
    }

    pub(super) fn leave_place(&self) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where its records came from.
    pub(super) fn origin(&self) -> MutexGuard<'_, Origin> {
        self.origin.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether alerts had fields that the plan does not.
    pub fn has_growth(&self) -> bool {
        !self.counts().growth.is_empty()
    }
}

impl Counts {
    /// The counts of the range that holds a record.
    pub fn source(&mut self, topic: &str, partition: i32, offset: i64) -> Option<&mut SourceCounts> {
        let holds = |range: &&mut SourceCounts| {
            range.partition == partition && (range.start..range.end).contains(&offset) && range.topic == topic
        };
        self.sources.iter_mut().find(holds)
    }

    /// Counts a record of a range.
    pub(super) fn fetched(&mut self, index: usize, offset: i64) {
        self.sources[index].fetched += 1;
        match self.runs.last_mut() {
            Some((range, _, end)) if *range == index && *end == offset => *end += 1,
            _ => self.runs.push((index, offset, offset + 1)),
        }
    }

    pub fn growth(&self) -> Vec<Growth> {
        let growth = |(fingerprint, fields): (&String, &String)| Growth {
            fingerprint: fingerprint.clone(),
            fields: fields.clone(),
        };
        self.growth.iter().map(growth).collect()
    }
}

/// A new run, and the task's context with the run in it.
pub(super) fn begin(context: &TaskContext) -> (Arc<SplitRun>, Arc<TaskContext>) {
    let task = context.task_id().unwrap_or_else(|| "local".to_owned());
    let unique = uuid::Uuid::new_v4().simple().to_string();
    let attempt = format!("{}-{}", task.replace(|c: char| !c.is_ascii_alphanumeric(), "_"), &unique[..12]);
    let run =
        Arc::new(SplitRun { attempt, counts: Mutex::default(), place: Mutex::default(), origin: Mutex::default() });
    let inner = TaskContext::new(
        context.task_id(),
        context.session_id(),
        context.session_config().clone().with_extension(run.clone()),
        context.scalar_functions().clone(),
        context.higher_order_functions().clone(),
        context.aggregate_functions().clone(),
        context.window_functions().clone(),
        context.runtime_env(),
    );
    (run, Arc::new(inner))
}

/// Hashes of the rows of a batch, from where each was read: what digests are sums of.
pub(super) fn hashes(batch: &RecordBatch) -> Result<Vec<u128>> {
    let column = |name: &str| batch.column_by_name(name).ok_or_else(|| internal(format!("no column {name}")));
    let topics = column("_topic")?.as_string::<i32>();
    let partitions = column("_partition")?.as_primitive::<Int32Type>();
    let offsets = column("_offset")?.as_primitive::<Int64Type>();
    let rows = column("_row")?.as_primitive::<Int32Type>();
    let hash = |row: usize| {
        row_hash(topics.value(row), partitions.value(row), offsets.value(row), rows.value(row).unsigned_abs())
    };
    Ok((0..batch.num_rows()).map(hash).collect())
}
