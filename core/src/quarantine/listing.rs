//! The quarantine of a job as a whole: every item, and what became of it since.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::parquet::errors::ParquetError;
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectStore, ObjectStoreExt, path::Path};

use super::file::{BYTES, decode, decode_outlines, entries, schema};
use super::{Item, SetAside};
use crate::ids::{Epoch, SplitId};
use crate::log::{self, Fold, Log};
use crate::protocol::JobPaths;

/// Files that are read at a time.
const READ_AHEAD: usize = 16;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Log(#[from] log::Error),
    #[error("{path}: {source}")]
    Store { path: Path, source: object_store::Error },
    #[error("{path}: not a quarantine file: {source}")]
    Damaged { path: Path, source: ParquetError },
}

/// What became of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    SetAside,
    /// An epoch that is not committed sends it again.
    Replaying(Epoch),
    /// The epoch that sent it again found nothing wrong.
    Replayed(Epoch),
    /// The epoch that sent it again set it aside once more, as an item of its own.
    FailedAgain(Epoch),
}

impl State {
    pub fn epoch(self) -> Option<Epoch> {
        match self {
            State::SetAside => None,
            State::Replaying(epoch) | State::Replayed(epoch) | State::FailedAgain(epoch) => Some(epoch),
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::SetAside => "set aside",
            State::Replaying(_) => "replaying",
            State::Replayed(_) => "replayed",
            State::FailedAgain(_) => "failed again",
        })
    }
}

/// An item with its name.
#[derive(Debug, Clone)]
pub struct Listed {
    pub item: Item,
    /// The attempt that set it aside.
    pub attempt: String,
    pub entry: SetAside,
    pub state: State,
}

/// A file of a chosen attempt.
struct Found {
    epoch: Epoch,
    split: SplitId,
    attempt: String,
    batches: Vec<RecordBatch>,
    entries: Vec<SetAside>,
}

/// Every item of a job, in order of epochs.
pub async fn list(log: &Log, store: &dyn ObjectStore, paths: &JobPaths) -> Result<Vec<Listed>, Error> {
    let (fold, files) = read(log, store, paths, Records::Kept).await?;
    let mut listed = Vec::new();
    let states = states(&fold, &files);
    for (Found { epoch, split, attempt, entries, .. }, states) in files.into_iter().zip(states) {
        let rows = (0..).zip(entries).zip(states).map(|((row, entry), state)| {
            let item = Item { epoch, split, row };
            Listed { item, attempt: attempt.clone(), entry, state }
        });
        listed.extend(rows);
    }
    Ok(listed)
}

/// Whether the bytes of records are wanted too: they are nearly all of a quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Records {
    Kept,
    LeftOut,
}

/// The columns of [`schema`], the names of the items, and what became of them; without those of records if these are left
/// out.
pub fn table_schema(records: Records) -> SchemaRef {
    let more = [
        Field::new("split", DataType::Int32, false),
        Field::new("item", DataType::Int32, false),
        Field::new("status", DataType::Utf8, false),
        Field::new("replayed_in", DataType::Int64, true),
    ];
    let is_wanted = |field: &&Arc<Field>| records == Records::Kept || !BYTES.contains(&field.name().as_str());
    let file = schema();
    let fields = file.fields().iter().filter(is_wanted).map(|field| field.as_ref().clone());
    let fields = fields.chain(more).collect::<Vec<_>>();
    Arc::new(Schema::new(fields))
}

/// As [`list`], as rows of [`table_schema`].
pub async fn table(
    log: &Log,
    store: &dyn ObjectStore,
    paths: &JobPaths,
    records: Records,
) -> Result<Vec<RecordBatch>, Error> {
    let (fold, files) = read(log, store, paths, records).await?;
    let schema = table_schema(records);
    let mut table = Vec::new();
    for (file, states) in files.iter().zip(states(&fold, &files)) {
        let mut first = 0;
        for batch in &file.batches {
            let n = batch.num_rows();
            let states = &states[first..first + n];
            let epochs = states.iter().map(|state| state.epoch().map(|epoch| epoch.0 as i64));
            let columns: [ArrayRef; 4] = [
                Arc::new(Int32Array::from(vec![file.split.0 as i32; n])),
                Arc::new(Int32Array::from_iter_values(first as i32..(first + n) as i32)),
                Arc::new(StringArray::from_iter_values(states.iter().map(State::to_string))),
                Arc::new(epochs.collect::<Int64Array>()),
            ];
            let of_file = batch.num_columns() - if records == Records::Kept { 0 } else { BYTES.len() };
            let columns = batch.columns()[..of_file].iter().cloned().chain(columns).collect();
            let path = paths.quarantined(file.epoch, file.split, &file.attempt);
            let rows = RecordBatch::try_new(schema.clone(), columns);
            table.push(rows.map_err(|error| Error::Damaged { path, source: error.into() })?);
            first += n;
        }
    }
    Ok(table)
}

async fn read(
    log: &Log,
    store: &dyn ObjectStore,
    paths: &JobPaths,
    records: Records,
) -> Result<(Fold, Vec<Found>), Error> {
    // The files first: an epoch that is committed meanwhile shows as under way, and none shows without its items.
    let names = log.quarantine_files().await?;
    let files = futures::stream::iter(names).map(|path| found(store, paths, path, records)).buffered(READ_AHEAD);
    let files: Vec<Option<Found>> = files.try_collect().await?;
    Ok((log.read().await?, files.into_iter().flatten().collect()))
}

async fn found(
    store: &dyn ObjectStore,
    paths: &JobPaths,
    path: Path,
    records: Records,
) -> Result<Option<Found>, Error> {
    let name = path.filename().and_then(|name| name.strip_suffix(".parquet")).and_then(|name| name.split_once('-'));
    let split = name.and_then(|(split, _)| split.parse().ok().map(SplitId));
    let (Some(epoch), Some((_, attempt)), Some(split)) = (paths.epoch_of(&path), name, split) else { return Ok(None) };
    let attempt = attempt.to_owned();
    let bytes = async { store.get(&path).await?.bytes().await };
    let bytes = bytes.await.map_err(|source| Error::Store { path: path.clone(), source })?;
    let decode = if records == Records::Kept { decode } else { decode_outlines };
    let rows = decode(bytes).and_then(|batches| {
        let entries = batches.iter().map(entries).collect::<Result<Vec<_>, _>>()?;
        Ok((batches, entries.into_iter().flatten().collect()))
    });
    let (batches, entries) = rows.map_err(|source| Error::Damaged { path: path.clone(), source })?;
    Ok(Some(Found { epoch, split, attempt, batches, entries }))
}

/// What became of each item of each file.
fn states(fold: &Fold, files: &[Found]) -> Vec<Vec<State>> {
    let mut of_record: HashMap<_, Vec<&SetAside>> = HashMap::new();
    for (epoch, entry) in files.iter().flat_map(|file| file.entries.iter().map(|entry| (file.epoch, entry))) {
        of_record.entry((epoch, position(entry))).or_default().push(entry);
    }
    let state = |file: &Found, row: u32, entry: &SetAside| {
        let item = Item { epoch: file.epoch, split: file.split, row };
        let Some(epoch) = fold.replayed.epoch(&item) else { return State::SetAside };
        let later = of_record.get(&(epoch, position(entry)));
        let again = later.is_some_and(|later| later.iter().any(|later| is_again(entry, later)));
        match again {
            _ if epoch >= fold.first_open() => State::Replaying(epoch),
            true => State::FailedAgain(epoch),
            false => State::Replayed(epoch),
        }
    };
    let of = |file: &Found| (0..).zip(&file.entries).map(|(row, entry)| state(file, row, entry)).collect();
    files.iter().map(of).collect()
}

fn position(entry: &SetAside) -> (&str, i32, i64) {
    (&entry.record.topic, entry.record.partition, entry.record.offset)
}

/// Whether what was set aside later of a record is, wholly or in part, what was set aside of it before.
fn is_again(before: &SetAside, later: &SetAside) -> bool {
    let overlap = |a: &Option<Vec<String>>, b: &Option<Vec<String>>| match (a, b) {
        (Some(a), Some(b)) => a.iter().any(|name| b.contains(name)),
        _ => true,
    };
    let (a, b) = (&before.why, &later.why);
    (a.alert.is_none() || b.alert.is_none() || a.alert == b.alert)
        && (a.hash.is_none() || b.hash.is_none() || a.hash == b.hash)
        && overlap(&a.lacking, &b.lacking)
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::super::file::encode;
    use super::super::file::tests::{attempt, item, refused};
    use super::super::replay::cut;
    use super::super::{Replay, Why};
    use super::*;
    use crate::ledger::sums;
    use crate::protocol::{Entry, Intent, Split};

    async fn put(store: &dyn ObjectStore, paths: &JobPaths, epoch: u64, items: &[SetAside]) {
        let file = encode(&attempt(epoch, 0), items).unwrap();
        store.put(&paths.quarantined(Epoch(epoch), SplitId(0), "t-a"), file.into()).await.unwrap();
    }

    async fn log_epoch(log: &Log, fold: &mut Fold, epoch: u64, names: &[&str], is_prepared: bool) {
        let replays: Vec<Replay> = names.iter().map(|name| name.parse().unwrap()).collect();
        let ranges = if names.is_empty() { Vec::new() } else { cut(&replays, 0, 1 << 20, 1).remove(0) };
        let (epoch, splits) = (Epoch(epoch), vec![Split { id: SplitId(0), ranges }]);
        let intent = Intent { epoch, revision: 0, clock: 0, seed: 0, splits, modules: Default::default() };
        log.append(fold, &Entry::Intent(intent)).await.unwrap();
        if is_prepared {
            let attempts = [(SplitId(0), "t-a".to_owned())].into();
            log.append(fold, &Entry::Prepared { epoch, attempts }).await.unwrap();
        }
    }

    #[tokio::test]
    async fn an_item_shows_what_became_of_it() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let paths = JobPaths::new(&Path::from("warehouse"), "ztf");
        let log = Log::new(store.clone(), paths.clone());
        let mut fold = Fold::default();
        let first = [
            item(4, Why::decode("torn")),
            item(5, Why::decode("unknown")),
            item(6, refused("objects", 1)),
            item(6, refused("raw", 1)),
            item(7, Why::decode("torn")),
        ];
        put(store.as_ref(), &paths, 0, &first).await;
        log_epoch(&log, &mut fold, 0, &[], true).await;
        // One is torn still, of another one alert is refused; the two sinks of a third are told apart.
        put(store.as_ref(), &paths, 1, &[item(4, Why::decode("torn")), item(6, refused("raw", 1))]).await;
        log_epoch(&log, &mut fold, 1, &["0/0/t-a/0", "0/0/t-a/1", "0/0/t-a/2,3"], true).await;
        log_epoch(&log, &mut fold, 2, &["1/0/t-a/0"], false).await;
        let states = |listed: Vec<Listed>| {
            let state = |listed: &Listed| format!("{} {:?}", listed.state, listed.state.epoch().map(|epoch| epoch.0));
            listed.iter().map(state).collect::<Vec<_>>()
        };
        let listed = states(list(&log, store.as_ref(), &paths).await.unwrap());
        let replaying = "replaying Some(1)";
        let expected =
            [replaying, replaying, replaying, replaying, "set aside None", "replaying Some(2)", "set aside None"];
        assert_eq!(listed, expected, "nothing is committed");

        let ledger = (0..2).map(|epoch| sums(Epoch(epoch), 0, &[]).unwrap()).collect();
        let (from, to, tables) = (Epoch(0), Epoch(1), Default::default());
        log.append(&mut fold, &Entry::Committed { from, to, tables, ledger }).await.unwrap();
        let listed = states(list(&log, store.as_ref(), &paths).await.unwrap());
        let (well, again) = ("replayed Some(1)", "failed again Some(1)");
        assert_eq!(listed, [again, well, well, again, "set aside None", "replaying Some(2)", "set aside None"]);

        for records in [Records::Kept, Records::LeftOut] {
            let rows = table(&log, store.as_ref(), &paths, records).await.unwrap();
            assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 7);
            assert!(rows.iter().all(|batch| batch.schema() == table_schema(records)));
            let has_bytes = rows.iter().all(|batch| batch.column_by_name("value").is_some());
            assert_eq!(has_bytes, records == Records::Kept);
        }
    }
}
