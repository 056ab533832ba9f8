//! Open snapshots by table and version, so that planning a query does not read a log from its start.
//!
//! A pinned version never changes, and a newer one is reached from an older by the entries between them. Both are
//! bounded: the oldest version of a table goes first, and beyond the limit of tables any other one.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

use deltalake::logstore::LogStoreRef;
use deltalake::table::state::DeltaTableState;
use parking_lot::Mutex;
use url::Url;

use super::{Error, failed, log_store};

/// Tables that are kept open.
const MAX_TABLES: usize = 64;
/// Versions of one table that are kept.
const MAX_VERSIONS: usize = 8;

static TABLES: LazyLock<Mutex<HashMap<Url, Arc<OpenTable>>>> = LazyLock::new(Mutex::default);

struct OpenTable {
    store: LogStoreRef,
    versions: tokio::sync::Mutex<BTreeMap<u64, DeltaTableState>>,
}

/// The table at `version`, or at its newest, and the store that holds its files.
pub(super) async fn snapshot(url: &Url, version: Option<u64>) -> Result<(DeltaTableState, LogStoreRef), Error> {
    let table = open(url)?;
    let mut versions = table.versions.lock().await;
    if let Some(state) = version.and_then(|version| versions.get(&version)) {
        return Ok((state.clone(), Arc::clone(&table.store)));
    }
    let base = versions.range(..=version.unwrap_or(u64::MAX)).next_back().map(|(_, state)| state.clone());
    let state = match base {
        Some(state) => advance(url, &table.store, state, version).await?,
        None => read(url, &table.store, version).await?,
    };
    versions.insert(state.version(), state.clone());
    while versions.len() > MAX_VERSIONS {
        versions.pop_first();
    }
    Ok((state, Arc::clone(&table.store)))
}

/// The number of the newest version.
pub async fn newest(url: &Url) -> Result<u64, Error> {
    Ok(snapshot(url, None).await?.0.version())
}

fn open(url: &Url) -> Result<Arc<OpenTable>, Error> {
    let mut tables = TABLES.lock();
    if let Some(table) = tables.get(url) {
        return Ok(Arc::clone(table));
    }
    if tables.len() >= MAX_TABLES
        && let Some(other) = tables.keys().next().cloned()
    {
        tables.remove(&other);
    }
    let table = Arc::new(OpenTable { store: log_store(url)?, versions: Default::default() });
    tables.insert(url.clone(), Arc::clone(&table));
    Ok(table)
}

async fn read(url: &Url, store: &LogStoreRef, version: Option<u64>) -> Result<DeltaTableState, Error> {
    if !store.is_delta_table_location().await.map_err(failed(url, "look for the table"))? {
        return Err(Error::Missing { url: url.to_string() });
    }
    DeltaTableState::try_new(store.as_ref(), version).await.map_err(failed(url, "read its log"))
}

/// Reads the entries after `state`. A log that does not go on from there (cleaned up, or made anew) is read whole.
async fn advance(
    url: &Url,
    store: &LogStoreRef,
    mut state: DeltaTableState,
    version: Option<u64>,
) -> Result<DeltaTableState, Error> {
    match state.update(store.as_ref(), version).await {
        Ok(()) if version.is_none_or(|version| version == state.version()) => Ok(state),
        _ => read(url, store, version).await,
    }
}
