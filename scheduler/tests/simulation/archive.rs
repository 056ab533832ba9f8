//! An archive table as the commit sees it: a numbered log in the object store, like Delta's, without Parquet.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use redpoll_connectors::delta::{AddFile, Commit, Error, TransactionLog};
use serde::{Deserialize, Serialize};

use super::disk::Store;
use super::sim::Sim;

/// One entry of a table's log.
#[derive(Debug, Serialize, Deserialize)]
pub struct LogEntry {
    pub app_id: String,
    /// The application's transaction.
    pub version: i64,
    pub adds: Vec<AddFile>,
}

/// A scheduler's handle on one table, open for the life of the job: it reads what is new in the log.
pub struct Archive {
    sim: Sim,
    store: Store,
    name: &'static str,
    version: u64,
    transactions: BTreeMap<String, i64>,
    /// A mutant: epochs that are in already are committed again.
    ignores_transactions: bool,
}

pub fn url(name: &str) -> String {
    format!("simulated:///tables/{name}/")
}

pub fn folder(name: &str) -> Path {
    Path::from(format!("warehouse/tables/{name}"))
}

impl Archive {
    pub fn open(sim: &Sim, store: &Store, name: &'static str, ignores_transactions: bool) -> Self {
        let (sim, store) = (sim.clone(), store.clone());
        Self { sim, store, name, version: 0, transactions: BTreeMap::new(), ignores_transactions }
    }

    fn entry(&self, version: u64) -> Path {
        folder(self.name).join("_delta_log").join(format!("{version:020}.json"))
    }

    fn failed(&self, error: StoreError) -> Error {
        Error::Write { path: self.name.to_owned(), source: error.into() }
    }

    async fn catch_up(&mut self) -> Result<(), StoreError> {
        let log = folder(self.name).join("_delta_log");
        let new: Vec<_> = self.store.list_with_offset(Some(&log), &self.entry(self.version)).try_collect().await?;
        for object in new {
            let bytes = self.store.get(&object.location).await?.bytes().await?;
            let entry: LogEntry = serde_json::from_slice(&bytes).expect("an entry that we wrote");
            self.version += 1;
            self.transactions.insert(entry.app_id, entry.version);
        }
        Ok(())
    }
}

#[async_trait]
impl TransactionLog for Archive {
    fn url(&self) -> String {
        url(self.name)
    }

    async fn look(&mut self, app_id: &str) -> Result<(Option<i64>, u64), Error> {
        self.catch_up().await.map_err(|error| self.failed(error))?;
        let known = self.transactions.get(app_id).copied().filter(|_| !self.ignores_transactions);
        Ok((known, self.version))
    }

    async fn append(&mut self, commit: &Commit) -> Result<u64, Error> {
        let Commit { app_id, version, adds, .. } = commit.clone();
        let entry = LogEntry { app_id, version, adds };
        let body = serde_json::to_vec(&entry).expect("an entry is JSON");
        let path = self.entry(self.version + 1);
        match self.store.put_opts(&path, PutPayload::from(body), PutMode::Create.into()).await {
            Ok(_) => {
                self.version += 1;
                self.transactions.insert(entry.app_id, entry.version);
                Ok(self.version)
            }
            Err(StoreError::AlreadyExists { .. }) => Err(Error::Raced { url: self.url() }),
            Err(error) => Err(self.failed(error)),
        }
    }

    async fn pause(&mut self, duration: Duration) {
        self.sim.sleep(duration).await;
    }
}
