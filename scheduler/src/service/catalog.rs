//! The tables of a warehouse, so that SQL finds by name what pipelines wrote: one small object for each.

use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use redpoll_core::sink::{SinkKind, SinkSpec};
use serde::{Deserialize, Serialize};

/// Where a table is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    pub name: String,
    pub kind: SinkKind,
    pub url: String,
}

/// The tables below one warehouse.
pub struct TableCatalog<'a> {
    pub store: &'a dyn ObjectStore,
    pub warehouse: &'a Path,
}

impl TableCatalog<'_> {
    fn root(&self) -> Path {
        self.warehouse.clone().join("_redpoll").join("tables")
    }

    /// Adds what a job writes, except topics and messages, which are no tables to read.
    pub async fn add(&self, sinks: &[SinkSpec]) -> Result<(), object_store::Error> {
        for sink in sinks.iter().filter(|sink| !matches!(sink.kind, SinkKind::Topic | SinkKind::Outbox)) {
            let table = Table { name: sink.name.clone(), kind: sink.kind, url: sink.url.clone() };
            let json = serde_json::to_vec(&table).map_err(|error| malformed(&sink.name, &error))?;
            self.store.put(&self.root().join(format!("{}.json", sink.name)), PutPayload::from(json)).await?;
        }
        Ok(())
    }

    pub async fn tables(&self) -> Result<Vec<Table>, object_store::Error> {
        let root = self.root();
        let mut tables: Vec<Table> = self
            .store
            .list(Some(&root))
            .map(|object| async move {
                let path = object?.location;
                let bytes = self.store.get(&path).await?.bytes().await?;
                serde_json::from_slice(&bytes).map_err(|error| malformed(path.as_ref(), &error))
            })
            .buffered(16)
            .try_collect()
            .await?;
        tables.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(tables)
    }
}

fn malformed(name: &str, error: &serde_json::Error) -> object_store::Error {
    object_store::Error::Generic { store: "tables", source: format!("{name}: {error}").into() }
}
