//! The loop around a job's [`Machine`]: does one action at a time and tells the machine how it went.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::{FutureExt, StreamExt, TryFutureExt, TryStreamExt};
use object_store::{ObjectStore, ObjectStoreExt};
use redpoll_connectors::delta::{self, AddFile, Commit};
use redpoll_core::fault;
use redpoll_core::ids::{Epoch, Term};
use redpoll_core::ledger::Line;
use redpoll_core::log::{self, Fold, Log, Sums};
use redpoll_core::protocol::{Entry, Growth, Intent, JobPaths, Receipt, Spec, Split};
use redpoll_core::source::{self, OffsetRange, Offsets, Source, Start};
use redpoll_core::steps::EpochRun;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{Instrument, info, warn};

use super::machine::{Action, Answer, Event, Machine, Mode, Policy, Prepared};
use super::point::Point;
use super::replays::{Accepted, Asked, Bounds};
use super::revision::{Meant, changes};
use super::swap::Swaps;
use super::sweep::Upkeep;
use super::trace::Trace;
use super::trouble::Trouble;
use super::world::World;
use crate::metrics;

/// How a job is run, apart from its pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobConfig {
    pub name: String,
    pub policy: Policy,
    /// Where it begins, or is set to if this is another point than its last revision had.
    #[serde(rename = "start", default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Point>,
    /// Bytes of one split, about: one task reads it.
    pub split_bytes: u64,
    /// Most splits of an epoch, and lanes of the Kafka sinks. `lanes * split_bytes` bounds an epoch.
    pub lanes: u32,
    /// Executors that run it.
    #[serde(default)]
    pub group: Option<String>,
}

impl JobConfig {
    pub fn new(name: &str, mode: Mode) -> Self {
        Self {
            name: name.to_owned(),
            policy: Policy { mode, ..Policy::default() },
            from: None,
            split_bytes: 16 << 20,
            lanes: 16,
            group: None,
        }
    }
}

/// What a job is doing, for those who watch.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Status {
    pub name: String,
    /// `running`, `degraded`, `stopped` or `failed`; `open` of a job that is known from its log alone, `unknown`
    /// where that cannot be read.
    pub state: String,
    pub reason: Option<String>,
    /// What it does right now, in words, and since when.
    pub doing: String,
    #[serde(default)]
    pub doing_since: i64,
    /// The step that fails just now.
    #[serde(default)]
    pub trouble: Option<Trouble>,
    /// Offsets that expired before they were read, for as long as the job waits for the operator's word.
    #[serde(default)]
    pub expired: Vec<OffsetRange>,
    /// Epochs prepared and epochs committed, as counts.
    pub prepared: u64,
    pub committed: u64,
    /// Sums over prepared epochs.
    pub fetched: u64,
    pub decoded: u64,
    pub quarantined: u64,
    pub kept: u64,
    pub sinks: BTreeMap<String, u64>,
    /// Records known to be waiting at the source.
    pub backlog: u64,
    /// Records of the quarantine that are asked for and not yet committed.
    #[serde(default)]
    pub replaying: u64,
    /// Runs of an epoch after the first.
    pub reruns: u64,
    /// Milliseconds since 1970-01-01 UTC.
    pub started: i64,
    pub ended: Option<i64>,
    /// Who runs it.
    #[serde(default)]
    pub scheduler: Option<String>,
    /// Of its pipeline.
    #[serde(default)]
    pub revision: u32,
    /// What is worth knowing of how it began or goes on.
    #[serde(default)]
    pub told: Vec<String>,
    /// Why it does not take over what was deployed last, if it does not: it goes on as it was.
    #[serde(default)]
    pub refused: Option<String>,
}

/// Why a job's loop ended otherwise than by its own decision.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Log(#[from] log::Error),
    #[error("fenced: scheduler {scheduler} took the job over with term {term}, so this one left it")]
    Fenced { term: Term, scheduler: String },
    #[error("entry {0} of the log was written by somebody else of the same term: this scheduler leaves the job")]
    Foreign(u64),
}

/// A request for records of the quarantine, answered as soon as the job's loop hears it.
#[derive(Debug)]
pub struct Ask {
    pub asked: Asked,
    pub answer: oneshot::Sender<Accepted>,
}

/// A job under way.
pub struct Job {
    pub config: JobConfig,
    pub world: Arc<dyn World>,
    /// Locks of the modules that its plan calls, by name.
    pub modules: BTreeMap<String, String>,
    pub source: Arc<dyn Source>,
    pub log: Log,
    /// The log as it was when the term began.
    pub fold: Fold,
    pub job_uid: String,
    /// URL, and the store and prefix that it means.
    pub warehouse: String,
    pub objects: Arc<dyn ObjectStore>,
    pub paths: JobPaths,
    pub status: watch::Sender<Status>,
    pub stop: watch::Receiver<bool>,
    pub asks: mpsc::Receiver<Ask>,
    /// What is deployed to it.
    pub swaps: Swaps,
    /// The operator's word on offsets that have expired.
    pub answer: watch::Receiver<Option<Answer>>,
    pub upkeep: Upkeep,
    /// Of a job that ends at positions: where they are, from the first look.
    pub ends: Option<Offsets>,
}

impl Job {
    /// Runs until the machine leaves. The reason of its last word comes back.
    pub async fn run(mut self) -> Result<String, Error> {
        let ended = self.follow_machine().await;
        metrics::left(&self.config.name);
        ended
    }

    async fn follow_machine(&mut self) -> Result<String, Error> {
        let bounds = Bounds { split_bytes: self.config.split_bytes, lanes: self.config.lanes };
        let mut machine = Machine::new(self.config.policy.clone(), self.modules.clone()).within(bounds);
        let mut trace = Trace::new(&self.config.name);
        let mut event = Event::Began(Box::new(self.fold.clone()));
        loop {
            if *self.stop.borrow() {
                machine.stop();
            }
            if self.answer.has_changed().unwrap_or(false)
                && let Some(answer) = *self.answer.borrow_and_update()
            {
                machine.answer(answer);
            }
            while let Ok(ask) = self.asks.try_recv() {
                self.accept(&mut machine, ask);
            }
            if self.swaps.has_come() {
                machine.swap();
            }
            let action = machine.on(self.world.now(), event);
            self.tell(&machine, &action);
            let span = trace.span(&action);
            event = match self.act(action, &mut machine).instrument(span).await? {
                Next::Event(event) => event,
                Next::Leave(reason) => return Ok(reason),
            };
            if let Event::Failed(reason) = &event {
                warn!(job = %self.config.name, %reason, "action failed");
            }
        }
    }

    fn accept(&self, machine: &mut Machine, ask: Ask) {
        let accepted = machine.replay(ask.asked);
        self.status.send_modify(|status| status.replaying = machine.replaying());
        // Who asked may be gone; what was asked for is done all the same.
        _ = ask.answer.send(accepted);
    }

    async fn act(&mut self, action: Action, machine: &mut Machine) -> Result<Next, Error> {
        let event = match action {
            Action::Append(entry) => patient(self.append(entry).await)?,
            Action::Poll(from) => {
                self.leave_if_fenced_while_idle().await?;
                self.poll(&from).await
            }
            Action::ReadReceipts(epoch) => match self.receipts(epoch).await {
                Ok(receipts) => Event::Receipts(receipts),
                Err(error) => Event::Failed(error.to_string()),
            },
            Action::Run { intent, splits } => Event::QueryEnded(self.run_unless_fenced(&intent, &splits).await?),
            Action::Publish(prepared) => match self.publish(&prepared).await {
                Ok(tables) => Event::Published(tables),
                Err(error) => {
                    let failed = Event::Failed(error.to_string());
                    patient(self.leave_if_fenced().await.map(|()| failed))?
                }
            },
            Action::Grow(met) => self.grow(&met).await,
            Action::Swap => {
                let next = self.fold.spec.as_ref().and_then(|spec| self.swaps.after(spec));
                Event::Swapped(next.map(Box::new))
            }
            Action::Check(ranges) if ranges.is_empty() => Event::Lost(Vec::new()),
            Action::Check(ranges) => match self.source.lost(&ranges).await {
                Ok(lost) => Event::Lost(lost),
                Err(error) => Event::Failed(error.to_string()),
            },
            Action::Sleep(duration) => {
                self.sleep(duration, machine).await;
                Event::Woke
            }
            Action::Leave(reason) => return Ok(Next::Leave(reason)),
        };
        Ok(Next::Event(event))
    }

    async fn grow(&self, met: &[Growth]) -> Event {
        let Some(spec) = &self.fold.spec else { return Event::Failed("the job's log has no spec".to_owned()) };
        match self.world.grow(&spec.grown, met).await {
            Ok(None) => Event::Grown(None),
            Ok(Some((grown, outline))) => {
                let revision = spec.revision + 1;
                info!(job = %self.config.name, revision, "job goes on with the new fields of its alerts");
                let changes = spec.outline.as_ref().and_then(|before| changes(before, &outline, &Meant::default()).ok());
                let (changes, moves) = (changes.unwrap_or_default(), Vec::new());
                let outline = Some(outline);
                Event::Grown(Some(Box::new(Spec { revision, grown, outline, changes, moves, ..spec.clone() })))
            }
            Err(reason) => Event::Failed(reason),
        }
    }

    /// A pause ends early when the job is told to stop, given an answer or asked for something.
    async fn sleep(&mut self, duration: Duration, machine: &mut Machine) {
        if *self.stop.borrow() {
            self.world.sleep(duration.min(Duration::from_secs(1))).await;
        } else {
            // A clone, so that the loop still sees the answer as new. Without anybody who could give one, none comes.
            let mut answer = self.answer.clone();
            tokio::select! {
                biased;
                () = self.world.sleep(duration) => {}
                _ = self.stop.changed() => {}
                Ok(()) = answer.changed() => {}
                Some(ask) = self.asks.recv() => self.accept(machine, ask),
                Some(()) = self.swaps.comes() => machine.swap(),
            }
        }
    }

    async fn append(&mut self, entry: Entry) -> Result<Event, Error> {
        match self.log.append(&mut self.fold, &entry).await {
            Ok(()) => Ok(self.logged(&entry).await),
            Err(log::Error::Taken { seq }) => {
                self.leave_if_fenced().await?;
                Err(Error::Foreign(seq))
            }
            Err(error) => Ok(Event::Failed(error.to_string())),
        }
    }

    async fn logged(&mut self, entry: &Entry) -> Event {
        self.note(entry);
        match entry {
            Entry::Spec(spec) => self.swaps.logged(spec, self.fold.next_epoch),
            Entry::Intent(_) => fault::at("after-intent"),
            Entry::Prepared { .. } => fault::at("after-prepared"),
            Entry::Committed { .. } => fault::at("after-committed"),
            _ => {}
        }
        let now = self.now();
        self.upkeep.after_entry(&self.log, &mut self.fold, now).await;
        Event::Logged
    }

    /// Re-reads the log: a higher term than ours means that another scheduler has the job.
    async fn leave_if_fenced(&self) -> Result<(), Error> {
        check_term(&self.log, &self.fold).await
    }

    fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.world.now()).unwrap_or_default()
    }

    /// A job that has nothing to write would not notice that it was taken over.
    async fn leave_if_fenced_while_idle(&mut self) -> Result<(), Error> {
        let now = self.now();
        if !self.upkeep.term_check_is_due(now) {
            return Ok(());
        }
        match self.leave_if_fenced().await {
            Err(error @ Error::Fenced { .. }) => Err(error),
            // Nothing depends on it now: whatever is written next is checked again.
            _ => Ok(()),
        }
    }

    async fn poll(&mut self, from: &Offsets) -> Event {
        let max_bytes = self.config.split_bytes * u64::from(self.config.lanes);
        let start = self.fold.spec.as_ref().map_or(Start::Earliest, |spec| spec.start);
        match self.available(from, start, max_bytes).await {
            Ok(ranges) => {
                let waiting = self.waiting(from, start, max_bytes, &ranges).await;
                metrics::backlog(&self.config.name, waiting);
                self.status.send_modify(|status| status.backlog = waiting);
                let splits = self.source.split(&ranges, self.config.split_bytes);
                Event::Available(at_most(splits, self.config.lanes as usize))
            }
            Err(error) => Event::Failed(error.to_string()),
        }
    }

    /// Records that wait at the source: those of the next epoch, and where that is full those behind it.
    async fn waiting(&mut self, from: &Offsets, start: Start, max_bytes: u64, next: &[OffsetRange]) -> u64 {
        let sum = |ranges: &[OffsetRange]| ranges.iter().map(OffsetRange::len).sum();
        let bytes: u64 = next.iter().map(|range| range.bytes).sum();
        if bytes < max_bytes / 2 {
            return sum(next);
        }
        // It is for those who watch: a source that fails now is asked again for the next epoch.
        self.available(from, start, u64::MAX).await.map_or_else(|_| sum(next), |all| sum(&all))
    }

    async fn available(
        &mut self,
        from: &Offsets,
        start: Start,
        max_bytes: u64,
    ) -> Result<Vec<OffsetRange>, source::Error> {
        let (source, taken) = (&self.source, &self.fold.taken);
        match self.config.policy.mode {
            Mode::AvailableNow | Mode::To(_) => {}
            Mode::Continuous | Mode::Until(_) | Mode::Replay => {
                return source.available_except(from, start, max_bytes, taken).await;
            }
        }
        if self.ends.is_none() {
            self.ends = Some(match (&self.config.policy.mode, &self.fold.spec) {
                (Mode::To(_), Some(spec)) => spec.end.clone(),
                _ => {
                    let all = source.available_except(from, start, u64::MAX, taken).await?;
                    all.iter().map(|range| (range.topic_partition(), range.end)).collect()
                }
            });
        }
        let ends = self.ends.clone().unwrap_or_default();
        let ranges = source.available_except(from, start, max_bytes, taken).await?;
        // A topic that is still written to would otherwise have no end.
        Ok(ranges.into_iter().filter_map(|range| up_to(range, &ends)).collect())
    }

    async fn receipts(&self, epoch: Epoch) -> Result<Vec<Receipt>, object_store::Error> {
        let store = &self.objects;
        let names: Vec<_> = store.list(Some(&self.paths.receipts(epoch))).try_collect().await?;
        let read = futures::stream::iter(names).map(|object| async move {
            let bytes = store.get(&object.location).await?.bytes().await?;
            serde_json::from_slice::<Receipt>(&bytes).map_err(|source| object_store::Error::Generic {
                store: "receipts",
                source: format!("{}: {source}", object.location).into(),
            })
        });
        read.buffered(16).try_collect().await
    }

    /// A scheduler that slept through its successor's work would find no receipts, and run what is long committed.
    async fn run_unless_fenced(&self, intent: &Intent, splits: &[Split]) -> Result<Result<(), String>, Error> {
        match self.leave_if_fenced().await {
            Ok(()) => Ok(self.run_query(intent, splits).await),
            Err(Error::Log(error)) => Ok(Err(format!("nothing was run: {error}"))),
            Err(error) => Err(error),
        }
    }

    async fn run_query(&self, intent: &Intent, splits: &[Split]) -> Result<(), String> {
        let begun = self.world.now();
        let run = EpochRun {
            job: self.config.name.clone(),
            job_uid: self.job_uid.clone(),
            epoch: intent.epoch,
            revision: intent.revision,
            clock: intent.clock,
            warehouse: self.warehouse.clone(),
            modules: intent.modules.clone(),
        };
        let ended = self.world.run(run, self.config.group.as_deref(), splits).await;
        let millis = self.world.now() - begun;
        match &ended {
            Ok(()) => {
                info!(job = %self.config.name, epoch = intent.epoch.0, n_splits = splits.len(), millis, "epoch ran");
                fault::at("after-run");
            }
            Err(reason) => {
                warn!(job = %self.config.name, epoch = intent.epoch.0, %reason, millis, "epoch's query ended early");
                self.status.send_modify(|status| status.reruns += 1);
            }
        }
        ended
    }

    async fn publish(&self, prepared: &[Prepared]) -> Result<BTreeMap<String, u64>, delta::Error> {
        let Some(last) = prepared.last() else { return Ok(BTreeMap::new()) };
        let mut versions = BTreeMap::new();
        for name in self.world.archives() {
            if !versions.is_empty() {
                fault::at("between-tables");
            }
            let receipts = prepared.iter().flat_map(|prepared| &prepared.receipts);
            let files = receipts.filter_map(|receipt| receipt.sinks.get(&name)).flat_map(|sink| &sink.files);
            let adds: Vec<AddFile> =
                files
                    .map(|file| serde_json::from_value(file.clone()))
                    .collect::<Result<_, _>>()
                    .map_err(|error| delta::Error::Name { column: name.clone(), reason: error.to_string() })?;
            let commit = Commit {
                app_id: delta::app_id(&self.job_uid, &name),
                version: last.epoch.0 as i64,
                adds,
                record_empty: false,
            };
            let fence = || check_term(&self.log, &self.fold).map_err(|error| error.into()).boxed();
            let (url, version) = self.world.commit(&name, commit, &fence).await?;
            versions.insert(url, version);
        }
        fault::at("after-publish");
        Ok(versions)
    }

    fn tell(&self, machine: &Machine, action: &Action) {
        metrics::trouble(&self.config.name, machine.trouble());
        self.status.send_modify(|status| {
            status.state = if machine.degraded().is_some() { "degraded" } else { "running" }.to_owned();
            status.reason = machine.degraded().map(str::to_owned);
            status.replaying = machine.replaying();
            status.trouble = machine.trouble().cloned();
            status.expired = machine.expired().to_vec();
            status.doing_since = self.world.now();
            status.doing = match action {
                Action::Append(_) => "writing the log".to_owned(),
                Action::Poll(_) => "asking the source".to_owned(),
                Action::ReadReceipts(epoch) => format!("reading receipts of epoch {epoch}"),
                Action::Run { intent, splits } => format!("epoch {}: {} splits", intent.epoch, splits.len()),
                Action::Publish(prepared) => format!("publishing {} epochs", prepared.len()),
                Action::Grow(_) => "planning for alerts with new fields".to_owned(),
                Action::Swap => "taking over what was deployed".to_owned(),
                Action::Check(_) => "asking the source what it still holds".to_owned(),
                Action::Sleep(_) => "waiting".to_owned(),
                Action::Leave(_) => "ending".to_owned(),
            };
        });
    }

    fn note(&self, entry: &Entry) {
        match entry {
            Entry::Prepared { epoch, .. } => self.status.send_modify(|status| {
                status.prepared = epoch.0 + 1;
            }),
            Entry::Spec(spec) => {
                self.status.send_modify(|status| status.revision = spec.revision);
                for change in &spec.changes {
                    info!(job = %self.config.name, revision = spec.revision, %change, "job is revised");
                }
            }
            Entry::Committed { from, to, ledger, .. } => {
                info!(job = %self.config.name, from = from.0, to = to.0, "epochs committed");
                for line in ledger {
                    metrics::committed(&self.config.name, line);
                }
                self.status.send_modify(|status| {
                    status.committed = to.0 + 1;
                    ledger.iter().for_each(|line| status.add(line));
                });
            }
            _ => {}
        }
    }
}

impl Status {
    /// Of a job that was just asked for.
    pub fn beginning(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            state: "running".to_owned(),
            doing: "preparing".to_owned(),
            started: Utc::now().timestamp_millis(),
            ..Self::default()
        }
    }

    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        matches!(self.state.as_str(), "stopped" | "failed")
    }

    /// What a log tells of a job. Whether a scheduler runs it right now is not in it.
    pub fn of_log(name: &str, fold: &Fold) -> Self {
        let mut status = Self {
            name: name.to_owned(),
            state: if fold.stopped.is_some() { "stopped" } else { "open" }.to_owned(),
            scheduler: fold.scheduler.clone(),
            revision: fold.spec.as_ref().map_or(0, |spec| spec.revision),
            reason: fold.stopped.clone(),
            committed: fold.next_epoch.0 - fold.open.len() as u64,
            prepared: fold.next_epoch.0 - fold.open.values().filter(|open| open.attempts.is_none()).count() as u64,
            replaying: fold.open.values().flat_map(|open| open.intent.replayed().into_values()).sum(),
            ..Self::default()
        };
        status.count(&fold.sums);
        status
    }

    /// Of a job whose log cannot be read.
    pub fn unknown(name: &str, reason: &dyn std::fmt::Display) -> Self {
        let (name, state) = (name.to_owned(), "unknown".to_owned());
        Self { name, state, reason: Some(reason.to_string()), ..Self::default() }
    }

    /// The sums over the epochs that were committed before.
    pub fn count(&mut self, sums: &Sums) {
        let Sums { fetched, decoded, quarantined, kept, sinks, .. } = sums.clone();
        *self = Self { fetched, decoded, quarantined, kept, sinks, ..std::mem::take(self) };
    }

    /// Adds an epoch's line to the sums.
    pub fn add(&mut self, line: &Line) {
        self.fetched += line.fetched;
        self.decoded += line.decoded;
        self.quarantined += line.quarantined;
        self.kept += line.kept;
        for (name, rows) in &line.sinks {
            *self.sinks.entry(name.clone()).or_default() += rows;
        }
    }
}

enum Next {
    Event(Event),
    Leave(String),
}

async fn check_term(log: &Log, fold: &Fold) -> Result<(), Error> {
    match log.higher_term(fold).await? {
        Some((term, scheduler)) => Err(Error::Fenced { term, scheduler }),
        None => Ok(()),
    }
}

/// A log that cannot be read just now is no reason to leave a job: the action is tried again, and asks again then.
fn patient(done: Result<Event, Error>) -> Result<Event, Error> {
    match done {
        Err(Error::Log(error)) => Ok(Event::Failed(error.to_string())),
        done => done,
    }
}

/// The part of a range that was there at the first look.
fn up_to(range: OffsetRange, ends: &Offsets) -> Option<OffsetRange> {
    let end = range.end.min(*ends.get(&range.topic_partition())?);
    (end > range.start).then(|| range.slice(range.start, end))
}

/// Puts surplus splits together, so that no two splits of an epoch share a lane.
fn at_most(splits: Vec<Vec<OffsetRange>>, lanes: usize) -> Vec<Vec<OffsetRange>> {
    let mut merged: Vec<Vec<OffsetRange>> = Vec::new();
    for (i, split) in splits.into_iter().enumerate() {
        match i < lanes.max(1) {
            true => merged.push(split),
            false => merged[i % lanes.max(1)].extend(split),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_cannot_be_read_just_now_ends_no_job() {
        let source = object_store::Error::Generic { store: "S3", source: "503".into() };
        let unread = Error::Log(log::Error::Store { path: "log".into(), source });
        assert!(matches!(patient(Err(unread)), Ok(Event::Failed(reason)) if reason.contains("503")));
        let fenced = Error::Fenced { term: Term(2), scheduler: "second".into() };
        assert!(matches!(patient(Err(fenced)), Err(Error::Fenced { term: Term(2), .. })));
        assert!(matches!(patient(Err(Error::Foreign(7))), Err(Error::Foreign(7))));
    }

    #[test]
    fn no_two_splits_share_a_lane() {
        let range = |start| OffsetRange { topic: "t".into(), start, end: start + 1, bytes: 1, ..Default::default() };
        let splits = at_most((0..7).map(|start| vec![range(start)]).collect(), 3);
        let starts: Vec<Vec<i64>> = splits.iter().map(|split| split.iter().map(|r| r.start).collect()).collect();
        assert_eq!(starts, [vec![0, 3, 6], vec![1, 4], vec![2, 5]]);
    }
}
