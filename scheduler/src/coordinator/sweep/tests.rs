//! What goes, and what stays. Time is given, so objects that were just written are old two hours later.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema};
use object_store::memory::InMemory;
use object_store::{ObjectStoreExt, PutPayload};
use redpoll_connectors::delta::{AddFile, Commit, Table};
use redpoll_core::ledger;
use redpoll_core::objects::Stores;
use redpoll_core::protocol::{Entry, Intent, Split};

use super::*;

const UID: &str = "0123456789ab";
const CHOSEN: &str = "task_1-aaaaaaaaaaaa";
const OTHER: &str = "task_2-bbbbbbbbbbbb";

struct Job {
    store: Arc<dyn ObjectStore>,
    root: Path,
    paths: JobPaths,
    log: Log,
    fold: Fold,
}

impl Job {
    async fn new() -> Self {
        Self::on(Arc::new(InMemory::new()), Path::from("warehouse")).await
    }

    async fn on(store: Arc<dyn ObjectStore>, root: Path) -> Self {
        let paths = JobPaths::new(&root, "ztf");
        let log = Log::new(store.clone(), paths.clone());
        let mut fold = Fold::default();
        log.begin_term(&mut fold, "first", None).await.unwrap();
        Self { store, root, paths, log, fold }
    }

    fn sweeper(&self, archives: Vec<Url>) -> Sweeper {
        let hour = Duration::from_secs(3600);
        Sweeper::new("ztf", UID, self.store.clone(), self.paths.clone(), archives, hour)
    }

    /// The entries of one epoch, each as a job logs it; committed or only prepared.
    fn epoch(&self, commit: bool) -> Vec<Entry> {
        let epoch = self.fold.next_epoch;
        let splits = vec![Split { id: SplitId(0), ranges: vec![] }];
        let modules = BTreeMap::new();
        let intent = Entry::Intent(Intent { epoch, revision: 0, clock: 0, seed: 0, splits, modules });
        let prepared = Entry::Prepared { epoch, attempts: [(SplitId(0), CHOSEN.to_owned())].into() };
        let line = ledger::sums(epoch, 0, &[]).unwrap();
        let committed = Entry::Committed { from: epoch, to: epoch, tables: BTreeMap::new(), ledger: vec![line] };
        let mut entries = vec![intent, prepared];
        entries.extend(commit.then_some(committed));
        entries
    }

    async fn run(&mut self, n_epochs: u64, commit: bool) {
        for _ in 0..n_epochs {
            for entry in self.epoch(commit) {
                self.log.append(&mut self.fold, &entry).await.unwrap();
            }
        }
    }

    async fn put(&self, path: &Path) {
        self.store.put(path, PutPayload::new()).await.unwrap();
    }

    async fn all(&self) -> Vec<String> {
        let listed: Vec<ObjectMeta> = self.store.list(Some(&self.root)).try_collect().await.unwrap();
        let below = format!("{}/_redpoll/jobs/ztf/", self.root);
        let name = |object: &ObjectMeta| object.location.as_ref().trim_start_matches(&below).to_owned();
        let mut names: Vec<_> = listed.iter().map(name).collect();
        names.sort();
        names
    }
}

fn later() -> DateTime<Utc> {
    Utc::now() + TimeDelta::hours(2)
}

#[tokio::test]
async fn a_sweep_leaves_what_is_open_chosen_or_needed() {
    sweep(Job::new().await).await;
}

#[tokio::test]
async fn a_sweep_of_a_disk_leaves_no_empty_folder() {
    let folder = std::env::temp_dir().join(format!("redpoll-sweep-{}", uuid::Uuid::new_v4()));
    let at = Stores::default().locate(folder.to_str().unwrap()).unwrap();
    sweep(Job::on(at.store, at.path).await).await;
    let epochs = std::fs::read_dir(folder.join("_redpoll/jobs/ztf/epochs/000000000000")).unwrap();
    assert_eq!(epochs.map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>(), ["quarantine"]);
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn a_sweep_of_a_bucket_leaves_what_is_open_chosen_or_needed() {
    if std::env::var_os("AWS_ENDPOINT_URL").is_none() {
        eprintln!("skipped: AWS_ENDPOINT_URL is not set; run tests/services/s3.sh start");
        return;
    }
    let bucket = std::env::var("REDPOLL_TEST_BUCKET").unwrap_or_else(|_| "redpoll-test".to_owned());
    let stores = Stores::new(std::env::vars());
    let at = stores.locate(&format!("s3://{bucket}/sweep-{}", uuid::Uuid::new_v4())).unwrap();
    sweep(Job::on(at.store, at.path).await).await;
}

async fn sweep(mut job: Job) {
    for n_epochs in [2, 2, 1] {
        job.run(n_epochs, true).await;
        job.log.checkpoint(&mut job.fold).await.unwrap();
    }
    job.run(1, false).await;
    for epoch in [Epoch(0), Epoch(4), Epoch(5)] {
        for attempt in [CHOSEN, OTHER] {
            job.put(&job.paths.receipt(epoch, SplitId(0), attempt)).await;
            job.put(&job.paths.quarantined(epoch, SplitId(0), attempt)).await;
        }
    }
    for attempt in [CHOSEN, OTHER] {
        job.put(&job.paths.queued("bot", (Epoch(4), SplitId(0)), attempt, 1)).await;
    }
    let mut sweeper = job.sweeper(vec![]);
    let all = job.all().await;
    assert_eq!(sweeper.sweep(Term(1), Utc::now(), true).await.unwrap(), Swept::default(), "all is young");
    assert_eq!(job.all().await, all);

    let swept = sweeper.sweep(Term(1), later(), true).await.unwrap();
    let expected = Swept { entries: 12, checkpoints: 1, segments: 1, receipts: 4, left: 3, orphans: 0 };
    assert_eq!(swept, expected);
    let checkpoint = |seq: u64| format!("log/checkpoint-{seq:020}.json");
    let of = |epoch: u64, what: &str| format!("epochs/{epoch:012}/{what}");
    let mut left = vec![
        of(0, &format!("quarantine/000000-{CHOSEN}.parquet")),
        of(4, &format!("outbox-bot/000000-{CHOSEN}-1.jsonl.gz")),
        of(4, &format!("quarantine/000000-{CHOSEN}.parquet")),
        of(5, &format!("quarantine/000000-{CHOSEN}.parquet")),
        of(5, &format!("quarantine/000000-{OTHER}.parquet")),
        of(5, &format!("receipts/000000-{CHOSEN}.json")),
        of(5, &format!("receipts/000000-{OTHER}.json")),
        "history/000000000000-000000000003-1.jsonl.gz".to_owned(),
        "history/000000000000-000000000004-1.jsonl.gz".to_owned(),
        // The term stays for ever.
        "log/00000000000000000000.json".to_owned(),
    ];
    left.extend((13..18).map(|seq| format!("log/{seq:020}.json")));
    left.extend([checkpoint(13), checkpoint(16)]);
    assert_eq!(job.all().await, left);

    assert_eq!(job.log.read().await.unwrap(), job.fold);
    assert_eq!(job.log.ledger().await.unwrap().len(), 5);
    assert_eq!(job.log.quarantine_files().await.unwrap().len(), 3);
    assert_eq!(
        sweeper.sweep(Term(1), later(), true).await.unwrap(),
        Swept::default(),
        "there is nothing left to sweep"
    );

    // An attempt that was frozen for a day leaves its files now.
    job.put(&job.paths.receipt(Epoch(0), SplitId(0), "late")).await;
    job.put(&job.paths.quarantined(Epoch(0), SplitId(0), "late")).await;
    let swept = sweeper.sweep(Term(1), later(), true).await.unwrap();
    assert_eq!((swept.receipts, swept.left), (1, 1));
}

#[tokio::test]
async fn only_the_reigning_term_sweeps() {
    let mut job = Job::new().await;
    job.run(2, true).await;
    job.put(&job.paths.receipt(Epoch(0), SplitId(0), OTHER)).await;
    let mut second = job.log.read().await.unwrap();
    job.log.begin_term(&mut second, "second", None).await.unwrap();
    let mut sweeper = job.sweeper(vec![]);
    assert_eq!(sweeper.sweep(Term(1), later(), true).await.unwrap(), Swept::default());
    assert_eq!(sweeper.sweep(Term(2), later(), true).await.unwrap().receipts, 1);
}

/// A table in a new folder, with files of these names.
async fn archive(names: &[String]) -> (Url, std::path::PathBuf) {
    let folder = std::env::temp_dir().join(format!("redpoll-sweep-{}", uuid::Uuid::new_v4()));
    let url = delta::location(folder.to_str().unwrap()).unwrap();
    let schema = Arc::new(Schema::new(vec![Field::new("candid", DataType::Int64, true)]));
    Table::ensure(&url, &schema, &[]).await.unwrap();
    std::fs::create_dir(folder.join("night=1")).unwrap();
    for name in names {
        std::fs::write(folder.join("night=1").join(name), "rows").unwrap();
    }
    (url, folder)
}

#[tokio::test]
async fn data_files_of_attempts_that_were_not_chosen_go_and_no_other() {
    let mut job = Job::new().await;
    job.run(2, true).await;
    job.log.checkpoint(&mut job.fold).await.unwrap();
    job.run(2, true).await;
    job.run(1, false).await;
    let name = |job: &str, uid: &str, epoch: u64, attempt: &str| {
        format!("part-{job}-{uid}-{epoch}-0-{attempt}-0-00000.parquet")
    };
    // Epochs of segments and recent ones; an open one is 4.
    let orphans = [name("ztf", UID, 0, OTHER), name("ztf", UID, 3, OTHER)];
    let named = name("ztf", UID, 1, OTHER);
    let stay = [
        name("ztf", UID, 0, CHOSEN),
        name("ztf", UID, 3, CHOSEN),
        name("ztf", UID, 4, OTHER),
        name("ztf-1", UID, 0, OTHER),
        name("ztf", "ffffffffffff", 0, OTHER),
        "part-00000-5c1f1c2e-7a0b-4f9d-a1c3-0f6c9d0b7a11-c000.snappy.parquet".to_owned(),
        named.clone(),
    ];
    let all: Vec<String> = orphans.iter().chain(&stay).cloned().collect();
    let (url, folder) = archive(&all).await;
    let add = AddFile { path: format!("night=1/{named}"), size: 4, data_change: true, ..Default::default() };
    let commit = Commit { app_id: "another".to_owned(), version: 0, adds: vec![add], record_empty: false };
    let table = Table::open(&url).await.unwrap();
    table.commit(commit, || async { Ok::<_, delta::Error>(()) }).await.unwrap();

    let mut sweeper = job.sweeper(vec![url]);
    assert_eq!(sweeper.sweep(Term(1), Utc::now(), true).await.unwrap().orphans, 0, "all is young");
    assert_eq!(sweeper.sweep(Term(1), later(), false).await.unwrap().orphans, 0, "not asked for");
    assert_eq!(sweeper.sweep(Term(1), later(), true).await.unwrap().orphans, 2);
    let mut left: Vec<String> = std::fs::read_dir(folder.join("night=1"))
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    let mut expected = stay.to_vec();
    expected.sort();
    assert_eq!(left, expected);
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn a_job_keeps_its_log_short_while_it_runs() {
    let mut job = Job::new().await;
    let config = Config {
        checkpoint_every: 20,
        interval: Duration::ZERO,
        orphan_interval: Duration::ZERO,
        min_age: Duration::ZERO,
    };
    let mut sweeper = job.sweeper(vec![]);
    sweeper.min_age = Duration::ZERO;
    let mut upkeep = Upkeep::new(config, Some(sweeper));
    for _ in 0..500 {
        job.put(&job.paths.receipt(job.fold.next_epoch, SplitId(0), CHOSEN)).await;
        for entry in job.epoch(true) {
            job.log.append(&mut job.fold, &entry).await.unwrap();
            upkeep.after_entry(&job.log, &mut job.fold, later()).await;
            assert!(job.fold.recent.len() <= 20, "{} records in memory", job.fold.recent.len());
        }
        // What runs beside the job is let go on.
        while upkeep.sweeping.as_ref().is_some_and(|sweeping| !sweeping.is_finished()) {
            tokio::task::yield_now().await;
        }
    }
    let all = job.all().await;
    assert!(all.len() < 60, "{} objects are left of 1500 entries and 500 receipts", all.len());
    assert_eq!(job.log.read().await.unwrap(), job.fold);
    assert_eq!(job.log.ledger().await.unwrap().len(), 500);
}

#[tokio::test]
async fn an_idle_job_looks_for_a_higher_term_now_and_then() {
    let mut upkeep = Upkeep::new(Config::default(), None);
    let now = Utc::now();
    let due = [0, 1, 4, 5, 9, 10].map(|second| upkeep.term_check_is_due(now + TimeDelta::seconds(second)));
    assert_eq!(due, [true, false, false, true, false, true]);
}
