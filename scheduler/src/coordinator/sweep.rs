//! Keeps what a job leaves in its warehouse short: checkpoints of its log, and sweeps of what nobody needs any more.
//!
//! | goes | when |
//! |---|---|
//! | entries of the log, but for those of `Term` | they are below the last two checkpoints |
//! | checkpoints, segments of the history | two newer checkpoints do not need them |
//! | receipts | their epoch is committed |
//! | quarantine files, messages for `OUTBOX` tables | their epoch is committed, and the attempt was not chosen |
//! | data files of archive tables | their name says that an attempt of this job wrote them, their epoch is committed, the attempt was not chosen, and the table's log does not name them |
//!
//! Nothing goes that is younger than a configured age. Each of these facts stays true once it is, so a sweep that sleeps
//! in its middle and goes on under another term removes nothing that anybody needs. It asks for the term all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};
use redpoll_connectors::delta;
use redpoll_connectors::sinks::Author;
use redpoll_core::ids::{Epoch, SplitId, Term};
use redpoll_core::log::history::{is_quarantine, last_epoch};
use redpoll_core::log::{self, Fold, Log, Record, seq_of};
use redpoll_core::protocol::{JobPaths, is_queued, queued_by};
use tokio::task::JoinHandle;
use tracing::{error, info, warn};
use url::Url;

/// How often a job that has nothing to write looks whether it was taken over.
const TERM_CHECK: TimeDelta = TimeDelta::seconds(5);
/// Data files that are judged together.
const CHUNK: usize = 10_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Entries of the log between two checkpoints. It bounds what opening a job reads, and the ledger lines in memory.
    pub checkpoint_every: u64,
    /// Time between two sweeps.
    pub interval: Duration,
    /// Time between two sweeps of archive tables, which list all of their files.
    pub orphan_interval: Duration,
    /// Nothing younger is removed.
    pub min_age: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            checkpoint_every: 1000,
            interval: Duration::from_secs(600),
            orphan_interval: Duration::from_secs(24 * 3600),
            min_age: Duration::from_secs(3600),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Log(#[from] log::Error),
    #[error(transparent)]
    Store(#[from] object_store::Error),
    #[error(transparent)]
    Archive(#[from] delta::Error),
}

/// What one sweep removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    pub entries: u64,
    pub checkpoints: u64,
    pub segments: u64,
    pub receipts: u64,
    /// Quarantine files and messages.
    pub left: u64,
    pub orphans: u64,
}

/// The housekeeping of a job under way: checkpoints between two of its entries, sweeps beside its work, one at a time
/// and never both, since a sweep removes segments that no checkpoint names.
#[derive(Debug)]
pub struct Upkeep {
    config: Config,
    sweeper: Option<Sweeper>,
    sweeping: Option<JoinHandle<Sweeper>>,
    last_sweep: Option<DateTime<Utc>>,
    last_orphans: Option<DateTime<Utc>>,
    last_term_check: Option<DateTime<Utc>>,
}

impl Upkeep {
    /// Without a sweeper there are only checkpoints.
    pub fn new(config: Config, sweeper: Option<Sweeper>) -> Self {
        Self { config, sweeper, sweeping: None, last_sweep: None, last_orphans: None, last_term_check: None }
    }

    /// Called after each entry that was logged.
    pub async fn after_entry(&mut self, log: &Log, fold: &mut Fold, now: DateTime<Utc>) {
        self.last_term_check = Some(now);
        if !self.sweep_is_over().await {
            return;
        }
        if fold.next - fold.checkpoint >= self.config.checkpoint_every
            && let Err(error) = log.checkpoint(fold).await
        {
            warn!(%error, entry = fold.next, "checkpoint of the log not written; tried again after the next entry");
        }
        if let Some(term) = fold.term.filter(|_| is_due(self.last_sweep, self.config.interval, now)) {
            self.begin_sweep(term, now);
        }
    }

    /// Whether an idle job should look for a higher term.
    pub fn term_check_is_due(&mut self, now: DateTime<Utc>) -> bool {
        let due = self.last_term_check.is_none_or(|last| now - last >= TERM_CHECK);
        if due {
            self.last_term_check = Some(now);
        }
        due
    }

    async fn sweep_is_over(&mut self) -> bool {
        match self.sweeping.take_if(|sweeping| sweeping.is_finished()) {
            // A sweep that broke is not begun again: its job goes on without.
            Some(sweeping) => self.sweeper = sweeping.await.ok(),
            None => return self.sweeping.is_none(),
        }
        true
    }

    fn begin_sweep(&mut self, term: Term, now: DateTime<Utc>) {
        let Some(mut sweeper) = self.sweeper.take() else { return };
        let orphans = is_due(self.last_orphans, self.config.orphan_interval, now);
        self.last_sweep = Some(now);
        if orphans {
            self.last_orphans = Some(now);
        }
        self.sweeping = Some(tokio::spawn(async move {
            match sweeper.sweep(term, now, orphans).await {
                Ok(swept) if swept == Swept::default() => {}
                Ok(swept) => info!(job = sweeper.job, ?swept, "swept"),
                Err(error) => warn!(job = sweeper.job, %error, "sweep ended early; the next one goes on"),
            }
            sweeper
        }));
    }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        if let Some(sweeping) = &self.sweeping {
            sweeping.abort();
        }
    }
}

fn is_due(last: Option<DateTime<Utc>>, interval: Duration, now: DateTime<Utc>) -> bool {
    last.is_none_or(|last| (now - last).to_std().is_ok_and(|since| since >= interval))
}

/// Sweeps one job.
#[derive(Debug)]
pub struct Sweeper {
    pub job: String,
    pub job_uid: String,
    pub log: Log,
    pub store: Arc<dyn ObjectStore>,
    pub paths: JobPaths,
    /// URLs of the archive tables that it writes.
    pub archives: Vec<Url>,
    pub min_age: Duration,
    seen: Seen,
}

/// What need not be judged again.
#[derive(Debug, Default)]
struct Seen {
    /// Quarantine files and messages of chosen attempts: as many as there are.
    kept: BTreeSet<Path>,
    /// Data files that were written before were judged.
    files_before: Option<DateTime<Utc>>,
}

impl Sweeper {
    pub fn new(
        job: &str,
        job_uid: &str,
        store: Arc<dyn ObjectStore>,
        paths: JobPaths,
        archives: Vec<Url>,
        min_age: Duration,
    ) -> Self {
        let log = Log::new(store.clone(), paths.clone());
        let (job, job_uid) = (job.to_owned(), job_uid.to_owned());
        Self { job, job_uid, log, store, paths, archives, min_age, seen: Seen::default() }
    }

    /// Removes what is not needed, unless `term` reigns no longer. Data files only with `orphans`.
    pub async fn sweep(&mut self, term: Term, now: DateTime<Utc>, orphans: bool) -> Result<Swept, Error> {
        let fold = self.log.read().await?;
        let mut swept = Swept::default();
        if fold.term != Some(term) {
            return Ok(swept);
        }
        let before = now - self.min_age;
        self.sweep_log(&fold, before, &mut swept).await?;
        self.sweep_epochs(&fold, before, &mut swept).await?;
        if orphans && self.log.higher_term(&fold).await?.is_none() {
            for url in &self.archives {
                swept.orphans += self.sweep_archive(&fold, url, before).await?;
            }
            self.seen.files_before = Some(before);
        }
        Ok(swept)
    }

    async fn sweep_log(&self, fold: &Fold, before: DateTime<Utc>, swept: &mut Swept) -> Result<(), Error> {
        let checkpoints = self.log.checkpoints().await?;
        let [newest, previous, older @ ..] = checkpoints.as_slice() else { return Ok(()) };
        let mut named: BTreeSet<Path> = fold.history.iter().map(|segment| segment.path(&self.paths)).collect();
        let mut covered = None;
        for kept in [*newest, *previous] {
            match self.log.load(kept).await {
                Ok(kept) => {
                    named.extend(kept.history.iter().map(|segment| segment.path(&self.paths)));
                    covered = kept.history.last().map(|segment| segment.to);
                }
                // A torn one needs the entries before it.
                Err(log::Error::Malformed { .. }) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        let old = self.old(&self.paths.log(), before).await?;
        let checkpoints: BTreeSet<Path> = older.iter().map(|seq| self.paths.checkpoint(*seq)).collect();
        let (checkpoints, entries): (Vec<_>, Vec<_>) = old.into_iter().partition(|path| checkpoints.contains(path));
        let folded =
            |path: &Path| seq_of(path).is_some_and(|seq| seq < *previous && fold.reigns.binary_search(&seq).is_err());
        swept.entries += self.delete(entries.into_iter().filter(folded).collect()).await?;
        swept.checkpoints += self.delete(checkpoints).await?;
        // One that goes further than the older of the two may belong to a checkpoint that is on its way.
        let covered = |path: &Path| last_epoch(path).is_some_and(|epoch| covered.is_some_and(|to| epoch <= to));
        let segments = self.old(&self.paths.history(), before).await?.into_iter();
        swept.segments += self.delete(segments.filter(|path| covered(path) && !named.contains(path)).collect()).await?;
        Ok(())
    }

    async fn sweep_epochs(&mut self, fold: &Fold, before: DateTime<Utc>, swept: &mut Swept) -> Result<(), Error> {
        let root = self.paths.epochs();
        let mut receipts = Vec::new();
        let mut judged: BTreeMap<Epoch, Vec<Path>> = BTreeMap::new();
        for path in self.old(&root, before).await? {
            let Some(epoch) = self.paths.epoch_of(&path).filter(|epoch| *epoch < fold.first_open()) else { continue };
            match is_quarantine(&path) || is_queued(&path) {
                true if self.seen.kept.contains(&path) => {}
                true => judged.entry(epoch).or_default().push(path),
                false => receipts.push(path),
            }
        }
        let epochs = judged.keys().copied().collect();
        let chosen = self.chosen(fold, &epochs).await?;
        let mut left = Vec::new();
        for (epoch, files) in judged {
            // Without a record nothing is known of the epoch's choice.
            let Some(attempts) = chosen.get(&epoch) else { continue };
            let chosen = attempts.iter().map(|(split, attempt)| self.paths.quarantined(epoch, *split, attempt));
            let chosen: BTreeSet<Path> = chosen.collect();
            let is_kept = |file: &Path| chosen.contains(file) || is_queued(file) && queued_by(file, attempts);
            let (keep, gone): (Vec<_>, Vec<_>) = files.into_iter().partition(is_kept);
            self.seen.kept.extend(keep);
            left.extend(gone);
        }
        swept.receipts += self.delete(receipts).await?;
        swept.left += self.delete(left).await?;
        Ok(())
    }

    async fn sweep_archive(&self, fold: &Fold, url: &Url, before: DateTime<Utc>) -> Result<u64, Error> {
        let folder = delta::folder(url)?;
        let candidates = folder.list(None).try_filter_map(|file| {
            std::future::ready(Ok(self.author(&file, fold, before).map(|author| (file.location, author))))
        });
        let mut chunks = candidates.try_chunks(CHUNK);
        let mut n_orphans = 0;
        while let Some(chunk) = chunks.next().await {
            let orphans = self.orphans(fold, url, chunk.map_err(|error| error.1)?).await?;
            n_orphans += delete(folder.as_ref(), orphans).await?;
        }
        Ok(n_orphans)
    }

    /// Of a data file that one of this job's attempts wrote for an epoch that is committed, and that is to be judged.
    fn author(&self, file: &ObjectMeta, fold: &Fold, before: DateTime<Utc>) -> Option<Author> {
        let new = self.seen.files_before.is_none_or(|seen| file.last_modified >= seen);
        let author = Author::by_name(file.location.filename()?)?;
        let ours = author.job == self.job && author.job_uid == self.job_uid;
        (ours && new && file.last_modified < before && author.epoch < fold.first_open()).then_some(author)
    }

    /// The files of attempts that were not chosen.
    async fn orphans(&self, fold: &Fold, url: &Url, files: Vec<(Path, Author)>) -> Result<Vec<Path>, Error> {
        let epochs = files.iter().map(|(_, author)| author.epoch).collect();
        let chosen = self.chosen(fold, &epochs).await?;
        let is_orphan = |author: &Author| {
            chosen.get(&author.epoch).is_some_and(|attempts| attempts.get(&author.split) != Some(&author.attempt))
        };
        let mut orphans: Vec<Path> =
            files.into_iter().filter(|(_, author)| is_orphan(author)).map(|(path, _)| path).collect();
        if orphans.is_empty() {
            return Ok(orphans);
        }
        let name = |path: &Path| path.filename().unwrap_or_default().to_owned();
        let held = delta::Table::open(url).await?.holds(&orphans.iter().map(name).collect()).await?;
        for name in &held {
            error!(%url, name, "the table holds a file of an attempt that was not chosen; see `redpoll ledger audit`");
        }
        orphans.retain(|path| !held.contains(&name(path)));
        Ok(orphans)
    }

    /// The chosen attempts of committed epochs.
    async fn chosen(
        &self,
        fold: &Fold,
        epochs: &BTreeSet<Epoch>,
    ) -> Result<BTreeMap<Epoch, BTreeMap<SplitId, String>>, Error> {
        let wanted = |record: &Record| std::future::ready(epochs.contains(&record.line.epoch));
        let records = self.log.records_of(fold, epochs).try_filter(wanted);
        Ok(records.map_ok(|record| (record.line.epoch, record.attempts)).try_collect().await?)
    }

    /// Objects below a prefix that were written before a time.
    async fn old(&self, prefix: &Path, before: DateTime<Utc>) -> Result<Vec<Path>, Error> {
        let old = |object: &ObjectMeta| std::future::ready(object.last_modified < before);
        let found = self.store.list(Some(prefix)).try_filter(old).map_ok(|object| object.location);
        Ok(found.try_collect().await?)
    }

    async fn delete(&self, paths: Vec<Path>) -> Result<u64, Error> {
        delete(self.store.as_ref(), paths).await
    }
}

/// How many were there and are not any more.
async fn delete(store: &dyn ObjectStore, paths: Vec<Path>) -> Result<u64, Error> {
    let mut deleted = store.delete_stream(futures::stream::iter(paths).map(Ok).boxed());
    let mut n_deleted = 0;
    while let Some(done) = deleted.next().await {
        match done {
            Ok(_) => n_deleted += 1,
            Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(n_deleted)
}

#[cfg(test)]
mod tests;
