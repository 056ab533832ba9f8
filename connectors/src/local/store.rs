//! The folder and its tables.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions};
use futures::StreamExt;
use futures::stream::BoxStream;
use parking_lot::RwLock;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

use super::codec;
use super::names::{self, Names};
use super::writer::{self, Put};
use crate::widecolumn::{Backend, Batch, Cell, Column, Error, KeyRange, MAX_KEY, Row, Scan, check_table, nearest};

/// Puts that one `fdatasync` covers hold about this many bytes at most.
pub const GROUP_BYTES: usize = 32 << 20;
/// Puts that wait for the writer; more wait in their callers.
const MAX_WAITING: usize = 16;
/// Of uncompressed blocks, in memory.
const CACHE_BYTES: u64 = 64 << 20;
/// Of one table's rows in memory, before they become a file.
const MEMTABLE_BYTES: u64 = 32 << 20;
/// Of the journal: with many tables it bounds what all of them hold in memory, and what a restart reads again.
const JOURNAL_BYTES: u64 = 256 << 20;
/// A scan's batch ends at either.
const BATCH_BYTES: usize = 1 << 20;
const BATCH_ROWS: usize = 4096;

/// The open folder. Cheap to clone; the last clone closes it.
#[derive(Clone)]
pub struct Store {
    files: Arc<Files>,
    writer: Arc<writer::Thread>,
}

/// What readers and the writer share.
pub(super) struct Files {
    pub location: String,
    pub database: Database,
    /// Entries of [`names::entry`].
    pub columns: Keyspace,
    tables: RwLock<HashMap<String, Arc<Table>>>,
}

pub(super) struct Table {
    pub name: String,
    pub rows: Keyspace,
    pub names: RwLock<Names>,
}

impl Store {
    /// Opens a folder, or makes one.
    pub fn open(path: &Path) -> Result<Store, Error> {
        let location = path.display().to_string();
        let database = Database::builder(path)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES)
            .open()
            .map_err(|error| failed(&location, error))?;
        let columns =
            database.keyspace("columns", KeyspaceCreateOptions::default).map_err(|error| failed(&location, error))?;
        let files = Files { location, database, columns, tables: RwLock::default() };
        for keyspace in files.database.list_keyspace_names() {
            if let Some(table) = keyspace.strip_prefix(TABLE_PREFIX) {
                files.table_or_new(table)?;
            }
        }
        let files = Arc::new(files);
        let writer = writer::Thread::start(files.clone(), MAX_WAITING)?;
        Ok(Store { files, writer: Arc::new(writer) })
    }

    /// The folder.
    pub fn location(&self) -> &str {
        &self.files.location
    }
}

const TABLE_PREFIX: &str = "table.";

impl Files {
    pub fn failed(&self, error: fjall::Error) -> Error {
        failed(&self.location, error)
    }

    pub fn malformed(&self, table: &str, key: &[u8]) -> Error {
        let reason = format!("row '{}' of table '{table}' is damaged; restore the folder", key.escape_ascii());
        Error::Storage { location: self.location.clone(), reason }
    }

    fn table(&self, name: &str) -> Result<Arc<Table>, Error> {
        let tables = self.tables.read();
        tables.get(name).cloned().ok_or_else(|| Error::MissingTable {
            table: name.into(),
            remedy: nearest(name, tables.keys().map(String::as_str)),
        })
    }

    fn table_or_new(&self, name: &str) -> Result<(), Error> {
        check_table(name)?;
        let mut tables = self.tables.write();
        if tables.contains_key(name) {
            return Ok(());
        }
        let keyspace = format!("{TABLE_PREFIX}{name}");
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
        let rows = self.database.keyspace(&keyspace, options).map_err(|e| self.failed(e))?;
        let mut names = Names::default();
        for entry in self.columns.prefix(names::prefix(name)) {
            let value = entry.value().map_err(|error| self.failed(error))?;
            names.add(names::column(&value).ok_or_else(|| self.malformed("columns", name.as_bytes()))?);
        }
        tables.insert(name.into(), Arc::new(Table { name: name.into(), rows, names: RwLock::new(names) }));
        Ok(())
    }
}

fn failed(location: &str, error: fjall::Error) -> Error {
    match error {
        fjall::Error::Locked => Error::Locked { location: location.into() },
        // As the system says it, without the library's names around it.
        fjall::Error::Io(error) => Error::Storage { location: location.into(), reason: error.to_string() },
        error => Error::Storage { location: location.into(), reason: error.to_string() },
    }
}

#[async_trait]
impl Backend for Store {
    async fn create(&self, table: &str, _families: &[String]) -> Result<(), Error> {
        let (files, table) = (self.files.clone(), table.to_string());
        self.blocking(move || files.table_or_new(&table)).await
    }

    async fn put(&self, table: &str, batch: Batch) -> Result<(), Error> {
        check(table, &batch)?;
        let (done, answer) = oneshot::channel();
        let put = Put { table: self.files.table(table)?, batch, done };
        let stopped = || Error::Storage { location: self.files.location.clone(), reason: "its writer stopped".into() };
        self.writer.puts().send(put).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    fn scan(&self, table: &str, scan: Scan) -> BoxStream<'static, Result<Batch, Error>> {
        // Two batches ahead of the reader; a reader that is gone ends the scan at its next batch.
        let (batches, receiver) = mpsc::channel(2);
        let table = self.files.table(table);
        let files = self.files.clone();
        tokio::task::spawn_blocking(move || {
            let scanned = table.and_then(|table| files.scan(&table, scan, &batches));
            if let Err(error) = scanned {
                // The reader may be gone: then nobody is left to tell.
                let _ = batches.blocking_send(Err(error));
            }
        });
        ReceiverStream::new(receiver).boxed()
    }

    async fn tables(&self) -> Result<Vec<String>, Error> {
        let mut tables: Vec<String> = self.files.tables.read().keys().cloned().collect();
        tables.sort();
        Ok(tables)
    }
}

impl Store {
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let stopped = |error: tokio::task::JoinError| Error::Storage {
            location: self.files.location.clone(),
            reason: error.to_string(),
        };
        tokio::task::spawn_blocking(work).await.map_err(stopped)?
    }
}

fn check(table: &str, batch: &Batch) -> Result<(), Error> {
    let refused = |reason: String| Err(Error::Refused { table: table.into(), reason });
    for row in &batch.rows {
        if row.key.is_empty() || row.key.len() > MAX_KEY {
            return refused(format!("a row key has {} bytes; it must have 1 to {MAX_KEY}", row.key.len()));
        }
        if let Some(cell) = row.cells.iter().find(|cell| cell.column as usize >= batch.columns.len()) {
            return refused(format!("a cell names column {} of {}", cell.column, batch.columns.len()));
        }
    }
    match batch.columns.iter().find(|column| column.family.contains('\0')) {
        Some(column) => refused(format!("family {:?} has a zero in it", column.family)),
        None => Ok(()),
    }
}

type Batches = mpsc::Sender<Result<Batch, Error>>;

impl Files {
    fn scan(&self, table: &Table, scan: Scan, to: &Batches) -> Result<(), Error> {
        let KeyRange { start, end } = scan.range;
        if end.as_ref().is_some_and(|end| *end <= start) || scan.limit == Some(0) {
            return Ok(());
        }
        let entries = match end {
            Some(end) => table.rows.range(start..end),
            None => table.rows.range(start..),
        };
        // The names after the rows: every column of a row that the iterator sees has its name by now.
        let selection = Selection::new(&table.names.read(), scan.columns);
        let limit = scan.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
        let (mut rows, mut bytes) = (Vec::new(), 0);
        for entry in entries.take(limit) {
            let (key, value) = entry.into_inner().map_err(|error| self.failed(error))?;
            let value = Bytes::copy_from_slice(&value);
            let cells = codec::decode(&value).ok_or_else(|| self.malformed(&table.name, &key))?;
            bytes += key.len() + value.len();
            rows.push(Row { key: Bytes::copy_from_slice(&key), cells: selection.of(cells) });
            if bytes >= BATCH_BYTES || rows.len() >= BATCH_ROWS {
                bytes = 0;
                if to.blocking_send(Ok(selection.batch(std::mem::take(&mut rows)))).is_err() {
                    return Ok(());
                }
            }
        }
        if !rows.is_empty() {
            let _ = to.blocking_send(Ok(selection.batch(rows)));
        }
        Ok(())
    }
}

/// The columns of a scan's batches, and where each column of the table stands among them.
struct Selection {
    columns: Vec<Column>,
    places: Vec<Option<u32>>,
}

impl Selection {
    fn new(names: &Names, wanted: Option<Vec<Column>>) -> Selection {
        let Some(wanted) = wanted else {
            let places = (0..names.columns().len() as u32).map(Some).collect();
            return Selection { columns: names.columns().to_vec(), places };
        };
        let mut places = vec![None; names.columns().len()];
        for (column, place) in wanted.iter().zip(0..) {
            if let Some(number) = names.number(column) {
                places[number as usize] = Some(place);
            }
        }
        Selection { columns: wanted, places }
    }

    fn of(&self, cells: Vec<codec::Cell>) -> Vec<Cell> {
        let cells = cells.into_iter().filter_map(|cell| {
            let column = *self.places.get(cell.column as usize)?;
            Some(Cell { column: column?, timestamp: cell.timestamp, value: cell.value })
        });
        cells.collect()
    }

    fn batch(&self, rows: Vec<Row>) -> Batch {
        Batch { columns: self.columns.clone(), rows }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("location", &self.files.location).finish_non_exhaustive()
    }
}
