//! What was sent: a numbered record beside the jobs' logs, one entry for each message that is decided.
//!
//! An entry is a put-if-absent of the next number, as in a job's log. Whoever begins to send appends `Reign` first; a
//! sender that finds its next number taken has been replaced, and leaves. Every [`FOLDED`] entries become a segment, one
//! object; those of `Reign` stay beside it, for a number that is free again would let a sender in that was frozen since.
//!
//! In memory a sent message is 16 bytes.

mod known;

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload};

use super::queue::{pack, unpack};
pub use known::{Aside, Entry, Known, Reign, Sent};

/// How often a record is read again when objects vanish while it is read.
const READ_TRIES: u32 = 5;
/// Entries of a segment.
pub const FOLDED: u64 = 1000;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("entry {0} of the record is another scheduler's: it sends from now on")]
    Replaced(u64),
    #[error("{path}: {source}")]
    Store { path: Path, source: object_store::Error },
    #[error("{path}: not an object of an outbox's record: {reason}; restore it from a backup")]
    Malformed { path: Path, reason: String },
    #[error("{path}: entry {expected} of the record is missing; restore it from a backup, or messages are sent twice")]
    Gap { path: Path, expected: u64 },
}

impl Error {
    /// Whether an object was not there that a listing had named, or should have.
    fn is_missing(&self) -> bool {
        matches!(self, Self::Gap { .. } | Self::Store { source: object_store::Error::NotFound { .. }, .. })
    }
}

/// A handle on the record of one table of a job.
#[derive(Debug, Clone)]
pub struct Record {
    store: Arc<dyn ObjectStore>,
    folder: Path,
}

impl Record {
    /// `outboxes` is the folder of the job's records.
    pub fn new(store: Arc<dyn ObjectStore>, outboxes: &Path, table: &str) -> Self {
        Self { store, folder: outboxes.clone().join(table) }
    }

    fn entry(&self, seq: u64) -> Path {
        self.folder.clone().join(format!("{seq:020}.json"))
    }

    fn segment(&self, from: u64) -> Path {
        self.folder.clone().join(format!("{from:020}-{:020}.jsonl.gz", from + FOLDED - 1))
    }

    /// All that the record says. It is read again while its sender puts entries together.
    pub async fn read(&self) -> Result<Known, Error> {
        let mut tries = 0;
        loop {
            match self.try_read().await {
                Err(error) if error.is_missing() && tries < READ_TRIES => tries += 1,
                read => return read,
            }
        }
    }

    async fn try_read(&self) -> Result<Known, Error> {
        let listed = self.store.list(Some(&self.folder)).map_ok(|object| object.location).try_collect().await;
        let mut names: Vec<Path> = listed.map_err(|source| self.failed(&self.folder, source))?;
        // A segment's name sorts before that of its first entry.
        names.sort();
        let (segments, entries): (Vec<Path>, Vec<Path>) = names.into_iter().partition(is_segment);
        let mut known = Known::default();
        for path in segments {
            self.expect(&path, known.next)?;
            let entries: Vec<Entry> = unpack(&self.get(&path).await?).map_err(|reason| malformed(&path, reason))?;
            entries.iter().for_each(|entry| known.apply(entry));
        }
        known.unfolded = known.next;
        // Those of a segment are there for a moment longer, and those of `Reign` for ever.
        let first = self.entry(known.next);
        let read = futures::stream::iter(entries.into_iter().filter(|path| *path >= first))
            .map(|path| async move { Ok::<_, Error>((self.get(&path).await?, path)) });
        let mut read = read.buffered(16);
        while let Some((bytes, path)) = read.try_next().await? {
            self.expect(&path, known.next)?;
            let entry = serde_json::from_slice(&bytes).map_err(|reason| malformed(&path, reason))?;
            known.apply(&entry);
        }
        Ok(known)
    }

    fn expect(&self, path: &Path, expected: u64) -> Result<(), Error> {
        match seq_of(path) == Some(expected) {
            true => Ok(()),
            false => Err(Error::Gap { path: path.clone(), expected }),
        }
    }

    /// Whether somebody else has begun to send since. One request.
    pub async fn is_replaced(&self, known: &Known) -> Result<bool, Error> {
        let path = self.entry(known.next);
        match self.store.head(&path).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(source) => Err(self.failed(&path, source)),
        }
    }

    /// Writes the next entry and applies it. If this very entry stands there, an earlier try wrote it and its answer was
    /// lost; any other is another sender's.
    pub async fn append(&self, known: &mut Known, entry: &Entry) -> Result<(), Error> {
        let path = self.entry(known.next);
        let body = serde_json::to_vec(entry).map_err(|reason| malformed(&path, reason))?;
        match self.store.put_opts(&path, PutPayload::from(body.clone()), PutMode::Create.into()).await {
            Ok(_) => {}
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                if self.get(&path).await? != body {
                    return Err(Error::Replaced(known.next));
                }
            }
            Err(source) => return Err(self.failed(&path, source)),
        }
        known.apply(entry);
        Ok(())
    }

    /// Puts the oldest entries together in a segment if there are enough of them.
    pub async fn fold(&self, known: &mut Known) -> Result<(), Error> {
        let (from, to) = (known.unfolded, known.unfolded + FOLDED);
        if known.next < to {
            return Ok(());
        }
        let read = futures::stream::iter(from..to).map(|seq| async move {
            let path = self.entry(seq);
            let entry = serde_json::from_slice(&self.get(&path).await?).map_err(|reason| malformed(&path, reason))?;
            Ok::<(Path, Entry), Error>((path, entry))
        });
        let entries: Vec<_> = read.buffered(16).try_collect().await?;
        let path = self.segment(from);
        let body = pack(entries.iter().map(|(_, entry)| entry)).map_err(|reason| malformed(&path, reason))?;
        let put = self.store.put(&path, PutPayload::from(body)).await;
        put.map_err(|source| self.failed(&path, source))?;
        known.unfolded = to;
        let gone = entries.into_iter().filter(|(_, entry)| !matches!(entry, Entry::Reign { .. }));
        let gone = futures::stream::iter(gone.map(|(path, _)| Ok(path)).collect::<Vec<_>>()).boxed();
        let deleted: Result<Vec<Path>, _> = self.store.delete_stream(gone).try_collect().await;
        deleted.map(drop).map_err(|source| self.failed(&self.folder, source))
    }

    async fn get(&self, path: &Path) -> Result<Vec<u8>, Error> {
        let read = async { self.store.get(path).await?.bytes().await };
        read.await.map(|bytes| bytes.to_vec()).map_err(|source| self.failed(path, source))
    }

    fn failed(&self, path: &Path, source: object_store::Error) -> Error {
        Error::Store { path: path.clone(), source }
    }
}

/// Names of the tables that a job has a record of.
pub async fn tables(store: &dyn ObjectStore, outboxes: &Path) -> Result<Vec<String>, Error> {
    let found = store.list_with_delimiter(Some(outboxes)).await;
    let found = found.map_err(|source| Error::Store { path: outboxes.clone(), source })?;
    let mut names: Vec<String> =
        found.common_prefixes.iter().filter_map(|path| path.filename().map(str::to_owned)).collect();
    names.sort();
    Ok(names)
}

fn malformed(path: &Path, reason: impl ToString) -> Error {
    Error::Malformed { path: path.clone(), reason: reason.to_string() }
}

fn is_segment(path: &Path) -> bool {
    path.as_ref().ends_with(".jsonl.gz")
}

/// The number of an entry, or of a segment's first.
fn seq_of(path: &Path) -> Option<u64> {
    path.filename()?.get(..20)?.parse().ok()
}
