//! What a job has done beyond its last commit: the sum of the receipts that its tasks have left so far.
//!
//! A scheduler counts an epoch when it is committed; a small night is one epoch. Whoever sees the warehouse can see
//! the splits come in.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use redpoll_core::protocol::Receipt;
use redpoll_scheduler::coordinator::Status;

use crate::warehouse::Warehouse;

/// Between two looks at the object store.
const INTERVAL: Duration = Duration::from_millis(500);

/// Counts of some receipts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Done {
    /// Records.
    pub fetched: u64,
    /// Alerts.
    pub decoded: u64,
    pub kept: u64,
    /// Records.
    pub quarantined: u64,
}

/// What is done and not committed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ahead {
    /// In epochs that are prepared.
    pub prepared: Done,
    /// In the epoch that runs.
    pub running: Done,
}

#[derive(Debug)]
pub struct UnderWay {
    warehouse: Warehouse,
    job: String,
    /// By epoch and split: a second attempt at a split counts once.
    splits: BTreeMap<(u64, u32), Done>,
    looked: Option<Instant>,
}

impl UnderWay {
    pub fn new(warehouse: Warehouse, job: &str) -> Self {
        Self { warehouse, job: job.to_owned(), splits: BTreeMap::new(), looked: None }
    }

    /// Looks again, if it is time. It is for show only, so an object store that fails shows less.
    pub async fn look(&mut self, status: &Status) -> Ahead {
        // A job that was just taken up has prepared nothing yet in this scheduler's count.
        let prepared = status.prepared.max(status.committed);
        if self.looked.is_none_or(|at| at.elapsed() >= INTERVAL) {
            // An epoch's receipts are all there once it is prepared: those are read once.
            let known = self.splits.last_key_value().map_or(0, |((epoch, _), _)| *epoch);
            for epoch in status.committed.max(known)..=prepared {
                let seen = |split| self.splits.contains_key(&(epoch, split));
                let Ok(receipts) = self.warehouse.receipts(&self.job, epoch, seen).await else { break };
                self.splits.extend(receipts.iter().map(|receipt| ((epoch, receipt.split.0), Done::of(receipt))));
            }
            self.looked = Some(Instant::now());
        }
        self.ahead(status.committed, prepared)
    }

    fn ahead(&mut self, committed: u64, prepared: u64) -> Ahead {
        self.splits.retain(|(epoch, _), _| *epoch >= committed);
        let mut ahead = Ahead::default();
        for ((epoch, _), done) in &self.splits {
            match *epoch < prepared {
                true => ahead.prepared.add(done),
                false => ahead.running.add(done),
            }
        }
        ahead
    }
}

impl Done {
    fn of(receipt: &Receipt) -> Self {
        let mut done = Self::default();
        for source in &receipt.sources {
            done.fetched += source.fetched;
            done.decoded += source.decoded;
            done.quarantined += source.quarantined;
        }
        // As the ledger has it: what every view of the source itself kept.
        let roots = receipt.views.iter().filter(|view| view.root).map(|view| view.kept);
        done.kept = roots.min().unwrap_or(done.decoded);
        done
    }

    fn add(&mut self, other: &Self) {
        self.fetched += other.fetched;
        self.decoded += other.decoded;
        self.kept += other.kept;
        self.quarantined += other.quarantined;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn splits_count_for_their_epoch_until_it_is_committed() {
        let folder = tempfile::tempdir().unwrap();
        let warehouse = Warehouse::open(folder.path().to_str().unwrap()).unwrap();
        let mut under_way = UnderWay::new(warehouse, "ztf-night");
        let done = |fetched| Done { fetched, decoded: fetched, kept: fetched, quarantined: 0 };
        under_way.splits = [((3, 0), done(5)), ((4, 0), done(10)), ((4, 1), done(20)), ((5, 0), done(40))].into();
        let ahead = under_way.ahead(4, 5);
        assert_eq!((ahead.prepared, ahead.running), (done(30), done(40)));
        assert_eq!(under_way.ahead(6, 6), Ahead::default());
    }
}
