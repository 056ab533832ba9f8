//! A table's log as a writer needs it: the newest version, the columns, and how far each job has committed.
//!
//! The `deltalake` crate's own handle keeps the description of every file of a table in memory, with its statistics:
//! some 30 kB for a file of alerts, for as long as the job runs. A commit that only adds asks for none of them, so
//! this handle keeps the table's description alone, and its memory does not depend on how large a table has grown.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::Utc;
use deltalake::DeltaTableError;
use deltalake::checkpoints::cleanup_expired_logs_for;
use deltalake::kernel::transaction::CommitData;
use deltalake::kernel::{Protocol, Scan, Snapshot};
use deltalake::logstore::{CommitOrBytes, LogStoreRef};
use deltalake::table::config::TablePropertiesExt;
use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use tracing::{Span, warn};
use url::Url;
use uuid::Uuid;

use super::{Error, failed};

/// Rules for writers of versions before this one are kept, or their tables refused when they are opened.
const IDENTITY_COLUMNS: i32 = 6;
/// From this version on a table names what its writers must know.
const NAMED_FEATURES: i32 = 7;
/// Of those, the ones that a commit which only adds files obeys, or that are refused when a table is opened.
const OBEYED: [&str; 11] = [
    "appendOnly",
    "changeDataFeed",
    "checkConstraints",
    "columnMapping",
    "deletionVectors",
    "generatedColumns",
    "invariants",
    "timestampNtz",
    "v2Checkpoint",
    "variantType",
    "variantType-preview",
];

#[derive(Debug)]
pub(super) struct Handle {
    url: Url,
    store: LogStoreRef,
    snapshot: Arc<Snapshot>,
}

impl Handle {
    /// Reads the newest description; a table that is not there is [`Error::Missing`].
    pub async fn load(url: &Url, store: LogStoreRef) -> Result<Handle, Error> {
        if !store.is_delta_table_location().await.map_err(failed(url, "look for the table"))? {
            return Err(Error::Missing { url: url.to_string() });
        }
        let snapshot = Snapshot::try_new(store.as_ref(), None).await.map_err(failed(url, "read its log"))?;
        Ok(Handle { url: url.clone(), store, snapshot: Arc::new(snapshot) })
    }

    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    pub fn store(&self) -> LogStoreRef {
        Arc::clone(&self.store)
    }

    /// Reads the entries since the last look.
    pub async fn update(&mut self) -> Result<(), Error> {
        self.catch_up().await.map_err(failed(&self.url, "read its log"))
    }

    async fn catch_up(&mut self) -> Result<(), DeltaTableError> {
        self.store.refresh().await?;
        self.snapshot = Arc::clone(&self.snapshot).update(self.store.engine(None), None).await?;
        Ok(())
    }

    /// The number of the application's last transaction, as of the last look.
    pub async fn transaction_version(&self, app_id: &str) -> Result<Option<i64>, Error> {
        let engine = self.store.engine(None);
        let app_id = app_id.to_owned();
        let read = move |scan: Scan| Ok(scan.snapshot().get_app_id_version(&app_id, engine.as_ref())?);
        self.of_kernel(read).await.map_err(failed(&self.url, "read its log"))
    }

    /// Which of these data files the table holds, by their names without folders, as of the last look. All files of
    /// the table go by, none is kept.
    pub async fn holds(&self, names: &BTreeSet<String>) -> Result<BTreeSet<String>, Error> {
        let name = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
        let files = self.snapshot.file_views(self.store.as_ref(), None).map_ok(|view| name(&view.path()));
        let held = files.try_filter(|name| std::future::ready(names.contains(name)));
        held.try_collect().await.map_err(failed(&self.url, "read its log"))
    }

    /// Puts the entry after the last look, and fails if there is one. Its version comes back.
    pub async fn append(&mut self, entry: &CommitData) -> Result<u64, DeltaTableError> {
        let version = self.snapshot.version() + 1;
        let body = entry.get_bytes()?;
        let id = Uuid::new_v4();
        let body = match self.store.name().as_str() {
            "DefaultLogStore" => CommitOrBytes::LogBytes(body),
            // One that renames instead of putting on a condition.
            _ => {
                let path = Path::from(format!("_delta_log/_commit_{id}.json.tmp"));
                self.store.object_store(None).put(&path, body.into()).await?;
                CommitOrBytes::TmpCommit(path)
            }
        };
        if let Err(error) = self.store.write_commit_entry(version, body.clone(), id).await {
            if let CommitOrBytes::TmpCommit(_) = body {
                self.store.abort_commit_entry(version, body, id).await?;
            }
            return Err(error.into());
        }
        // The entry stands, whatever becomes of the rest: the next look reads it, the next checkpoint makes up for one.
        if let Err(error) = self.after(version).await {
            warn!(url = %self.url, version, %error, "delta log not tended after a commit");
        }
        Ok(version)
    }

    /// Writes a checkpoint where one is due, and removes entries that are older than the table's owner wants.
    async fn after(&mut self, version: u64) -> Result<(), DeltaTableError> {
        self.catch_up().await?;
        let properties = self.snapshot.table_properties();
        if !(version + 1).is_multiple_of(properties.checkpoint_interval().get()) {
            return Ok(());
        }
        let retention = properties.log_retention_duration().as_millis() as i64;
        let cleans_up = properties.enable_expired_log_cleanup();
        let engine = self.store.engine(None);
        self.of_kernel(move |scan| Ok(scan.snapshot().checkpoint(engine.as_ref(), None).map(|_| ())?)).await?;
        if cleans_up {
            let before = Utc::now().timestamp_millis() - retention;
            cleanup_expired_logs_for(version, self.store.as_ref(), before, None).await?;
        }
        // From the checkpoint: the entries before it may be gone.
        self.snapshot = Arc::new(Snapshot::try_new(self.store.as_ref(), None).await?);
        Ok(())
    }

    /// The snapshot of the Delta kernel, whose calls wait for the store and so have a thread of their own.
    async fn of_kernel<T: Send + 'static>(
        &self,
        call: impl FnOnce(Scan) -> Result<T, DeltaTableError> + Send + 'static,
    ) -> Result<T, DeltaTableError> {
        let scan = self.snapshot.scan_builder().with_skip_stats(true).build()?;
        let span = Span::current();
        let called = tokio::task::spawn_blocking(move || span.in_scope(|| call(scan)));
        called.await.map_err(|error| DeltaTableError::Generic(error.to_string()))?
    }
}

/// Refuses a table whose writers must know what we do not.
pub(super) fn refuse_unknown_features(url: &Url, protocol: &Protocol) -> Result<(), Error> {
    let refuse = |feature| {
        let remedy = "upgrade redpoll, or write to another table";
        Err(Error::Unsupported { url: url.to_string(), feature, remedy })
    };
    let version = protocol.min_writer_version();
    if version < IDENTITY_COLUMNS {
        return Ok(());
    }
    if version != NAMED_FEATURES {
        return refuse(format!("its writers must be of version {version}"));
    }
    let asked = protocol.writer_features().unwrap_or_default();
    let unknown: Vec<&str> = asked.iter().map(AsRef::as_ref).filter(|name| !OBEYED.contains(name)).collect();
    match unknown.is_empty() {
        true => Ok(()),
        false => refuse(format!("its writers must know {}", unknown.join(", "))),
    }
}
