//! Who sends the messages of which job: begun with the job, or by a scheduler that finds messages which were not sent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use redpoll_connectors::outbox::{Config, Courier, Deliver, Record, Reign, Wrong, tables};
use redpoll_core::objects::Stores;
use redpoll_core::protocol::JobPaths;
use redpoll_core::sink::{SinkKind, SinkSpec};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tracing::warn;

use super::{Error, Service};
use crate::coordinator::Status;
use crate::outbox::{Couriers, Lag, Monotonic, Order, Sender, View, views};
use crate::pipeline::Compiled;

/// Orders that wait for a sender; it is asked for one thing only.
const ORDERS: usize = 4;
/// A warehouse that does not answer is asked again.
const RETRY: Duration = Duration::from_secs(10);
/// A sender obeys between two requests.
const ANSWER: Duration = Duration::from_secs(150);
/// A process that ends waits this long for requests under way.
const CLOSING: Duration = Duration::from_secs(10);

/// A sender of this scheduler, and how it is told what to do.
pub(super) struct Sending {
    lag: watch::Receiver<Lag>,
    stop: watch::Sender<bool>,
    orders: mpsc::Sender<Order>,
    task: JoinHandle<()>,
}

/// A table of messages of a job.
struct Outbox {
    job: String,
    job_uid: String,
    spec: SinkSpec,
    /// Of the job, if it runs here.
    status: Option<watch::Receiver<Status>>,
}

impl Service {
    /// Whether messages of a table could be sent from here.
    pub(super) fn check_outbox(&self, spec: &SinkSpec) -> Result<(), Error> {
        let told = |wrong: Vec<Wrong>| wrong.iter().map(Wrong::to_string).collect::<Vec<_>>().join("; ");
        let config = Config::parse(spec).map_err(|wrong| Error::failed(&spec.name, told(wrong)))?;
        let courier = Courier::open(&config, &self.inner.stores, &variable);
        courier.map(drop).map_err(|error| Error::Refused(format!("table '{}': {error}", spec.name)))
    }

    /// Sends the messages of a job that begins: of its pipeline's tables, and of those that an earlier revision had.
    pub(super) async fn begin_outboxes(
        &self,
        job: &str,
        job_uid: &str,
        compiled: &Compiled,
        status: &watch::Sender<Status>,
    ) -> Result<(), Error> {
        let specs: BTreeMap<&str, &SinkSpec> = compiled
            .sinks
            .iter()
            .filter(|(spec, _)| spec.kind == SinkKind::Outbox)
            .map(|(spec, _)| (spec.name.as_str(), spec))
            .collect();
        for spec in specs.values() {
            let (job, job_uid, spec) = (job.to_owned(), job_uid.to_owned(), (*spec).clone());
            self.send(Outbox { job, job_uid, spec, status: Some(status.subscribe()) }, None).await;
        }
        self.take_up_outboxes(job).await
    }

    /// Goes on with messages that another scheduler left, whether or not their job goes on.
    pub(super) async fn resume_outboxes(&self, job: &str) {
        while let Err(error) = self.take_up_outboxes(job).await {
            warn!(job, %error, "messages of the job are not sent yet");
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Begins to send for the job's tables that nobody sends for.
    async fn take_up_outboxes(&self, job: &str) -> Result<(), Error> {
        for table in self.tables_of(job).await? {
            if self.orders(job, &table).await.is_none() {
                self.take_up_outbox(job, &table, None).await?;
            }
        }
        Ok(())
    }

    /// The job's tables of messages, by their records.
    async fn tables_of(&self, job: &str) -> Result<Vec<String>, Error> {
        let (store, warehouse) = self.objects();
        let names = tables(store.as_ref(), &JobPaths::new(warehouse, job).outboxes()).await;
        names.map_err(|error| Error::failed(job, error))
    }

    /// How a table's sender is told what to do, if there is one at work.
    async fn orders(&self, job: &str, table: &str) -> Option<mpsc::Sender<Order>> {
        let outboxes = self.inner.outboxes.lock().await;
        let sending = outboxes.get(&(job.to_owned(), table.to_owned()))?;
        (!sending.task.is_finished()).then(|| sending.orders.clone())
    }

    /// Begins to send as the table was declared last.
    async fn take_up_outbox(&self, job: &str, table: &str, first: Option<Order>) -> Result<(), Error> {
        let (store, warehouse) = self.objects();
        let record = Record::new(store.clone(), &JobPaths::new(warehouse, job).outboxes(), table);
        let known = record.read().await.map_err(|error| Error::failed(table, error))?;
        if let Some(Reign { job_uid, spec, .. }) = known.reign {
            self.send(Outbox { job: job.to_owned(), job_uid, spec, status: None }, first).await;
        }
        Ok(())
    }

    /// Begins to send for a table. Who did so before ends with its request under way; but one that follows a job that
    /// runs is replaced by no other than such.
    async fn send(&self, outbox: Outbox, first: Option<Order>) {
        let Outbox { job, job_uid, spec, status } = outbox;
        let (store, warehouse) = self.objects();
        let folder = JobPaths::new(warehouse, &job).outboxes();
        let ((told, lag), (stop, stopped)) = (watch::channel(Lag::default()), watch::channel(false));
        let (orders, ordered) = mpsc::channel(ORDERS);
        if let Some(first) = first {
            // A channel that is new has room.
            _ = orders.try_send(first);
        }
        let key = (job.clone(), spec.name.clone());
        let sender = Sender {
            record: Record::new(store.clone(), &folder, &spec.name),
            log: self.log(&job),
            scheduler: self.inner.config.name.clone(),
            store: store.clone(),
            couriers: couriers(self.inner.stores.clone()),
            clock: Arc::new(Monotonic::default()),
            orders: ordered,
            stop: stopped,
            lag: told,
            job,
            job_uid,
            spec,
            status: status.clone().unwrap_or_else(|| watch::channel(Status::default()).1),
        };
        let mut outboxes = self.inner.outboxes.lock().await;
        if status.is_none() && outboxes.get(&key).is_some_and(|sending| !sending.task.is_finished()) {
            return;
        }
        let before = outboxes.remove(&key);
        let task = tokio::spawn(async move {
            if let Some(Sending { stop, task, .. }) = before {
                stop.send_replace(true);
                // One that panicked has ended too.
                _ = task.await;
            }
            sender.run().await
        });
        outboxes.insert(key, Sending { lag, stop, orders, task });
    }

    /// How the job's tables of messages do, as far as this scheduler has sent for them.
    pub(super) async fn lags(&self, job: &str) -> BTreeMap<String, Lag> {
        let outboxes = self.inner.outboxes.lock().await;
        let of_job = outboxes.iter().filter(|((of, _), _)| of == job);
        of_job.map(|((_, table), sending)| (table.clone(), sending.lag.borrow().clone())).collect()
    }

    /// What was sent and set aside, by the records in the warehouse.
    pub async fn outboxes(&self, job: &str) -> Result<Vec<View>, Error> {
        let (store, warehouse) = self.objects();
        let fold = self.log(job).read().await.map_err(|error| Error::failed(job, error))?;
        let read = views(store, &JobPaths::new(warehouse, job), job, &fold).await;
        read.map_err(|error| Error::failed(job, error))
    }

    /// Ends all senders, each after its request under way: an answer that comes now is not lost.
    pub async fn close_outboxes(&self) {
        let sending = std::mem::take(&mut *self.inner.outboxes.lock().await);
        sending.values().for_each(|sending| _ = sending.stop.send_replace(true));
        let ended = futures::future::join_all(sending.into_values().map(|sending| sending.task));
        if tokio::time::timeout(CLOSING, ended).await.is_err() {
            warn!(
                "a request of an outbox was still under way at the end; it is sent again with the same Idempotency-Key"
            );
        }
    }

    /// Sends what was set aside once more: of one table, or of all tables of the job. The tables come back.
    pub async fn resend(&self, job: &str, table: Option<&str>) -> Result<BTreeSet<String>, Error> {
        let meant = self.tables_of(job).await?;
        let meant: BTreeSet<String> = meant.into_iter().filter(|its| table.is_none_or(|table| table == its)).collect();
        if meant.is_empty() {
            let which =
                table.map_or_else(|| "no OUTBOX table".to_owned(), |table| format!("no OUTBOX table '{table}'"));
            return Err(Error::Refused(format!("job '{job}' has {which} with messages")));
        }
        for table in &meant {
            let (order, answer) = oneshot::channel();
            self.order(job, table, order).await?;
            let answer = tokio::time::timeout(ANSWER, answer).await;
            answer.ok().and_then(Result::ok).ok_or_else(|| stands_still(job, table))?;
        }
        Ok(meant)
    }

    /// To the sender of a table, or to one that begins for just that.
    async fn order(&self, job: &str, table: &str, order: Order) -> Result<(), Error> {
        let Some(orders) = self.orders(job, table).await else {
            return self.take_up_outbox(job, table, Some(order)).await;
        };
        match orders.try_send(order) {
            Ok(()) => Ok(()),
            // It has just ended.
            Err(TrySendError::Closed(order)) => self.take_up_outbox(job, table, Some(order)).await,
            Err(TrySendError::Full(_)) => Err(stands_still(job, table)),
        }
    }
}

fn stands_still(job: &str, table: &str) -> Error {
    Error::Refused(format!("the sender of {table} stands still; `redpoll describe {job}` says why"))
}

/// Secrets are looked up in the environment of the process that sends.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn couriers(stores: Arc<Stores>) -> Couriers {
    Arc::new(move |_, config| {
        let courier = Courier::open(config, &stores, &variable).map_err(|error| error.to_string())?;
        Ok(Box::new(courier) as Box<dyn Deliver>)
    })
}
