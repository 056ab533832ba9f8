//! Reads what jobs left in a warehouse: their logs, and the records they set aside. No scheduler is needed for that.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use arrow::array::RecordBatch;
use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use redpoll_core::ids::Epoch;
use redpoll_core::ledger::Line;
use redpoll_core::log::{Fold, Log};
use redpoll_core::objects::{Location, Stores};
use redpoll_core::protocol::{JobPaths, Receipt, jobs};
use redpoll_core::quarantine;
use redpoll_scheduler::outbox::{View, views};

use crate::exit::Usage;

#[derive(Debug, Clone)]
pub struct Warehouse {
    location: Location,
    /// As its user wrote it, for messages.
    name: String,
}

impl Warehouse {
    pub fn open(name: &str) -> Result<Self> {
        let location =
            Stores::new(std::env::vars()).locate(name).map_err(|error| Usage(format!("--warehouse {error}")))?;
        Ok(Self { location, name: name.to_owned() })
    }

    /// To read what is there: a folder that is not is more likely a wrong name than an empty archive.
    pub fn existing(name: &str) -> Result<Self> {
        let warehouse = Self::open(name)?;
        match warehouse.location.url.to_file_path() {
            Ok(path) if !path.exists() => {
                bail!("there is no warehouse at {name}; name it with --warehouse, or make one with `redpoll run`")
            }
            _ => Ok(warehouse),
        }
    }

    /// Names of its jobs, in order.
    pub async fn jobs(&self) -> Result<Vec<String>> {
        let folder = jobs(&self.location.path);
        let listed = self.location.store.list_with_delimiter(Some(&folder)).await;
        let listed = listed.with_context(|| format!("the warehouse {} cannot be listed", self.name))?;
        let name = |path: Path| path.filename().map(str::to_owned);
        let names: BTreeSet<String> = listed.common_prefixes.into_iter().filter_map(name).collect();
        Ok(names.into_iter().collect())
    }

    /// The job of that name, or every job. A name that is not there is an error that says which are.
    pub async fn select(&self, job: Option<&str>) -> Result<Vec<String>> {
        let all = self.jobs().await?;
        match job {
            None => Ok(all),
            Some(name) if all.iter().any(|have| have == name) => Ok(vec![name.to_owned()]),
            Some(name) if all.is_empty() => bail!("there is no job '{name}': the warehouse {} has no jobs", self.name),
            Some(name) => bail!("there is no job '{name}' in {}; there is: {}", self.name, all.join(", ")),
        }
    }

    pub async fn fold(&self, job: &str) -> Result<Fold> {
        let log = Log::new(self.location.store.clone(), self.paths(job));
        log.read().await.with_context(|| format!("the log of job {job} cannot be read"))
    }

    /// The ledger of a job: a line for each epoch that was ever committed.
    pub async fn ledger(&self, job: &str) -> Result<Vec<Line>> {
        let log = Log::new(self.location.store.clone(), self.paths(job));
        log.ledger().await.with_context(|| format!("the ledger of job {job} cannot be read"))
    }

    /// What a job set aside, as rows of `redpoll.quarantine`, in order of epochs.
    pub async fn quarantine(&self, job: &str) -> Result<Vec<RecordBatch>> {
        let (store, paths) = (&self.location.store, self.paths(job));
        let log = Log::new(store.clone(), paths.clone());
        let table = quarantine::table(&log, store.as_ref(), &paths, quarantine::Records::Kept).await;
        table.with_context(|| format!("the quarantine of {job} cannot be read"))
    }

    /// What was sent and set aside of a job's messages.
    pub async fn outboxes(&self, job: &str) -> Result<Vec<View>> {
        let fold = self.fold(job).await?;
        let read = views(&self.location.store, &self.paths(job), job, &fold).await;
        read.with_context(|| format!("the messages of job {job} cannot be read"))
    }

    /// Receipts of an epoch's splits, but for those that are `seen`.
    pub async fn receipts(&self, job: &str, epoch: u64, seen: impl Fn(u32) -> bool) -> Result<Vec<Receipt>> {
        let folder = self.paths(job).receipts(Epoch(epoch));
        let store = &self.location.store;
        let mut receipts = Vec::new();
        let mut listed = store.list(Some(&folder));
        while let Some(object) = listed.try_next().await? {
            let name = object.location.filename().unwrap_or_default();
            let split = name.split_once('-').and_then(|(split, _)| split.parse().ok());
            if split.is_some_and(|split| !seen(split)) {
                let bytes = store.get(&object.location).await?.bytes().await?;
                receipts.push(serde_json::from_slice(&bytes)?);
            }
        }
        Ok(receipts)
    }

    fn paths(&self, job: &str) -> JobPaths {
        JobPaths::new(&self.location.path, job)
    }
}

/// Where a job will read on, by topic partition.
pub fn offsets(fold: &Fold) -> BTreeMap<String, i64> {
    fold.offsets.iter().map(|(partition, offset)| (partition.to_string(), *offset)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use redpoll_core::ids::{SplitId, Term};
    use redpoll_core::protocol::{Entry, Intent};
    use redpoll_scheduler::coordinator::Status;

    use super::*;
    use crate::output::ledger::tests::line;

    async fn warehouse(folder: &tempfile::TempDir) -> Warehouse {
        let warehouse = Warehouse::open(folder.path().to_str().unwrap()).unwrap();
        let log = Log::new(warehouse.location.store.clone(), warehouse.paths("ztf-night"));
        let mut fold = Fold::default();
        let attempts = BTreeMap::from([(SplitId(0), "b".to_owned())]);
        let (epoch, modules) = (Epoch(0), BTreeMap::new());
        let intent = Entry::Intent(Intent { epoch, revision: 0, clock: 0, seed: 0, splits: vec![], modules });
        let committed =
            Entry::Committed { from: Epoch(0), to: Epoch(0), tables: BTreeMap::new(), ledger: vec![line(0, 1)] };
        let term = Entry::Term { term: Term(1), scheduler: "s".into(), address: None };
        for entry in [term, intent, Entry::Prepared { epoch: Epoch(0), attempts }, committed] {
            log.append(&mut fold, &entry).await.unwrap();
        }
        warehouse
    }

    #[tokio::test]
    async fn jobs_are_found_by_their_logs() {
        let folder = tempfile::tempdir().unwrap();
        let warehouse = warehouse(&folder).await;
        assert_eq!(warehouse.select(None).await.unwrap(), ["ztf-night"]);
        let status = Status::of_log("ztf-night", &warehouse.fold("ztf-night").await.unwrap());
        assert_eq!((status.state.as_str(), status.decoded, status.quarantined), ("open", 999, 1));
        let error = warehouse.select(Some("lsst")).await.unwrap_err().to_string();
        assert!(error.ends_with("there is: ztf-night"), "{error}");
    }

    #[tokio::test]
    async fn a_warehouse_that_is_not_there_yet_has_no_jobs() {
        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().join("new").display().to_string();
        assert!(Warehouse::open(&name).unwrap().jobs().await.unwrap().is_empty());
        assert!(Warehouse::existing(&name).unwrap_err().to_string().contains("--warehouse"));
    }

    #[tokio::test]
    async fn only_chosen_attempts_count_in_the_quarantine() {
        let folder = tempfile::tempdir().unwrap();
        let warehouse = warehouse(&folder).await;
        for attempt in ["a", "b"] {
            let path = warehouse.paths("ztf-night").quarantined(Epoch(0), SplitId(0), attempt);
            let file = crate::commands::quarantine::tests::file(attempt);
            warehouse.location.store.put(&path, file.into()).await.unwrap();
        }
        let batches = warehouse.quarantine("ztf-night").await.unwrap();
        let records = crate::commands::quarantine::records(&batches).unwrap();
        assert_eq!(records.iter().map(|record| record.error.as_str()).collect::<Vec<_>>(), ["b"]);
    }
}
