//! The record of what was sent.

use std::sync::Arc;

use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use redpoll_core::ids::Epoch;

use super::super::record::FOLDED;
use super::super::{Aside, Entry, Error, Known, Record, Sent, tables};
use super::{message, spec};

const FOLDER: &str = "warehouse/_redpoll/jobs/night/outbox";

struct Kept {
    store: Arc<dyn ObjectStore>,
    record: Record,
}

impl Kept {
    fn new() -> Self {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        Self { record: Record::new(store.clone(), &Path::from(FOLDER), "bot"), store }
    }

    async fn reign(&self, scheduler: &str) -> Known {
        let mut known = self.record.read().await.unwrap();
        let (scheduler, job_uid, spec) = (scheduler.to_owned(), "5a1b".to_owned(), spec("https://host/", &[]));
        let reign = Entry::Reign { scheduler, job_uid, spec, at: 0 };
        self.record.append(&mut known, &reign).await.unwrap();
        known
    }

    async fn names(&self) -> Vec<String> {
        let listed: Vec<_> = self.store.list(None).try_collect().await.unwrap();
        let mut names: Vec<String> =
            listed.into_iter().map(|object| object.location.filename().unwrap().to_owned()).collect();
        names.sort();
        names
    }
}

fn sent(key: &str, epoch: u64) -> Entry {
    Entry::Sent(Sent { key: key.into(), epoch: Epoch(epoch), status: 200, tries: 1, at: 0 })
}

fn aside(key: &str) -> Entry {
    let (message, reason) = (message(key), "HTTP 400".to_owned());
    Entry::SetAside(Aside { message, epoch: Epoch(2), reason, tries: 1, at: 0 })
}

#[tokio::test]
async fn what_was_sent_and_set_aside_is_known_again() {
    let kept = Kept::new();
    let mut known = kept.reign("first").await;
    for entry in [sent("1", 0), aside("2"), aside("3"), sent("2", 2), Entry::Passed { epoch: Epoch(9) }] {
        kept.record.append(&mut known, &entry).await.unwrap();
    }
    let read = kept.record.read().await.unwrap();
    assert_eq!((read.next, read.n_sent, read.passed), (6, 2, Epoch(9)));
    assert_eq!(read.aside.values().map(|aside| aside.message.key.as_str()).collect::<Vec<_>>(), ["3"]);
    assert!(["1", "2", "3"].into_iter().all(|key| read.is_decided(read.id(key))));
    assert!(!read.is_decided(read.id("4")));
    assert_eq!(tables(kept.store.as_ref(), &Path::from(FOLDER)).await.unwrap(), ["bot"]);
}

#[tokio::test]
async fn a_sender_that_was_replaced_finds_its_number_taken_however_late() {
    let kept = Kept::new();
    let mut first = kept.reign("first").await;
    kept.record.append(&mut first, &sent("1", 0)).await.unwrap();
    assert!(!kept.record.is_replaced(&first).await.unwrap());
    let mut second = kept.reign("second").await;
    assert!(kept.record.is_replaced(&first).await.unwrap());
    for n in 0..2 * FOLDED {
        kept.record.append(&mut second, &sent(&n.to_string(), 1)).await.unwrap();
        kept.record.fold(&mut second).await.unwrap();
    }
    let error = kept.record.append(&mut first, &sent("2", 0)).await.unwrap_err();
    assert!(matches!(error, Error::Replaced(2)), "{error}");
}

#[tokio::test]
async fn an_answer_of_the_store_that_was_lost_is_no_other_sender() {
    let kept = Kept::new();
    let mut known = kept.reign("first").await;
    let before = known.clone();
    kept.record.append(&mut known, &sent("1", 0)).await.unwrap();
    let mut again = before;
    kept.record.append(&mut again, &sent("1", 0)).await.unwrap();
    assert_eq!((again.next, again.n_sent), (known.next, 1));
}

#[tokio::test]
async fn many_entries_become_few_objects_and_say_the_same() {
    let kept = Kept::new();
    let mut known = kept.reign("first").await;
    for n in 1..FOLDED + 10 {
        kept.record.append(&mut known, &sent(&n.to_string(), n)).await.unwrap();
        kept.record.fold(&mut known).await.unwrap();
    }
    let names = kept.names().await;
    // The segment, the first reign, and what is in no segment yet.
    assert_eq!(names.len(), 12, "{names:?}");
    let read = kept.record.read().await.unwrap();
    assert_eq!((read.next, read.n_sent, read.passed), (known.next, FOLDED + 9, Epoch(FOLDED + 9)));
    let mut known = kept.reign("second").await;
    kept.record.append(&mut known, &sent("x", 9_999)).await.unwrap();
    assert_eq!(kept.record.read().await.unwrap().n_sent, FOLDED + 10);
}

#[tokio::test]
async fn an_entry_that_was_deleted_is_told() {
    let kept = Kept::new();
    let mut known = kept.reign("first").await;
    for key in ["1", "2"] {
        kept.record.append(&mut known, &sent(key, 0)).await.unwrap();
    }
    let folder = Path::from(FOLDER).join("bot");
    kept.store.delete(&folder.clone().join("00000000000000000001.json")).await.unwrap();
    let error = kept.record.read().await.unwrap_err().to_string();
    assert!(error.contains("entry 1 of the record is missing"), "{error}");
    kept.store.put(&folder.join("00000000000000000001.json"), PutPayload::from("{")).await.unwrap();
    assert!(matches!(kept.record.read().await.unwrap_err(), Error::Malformed { .. }));
}
