//! Logs that are long, torn, swept, and read by those who slept meanwhile.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use crate::ids::{Epoch, SplitId, Term};
use crate::ledger;
use crate::log::{Error, Fold, Log, seq_of};
use crate::protocol::{Entry, Intent, JobPaths, Split};
use crate::source::{FileRef, OffsetRange};

/// Counts what is read from a store in memory.
#[derive(Debug, Default)]
struct Counting {
    store: InMemory,
    gets: AtomicUsize,
    lists: AtomicUsize,
    listed: Arc<AtomicUsize>,
}

impl Counting {
    /// Calls of get and list, and objects that lists told of, since the last question.
    fn counts(&self) -> (usize, usize, usize) {
        let take = |n: &AtomicUsize| n.swap(0, Ordering::SeqCst);
        (take(&self.gets), take(&self.lists), take(&self.listed))
    }

    fn count(&self, listed: BoxStream<'static, Result<ObjectMeta>>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.lists.fetch_add(1, Ordering::SeqCst);
        let n = self.listed.clone();
        listed.inspect(move |_| _ = n.fetch_add(1, Ordering::SeqCst)).boxed()
    }
}

impl fmt::Display for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Counting {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.store.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.gets.fetch_add(1, Ordering::SeqCst);
        self.store.get_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.store.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.count(self.store.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.count(self.store.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.store.copy_opts(from, to, options).await
    }
}

fn paths() -> JobPaths {
    JobPaths::new(&Path::from("warehouse"), "ztf")
}

fn log() -> (Arc<Counting>, Log) {
    let store = Arc::new(Counting::default());
    (store.clone(), Log::new(store, paths()))
}

fn intent(epoch: u64, files: Vec<FileRef>) -> Entry {
    let (start, topic) = (epoch as i64 * 10, "ztf".to_owned());
    let range = OffsetRange { topic, start, end: start + 10, files, ..Default::default() };
    let splits = vec![Split { id: SplitId(0), ranges: vec![range] }];
    Entry::Intent(Intent { epoch: Epoch(epoch), revision: 0, clock: 0, seed: 0, splits, modules: BTreeMap::new() })
}

/// Runs epochs, four entries each commit of two; checkpoints where they are due.
async fn run(log: &Log, fold: &mut Fold, n_epochs: u64, every: u64) {
    let first = fold.next_epoch.0;
    for epoch in first..first + n_epochs {
        log.append(fold, &intent(epoch, vec![])).await.unwrap();
        let attempts = [(SplitId(0), format!("attempt-{epoch}"))].into();
        log.append(fold, &Entry::Prepared { epoch: Epoch(epoch), attempts }).await.unwrap();
        if epoch % 2 == 1 {
            let (from, to) = (fold.first_open(), Epoch(epoch));
            let lines = (from.0..=to.0).map(|epoch| ledger::Line { fetched: 10, ..line(epoch) });
            let entry = Entry::Committed { from, to, tables: BTreeMap::new(), ledger: lines.collect() };
            log.append(fold, &entry).await.unwrap();
        }
        if fold.next - fold.checkpoint >= every {
            log.checkpoint(fold).await.unwrap();
        }
    }
}

fn line(epoch: u64) -> ledger::Line {
    ledger::sums(Epoch(epoch), 0, &[]).unwrap()
}

/// What a sweep does to the entries: all below the second newest checkpoint, but for terms.
async fn sweep(store: &dyn ObjectStore, fold: &Fold, below: u64) {
    let listed: Vec<ObjectMeta> = store.list(Some(&paths().log())).try_collect().await.unwrap();
    for object in listed {
        if seq_of(&object.location).is_some_and(|seq| seq < below && !fold.reigns.contains(&seq)) {
            store.delete(&object.location).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_job_with_a_log_of_20_000_entries_is_opened_with_few_requests() {
    let (store, log) = log();
    let mut fold = Fold::default();
    log.begin_term(&mut fold, "first", None).await.unwrap();
    run(&log, &mut fold, 8_000, 500).await;
    assert!(fold.next > 20_000, "{}", fold.next);
    store.counts();

    // Not swept: what is listed is the names of the checkpoints and the entries after the newest.
    let opened = log.read().await.unwrap();
    let (gets, lists, listed) = store.counts();
    assert_eq!(opened, fold);
    assert!(gets <= 501 && lists == 2 && listed <= 2 * 41 + 500, "{gets} gets, {lists} lists of {listed}");

    let checkpoints = log.checkpoints().await.unwrap();
    sweep(store.as_ref(), &fold, checkpoints[1]).await;
    for old in &checkpoints[2..] {
        store.delete(&paths().checkpoint(*old)).await.unwrap();
    }
    store.counts();
    assert_eq!(log.read().await.unwrap(), fold);
    let (gets, lists, listed) = store.counts();
    assert!(gets <= 501 && lists == 2 && listed <= 504, "{gets} gets, {lists} lists of {listed}");
}

#[tokio::test]
async fn every_epoch_is_in_the_ledger_after_its_entries_are_swept() {
    let (store, log) = log();
    let mut fold = Fold::default();
    run(&log, &mut fold, 501, 100).await;
    assert!(fold.recent.len() < 100, "{} records in memory", fold.recent.len());
    assert_eq!(fold.history.len(), 1, "small segments are one");
    assert_eq!((fold.sums.epochs, fold.sums.fetched), (500, 5000));
    sweep(store.as_ref(), &fold, log.checkpoints().await.unwrap()[1]).await;
    let lines = log.ledger().await.unwrap();
    assert_eq!(lines.iter().map(|line| line.epoch.0).collect::<Vec<_>>(), (0..500).collect::<Vec<_>>());
    // With their intents they can be computed again.
    let records: Vec<_> = log.records(&fold).try_collect().await.unwrap();
    let intents = records.iter().map(|record| record.intent.as_ref().map(|intent| intent.epoch));
    assert!(intents.eq(lines.iter().map(|line| Some(line.epoch))));

    // Chosen attempts are known of swept, recent and prepared epochs alike; nobody else's files count.
    let mut wanted = Vec::new();
    for (epoch, attempt) in [(3, "attempt-3"), (3, "attempt-late"), (499, "attempt-499"), (500, "attempt-500")] {
        let path = paths().quarantined(Epoch(epoch), SplitId(0), attempt);
        store.put(&path, PutPayload::new()).await.unwrap();
        wanted.extend((attempt != "attempt-late").then_some(path));
    }
    assert_eq!(log.quarantine_files().await.unwrap(), wanted);
}

#[tokio::test]
async fn a_torn_checkpoint_is_passed_over() {
    let (store, log) = log();
    let mut fold = Fold::default();
    run(&log, &mut fold, 200, 100).await;
    let checkpoints = log.checkpoints().await.unwrap();
    let newest = paths().checkpoint(checkpoints[0]);
    let whole = store.get(&newest).await.unwrap().bytes().await.unwrap();
    for torn in [whole.slice(..whole.len() / 2), bytes::Bytes::new()] {
        store.put(&newest, torn.into()).await.unwrap();
        let read = log.read().await.unwrap();
        assert_eq!((read.next, read.checkpoint, &read.offsets), (fold.next, checkpoints[1], &fold.offsets));
        assert_eq!(log.ledger().await.unwrap().len(), 200);
    }
    // Without any checkpoint the entries alone say the same.
    for checkpoint in checkpoints {
        store.put(&paths().checkpoint(checkpoint), "{".into()).await.unwrap();
    }
    let read = log.read().await.unwrap();
    assert_eq!((read.next, read.checkpoint, &read.sums), (fold.next, 0, &fold.sums));
}

#[tokio::test]
async fn a_log_that_was_swept_too_far_is_an_error_not_a_shorter_log() {
    let (store, log) = log();
    let mut fold = Fold::default();
    run(&log, &mut fold, 200, 100).await;
    sweep(store.as_ref(), &fold, log.checkpoints().await.unwrap()[0]).await;
    store.put(&paths().checkpoint(log.checkpoints().await.unwrap()[0]), "{".into()).await.unwrap();
    let error = log.read().await.unwrap_err();
    assert!(matches!(error, Error::Gap { .. }), "{error}");
}

#[tokio::test]
async fn a_scheduler_that_slept_while_its_log_was_swept_is_refused_at_its_next_entry() {
    let (store, log) = log();
    let mut frozen = Fold::default();
    log.begin_term(&mut frozen, "first", None).await.unwrap();
    run(&log, &mut frozen, 3, 1000).await;
    assert_eq!(log.higher_term(&frozen).await.unwrap(), None);

    let mut fold = log.read().await.unwrap();
    log.begin_term(&mut fold, "second", None).await.unwrap();
    run(&log, &mut fold, 500, 100).await;
    sweep(store.as_ref(), &fold, log.checkpoints().await.unwrap()[1]).await;

    let refused = log.append(&mut frozen, &intent(3, vec![])).await.unwrap_err();
    assert!(matches!(refused, Error::Taken { .. }), "{refused}");
    assert_eq!(log.higher_term(&frozen).await.unwrap(), Some((Term(2), "second".to_owned())));
    log.catch_up(&mut frozen).await.unwrap();
    assert_eq!(frozen, log.read().await.unwrap());
}

#[tokio::test]
async fn a_term_that_lands_in_a_swept_number_is_begun_again_at_the_end() {
    let (store, log) = log();
    let mut fold = Fold::default();
    log.begin_term(&mut fold, "first", None).await.unwrap();
    run(&log, &mut fold, 10, 1000).await;
    // It has read the log and is frozen before it writes its term; the first one goes on.
    let mut second = log.read().await.unwrap();
    run(&log, &mut fold, 500, 100).await;
    sweep(store.as_ref(), &fold, log.checkpoints().await.unwrap()[1]).await;

    log.begin_term(&mut second, "second", None).await.unwrap();
    assert_eq!((second.next, second.term), (fold.next + 1, Some(Term(2))));
    assert_eq!(log.read().await.unwrap(), second);
    assert!(log.append(&mut fold, &Entry::Stopped { reason: "late".into() }).await.is_err());
}

#[tokio::test]
async fn only_files_of_folders_are_kept_by_name() {
    let (_, log) = log();
    let mut fold = Fold::default();
    let file = |name: &str| FileRef { name: name.into(), size: 1, etag: None, at: None };
    for (epoch, topic) in ["/night/raw", "/night/ztf.tar.gz", "s3://b/ztf.TAR"].into_iter().enumerate() {
        let Entry::Intent(mut intent) = intent(epoch as u64, vec![file("a.avro")]) else { panic!("not an intent") };
        intent.splits[0].ranges[0].topic = topic.into();
        log.append(&mut fold, &Entry::Intent(intent)).await.unwrap();
    }
    assert!(fold.taken.contains("/night/raw", "a.avro"));
    assert_eq!((fold.taken.len("/night/ztf.tar.gz"), fold.taken.len("s3://b/ztf.TAR")), (0, 0));
    log.checkpoint(&mut fold).await.unwrap();
    assert_eq!(log.read().await.unwrap(), fold);
}

/// The order of names that listing from a place relies on is the store's.
#[tokio::test]
async fn a_log_on_s3_is_read_from_its_checkpoint() {
    if std::env::var_os("AWS_ENDPOINT_URL").is_none() {
        eprintln!("skipped: AWS_ENDPOINT_URL is not set; run tests/services/s3.sh start");
        return;
    }
    let bucket = std::env::var("REDPOLL_TEST_BUCKET").unwrap_or_else(|_| "redpoll-test".to_owned());
    let stores = crate::objects::Stores::new(std::env::vars());
    let at = stores.locate(&format!("s3://{bucket}/log-{}", uuid::Uuid::new_v4())).unwrap();
    let job = JobPaths::new(&at.path, "ztf");
    let log = Log::new(at.store.clone(), job.clone());
    let mut fold = Fold::default();
    log.begin_term(&mut fold, "first", None).await.unwrap();
    run(&log, &mut fold, 20, 12).await;
    assert!(log.checkpoints().await.unwrap().len() > 2);
    // Gone entries show that none before the checkpoint is asked for.
    for seq in 1..fold.checkpoint {
        at.store.delete(&job.entry(seq)).await.unwrap();
    }
    assert_eq!(log.read().await.unwrap(), fold);
    assert_eq!(log.ledger().await.unwrap().len(), 20);
    let mut frozen = Fold { next: 0, term: None, ..Fold::default() };
    assert!(matches!(log.append(&mut frozen, &intent(0, vec![])).await, Err(Error::Taken { seq: 0 })));
}
