//! A sender over a job's log, with receivers that take, refuse, fail and keep still. Time goes on only where a sender waits for
//! it, and then at once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use redpoll_connectors::outbox::{Answer, Deliver, Message, Record, pack};
use redpoll_core::ids::{Epoch, SplitId};
use redpoll_core::ledger;
use redpoll_core::log::{Fold, Log};
use redpoll_core::protocol::{Entry, Intent, JobPaths, Split};
use redpoll_core::sink::{SinkKind, SinkSpec};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Clock, Lag, Order, Sender};
use crate::coordinator::Status;

/// Of this machine's time: only a test that fails takes as long.
const LIMIT: Duration = Duration::from_secs(30);
/// Turns that everybody else gets before time goes on.
const TURNS: usize = 100;

/// What a receiver does with one request.
#[derive(Debug, Clone)]
enum Does {
    Take,
    Say(Answer),
    /// It has the message, and the sender dies before it hears so.
    Never,
}

/// A clock that a wait sets to its end, once all others have nothing to do but wait.
#[derive(Default)]
struct Held(Mutex<Duration>);

#[async_trait]
impl Clock for Held {
    fn now(&self) -> Duration {
        *self.0.lock().unwrap()
    }

    async fn until(&self, time: Duration) {
        for _ in 0..TURNS {
            tokio::task::yield_now().await;
        }
        let mut now = self.0.lock().unwrap();
        *now = time.max(*now);
    }
}

/// A receiver that does what it was told, then takes everything; and what it was sent, and when.
#[derive(Default)]
struct Receiver {
    does: Mutex<VecDeque<Does>>,
    sent: Mutex<Vec<(u128, String, Duration)>>,
    clock: Arc<Held>,
}

struct Bring(Arc<Receiver>);

#[async_trait]
impl Deliver for Bring {
    async fn deliver(&self, id: u128, message: &Message) -> Answer {
        self.0.sent.lock().unwrap().push((id, message.key.clone(), self.0.clock.now()));
        let does = self.0.does.lock().unwrap().pop_front().unwrap_or(Does::Take);
        match does {
            Does::Take => Answer::Taken { status: 200 },
            Does::Say(answer) => answer,
            Does::Never => std::future::pending().await,
        }
    }
}

fn later(reason: &str) -> Does {
    Does::Say(Answer::Later { reason: reason.into(), after: None })
}

fn refused(reason: &str) -> Does {
    Does::Say(Answer::Refused { reason: reason.into() })
}

/// A job whose epochs are committed by the test.
struct Night {
    store: Arc<dyn ObjectStore>,
    paths: JobPaths,
    log: Log,
    fold: Fold,
    status: watch::Sender<Status>,
    receiver: Arc<Receiver>,
    options: Vec<(&'static str, &'static str)>,
}

struct Sending {
    task: JoinHandle<()>,
    lag: watch::Receiver<Lag>,
    orders: mpsc::Sender<Order>,
    stop: watch::Sender<bool>,
}

impl Night {
    async fn new(does: impl IntoIterator<Item = Does>) -> Self {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let paths = JobPaths::new(&Path::from("warehouse"), "night");
        let log = Log::new(store.clone(), paths.clone());
        let mut fold = Fold::default();
        log.begin_term(&mut fold, "first", None).await.unwrap();
        let (status, _) = watch::channel(Status { state: "running".into(), ..Status::default() });
        let receiver = Arc::new(Receiver { does: Mutex::new(does.into_iter().collect()), ..Receiver::default() });
        Self { store, paths, log, fold, status, receiver, options: vec![("rate", "1/s")] }
    }

    fn message(key: &str) -> Message {
        let row = format!("{{\"candid\":\"{key}\"}}");
        Message { key: key.into(), row, topic: "ztf".into(), partition: 0, offset: 1, alert: 0 }
    }

    /// Commits an epoch with these messages; another attempt left others.
    async fn commit(&mut self, keys: &[&str]) {
        let (epoch, split) = (self.fold.next_epoch, SplitId(0));
        for (attempt, keys) in [("task_1-aa", keys), ("task_2-bb", &["never"])] {
            let messages: Vec<Message> = keys.iter().map(|key| Self::message(key)).collect();
            let object = pack(&messages).unwrap();
            let path = self.paths.queued("bot", (epoch, split), attempt, 0);
            self.store.put(&path, PutPayload::from(object)).await.unwrap();
        }
        let splits = vec![Split { id: split, ranges: vec![] }];
        let intent = Intent { epoch, revision: 0, clock: 0, seed: 0, splits, modules: BTreeMap::new() };
        let prepared = Entry::Prepared { epoch, attempts: [(split, "task_1-aa".to_owned())].into() };
        let mut line = ledger::balance(&Intent { splits: vec![], ..intent.clone() }, &[]).unwrap();
        line.sinks.insert("bot".into(), keys.len() as u64);
        let committed = Entry::Committed { from: epoch, to: epoch, tables: BTreeMap::new(), ledger: vec![line] };
        for entry in [Entry::Intent(intent), prepared, committed] {
            self.log.append(&mut self.fold, &entry).await.unwrap();
        }
        self.status.send_modify(|status| status.committed += 1);
    }

    fn record(&self) -> Record {
        Record::new(self.store.clone(), &self.paths.outboxes(), "bot")
    }

    fn send(&self, scheduler: &str) -> Sending {
        let ((told, lag), (stop, stopped)) = (watch::channel(Lag::default()), watch::channel(false));
        let (orders, ordered) = mpsc::channel(1);
        let options = self.options.iter().chain(&[("key", "{candid}")]);
        let options = options.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let url = "https://host.example/".to_owned();
        let receiver = self.receiver.clone();
        let sender = Sender {
            job: "night".into(),
            job_uid: "5a1b".into(),
            spec: SinkSpec { name: "bot".into(), kind: SinkKind::Outbox, url, partition_by: vec![], options },
            scheduler: scheduler.into(),
            store: self.store.clone(),
            log: self.log.clone(),
            record: self.record(),
            couriers: Arc::new(move |_, _| Ok(Box::new(Bring(receiver.clone())) as Box<dyn Deliver>)),
            clock: self.receiver.clock.clone(),
            orders: ordered,
            status: self.status.subscribe(),
            stop: stopped,
            lag: told,
        };
        Sending { task: tokio::spawn(sender.run()), lag, orders, stop }
    }

    fn sent(&self) -> Vec<String> {
        self.receiver.sent.lock().unwrap().iter().map(|(_, key, _)| key.clone()).collect()
    }

    fn ids(&self) -> Vec<u128> {
        self.receiver.sent.lock().unwrap().iter().map(|(id, ..)| *id).collect()
    }

    fn end(&self) {
        self.status.send_modify(|status| status.state = "stopped".into());
    }
}

impl Sending {
    async fn until(&mut self, holds: impl FnMut(&Lag) -> bool) -> Lag {
        timeout(LIMIT, self.lag.wait_for(holds)).await.expect("in time").expect("a sender").clone()
    }

    async fn ended(self) {
        timeout(LIMIT, self.task).await.expect("in time").unwrap();
    }
}

#[tokio::test]
async fn each_message_of_the_chosen_attempts_is_sent_once_in_the_order_of_epochs() {
    let mut night = Night::new([]).await;
    night.commit(&["1", "2"]).await;
    let mut sending = night.send("first");
    sending.until(|lag| lag.sent == 2).await;
    night.commit(&[]).await;
    night.commit(&["3", "2"]).await;
    let lag = sending.until(|lag| lag.queued == 4 && lag.waiting == 0).await;
    assert_eq!(lag, Lag { queued: 4, sent: 3, repeated: 1, ..Lag::default() });
    assert_eq!(night.sent(), ["1", "2", "3"]);
    night.end();
    sending.ended().await;
    // Another scheduler finds nothing to do.
    let again = night.send("second");
    again.ended().await;
    assert_eq!(night.sent(), ["1", "2", "3"]);
}

#[tokio::test]
async fn requests_keep_the_rate_that_the_table_allows() {
    let mut night = Night::new([]).await;
    night.commit(&["1", "2", "3"]).await;
    night.end();
    night.send("first").ended().await;
    let times: Vec<Duration> = night.receiver.sent.lock().unwrap().iter().map(|(.., at)| *at).collect();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_secs(1)), "{times:?}");
}

#[tokio::test]
async fn a_receiver_that_fails_gets_the_same_request_again_and_epochs_do_not_wait_for_it() {
    let down = Does::Say(Answer::Unreachable { reason: "refused".into() });
    let mut night = Night::new(vec![later("HTTP 500"), later("HTTP 503")].into_iter().chain(vec![down; 20])).await;
    night.commit(&["1"]).await;
    let mut sending = night.send("first");
    let lag = sending.until(|lag| lag.failing.as_ref().is_some_and(|failing| failing.tries == 3)).await;
    assert_eq!((lag.waiting, lag.failing.unwrap().reason.as_str()), (1, "refused"));
    // The lag shows what is committed meanwhile.
    night.commit(&["2", "3"]).await;
    sending.until(|lag| lag.waiting == 3).await;
    let lag = sending.until(|lag| lag.sent == 3).await;
    assert_eq!((lag.waiting, lag.failing), (0, None));
    let ids = night.ids();
    assert!(ids[..23].iter().all(|id| *id == ids[0]) && ids.len() == 25, "{ids:?}");
    assert_eq!(night.sent()[22..], ["1", "2", "3"]);
}

#[tokio::test]
async fn a_refused_message_is_set_aside_with_the_answer_and_sent_again_when_asked_for() {
    let mut night = Night::new([refused("HTTP 400: no chat"), Does::Take, refused("HTTP 401")]).await;
    night.commit(&["1", "2"]).await;
    let mut sending = night.send("first");
    let lag = sending.until(|lag| lag.sent == 1).await;
    assert_eq!((lag.set_aside, lag.waiting), (1, 0));
    let aside = night.record().read().await.unwrap().aside;
    assert_eq!(aside.values().next().unwrap().reason, "HTTP 400: no chat");
    for (left, sent) in [(1, 1), (0, 2)] {
        let (order, answer) = oneshot::channel();
        sending.orders.send(order).await.unwrap();
        assert_eq!(answer.await.unwrap(), 1);
        sending.until(|lag| (lag.set_aside, lag.sent, lag.waiting) == (left, sent, 0)).await;
    }
    assert_eq!(night.sent(), ["1", "2", "1", "1"]);
    let ids = night.ids();
    assert_eq!((ids[0], ids[0]), (ids[2], ids[3]));
    assert!(night.record().read().await.unwrap().aside.is_empty());
}

#[tokio::test]
async fn tries_are_bounded_unless_the_table_waits() {
    let mut night = Night::new(vec![later("HTTP 500"); 3]).await;
    night.options.push(("tries", "3"));
    night.commit(&["1", "2"]).await;
    night.end();
    night.send("first").ended().await;
    assert_eq!(night.sent(), ["1", "1", "1", "2"]);
    assert_eq!(night.record().read().await.unwrap().aside.len(), 1);

    let mut patient = Night::new(vec![later("HTTP 500"); 50]).await;
    patient.options.extend([("tries", "3"), ("on_failure", "wait")]);
    patient.commit(&["1", "2"]).await;
    patient.end();
    patient.send("first").ended().await;
    assert_eq!((patient.sent().len(), patient.record().read().await.unwrap().n_sent), (52, 2));
}

#[tokio::test]
async fn a_sender_that_dies_with_a_request_under_way_leaves_one_message_in_doubt() {
    let mut night = Night::new([Does::Take, Does::Never]).await;
    night.commit(&["1", "2", "3"]).await;
    let sending = night.send("first");
    let receiver = night.receiver.clone();
    let reached = async {
        while receiver.sent.lock().unwrap().len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, reached).await.expect("in time");
    sending.task.abort();
    night.end();
    night.send("second").ended().await;
    assert_eq!(night.sent(), ["1", "2", "2", "3"]);
    let ids = night.ids();
    assert_eq!(ids[1], ids[2]);
}

#[tokio::test]
async fn a_sender_that_another_one_replaced_sends_nothing_more() {
    let mut night = Night::new([]).await;
    night.commit(&["1"]).await;
    let mut first = night.send("first");
    first.until(|lag| lag.sent == 1).await;
    let mut second = night.send("second");
    second.until(|lag| lag.sent == 1 && lag.queued == 1).await;
    night.commit(&["2"]).await;
    first.ended().await;
    second.until(|lag| lag.sent == 2).await;
    assert_eq!(night.sent(), ["1", "2"]);
    second.stop.send_replace(true);
    second.ended().await;
}

#[tokio::test]
async fn messages_that_are_missing_stop_the_table_and_are_told() {
    let mut night = Night::new([]).await;
    night.commit(&["1"]).await;
    night.store.delete(&night.paths.queued("bot", (Epoch(0), SplitId(0)), "task_1-aa", 0)).await.unwrap();
    let mut sending = night.send("first");
    let lag = sending.until(|lag| lag.failing.is_some()).await;
    assert!(lag.failing.unwrap().reason.contains("0 of its 1 messages"));
    let object = pack(&[Night::message("1")]).unwrap();
    let path = night.paths.queued("bot", (Epoch(0), SplitId(0)), "task_1-aa", 0);
    night.store.put(&path, PutPayload::from(object)).await.unwrap();
    let lag = sending.until(|lag| lag.sent == 1).await;
    assert_eq!(lag.failing, None);
}

#[tokio::test]
async fn a_record_that_is_ahead_of_its_log_is_told() {
    let mut night = Night::new([]).await;
    night.commit(&["1"]).await;
    night.commit(&["2"]).await;
    night.end();
    night.send("first").ended().await;
    let restored = Night::new([]).await;
    let listed: Vec<_> = night.store.list(Some(&night.paths.outboxes())).try_collect().await.unwrap();
    for object in listed {
        let bytes = night.store.get(&object.location).await.unwrap().bytes().await.unwrap();
        restored.store.put(&object.location, PutPayload::from(bytes)).await.unwrap();
    }
    let mut sending = restored.send("second");
    let lag = sending.until(|lag| lag.failing.is_some()).await;
    assert!(lag.failing.unwrap().reason.contains("entries of the log were lost"));
}
