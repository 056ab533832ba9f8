//! Jobs of this scheduler: begun, followed, stopped, and taken up again from their logs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use futures::StreamExt;
use object_store::ObjectStore;
use object_store::path::Path;
use redpoll_connectors::sinks::LANES;
use redpoll_core::ledger::Line;
use redpoll_core::log::{self, Log};
use redpoll_core::protocol::{JobPaths, Pipeline, jobs as jobs_root};
use redpoll_core::revision::Revised;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use super::begin::Told;
use super::{Error, Service};
use crate::coordinator::trouble::{Step, Trouble};
use super::swaps::Live;
use crate::coordinator::{Answer, Ask, Job, JobConfig, Revision, Status, Swap, Swaps, job};
use crate::metrics;
use crate::pipeline::{Compiled, compile};

/// Requests that wait for a job's loop; more of them are refused.
const ASKS: usize = 16;

/// What a user asks for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    pub config: JobConfig,
    pub pipeline: Pipeline,
    /// What was shown to whoever asks, and agreed to.
    #[serde(default)]
    pub confirmed: Option<Revision>,
}

/// Who asks for a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// Somebody who can be asked back.
    User,
    /// Somebody who sends records of the quarantine again: what became of pipeline and modules since is what is meant.
    Replay,
    /// A scheduler that takes up what another one left, as it was.
    Scheduler,
}

/// A job that this scheduler runs or ran.
pub(super) struct Running {
    status: watch::Receiver<Status>,
    stop: watch::Sender<bool>,
    asks: mpsc::Sender<Ask>,
    /// The operator's word on offsets that have expired.
    answer: watch::Sender<Option<Answer>>,
    /// How it is given another plan.
    pub(super) swaps: mpsc::Sender<Swap>,
    /// What it runs by, once it runs.
    pub(super) live: Option<Live>,
    /// Another scheduler took it over.
    fenced: bool,
}

impl Running {
    /// How it is asked for records of the quarantine.
    pub(super) fn asks(&self) -> &mpsc::Sender<Ask> {
        &self.asks
    }

    /// What it tells, and what is refused of what was deployed to it.
    fn told(&self) -> Status {
        let refused = self.live.as_ref().and_then(|live| live.refused.clone());
        Status { refused, ..self.status.borrow().clone() }
    }

    pub(super) fn is_over(&self) -> bool {
        self.status.borrow().is_over()
    }
}

impl Service {
    /// Checks a pipeline against the world, without changing anything.
    pub async fn check(&self, pipeline: &Pipeline) -> Result<Compiled, Error> {
        let current = self.look().await?;
        Ok(compile(pipeline, &self.inner.functions, &current.registry, self).await?)
    }

    /// Begins a job, or goes on with the one of that name.
    pub async fn start(&self, request: Request) -> Result<Status, Error> {
        self.enter(request, By::User, None).await
    }

    /// As [`Service::start`]; what is asked for `first` is done before the job does anything else.
    pub(super) async fn enter(&self, request: Request, by: By, first: Option<Ask>) -> Result<Status, Error> {
        let name = request.config.name.clone();
        check_name(&name)?;
        if !(1..=LANES).contains(&request.config.lanes) {
            return Err(Error::Refused(format!("lanes are from 1 to {LANES}, not {}", request.config.lanes)));
        }
        // The name is taken while environments are built and brokers asked, which may take minutes.
        let (status, watched) = watch::channel(Status::beginning(&name));
        let (stop, stopped) = watch::channel(false);
        let (answer, answered) = watch::channel(None);
        let (asks, asked) = mpsc::channel(ASKS);
        let (swaps, swapped) = mpsc::channel(ASKS);
        if let Some(first) = first {
            asks.try_send(first).map_err(|_| Error::failed(&name, "it takes no requests"))?;
        }
        {
            let mut jobs = self.inner.jobs.lock().await;
            if jobs.get(&name).is_some_and(|job| !job.is_over()) {
                return Err(Error::Running(name));
            }
            let running = Running { status: watched, stop, asks, answer, swaps, live: None, fenced: false };
            jobs.insert(name.clone(), running);
        }
        // A caller that goes away meanwhile takes nothing with it: the job begins, or gives its name back.
        let service = self.clone();
        let begun = tokio::spawn(async move {
            let told = Told { status, stop: stopped, asks: asked, answer: answered, swaps: Swaps::new(swapped) };
            let begun = service.begin(request, by, told).await;
            if begun.is_err() {
                service.inner.jobs.lock().await.remove(&name);
            }
            begun
        });
        begun.await.unwrap_or_else(|error| Err(Error::failed("job", error)))
    }

    /// The revisions of a job that changed rows or positions.
    pub async fn revisions(&self, name: &str) -> Result<Vec<Revised>, Error> {
        let fold = self.log(name).read().await.map_err(|error| Error::failed(name, error))?;
        match fold.next {
            0 => Err(Error::NoJob(name.to_owned())),
            _ => Ok(fold.revisions),
        }
    }

    /// Of every job of the warehouse: of those that no scheduler runs, what their logs say.
    pub async fn statuses(&self) -> Result<Vec<Status>, Error> {
        let (store, warehouse) = self.objects();
        let mut statuses = self.running().await;
        let names = match job_names(store.as_ref(), warehouse).await {
            Ok(names) => names,
            // How the running jobs do is known, and in an outage of the store that is what is asked for.
            Err(error) if !statuses.is_empty() => {
                warn!(%error, "only jobs of this scheduler are listed: the warehouse does not answer");
                BTreeSet::new()
            }
            Err(error) => return Err(Error::failed("jobs", error)),
        };
        let others: Vec<String> = names.into_iter().filter(|name| !statuses.contains_key(name)).collect();
        let read = futures::stream::iter(others).map(|name| {
            let service = self.clone();
            async move { service.status_of_log(&name).await.unwrap_or_else(|error| Status::unknown(&name, &error)) }
        });
        let read: Vec<Status> = read.buffered(16).collect().await;
        statuses.extend(read.into_iter().map(|status| (status.name.clone(), status)));
        Ok(statuses.into_values().collect())
    }

    pub async fn status(&self, name: &str) -> Result<Status, Error> {
        match self.running().await.remove(name) {
            Some(status) => Ok(status),
            None => self.status_of_log(name).await,
        }
    }

    async fn running(&self) -> BTreeMap<String, Status> {
        let jobs = self.inner.jobs.lock().await;
        jobs.iter().map(|(name, job)| (name.clone(), job.told())).collect()
    }

    async fn status_of_log(&self, name: &str) -> Result<Status, Error> {
        let waiting = self.inner.waiting.lock().await.get(name).cloned();
        let mut status = match (self.log(name).read().await, &waiting) {
            (Ok(fold), _) if fold.next == 0 => return Err(Error::NoJob(name.to_owned())),
            (Ok(fold), _) => Status::of_log(name, &fold),
            // The warehouse may be what the job waits for.
            (Err(_), Some(_)) => Status::beginning(name),
            (Err(error), None) => return Err(Error::failed(name, error)),
        };
        if let Some(trouble) = waiting {
            status.state = "degraded".to_owned();
            status.reason = Some(format!("it cannot go on yet: {}", trouble.reason));
            status.doing = "waiting for that".to_owned();
            status.trouble = Some(trouble);
        }
        Ok(status)
    }

    /// Waits until every job of this scheduler is over and some of them went to another one.
    pub async fn fenced(&self) -> String {
        let mut fenced = self.inner.fenced.subscribe();
        match fenced.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(reason)) => reason.clone(),
            _ => std::future::pending().await,
        }
    }

    /// A job's loop has ended; with a name, because another scheduler took that job over.
    async fn job_ended(&self, fenced: Option<String>) {
        let mut jobs = self.inner.jobs.lock().await;
        if let Some(job) = fenced.and_then(|name| jobs.get_mut(&name)) {
            job.fenced = true;
        }
        let lost: Vec<&str> = jobs.iter().filter(|(_, job)| job.fenced).map(|(name, _)| name.as_str()).collect();
        if lost.is_empty() || !jobs.values().all(Running::is_over) {
            return;
        }
        let reason = jobs[lost[0]].status.borrow().reason.clone().unwrap_or_default();
        self.inner.fenced.send_replace(Some(format!(
            "job {}: {reason}. One scheduler serves a warehouse: it goes on with the jobs; before you start this one \
             again, stop that one",
            lost.join(", ")
        )));
    }

    /// Asks for a job's end: the epoch under way is finished and published.
    pub async fn stop(&self, name: &str) -> Result<Status, Error> {
        if let Some(job) = self.inner.jobs.lock().await.get(name) {
            job.stop.send_replace(true);
            return Ok(job.status.borrow().clone());
        }
        if let Some(Trouble { reason, .. }) = self.inner.waiting.lock().await.get(name) {
            let reason = format!("job '{name}' does not run yet, so it cannot be stopped: {reason}");
            return Err(Error::Refused(reason));
        }
        let fold = self.log(name).read().await.map_err(|error| Error::failed(name, error))?;
        match (fold.next, fold.stopped, fold.address) {
            (0, ..) => Err(Error::NoJob(name.to_owned())),
            (_, Some(reason), _) => Err(Error::Refused(format!("job '{name}' has stopped: {reason}"))),
            (_, None, Some(address)) => {
                Err(Error::Refused(format!("job '{name}' does not run here, but was last run at {address}; ask there")))
            }
            (_, None, None) => Err(Error::Refused(format!("job '{name}' does not run here"))),
        }
    }

    /// Tells a job that waits what becomes of offsets that have expired.
    pub async fn answer(&self, name: &str, answer: Answer) -> Result<Status, Error> {
        let jobs = self.inner.jobs.lock().await;
        let job = jobs.get(name).ok_or_else(|| Error::NoJob(name.to_owned()))?;
        let status = job.status.borrow().clone();
        if status.expired.is_empty() {
            return Err(Error::Refused(format!(
                "job '{name}' does not wait for an answer: none of its offsets expired"
            )));
        }
        job.answer.send_replace(Some(answer));
        Ok(status)
    }

    /// Takes up the jobs of the warehouse that nobody stopped.
    pub(super) async fn resume(&self) -> Result<(), Error> {
        let (store, warehouse) = self.objects();
        let names = job_names(store.as_ref(), warehouse).await.map_err(|error| Error::failed("jobs", error))?;
        for name in names {
            let service = self.clone();
            tokio::spawn(async move { service.take_up(&name).await });
        }
        Ok(())
    }

    /// Begins a job that another scheduler left, if nobody stopped it, however long a broker or a store takes to come
    /// back. Whatever is wrong may be of the moment, a pipeline that finds its brokers away too: nobody is there to try
    /// again by hand.
    async fn take_up(&self, name: &str) {
        let mut pause = Duration::from_millis(500);
        while let Err(reason) = self.taken_up(name).await {
            warn!(job = name, reason, "job not taken up yet");
            self.wait(name, reason, pause).await;
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(Duration::from_secs(30));
        }
        self.inner.waiting.lock().await.remove(name);
    }

    /// Tells those who watch why a job is not taken up yet.
    async fn wait(&self, name: &str, reason: String, pause: Duration) {
        let mut waiting = self.inner.waiting.lock().await;
        let now = Utc::now().timestamp_millis();
        let trouble = Trouble::after(waiting.remove(name), Step::Begin, reason, now, pause);
        metrics::trouble(name, Some(&trouble));
        waiting.insert(name.to_owned(), trouble);
    }

    async fn taken_up(&self, name: &str) -> Result<(), String> {
        let fold = self.log(name).read().await.map_err(|error| format!("its log cannot be read: {error}"))?;
        let Some(spec) = fold.spec.filter(|_| fold.stopped.is_none()) else { return Ok(()) };
        let config: JobConfig = serde_json::from_value(spec.config)
            .map_err(|error| format!("its configuration is of another version of redpoll: {error}"))?;
        let request = Request { config, pipeline: spec.pipeline, confirmed: None };
        match self.enter(request, By::Scheduler, None).await {
            // Running already: a user was quicker.
            Ok(_) | Err(Error::Running(_)) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    pub(super) fn log(&self, name: &str) -> Log {
        let (store, warehouse) = self.objects();
        Log::new(store.clone(), JobPaths::new(warehouse, name))
    }
}

/// Runs a job to its end and tells how it ended.
pub(super) async fn follow(service: Service, job: Job, status: watch::Sender<Status>) {
    let name = job.config.name.clone();
    let log = job.log.clone();
    // A task of its own, so that a panic ends the job visibly.
    let ended = tokio::spawn(job.run()).await;
    let fenced = matches!(ended, Ok(Err(job::Error::Fenced { .. }))).then(|| name.clone());
    let (state, reason) = match ended {
        Ok(Ok(reason)) => match left(&log).await {
            None => ("stopped", reason),
            Some(left) => ("failed", format!("{}; {left}", reason.trim_end())),
        },
        Ok(Err(error)) => ("failed", error.to_string()),
        Err(panicked) => ("failed", format!("its loop ended unexpectedly, run it again: {panicked}")),
    };
    info!(job = name, state, reason, "job ended");
    status.send_modify(|status| {
        status.state = state.to_owned();
        status.reason = Some(reason);
        status.doing = "nothing".to_owned();
        status.ended = Some(Utc::now().timestamp_millis());
    });
    service.job_ended(fenced).await;
}

/// What a job that ended left undone: one that ended well leaves no epoch open.
async fn left(log: &Log) -> Option<String> {
    match log.read().await {
        Ok(fold) if fold.stopped.is_some() && fold.open.is_empty() => None,
        Ok(fold) => Some(fold.leaves().unwrap_or_else(|| "its log is not closed".to_owned())),
        Err(error) => Some(format!("its log cannot be read: {error}")),
    }
}

fn check_name(name: &str) -> Result<(), Error> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match !name.is_empty() && name.len() <= 100 && name.chars().all(allowed) {
        true => Ok(()),
        false => Err(Error::Refused(format!("'{name}' is no name for a job: use letters, digits, '-', '_' and '.'"))),
    }
}

pub(super) async fn job_names(
    store: &dyn ObjectStore,
    warehouse: &Path,
) -> Result<BTreeSet<String>, object_store::Error> {
    let found = store.list_with_delimiter(Some(&jobs_root(warehouse))).await?;
    Ok(found.common_prefixes.iter().filter_map(|path| path.filename().map(str::to_owned)).collect())
}

/// The ledgers of all jobs of a warehouse, from their logs alone.
pub async fn read_ledger(
    store: Arc<dyn ObjectStore>,
    warehouse: &Path,
) -> Result<BTreeMap<String, Vec<Line>>, log::Error> {
    let at = |source| log::Error::Store { path: jobs_root(warehouse), source };
    let mut ledgers = BTreeMap::new();
    for name in job_names(store.as_ref(), warehouse).await.map_err(at)? {
        let log = Log::new(store.clone(), JobPaths::new(warehouse, &name));
        let lines = log.ledger().await?;
        ledgers.insert(name, lines);
    }
    Ok(ledgers)
}
