//! Sends the messages of one table, one at a time.

use std::sync::Arc;
use std::time::Duration;

use object_store::{ObjectStore, ObjectStoreExt};
use redpoll_connectors::outbox::{self, Answer, Config, Deliver, Entry, Known, Message, Record, unpack};
use redpoll_core::fault;
use redpoll_core::log::{self, Log};
use redpoll_core::sink::SinkSpec;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{info, warn};

use super::backlog::{self, Backlog};
use super::clock::Clock;
use super::state::{Due, Sending, failing, today};
use super::watched::Watched;
use super::{Failing, Lag};
use crate::coordinator::Status;
use crate::metrics;

/// Epochs without messages after which the record says that they were passed, so that none of them is read again.
const PASSED: u64 = 1000;
/// The pause after an object store, or anything else of ours, failed.
const OWN_PAUSE: Duration = Duration::from_secs(5);
/// A sender that has nothing to do looks about this often, though nobody called it.
const LOOK: Duration = Duration::from_secs(3600);

/// Makes whoever brings the messages of a table, or says why that cannot be.
pub type Couriers = Arc<dyn Fn(&SinkSpec, &Config) -> Result<Box<dyn Deliver>, String> + Send + Sync>;

/// To send again what was set aside. How many messages that are is answered.
pub type Order = oneshot::Sender<u64>;

/// Sends what an `OUTBOX` table of a job has.
pub struct Sender {
    pub job: String,
    pub job_uid: String,
    /// As it is declared now.
    pub spec: SinkSpec,
    /// Of this process, in the record.
    pub scheduler: String,
    pub store: Arc<dyn ObjectStore>,
    pub log: Log,
    pub record: Record,
    pub couriers: Couriers,
    pub clock: Arc<dyn Clock>,
    pub orders: mpsc::Receiver<Order>,
    /// Of the job, if it runs.
    pub status: watch::Receiver<Status>,
    pub stop: watch::Receiver<bool>,
    pub lag: watch::Sender<Lag>,
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Record(#[from] outbox::Error),
    #[error(transparent)]
    Backlog(#[from] backlog::Error),
    #[error("{0}")]
    Unread(String),
    #[error("{0}")]
    Unusable(String),
}

enum Next {
    Go,
    /// Nothing is left to be sent just now.
    Idle,
}

impl Sender {
    /// Sends until it is stopped, replaced by another scheduler's, or done with a job that has ended.
    pub async fn run(mut self) {
        let mut sending = None;
        let mut failed = None;
        while !*self.stop.borrow() {
            let error = match self.go_on(&mut sending, &mut failed).await {
                Ok(()) => return,
                Err(error) => error,
            };
            if let Error::Record(outbox::Error::Replaced(_)) = &error {
                info!(job = self.job, table = self.spec.name, %error, "outbox left to another scheduler");
                return;
            }
            warn!(job = self.job, table = self.spec.name, %error, "outbox stands still");
            failed = Some(failing(failed.take(), error.to_string(), OWN_PAUSE));
            self.lag.send_modify(|lag| lag.failing.clone_from(&failed));
            tokio::select! {
                Ok(()) = self.stop.changed() => {}
                () = self.clock.until(self.clock.now() + OWN_PAUSE) => {}
            }
        }
    }

    async fn go_on(&mut self, sending: &mut Option<Sending>, failed: &mut Option<Failing>) -> Result<(), Error> {
        let state = match sending {
            Some(sending) => sending,
            None => sending.insert(self.begin().await?),
        };
        let mut job = Watched::new(self.status.clone());
        while !*self.stop.borrow() {
            while let Ok(order) = self.orders.try_recv() {
                self.obey(order, state);
            }
            // Looked up before the log is: what a job committed last is seen.
            let is_over = job.is_over();
            if job.has_committed() {
                state.backlog.follow().await?;
            }
            let next = self.step(state, &mut job).await?;
            *failed = None;
            self.tell(state);
            match next {
                Next::Go => {}
                Next::Idle if is_over && self.orders.is_empty() => return Ok(()),
                Next::Idle => self.wait(self.clock.now() + LOOK, state, &mut job).await,
            }
        }
        Ok(())
    }

    /// Takes the record over.
    async fn begin(&self) -> Result<Sending, Error> {
        let wrong = |wrong: Vec<outbox::Wrong>| Error::Unusable(wrong.iter().map(ToString::to_string).collect());
        let config = Config::parse(&self.spec).map_err(wrong)?;
        let courier = (self.couriers)(&self.spec, &config).map_err(Error::Unusable)?;
        let (scheduler, job_uid) = (self.scheduler.clone(), self.job_uid.clone());
        let reign = Entry::Reign { scheduler, job_uid, spec: self.spec.clone(), at: today() };
        let known = loop {
            let mut known = self.record.read().await?;
            match self.record.append(&mut known, &reign).await {
                Ok(()) => break known,
                // Whoever sent until now has put something down since: it leaves at its next one.
                Err(outbox::Error::Replaced(_)) => {}
                Err(error) => return Err(error.into()),
            }
        };
        let backlog = Backlog::open(self.log.clone(), &self.spec.name, known.passed).await?;
        Ok(Sending::new(config, courier, known, backlog))
    }

    /// One thing: a record, a look into the log, or a request.
    async fn step(&mut self, state: &mut Sending, job: &mut Watched) -> Result<Next, Error> {
        self.put_down(state).await?;
        let Some(due) = state.hand.front() else { return self.fill(state).await };
        if !state.is_open(due) {
            state.hand.pop_front();
            return Ok(Next::Go);
        }
        if self.clock.now() < state.due {
            self.tell(state);
            self.wait(state.due, state, job).await;
            return Ok(Next::Go);
        }
        if self.record.is_replaced(&state.known).await? {
            return Err(outbox::Error::Replaced(state.known.next).into());
        }
        state.due = self.clock.now() + state.config.rate.gap;
        let answer = state.courier.deliver(due.id, &due.message).await;
        if matches!(answer, Answer::Taken { .. }) {
            fault::at("after-send");
        }
        state.judge(answer, self.clock.now());
        self.put_down(state).await?;
        Ok(Next::Go)
    }

    /// Writes what became of the last message, if the record does not have it.
    async fn put_down(&self, state: &mut Sending) -> Result<(), Error> {
        let Some(entry) = &state.undecided else { return Ok(()) };
        self.record.append(&mut state.known, entry).await?;
        state.undecided = None;
        if let Err(error) = self.record.fold(&mut state.known).await {
            warn!(job = self.job, table = self.spec.name, %error, "record of the outbox not put together; tried again");
        }
        Ok(())
    }

    /// Takes the messages of the next epoch that has some.
    async fn fill(&self, state: &mut Sending) -> Result<Next, Error> {
        let Some(waiting) = state.backlog.next().await? else {
            let seen = state.backlog.seen();
            if seen.0 >= state.known.passed.0 + PASSED {
                state.undecided = Some(Entry::Passed { epoch: seen });
                return Ok(Next::Go);
            }
            return Ok(Next::Idle);
        };
        match self.messages(&state.known, &waiting).await {
            Ok(due) => {
                state.hand.extend(due);
                Ok(Next::Go)
            }
            Err(error) => {
                state.backlog.put_back(waiting);
                Err(error)
            }
        }
    }

    async fn messages(&self, known: &Known, waiting: &backlog::Waiting) -> Result<Vec<Due>, Error> {
        let epochs = [(waiting.epoch, &waiting.attempts)];
        let objects = self.log.queued(&self.spec.name, &epochs).await.map_err(backlog::Error::Log)?;
        let mut due = Vec::new();
        for (epoch, path) in objects {
            let read = async { self.store.get(&path).await?.bytes().await };
            let object = read.await.map_err(|source| log::Error::Store { path: path.clone(), source });
            let messages = unpack::<Message>(&object.map_err(backlog::Error::Log)?);
            let messages =
                messages.map_err(|error| Error::Unread(format!("{path}: {error}; restore it from a backup")))?;
            let of = |message: Message| Due { id: known.id(&message.key), epoch, message, again: false };
            due.extend(messages.into_iter().map(of));
        }
        let (epoch, n) = (waiting.epoch, waiting.messages);
        match due.len() as u64 == n {
            true => Ok(due),
            false => Err(Error::Unread(format!(
                "epoch {epoch}: {} of its {n} messages are in the warehouse; restore the others from a backup",
                due.len()
            ))),
        }
    }

    /// Until a time, a commit of the job, an order or the end.
    async fn wait(&mut self, until: Duration, state: &mut Sending, job: &mut Watched) {
        tokio::select! {
            Ok(()) = self.stop.changed() => {}
            () = job.changed() => {}
            () = self.clock.until(until) => {}
            Some(order) = self.orders.recv() => self.obey(order, state),
        }
    }

    fn obey(&self, order: Order, state: &mut Sending) {
        let n = state.take_up_again();
        self.tell(state);
        // Who asked may be gone; what was asked for is done all the same.
        _ = order.send(n);
    }

    fn tell(&self, state: &Sending) {
        let lag = state.lag();
        metrics::outbox(&self.job, &self.spec.name, &lag);
        self.lag.send_if_modified(|told| {
            let is_new = *told != lag;
            *told = lag;
            is_new
        });
    }
}
