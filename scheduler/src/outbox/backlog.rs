//! Which committed epochs have messages that were not looked at yet, by the job's log.

use std::collections::{BTreeMap, VecDeque};

use futures::TryStreamExt;
use redpoll_core::ids::{Epoch, SplitId};
use redpoll_core::log::{self, Fold, Log};

/// Epochs that are held in memory. What waits behind them is counted, and read from the log again in its time.
const HELD: usize = 10_000;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Log(#[from] log::Error),
    #[error(
        "messages of epoch {recorded} are in the record, but the job's log ends before epoch {next}: entries of the log were \
         lost; restore all of the log, or go on under another --name"
    )]
    Ahead { recorded: Epoch, next: Epoch },
}

/// An epoch with messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Waiting {
    pub epoch: Epoch,
    pub messages: u64,
    /// The chosen attempts.
    pub attempts: BTreeMap<SplitId, String>,
}

#[derive(Debug)]
pub(super) struct Backlog {
    log: Log,
    table: String,
    fold: Fold,
    /// The first epoch whose line was not read.
    seen: Epoch,
    held: VecDeque<Waiting>,
    /// Messages of epochs that were read and are not held.
    beyond: u64,
    /// The first epoch that was not handed on.
    first: Epoch,
}

impl Backlog {
    /// Of the epochs from `first` on.
    pub async fn open(log: Log, table: &str, first: Epoch) -> Result<Self, Error> {
        let fold = log.read().await?;
        if first > fold.next_epoch {
            return Err(Error::Ahead { recorded: first, next: fold.next_epoch });
        }
        let (table, held) = (table.to_owned(), VecDeque::new());
        let mut backlog = Self { log, table, fold, seen: first, held, beyond: 0, first };
        backlog.take().await?;
        Ok(backlog)
    }

    /// Reads what was committed since.
    pub async fn follow(&mut self) -> Result<(), Error> {
        self.log.catch_up(&mut self.fold).await?;
        self.take().await
    }

    /// The next epoch with messages.
    pub async fn next(&mut self) -> Result<Option<Waiting>, Error> {
        if self.held.is_empty() && self.beyond > 0 {
            let again = Self::open(self.log.clone(), &self.table, self.first).await?;
            *self = again;
        }
        let next = self.held.pop_front();
        if let Some(next) = &next {
            self.first = Epoch(next.epoch.0 + 1);
        }
        Ok(next)
    }

    /// Takes back what was handed on last.
    pub fn put_back(&mut self, waiting: Waiting) {
        self.first = waiting.epoch;
        self.held.push_front(waiting);
    }

    /// Messages that were not handed on.
    pub fn waiting(&self) -> u64 {
        self.held.iter().map(|waiting| waiting.messages).sum::<u64>() + self.beyond
    }

    /// Messages of all committed epochs.
    pub fn queued(&self) -> u64 {
        self.fold.sums.sinks.get(&self.table).copied().unwrap_or_default()
    }

    /// Before it nothing is left, once all that is held is handed on.
    pub fn seen(&self) -> Epoch {
        self.seen
    }

    async fn take(&mut self) -> Result<(), Error> {
        let Self { log, table, fold, seen, held, beyond, .. } = self;
        // A fold that was caught up has what is new as recent; of one that was read anew some is in segments.
        fold.history.retain(|segment| segment.to >= *seen);
        let mut records = log.records(fold);
        while let Some(record) = records.try_next().await? {
            if record.line.epoch < *seen {
                continue;
            }
            *seen = Epoch(record.line.epoch.0 + 1);
            let messages = record.line.sinks.get(table.as_str()).copied().unwrap_or_default();
            match messages {
                0 => {}
                messages if held.len() < HELD && *beyond == 0 => {
                    held.push_back(Waiting { epoch: record.line.epoch, messages, attempts: record.attempts });
                }
                messages => *beyond += messages,
            }
        }
        drop(records);
        self.forget();
        Ok(())
    }

    /// A job's log is read for its lines alone; the rest would be held twice.
    fn forget(&mut self) {
        self.fold.recent.clear();
        self.fold.history.clear();
        self.fold.specs.clear();
        self.fold.revisions.clear();
        self.fold.offsets.clear();
        self.fold.taken = Default::default();
        self.fold.replayed = Default::default();
    }
}
