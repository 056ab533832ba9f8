//! Records that do not decode, and alerts on which an expression errs, must be in the quarantine: they are missing from
//! sinks.

use std::collections::{BTreeSet, HashSet};

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::{Int32Type, Int64Type};
use object_store::ObjectStoreExt;
use redpoll_core::ids::SplitId;
use redpoll_core::log::Record;
use redpoll_core::protocol::JobPaths;
use redpoll_core::quarantine;
use redpoll_core::steps::SetAside;

use super::report::{Finding, Kind};
use super::{Audit, Error};

type Places = BTreeSet<(String, i32, i64)>;
/// An `INSERT` and the hash of a row that its table refused.
pub(super) type Refused = HashSet<(String, u128)>;

impl Audit<'_> {
    /// Names the records of a split that are to be set aside and are not in the file of its chosen attempt.
    pub(super) async fn check_quarantine(
        &mut self,
        record: &Record,
        split: SplitId,
        set_aside: &[SetAside],
    ) -> Result<(), Error> {
        if set_aside.is_empty() {
            return Ok(());
        }
        let kept = self.kept(record, split).await?;
        for SetAside { topic, partition, offset, error } in set_aside {
            if kept.contains(&(topic.clone(), *partition, *offset)) {
                continue;
            }
            let epoch = record.line.epoch;
            let text = format!(
                "{topic}[{partition}]@{offset}: epoch {epoch} could not take it ({error}), and the quarantine does not have it"
            );
            self.report.add(Finding {
                kind: Kind::Position,
                sink: None,
                epoch: Some(epoch),
                alert: None,
                position: Some((topic.clone(), *partition, *offset, 0)),
                n: 1,
                text,
            });
        }
        Ok(())
    }

    /// The records that the chosen attempt at a split has set aside.
    async fn kept(&self, record: &Record, split: SplitId) -> Result<Places, Error> {
        Ok(self.file(record, split).await?.iter().flat_map(places).collect())
    }

    /// The rows that sinks refused, by the files of the chosen attempts.
    pub(super) async fn refused(&self, record: &Record) -> Result<Refused, Error> {
        let mut rows = Refused::new();
        for split in record.attempts.keys() {
            // Those of a file of another version are found missing.
            rows.extend(quarantine::refused(&self.file(record, *split).await?).unwrap_or_default());
        }
        Ok(rows)
    }

    /// The file of the chosen attempt at a split. One that is gone or cannot be read keeps nothing.
    async fn file(&self, record: &Record, split: SplitId) -> Result<Vec<RecordBatch>, Error> {
        let failed = |error: &dyn std::fmt::Display| Error::failed("quarantine", error);
        let Some(attempt) = record.attempts.get(&split) else { return Ok(Vec::new()) };
        let (store, warehouse) = self.service.objects();
        let path = JobPaths::new(warehouse, self.job()).quarantined(record.line.epoch, split, attempt);
        let file = match store.get(&path).await {
            Ok(object) => object.bytes().await.map_err(|error| failed(&error))?,
            Err(object_store::Error::NotFound { .. }) => return Ok(Vec::new()),
            Err(error) => return Err(failed(&error)),
        };
        Ok(quarantine::decode(file).unwrap_or_default())
    }
}

fn places(batch: &RecordBatch) -> Vec<(String, i32, i64)> {
    let column = |name: &str| batch.column_by_name(name);
    let (Some(topics), Some(partitions), Some(offsets)) = (column("topic"), column("partition"), column("offset"))
    else {
        return Vec::new();
    };
    let (topics, partitions) = (topics.as_string::<i32>(), partitions.as_primitive::<Int32Type>());
    let offsets = offsets.as_primitive::<Int64Type>();
    (0..batch.num_rows()).map(|i| (topics.value(i).to_owned(), partitions.value(i), offsets.value(i))).collect()
}
