//! The one thread that writes: puts that wait together are merged, written and synced together.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use fjall::{OwnedWriteBatch, PersistMode};
use tokio::sync::{mpsc, oneshot};

use super::codec::{self, Cell};
use super::names;
use super::store::{Files, GROUP_BYTES, Table};
use crate::widecolumn::{Batch, Error};

/// A put that waits. Its batch is checked.
pub(super) struct Put {
    pub table: Arc<Table>,
    pub batch: Batch,
    pub done: oneshot::Sender<Result<(), Error>>,
}

/// The thread; it ends, and is waited for, when this is dropped, after the puts it has taken are written.
pub(super) struct Thread {
    puts: Option<mpsc::Sender<Put>>,
    thread: Option<JoinHandle<()>>,
}

impl Thread {
    pub fn start(files: Arc<Files>, max_waiting: usize) -> Result<Thread, Error> {
        let (puts, waiting) = mpsc::channel(max_waiting);
        let location = files.location.clone();
        let thread = std::thread::Builder::new().name("store-writer".into()).spawn(move || run(&files, waiting));
        let thread = thread.map_err(|error| Error::Storage { location, reason: error.to_string() })?;
        Ok(Thread { puts: Some(puts), thread: Some(thread) })
    }

    pub fn puts(&self) -> &mpsc::Sender<Put> {
        self.puts.as_ref().expect("the sender is taken on drop alone")
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.puts = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the store's writer panicked");
        }
    }
}

fn run(files: &Files, mut waiting: mpsc::Receiver<Put>) {
    // After a failed sync nobody knows what is on the disk: write no more, and let a restart read what is there.
    let mut broken: Option<Error> = None;
    while let Some(first) = waiting.blocking_recv() {
        let mut bytes = size(&first.batch);
        let mut group = vec![first];
        while bytes < GROUP_BYTES
            && let Ok(next) = waiting.try_recv()
        {
            bytes += size(&next.batch);
            group.push(next);
        }
        match &broken {
            Some(error) => group.into_iter().for_each(|put| answer(put.done, Err(error.clone()))),
            None => broken = write(files, group).err(),
        }
        if let Some(error) = &broken {
            tracing::error!(location = files.location, %error, "the store takes no more puts until it is restarted");
        }
    }
}

/// Writes a group and answers its puts. An error is one of the disk.
fn write(files: &Files, group: Vec<Put>) -> Result<(), Error> {
    let mut merged = Merged::default();
    let mut batch = files.database.batch().durability(Some(PersistMode::SyncData));
    let mut staged = Vec::with_capacity(group.len());
    for Put { table, batch: put, done } in group {
        match merged.stage(files, &table, put, &mut batch) {
            Ok(()) => staged.push(done),
            Err(error) => answer(done, Err(error)),
        }
    }
    for ((_, key), (table, cells)) in merged.rows {
        batch.insert(&table.rows, key.as_ref(), codec::encode(&cells));
    }
    let written = batch.commit().map_err(|error| files.failed(error));
    staged.into_iter().for_each(|done| answer(done, written.clone()));
    written
}

/// A caller that is gone needs no answer.
fn answer(done: oneshot::Sender<Result<(), Error>>, result: Result<(), Error>) {
    let _ = done.send(result);
}

/// A table, by its place in memory, and a key in it.
type RowOf = (*const Table, Bytes);

/// The rows of a group as they will be.
#[derive(Default)]
struct Merged {
    rows: HashMap<RowOf, (Arc<Table>, Vec<Cell>)>,
}

impl Merged {
    fn stage(
        &mut self,
        files: &Files,
        table: &Arc<Table>,
        put: Batch,
        batch: &mut OwnedWriteBatch,
    ) -> Result<(), Error> {
        let numbers = numbers(files, table, &put, batch);
        for row in put.rows {
            let cells = row.cells.into_iter().map(|cell| Cell {
                column: numbers[cell.column as usize],
                timestamp: cell.timestamp,
                value: cell.value,
            });
            let cells = codec::normalise(cells.collect());
            let place = (Arc::as_ptr(table), row.key);
            let stored = match self.rows.remove(&place) {
                Some((_, cells)) => cells,
                None => stored(files, table, &place.1)?,
            };
            self.rows.insert(place, (table.clone(), codec::merge(stored, cells)));
        }
        Ok(())
    }
}

fn stored(files: &Files, table: &Table, key: &[u8]) -> Result<Vec<Cell>, Error> {
    let Some(value) = table.rows.get(key).map_err(|error| files.failed(error))? else { return Ok(Vec::new()) };
    codec::decode(&Bytes::copy_from_slice(&value)).ok_or_else(|| files.malformed(&table.name, key))
}

/// The number of each column of a put. New ones are written with the rows that use them.
fn numbers(files: &Files, table: &Table, put: &Batch, batch: &mut OwnedWriteBatch) -> Vec<u32> {
    let known: Vec<_> = put.columns.iter().map(|column| table.names.read().number(column)).collect();
    let number = |(column, known): (&crate::widecolumn::Column, Option<u32>)| {
        known.unwrap_or_else(|| {
            let mut names = table.names.write();
            names.number(column).unwrap_or_else(|| {
                let number = names.add(column.clone());
                let (key, value) = names::entry(&table.name, number, column);
                batch.insert(&files.columns, key, value);
                number
            })
        })
    };
    put.columns.iter().zip(known).map(number).collect()
}

/// Bytes of a put, about.
fn size(batch: &Batch) -> usize {
    let cells = |row: &crate::widecolumn::Row| row.cells.iter().map(|cell| cell.value.len() + 4).sum::<usize>();
    batch.rows.iter().map(|row| row.key.len() + cells(row)).sum()
}
