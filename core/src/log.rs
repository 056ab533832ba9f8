//! The numbered log of a job on an object store, and the state that its entries add up to.
//!
//! An entry is a put-if-absent of the next number: whoever comes second re-reads. There is no lock and no lease,
//! because local disks have no conditional overwrite. A scheduler reigns by appending `Term`, and leaves as soon as
//! it sees a higher one.
//!
//! A log does not grow for ever. Now and then its fold is written beside it ([`checkpoint`]); what was said of committed
//! epochs goes into segments ([`history`]); entries below the last two checkpoints may then be deleted, except those of
//! `Term`. They stay because a number that is free again would let a scheduler in that was frozen for so long that its
//! next number was written and swept meanwhile: the entry after its last one is always the `Term` of whoever replaced
//! it, so its put is refused however late it comes.

pub mod checkpoint;
pub mod history;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload, path::Path};
use serde::{Deserialize, Serialize};

use crate::ids::{Epoch, SplitId, Term};
use crate::protocol::{Entry, Intent, JobPaths, Spec};
use crate::quarantine::Replayed;
use crate::revision::Revised;
use crate::source::{Offsets, Taken, TopicPartition};

pub use history::{Record, Segment, Sums};

/// How often a log is read again when objects vanish while it is read: somebody is sweeping it.
const READ_TRIES: u32 = 5;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else wrote the entry that we were about to write.
    #[error("entry {seq} of the log is already written")]
    Taken { seq: u64 },
    #[error("{path}: {source}")]
    Store { path: Path, source: object_store::Error },
    #[error("{path}: not an object of a job's log: {source}")]
    Malformed { path: Path, source: serde_json::Error },
    #[error("{path}: not a segment of a job's history: {source}; restore it from a backup")]
    Unpacked { path: Path, source: std::io::Error },
    #[error("{path}: the log jumps from entry {expected} to {found}: an entry was deleted; restore it from a backup")]
    Gap { path: Path, expected: u64, found: u64 },
}

impl Error {
    /// Whether an object was not there that a listing or a checkpoint had named.
    fn is_missing(&self) -> bool {
        matches!(self, Self::Gap { .. } | Self::Store { source: object_store::Error::NotFound { .. }, .. })
    }
}

/// An epoch that is planned but not yet committed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Open {
    pub intent: Intent,
    /// The chosen attempts, once prepared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<BTreeMap<SplitId, String>>,
}

/// What a log says: the fold of its entries.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Fold {
    /// The number that the next entry will have.
    pub next: u64,
    pub term: Option<Term>,
    /// Who began that term.
    #[serde(default)]
    pub scheduler: Option<String>,
    /// Where that one may be asked.
    #[serde(default)]
    pub address: Option<String>,
    /// Numbers of the `Term` entries, which are never swept. It grows by a number for each start of a scheduler.
    #[serde(default)]
    pub reigns: Vec<u64>,
    pub spec: Option<Spec>,
    /// Revisions that changed rows or positions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revisions: Vec<Revised>,
    /// Every spec so far, by revision: a committed epoch is computed again as it ran.
    #[serde(default)]
    pub specs: BTreeMap<u32, Spec>,
    /// Where the next epoch begins: after every intent, committed or not.
    #[serde(with = "crate::source::offsets_as_list")]
    pub offsets: Offsets,
    /// Files that the intents have taken.
    pub taken: Taken,
    /// Items of the quarantine that the intents send again.
    #[serde(default, skip_serializing_if = "Replayed::is_empty")]
    pub replayed: Replayed,
    pub next_epoch: Epoch,
    /// The clock of the newest intent, milliseconds since 1970-01-01 UTC.
    #[serde(default)]
    pub clock: i64,
    pub open: BTreeMap<Epoch, Open>,
    /// Versions of the Delta tables at the last commit, by URL.
    pub tables: BTreeMap<String, u64>,
    /// Over all committed epochs.
    #[serde(default)]
    pub sums: Sums,
    /// Where the records of committed epochs are, in order; the newest are in `recent`.
    #[serde(default)]
    pub history: Vec<Segment>,
    /// Of the epochs that were committed since the last checkpoint. [`Log::ledger`] has them all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recent: Vec<Record>,
    /// Number of the newest checkpoint that this fold knows of; 0: none.
    #[serde(default)]
    pub checkpoint: u64,
    pub stopped: Option<String>,
}

impl Fold {
    pub fn apply(&mut self, entry: &Entry) {
        match entry {
            Entry::Term { term, scheduler, address } => {
                self.term = Some(*term);
                self.scheduler = Some(scheduler.clone());
                self.address.clone_from(address);
                self.reigns.push(self.next);
                self.stopped = None;
            }
            Entry::Spec(spec) => {
                // A first revision says where a job begins; a later one goes on from what was read.
                if self.spec.is_none() {
                    self.offsets.clone_from(&spec.begin);
                }
                self.revise(spec);
            }
            Entry::Intent(intent) => {
                // An epoch whose plan was revised has a second intent, with the same ranges: they are taken already,
                // and the job may have been set to other offsets since.
                if !self.open.contains_key(&intent.epoch) {
                    intent.advance(&mut self.offsets);
                    intent.splits.iter().for_each(|split| self.taken.add(&split.ranges));
                    self.replayed.add(intent);
                }
                self.next_epoch = self.next_epoch.max(Epoch(intent.epoch.0 + 1));
                self.clock = self.clock.max(intent.clock);
                self.open.insert(intent.epoch, Open { intent: intent.clone(), attempts: None });
            }
            Entry::Prepared { epoch, attempts } => {
                if let Some(open) = self.open.get_mut(epoch) {
                    open.attempts = Some(attempts.clone());
                }
            }
            Entry::Committed { to, tables, ledger, .. } => {
                for line in ledger {
                    self.sums.add(line);
                    let (intent, attempts) = match self.open.remove(&line.epoch) {
                        Some(open) => (Some(open.intent), open.attempts.unwrap_or_default()),
                        None => (None, BTreeMap::new()),
                    };
                    self.recent.push(Record { line: line.clone(), attempts, intent });
                }
                self.open.retain(|epoch, _| epoch > to);
                self.tables.extend(tables.iter().map(|(url, version)| (url.clone(), *version)));
            }
            Entry::Stopped { reason } => self.stopped = Some(reason.clone()),
        }
        self.next += 1;
    }

    fn revise(&mut self, spec: &Spec) {
        for moved in &spec.moves {
            let at = TopicPartition { topic: moved.topic.clone(), partition: moved.partition };
            self.offsets.insert(at, moved.to);
        }
        if !spec.changes.is_empty() || !spec.moves.is_empty() {
            let (changes, moves) = (spec.changes.clone(), spec.moves.clone());
            self.revisions.push(Revised { revision: spec.revision, first: self.next_epoch, changes, moves });
        }
        self.specs.insert(spec.revision, spec.clone());
        self.spec = Some(spec.clone());
    }

    /// What a job that ends now leaves for its next run, in words; nothing if all is committed.
    pub fn leaves(&self) -> Option<String> {
        let decided = self.open.values().filter(|open| open.attempts.is_some()).count();
        let under_way = self.open.values().find(|open| open.attempts.is_none());
        let decided = match decided {
            0 => None,
            1 => Some("1 epoch is decided and not yet published".to_owned()),
            n => Some(format!("{n} epochs are decided and not yet published")),
        };
        let under_way = under_way.map(|open| format!("epoch {} is under way", open.intent.epoch));
        let left: Vec<String> = decided.into_iter().chain(under_way).collect();
        (!left.is_empty()).then(|| format!("{}; the next run of the job finishes that first", left.join(", ")))
    }

    /// The first epoch that may still be run or published: those before it are committed for good.
    pub fn first_open(&self) -> Epoch {
        self.open.first_key_value().map_or(self.next_epoch, |(epoch, _)| *epoch)
    }
}

/// A handle on one job's log.
#[derive(Debug, Clone)]
pub struct Log {
    store: Arc<dyn ObjectStore>,
    paths: JobPaths,
}

impl Log {
    pub fn new(store: Arc<dyn ObjectStore>, paths: JobPaths) -> Self {
        Self { store, paths }
    }

    /// What the log says: its newest readable checkpoint and the entries after it.
    pub async fn read(&self) -> Result<Fold, Error> {
        let mut tries = 0;
        loop {
            let (mut fold, reached) = self.last_checkpoint().await?;
            let replayed = self.replay(&mut fold).await.and_then(|()| self.must_reach(&fold, reached));
            match replayed {
                Err(error) if error.is_missing() && tries < READ_TRIES => tries += 1,
                done => return done.map(|()| fold),
            }
        }
    }

    /// Entries that were deleted at the end of a log leave no gap; a checkpoint tells that they were there.
    fn must_reach(&self, fold: &Fold, reached: u64) -> Result<(), Error> {
        match fold.next < reached {
            true => Err(Error::Gap { path: self.paths.checkpoint(reached), expected: fold.next, found: reached }),
            false => Ok(()),
        }
    }

    /// Applies the entries that were written since `fold` was read.
    pub async fn catch_up(&self, fold: &mut Fold) -> Result<(), Error> {
        match self.replay(fold).await {
            // The entries after it were swept.
            Err(error) if error.is_missing() => {
                *fold = self.read().await?;
                Ok(())
            }
            done => done,
        }
    }

    async fn replay(&self, fold: &mut Fold) -> Result<(), Error> {
        let mut entries = self.entries(fold.next).await?;
        while let Some((seq, path, entry)) = entries.try_next().await? {
            if seq != fold.next {
                return Err(Error::Gap { path, expected: fold.next, found: seq });
            }
            fold.apply(&entry);
        }
        Ok(())
    }

    /// The term that reigns now and its scheduler, if it is a higher one than `fold` knows of. One request while
    /// nobody else writes.
    pub async fn higher_term(&self, fold: &Fold) -> Result<Option<(Term, String)>, Error> {
        match self.entry(fold.next).await {
            Err(Error::Store { source: object_store::Error::NotFound { .. }, .. }) => return Ok(None),
            found => _ = found?,
        }
        let seen = self.read().await?;
        let higher = seen.term.filter(|term| fold.term.is_none_or(|known| *term > known));
        Ok(higher.map(|term| (term, seen.scheduler.unwrap_or_default())))
    }

    /// Appends the next term for `scheduler`, until one is. `address` is where that may be asked about the job.
    pub async fn begin_term(&self, fold: &mut Fold, scheduler: &str, address: Option<&str>) -> Result<(), Error> {
        loop {
            let term = Term(fold.term.map_or(1, |term| term.0 + 1));
            let seq = fold.next;
            let (scheduler, address) = (scheduler.to_owned(), address.map(str::to_owned));
            match self.append(fold, &Entry::Term { term, scheduler, address }).await {
                // The number was free because its entry is swept: nobody will read this one.
                Ok(()) if self.has_checkpoint_after(seq).await? => *fold = self.read().await?,
                Ok(()) => return Ok(()),
                Err(Error::Taken { .. }) => self.catch_up(fold).await?,
                Err(error) => return Err(error),
            }
        }
    }

    /// The entries from number `first` on, in order, each with its number and place.
    async fn entries(&self, first: u64) -> Result<BoxStream<'_, Result<(u64, Path, Entry), Error>>, Error> {
        let prefix = self.paths.log();
        let failed = |source| Error::Store { path: prefix.clone(), source };
        let mut names: Vec<(u64, Path)> = match first {
            0 => self.store.list(Some(&prefix)),
            next => self.store.list_with_offset(Some(&prefix), &self.paths.entry(next - 1)),
        }
        .map_ok(|object| object.location)
        .try_filter_map(|path| async move { Ok(seq_of(&path).map(|seq| (seq, path))) })
        .try_collect()
        .await
        .map_err(failed)?;
        names.sort();
        let entries = futures::stream::iter(names)
            .map(move |(seq, path)| async move { self.entry(seq).await.map(|entry| (seq, path, entry)) });
        Ok(entries.buffered(16).boxed())
    }

    /// The entry of that number.
    pub async fn entry(&self, seq: u64) -> Result<Entry, Error> {
        let path = self.paths.entry(seq);
        let bytes = self.get(&path).await?;
        serde_json::from_slice(&bytes).map_err(|source| Error::Malformed { path, source })
    }

    async fn get(&self, path: &Path) -> Result<Bytes, Error> {
        let read = async { self.store.get(path).await?.bytes().await };
        read.await.map_err(|source| Error::Store { path: path.clone(), source })
    }

    /// Writes the next entry after `fold` and applies it, or says that somebody else was first. An answer of the store
    /// may be lost: if the entry that stands there is this one, it was written by an earlier try.
    pub async fn append(&self, fold: &mut Fold, entry: &Entry) -> Result<(), Error> {
        let seq = fold.next;
        let path = self.paths.entry(seq);
        let body = serde_json::to_vec(entry).map_err(|source| Error::Malformed { path: path.clone(), source })?;
        match self.store.put_opts(&path, PutPayload::from(body), PutMode::Create.into()).await {
            Ok(_) => {
                fold.apply(entry);
                Ok(())
            }
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                // Another scheduler writes a `Term` before anything else, so only a `Term` may be somebody else's twin.
                if matches!(entry, Entry::Term { .. }) || self.entry(seq).await? != *entry {
                    return Err(Error::Taken { seq });
                }
                fold.apply(entry);
                Ok(())
            }
            Err(source) => Err(Error::Store { path, source }),
        }
    }
}

/// The number of an entry by its name; other objects have none.
pub fn seq_of(path: &Path) -> Option<u64> {
    path.filename()?.strip_suffix(".json")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;
    use crate::protocol::Split;
    use crate::revision::Move;
    use crate::source::{OffsetRange, TopicPartition};

    fn log() -> Log {
        Log::new(Arc::new(InMemory::new()), JobPaths::new(&Path::from("warehouse"), "ztf"))
    }

    fn intent(epoch: u64, start: i64, end: i64) -> Intent {
        let range = OffsetRange { topic: "ztf".into(), start, end, ..Default::default() };
        let splits = vec![Split { id: SplitId(0), ranges: vec![range] }];
        Intent { epoch: Epoch(epoch), revision: 0, clock: 0, seed: 0, splits, modules: BTreeMap::new() }
    }

    #[tokio::test]
    async fn an_epoch_is_open_until_it_is_committed_and_its_offsets_are_taken_at_once() {
        let log = log();
        let mut fold = log.read().await.unwrap();
        log.append(&mut fold, &Entry::Intent(intent(0, 0, 10))).await.unwrap();
        let attempts = [(SplitId(0), "first".to_owned())].into();
        log.append(&mut fold, &Entry::Prepared { epoch: Epoch(0), attempts }).await.unwrap();
        log.append(&mut fold, &Entry::Intent(intent(1, 10, 25))).await.unwrap();
        let (from, to, tables, ledger) = (Epoch(0), Epoch(0), BTreeMap::new(), vec![]);
        log.append(&mut fold, &Entry::Committed { from, to, tables, ledger }).await.unwrap();
        let read = log.read().await.unwrap();
        assert_eq!(read, fold);
        assert_eq!(read.open.keys().collect::<Vec<_>>(), [&Epoch(1)]);
        assert_eq!(read.offsets[&TopicPartition { topic: "ztf".into(), partition: 0 }], 25);
        assert_eq!(read.next_epoch, Epoch(2));
    }

    #[tokio::test]
    async fn a_revised_intent_takes_the_place_of_the_first_and_takes_no_offset_twice() {
        let log = log();
        let mut fold = log.read().await.unwrap();
        log.append(&mut fold, &Entry::Intent(intent(0, 0, 10))).await.unwrap();
        let once = fold.clone();
        log.append(&mut fold, &Entry::Intent(Intent { revision: 1, ..intent(0, 0, 10) })).await.unwrap();
        assert_eq!(fold.open[&Epoch(0)].intent.revision, 1);
        assert_eq!((&fold.offsets, &fold.taken, fold.next_epoch), (&once.offsets, &once.taken, once.next_epoch));
    }

    #[test]
    fn a_job_that_is_set_back_reads_from_there_though_its_open_epoch_is_revised() {
        let at = TopicPartition { topic: "ztf".into(), partition: 0 };
        let moves = vec![Move { topic: "ztf".into(), partition: 0, from: 10, to: 4 }];
        let mut fold = Fold::default();
        fold.apply(&Entry::Intent(intent(0, 0, 10)));
        fold.apply(&Entry::Spec(Spec { revision: 1, moves: moves.clone(), ..Spec::default() }));
        fold.apply(&Entry::Intent(Intent { revision: 1, ..intent(0, 0, 10) }));
        assert_eq!((fold.offsets[&at], fold.open.len()), (4, 1));
        assert_eq!((fold.revisions[0].first, &fold.revisions[0].moves), (Epoch(1), &moves));
    }

    #[test]
    fn a_job_says_what_it_leaves() {
        let mut fold = Fold::default();
        assert_eq!(fold.leaves(), None);
        fold.apply(&Entry::Intent(intent(0, 0, 10)));
        fold.apply(&Entry::Prepared { epoch: Epoch(0), attempts: BTreeMap::new() });
        fold.apply(&Entry::Intent(intent(1, 10, 25)));
        let left = "1 epoch is decided and not yet published, epoch 1 is under way; the next run of the job finishes that first";
        assert_eq!(fold.leaves().as_deref(), Some(left));
    }

    #[tokio::test]
    async fn an_entry_whose_answer_was_lost_is_taken_for_what_it_is_and_a_term_never() {
        let log = log();
        let term = Entry::Term { term: Term(1), scheduler: "first".into(), address: None };
        let mut fold = Fold::default();
        log.append(&mut fold, &term).await.unwrap();
        assert!(matches!(log.append(&mut Fold::default(), &term).await, Err(Error::Taken { seq: 0 })));
        let before = fold.clone();
        log.append(&mut fold, &Entry::Intent(intent(0, 0, 10))).await.unwrap();
        let mut again = before.clone();
        log.append(&mut again, &Entry::Intent(intent(0, 0, 10))).await.unwrap();
        assert_eq!(again, fold);
        let other = log.append(&mut before.clone(), &Entry::Intent(intent(0, 0, 11))).await;
        assert!(matches!(other, Err(Error::Taken { seq: 1 })));
    }

    #[tokio::test]
    async fn of_two_schedulers_one_gets_the_entry_and_the_other_sees_whose_it_is() {
        let log = log();
        let (mut first, mut second) = (Fold::default(), Fold::default());
        let term = |n, name: &str| Entry::Term { term: Term(n), scheduler: name.into(), address: None };
        log.append(&mut first, &term(1, "first")).await.unwrap();
        let refused = log.append(&mut second, &term(1, "second")).await.unwrap_err();
        assert!(matches!(refused, Error::Taken { seq: 0 }));
        log.catch_up(&mut second).await.unwrap();
        log.append(&mut second, &term(2, "second")).await.unwrap();
        assert!(log.append(&mut first, &Entry::Stopped { reason: "late".into() }).await.is_err());
        log.catch_up(&mut first).await.unwrap();
        assert_eq!(first.term, Some(Term(2)));
    }
}
