//! What became of committed epochs, kept for ever: their ledger lines, and the attempts that were chosen.
//!
//! The log says it first, in `Prepared` and `Committed`. A checkpoint moves the records since the one before it into a
//! *segment*, an object of gzipped JSON lines, and names all segments in order. The newest segment is written anew with
//! the next records at its end until it is full, so segments are few: a job of one epoch a second fills about three a
//! day. Each has its own name, with the term that wrote it, and is never written again under that name.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectStoreExt, PutPayload, path::Path};
use serde::{Deserialize, Serialize};

use super::{Error, Fold, Log, READ_TRIES};
use crate::ids::{Epoch, SplitId, Term};
use crate::ledger::Line;
use crate::protocol::{Intent, JobPaths, queued_by};

/// A segment of at least this many bytes gets no more records.
const FULL_BYTES: u64 = 4 << 20;

/// A committed epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub line: Line,
    /// The chosen attempt of each split.
    pub attempts: BTreeMap<SplitId, String>,
    /// What it covered and how it ran: with it the epoch can be computed again. Older segments lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<Intent>,
}

/// An object that holds the records of epochs `from..=to`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    pub from: Epoch,
    pub to: Epoch,
    /// Of the scheduler that wrote it.
    pub term: Term,
    /// Compressed.
    pub bytes: u64,
}

impl Segment {
    pub fn path(&self, paths: &JobPaths) -> Path {
        paths.history().join(format!("{:012}-{:012}-{}.jsonl.gz", self.from.0, self.to.0, self.term))
    }
}

/// Sums over committed epochs, for those who need not see each.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Sums {
    pub epochs: u64,
    pub fetched: u64,
    pub decoded: u64,
    pub quarantined: u64,
    pub kept: u64,
    pub sinks: BTreeMap<String, u64>,
}

impl Sums {
    pub fn add(&mut self, line: &Line) {
        self.epochs += 1;
        self.fetched += line.fetched;
        self.decoded += line.decoded;
        self.quarantined += line.quarantined;
        self.kept += line.kept;
        for (name, rows) in &line.sinks {
            *self.sinks.entry(name.clone()).or_default() += rows;
        }
    }
}

impl Log {
    /// The ledger lines of all committed epochs, in order.
    pub async fn ledger(&self) -> Result<Vec<Line>, Error> {
        let mut tries = 0;
        loop {
            let fold = self.read().await?;
            match self.records(&fold).map_ok(|record| record.line).try_collect().await {
                Err(Error::Store { source: object_store::Error::NotFound { .. }, .. }) if tries < READ_TRIES => {
                    tries += 1
                }
                lines => return lines,
            }
        }
    }

    /// The records of all epochs that `fold` knows as committed, in order.
    pub fn records<'a>(&'a self, fold: &'a Fold) -> BoxStream<'a, Result<Record, Error>> {
        let segments = futures::stream::iter(&fold.history).map(|segment| self.segment(segment)).buffered(4);
        let old = segments.map_ok(|records| futures::stream::iter(records.into_iter().map(Ok))).try_flatten();
        old.chain(futures::stream::iter(fold.recent.iter().cloned().map(Ok))).boxed()
    }

    /// As [`Log::records`], but only of segments that have one of these epochs; others may come too.
    pub fn records_of<'a>(
        &'a self,
        fold: &'a Fold,
        epochs: &'a BTreeSet<Epoch>,
    ) -> BoxStream<'a, Result<Record, Error>> {
        let wanted = |segment: &&Segment| epochs.range(segment.from..=segment.to).next().is_some();
        let segments = fold.history.iter().filter(wanted);
        let segments = futures::stream::iter(segments).map(|segment| self.segment(segment)).buffered(4);
        let old = segments.map_ok(|records| futures::stream::iter(records.into_iter().map(Ok))).try_flatten();
        old.chain(futures::stream::iter(fold.recent.iter().cloned().map(Ok))).boxed()
    }

    /// The objects that hold an `OUTBOX` table's messages of these epochs, by the attempts that were chosen.
    pub async fn queued(
        &self,
        table: &str,
        epochs: &[(Epoch, &BTreeMap<SplitId, String>)],
    ) -> Result<Vec<(Epoch, Path)>, Error> {
        let mut queued = Vec::new();
        for (epoch, attempts) in epochs {
            let folder = self.paths.queue(*epoch, table);
            let found = self.store.list(Some(&folder)).map_ok(|object| object.location);
            let found = found.try_filter(|path| std::future::ready(queued_by(path, attempts)));
            let mut found: Vec<Path> =
                found.try_collect().await.map_err(|source| Error::Store { path: folder, source })?;
            found.sort();
            queued.extend(found.into_iter().map(|path| (*epoch, path)));
        }
        Ok(queued)
    }

    /// The quarantine files of the attempts that were chosen, in order of epochs. Those of others are of no account.
    pub async fn quarantine_files(&self) -> Result<Vec<Path>, Error> {
        let mut tries = 0;
        loop {
            match self.try_quarantine_files().await {
                Err(Error::Store { source: object_store::Error::NotFound { .. }, .. }) if tries < READ_TRIES => {
                    tries += 1
                }
                files => return files,
            }
        }
    }

    async fn try_quarantine_files(&self) -> Result<Vec<Path>, Error> {
        let fold = self.read().await?;
        let root = self.paths.epochs();
        let found = self.store.list(Some(&root)).map_ok(|object| object.location);
        let failed = |source| Error::Store { path: root.clone(), source };
        let found: BTreeSet<Path> =
            found.try_filter(|path| std::future::ready(is_quarantine(path))).try_collect().await.map_err(failed)?;
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let mut files = BTreeSet::new();
        let mut keep = |epoch: Epoch, attempts: &BTreeMap<SplitId, String>| {
            let paths = attempts.iter().map(|(split, attempt)| self.paths.quarantined(epoch, *split, attempt));
            files.extend(paths.filter(|path| found.contains(path)));
        };
        let mut records = self.records(&fold);
        while let Some(record) = records.try_next().await? {
            keep(record.line.epoch, &record.attempts);
        }
        for (epoch, open) in &fold.open {
            open.attempts.iter().for_each(|attempts| keep(*epoch, attempts));
        }
        Ok(files.into_iter().collect())
    }

    /// Writes the recent records where they stay. What comes back is for the checkpoint to name.
    pub(super) async fn extended_history(&self, fold: &Fold) -> Result<Vec<Segment>, Error> {
        let mut history = fold.history.clone();
        let (Some(first), Some(last)) = (fold.recent.first(), fold.recent.last()) else { return Ok(history) };
        let (mut from, to, term) = (first.line.epoch, last.line.epoch, fold.term.unwrap_or_default());
        let mut body = Vec::new();
        if let Some(grows) = history.pop_if(|newest| newest.bytes < FULL_BYTES) {
            from = grows.from;
            body.extend_from_slice(&self.get(&grows.path(&self.paths)).await?);
        }
        let segment = |bytes| Segment { from, to, term, bytes };
        let path = segment(0).path(&self.paths);
        pack(&fold.recent, &mut body).map_err(|source| Error::Unpacked { path: path.clone(), source })?;
        history.push(segment(body.len() as u64));
        let put = self.store.put(&path, PutPayload::from(body)).await;
        put.map_err(|source| Error::Store { path, source })?;
        Ok(history)
    }

    async fn segment(&self, segment: &Segment) -> Result<Vec<Record>, Error> {
        let path = segment.path(&self.paths);
        let bytes = self.get(&path).await?;
        unpack(&bytes).map_err(|source| Error::Unpacked { path, source })
    }
}

/// The last epoch of a segment, by its name.
pub fn last_epoch(segment: &Path) -> Option<Epoch> {
    segment.filename()?.split('-').nth(1)?.parse().ok().map(Epoch)
}

/// Whether an object below `epochs/` holds records that were set aside.
pub fn is_quarantine(path: &Path) -> bool {
    path.parts().rev().nth(1).is_some_and(|folder| folder.as_ref() == "quarantine")
}

/// Adds the records as a gzip member of their own: members one after another are one file.
fn pack(records: &[Record], body: &mut Vec<u8>) -> std::io::Result<()> {
    let mut encoder = GzEncoder::new(body, Compression::default());
    for record in records {
        serde_json::to_writer(&mut encoder, record)?;
        encoder.write_all(b"\n")?;
    }
    encoder.finish().map(|_| ())
}

fn unpack(bytes: &[u8]) -> std::io::Result<Vec<Record>> {
    let mut text = String::new();
    MultiGzDecoder::new(bytes).read_to_string(&mut text)?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}
