//! The commit that makes an epoch's files visible, once.
//!
//! The log keeps, per application id, the number of its last transaction. The `deltalake` crate writes that number
//! but does not compare it: a second commit of the same epoch from a fresh snapshot is accepted. So we compare, and
//! each attempt is one compare, one fence and one conditional put of the next log entry: whoever loses the put reads
//! the log again and compares anew. Two committers of one epoch therefore never both get in.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use deltalake::DeltaTableError;
use deltalake::kernel::transaction::CommitData;
use deltalake::kernel::{Action, Metadata, Transaction};
use deltalake::protocol::{DeltaOperation, SaveMode};
use redpoll_core::fault;
use tokio::sync::MutexGuard;
use tracing::{info, warn};

use super::handle::{Handle, refuse_unknown_features};
use super::table::{grown_metadata, partition_columns};
use super::{AddFile, BoxError, Error, Table, failed};

/// Races lost before a commit is given up. Tables have one committer, so even a second attempt is rare.
const MAX_ATTEMPTS: u32 = 10;
/// Wait after the n-th lost race: n times this.
const BACK_OFF: Duration = Duration::from_millis(10);

/// What one commit publishes.
#[derive(Debug, Clone)]
pub struct Commit {
    /// `redpoll.<job uid>.<table>`: who counts.
    pub app_id: String,
    /// The last epoch in this commit. Epochs at or below the table's number are already in.
    pub version: i64,
    /// Files of all chosen attempts.
    pub adds: Vec<AddFile>,
    /// Write a log entry that only moves the number when there are no files.
    pub record_empty: bool,
}

/// What became of a [`Commit`], with the table version that readers may pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// This call wrote the log entry.
    Now(u64),
    /// The epoch was in before; the newest version of the table holds it.
    Already(u64),
    /// There was nothing to add, and nothing was written.
    Empty(u64),
}

impl Committed {
    pub fn version(self) -> u64 {
        match self {
            Committed::Now(version) | Committed::Already(version) | Committed::Empty(version) => version,
        }
    }
}

impl Table {
    /// The number of the application's last transaction, read from the newest log.
    pub async fn version_of(&self, app_id: &str) -> Result<Option<i64>, Error> {
        let mut table = self.inner.lock().await;
        table.update().await?;
        table.transaction_version(app_id).await
    }

    /// Publishes `commit.adds` under `commit.version` unless the table is already there, see [`commit_once`].
    pub async fn commit<F, R, E>(&self, commit: Commit, fence: F) -> Result<Committed, Error>
    where
        F: Fn() -> R + Send + Sync,
        R: Future<Output = Result<(), E>> + Send,
        E: Into<BoxError>,
    {
        let mut locked = Locked { of: self, table: self.inner.lock().await };
        commit_once(&mut locked, &commit, fence).await
    }

    /// The table's new description, if rows were announced that have more columns.
    async fn coming_metadata(&self, table: &Handle) -> Result<Option<Metadata>, Error> {
        match &*self.coming.lock().await {
            Some(coming) => grown_metadata(&self.url, table.snapshot(), coming),
            None => Ok(None),
        }
    }

    /// A file that lacks a partition value would be unreadable for everybody, for ever.
    fn check_partitions(&self, table: &Metadata, adds: &[AddFile]) -> Result<(), Error> {
        let table = partition_columns(table);
        let fits = |add: &&AddFile| {
            add.partition_values.len() == table.len()
                && table.iter().all(|name| add.partition_values.contains_key(name))
        };
        match adds.iter().find(|add| !fits(add)) {
            None => Ok(()),
            Some(add) => {
                let asked = add.partition_values.keys().cloned().collect();
                Err(Error::Partitioning { url: self.url.to_string(), table: table.to_vec(), asked })
            }
        }
    }
}

/// A table's log, as [`commit_once`] needs it.
#[async_trait]
pub trait TransactionLog: Send {
    fn url(&self) -> String;

    /// The number of the application's last transaction and the table's newest version, read from the log.
    async fn look(&mut self, app_id: &str) -> Result<(Option<i64>, u64), Error>;

    /// One conditional put of the entry after the version that was last looked at; the version of that entry. An error
    /// leaves open whether it was written, [`Error::Raced`] says that another entry stands there.
    async fn append(&mut self, commit: &Commit) -> Result<u64, Error>;

    async fn pause(&mut self, duration: Duration);
}

/// Publishes `commit.adds` under `commit.version` unless the table is already there.
///
/// `fence` is asked right before each try at the log and refuses when another scheduler reigns. A cancelled call,
/// or one that fails in the store, may still have committed: call it again, the second one finds out.
pub async fn commit_once<F, R, E>(log: &mut dyn TransactionLog, commit: &Commit, fence: F) -> Result<Committed, Error>
where
    F: Fn() -> R + Send + Sync,
    R: Future<Output = Result<(), E>> + Send,
    E: Into<BoxError>,
{
    let Commit { app_id, version: epoch, .. } = commit;
    for attempt in 1..=MAX_ATTEMPTS {
        let (known, version) = log.look(app_id).await?;
        if known.is_some_and(|known| known >= *epoch) {
            return Ok(Committed::Already(version));
        }
        if commit.adds.is_empty() && !commit.record_empty {
            return Ok(Committed::Empty(version));
        }
        fence().await.map_err(|source| Error::Fenced {
            url: log.url(),
            app_id: app_id.clone(),
            version: *epoch,
            source: source.into(),
        })?;
        fault::at("before-delta-commit");
        match log.append(commit).await {
            Ok(version) => {
                let (url, n_files) = (log.url(), commit.adds.len());
                info!(url, app_id, epoch, version, n_files, "delta commit");
                return Ok(Committed::Now(version));
            }
            Err(Error::Raced { .. }) => log.pause(BACK_OFF * attempt).await,
            // An error of the store leaves open whether the entry was written: only the log knows.
            Err(error) => match log.look(app_id).await {
                Ok((Some(known), version)) if known >= *epoch => {
                    warn!(url = log.url(), app_id, epoch, %error, "delta commit landed late");
                    return Ok(Committed::Already(version));
                }
                _ => return Err(error),
            },
        }
    }
    Err(Error::Contended { url: log.url(), app_id: app_id.clone(), version: *epoch, attempts: MAX_ATTEMPTS })
}

/// A table whose handle nobody else uses meanwhile.
struct Locked<'a> {
    of: &'a Table,
    table: MutexGuard<'a, Handle>,
}

#[async_trait]
impl TransactionLog for Locked<'_> {
    fn url(&self) -> String {
        self.of.url.to_string()
    }

    async fn look(&mut self, app_id: &str) -> Result<(Option<i64>, u64), Error> {
        self.table.update().await?;
        let known = self.table.transaction_version(app_id).await?;
        Ok((known, self.table.snapshot().version()))
    }

    async fn append(&mut self, commit: &Commit) -> Result<u64, Error> {
        refuse_unknown_features(&self.of.url, self.table.snapshot().protocol())?;
        self.of.check_partitions(self.table.snapshot().metadata(), &commit.adds)?;
        let metadata = self.of.coming_metadata(&self.table).await?;
        let entry = entry(self.table.snapshot().metadata(), commit, metadata);
        self.table.append(&entry).await.map_err(|error| match error {
            DeltaTableError::VersionAlreadyExists(_) => Error::Raced { url: self.url() },
            error => failed(&self.of.url, "commit")(error),
        })
    }

    async fn pause(&mut self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// What the log entry of a commit says.
fn entry(table: &Metadata, commit: &Commit, metadata: Option<Metadata>) -> CommitData {
    let partition_by = partition_columns(table).to_vec();
    let operation = DeltaOperation::Write {
        mode: SaveMode::Append,
        partition_by: (!partition_by.is_empty()).then_some(partition_by),
        predicate: None,
    };
    // Without a time of its own the number never expires, whatever retention the table's owner sets.
    let transaction = Transaction::new(&commit.app_id, commit.version);
    let adds = commit.adds.iter().cloned().map(Action::Add);
    let actions = metadata.map(Action::Metadata).into_iter().chain(adds).collect();
    CommitData::new(actions, operation, HashMap::new(), vec![transaction])
}
