//! Jobs of this scheduler: begun, followed, stopped, and taken up again from their logs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use chrono::Utc;
use futures::StreamExt;
use object_store::ObjectStore;
use object_store::path::Path;
use redpoll_connectors::sinks::{LANES, archive_schema, kafka_topic, open_table};
use redpoll_connectors::{delta, kafka, sources};
use redpoll_core::ids::Epoch;
use redpoll_core::ledger::Line;
use redpoll_core::log::{self, Log};
use redpoll_core::protocol::{JobPaths, Pipeline, jobs as jobs_root};
use redpoll_core::sink::SinkKind;
use redpoll_udfs::host::{Host, HostConfig};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::{info, warn};

use super::growth::JobPlanner;
use super::{Error, Service, TableCatalog};
use crate::coordinator::trouble::{Step, Trouble};
use crate::coordinator::{Answer, Cluster, Job, JobConfig, Status, Sweeper, Upkeep, job, reign};
use crate::metrics;
use crate::pipeline::{Compiled, compile};

/// What a user asks for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    pub config: JobConfig,
    pub pipeline: Pipeline,
}

/// A job that this scheduler runs or ran.
pub(super) struct Running {
    status: watch::Receiver<Status>,
    stop: watch::Sender<bool>,
    /// The operator's word on offsets that have expired.
    answer: watch::Sender<Option<Answer>>,
    /// Another scheduler took it over.
    fenced: bool,
}

impl Running {
    fn is_over(&self) -> bool {
        matches!(self.status.borrow().state.as_str(), "stopped" | "failed")
    }
}

impl Service {
    /// Checks a pipeline against the world, without changing anything.
    pub async fn check(&self, pipeline: &Pipeline) -> Result<Compiled, Error> {
        Ok(compile(pipeline, &self.inner.functions, &self.inner.registry, self).await?)
    }

    /// Begins a job, or goes on with the one of that name.
    pub async fn start(&self, request: Request) -> Result<Status, Error> {
        let name = request.config.name.clone();
        check_name(&name)?;
        if !(1..=LANES).contains(&request.config.lanes) {
            return Err(Error::Refused(format!("lanes are from 1 to {LANES}, not {}", request.config.lanes)));
        }
        // The name is taken while environments are built and brokers asked, which may take minutes.
        let (status, watched) = watch::channel(Status::beginning(&name));
        let (stop, stopped) = watch::channel(false);
        let (answer, answered) = watch::channel(None);
        {
            let mut jobs = self.inner.jobs.lock().await;
            if jobs.get(&name).is_some_and(|job| !job.is_over()) {
                return Err(Error::Running(name));
            }
            jobs.insert(name.clone(), Running { status: watched, stop, answer, fenced: false });
        }
        let begun = self.begin(request, status, stopped, answered).await;
        if begun.is_err() {
            self.inner.jobs.lock().await.remove(&name);
        }
        begun
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
        jobs.iter().map(|(name, job)| (name.clone(), job.status.borrow().clone())).collect()
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
        let jobs = self.inner.jobs.lock().await;
        let Some(job) = jobs.get(name) else {
            return Err(match self.inner.waiting.lock().await.get(name) {
                Some(Trouble { reason, .. }) => {
                    Error::Refused(format!("job '{name}' does not run yet, so it cannot be stopped: {reason}"))
                }
                None => Error::NoJob(name.to_owned()),
            });
        };
        job.stop.send_replace(true);
        Ok(job.status.borrow().clone())
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
        match self.start(Request { config, pipeline: spec.pipeline }).await {
            // Running already: a user was quicker.
            Ok(_) | Err(Error::Running(_)) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    pub(super) fn log(&self, name: &str) -> Log {
        let (store, warehouse) = self.objects();
        Log::new(store.clone(), JobPaths::new(warehouse, name))
    }

    async fn begin(
        &self,
        request: Request,
        status: watch::Sender<Status>,
        stop: watch::Receiver<bool>,
        answer: watch::Receiver<Option<Answer>>,
    ) -> Result<Status, Error> {
        let Request { config, pipeline } = request;
        let engine = self.engine()?.clone();
        let log = self.log(&config.name);
        let known = log.read().await.map_err(|error| Error::failed(&config.name, error))?;
        let grown = known.spec.map(|spec| spec.grown).unwrap_or_default();
        let compiled = self.check_grown(&pipeline, &grown).await?;
        self.prepare_modules(&compiled).await?;
        let source = sources::open(&compiled.source, &self.inner.stores).await;
        let source = source.map_err(|error| Error::failed(&compiled.source.name, error))?;
        let tables = self.prepare_sinks(&compiled, config.lanes).await?;

        let uid = uuid::Uuid::new_v4().simple().to_string()[..12].to_owned();
        let fold = reign(&log, &self.inner.config.name, &uid, &config, &pipeline, source.as_ref()).await;
        let fold = fold.map_err(|error| match error {
            reign::Error::Changed { .. } => Error::Refused(error.to_string()),
            error => Error::failed(&config.name, error),
        })?;
        let spec = fold.spec.as_ref().ok_or_else(|| Error::failed(&config.name, "its log has no spec"))?;
        let job_uid = spec.uid.clone();
        refuse_lost_entries(&config.name, &job_uid, fold.next_epoch, &tables).await?;
        let mut first = Status::beginning(&config.name);
        first.prepared = fold.next_epoch.0 - fold.open.len() as u64;
        first.count(&fold.sums);
        status.send_replace(first.clone());
        let (store, warehouse) = self.objects();
        let paths = JobPaths::new(warehouse, &config.name);
        let archives = tables.values().map(|table| table.url().clone()).collect();
        let upkeep = self.inner.config.upkeep.clone();
        let sweeper = Sweeper::new(&config.name, &job_uid, store.clone(), paths.clone(), archives, upkeep.min_age);
        let job = Job {
            upkeep: Upkeep::new(upkeep, Some(sweeper)),
            paths,
            objects: store.clone(),
            warehouse: self.inner.warehouse.url.to_string(),
            config,
            modules: compiled.modules.clone(),
            world: Arc::new(Cluster {
                engine,
                planner: Box::new(JobPlanner::new(self, &pipeline, &compiled)),
                compiled: RwLock::new(Arc::new(compiled)),
                tables,
            }),
            source,
            log,
            fold,
            job_uid,
            status: status.clone(),
            stop,
            answer,
            ends: None,
        };
        tokio::spawn(follow(self.clone(), job, status));
        Ok(first)
    }

    /// Makes the tables that the job writes, and the topic of marks.
    async fn prepare_sinks(&self, compiled: &Compiled, lanes: u32) -> Result<BTreeMap<String, delta::Table>, Error> {
        let mut tables = BTreeMap::new();
        for (spec, schema) in &compiled.sinks {
            match spec.kind {
                SinkKind::Delta => {
                    let failed = |error: delta::Error| Error::failed(&spec.name, error);
                    let url = delta::location(&spec.url).map_err(failed)?;
                    let table = delta::Table::ensure(&url, &archive_schema(schema), &spec.partition_by).await;
                    tables.insert(spec.name.clone(), table.map_err(failed)?);
                }
                SinkKind::Store => {
                    let table = open_table(spec, schema, self.inner.config.store.as_deref());
                    let table = table.map_err(|error| Error::failed(&spec.name, error.reason))?;
                    table.create().await.map_err(|error| Error::failed(&spec.name, error))?;
                }
                SinkKind::Topic if spec.url.starts_with("kafka://") => {
                    let (config, _) = kafka_topic(spec).map_err(|error| Error::failed(&spec.name, error.reason))?;
                    let prepared = kafka::prepare(&config, &[], lanes).await;
                    prepared.map_err(|error| Error::failed(&spec.name, error))?;
                }
                SinkKind::Topic => {}
            }
        }
        let (store, warehouse) = self.objects();
        let catalog = TableCatalog { store: store.as_ref(), warehouse };
        let specs: Vec<_> = compiled.sinks.iter().map(|(spec, _)| spec.clone()).collect();
        let added = catalog.add(&specs).await;
        added.map_err(|error| Error::failed("catalog of tables", error))?;
        Ok(tables)
    }

    /// Imports each module once in its own environment, so that a misspelt name is an error now.
    pub(super) async fn prepare_modules(&self, compiled: &Compiled) -> Result<(), Error> {
        let names = compiled.modules.keys();
        let modules: Vec<_> = names.filter_map(|name| self.inner.registry.get(name).ok().cloned()).collect();
        if modules.is_empty() {
            return Ok(());
        }
        let host = Host::start(HostConfig::new(&self.inner.config.cache));
        let host = host.map_err(|error| Error::failed("science modules", error))?;
        host.prepare(&modules).await.map_err(|error| Error::Refused(error.to_string()))
    }
}

/// A log that was restored from a backup, or lost its last entries, would plan epochs again that the archive has: their
/// files would never be shown, and lanes that are out would keep alerts of other ranges back.
async fn refuse_lost_entries(
    job: &str,
    uid: &str,
    next: Epoch,
    tables: &BTreeMap<String, delta::Table>,
) -> Result<(), Error> {
    for (name, table) in tables {
        let version = table.version_of(&delta::app_id(uid, name)).await.map_err(|error| Error::failed(name, error))?;
        if let Some(epoch) = version.filter(|epoch| *epoch >= next.0 as i64) {
            return Err(Error::Refused(format!(
                "{} holds epoch {epoch} of job {job}, but the job's log ends before epoch {next}: entries were lost; \
                 restore the whole log, or go on under another --name from the offsets where the archive ends",
                table.url()
            )));
        }
    }
    Ok(())
}

/// Runs a job to its end and tells how it ended.
async fn follow(service: Service, job: Job, status: watch::Sender<Status>) {
    let name = job.config.name.clone();
    let log = job.log.clone();
    // A task of its own, so that a panic ends the job visibly.
    let ended = tokio::spawn(job.run()).await;
    let fenced = matches!(ended, Ok(Err(job::Error::Fenced { .. }))).then(|| name.clone());
    let (state, reason) = match ended {
        Ok(Ok(reason)) => match stopped_well(&log).await {
            true => ("stopped", reason),
            false => ("failed", reason),
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

/// A job that ended by itself leaves no epoch open.
async fn stopped_well(log: &Log) -> bool {
    log.read().await.is_ok_and(|fold| fold.stopped.is_some() && fold.open.is_empty())
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

/// The files of all records in quarantine.
pub(super) async fn quarantine_files(store: &Arc<dyn ObjectStore>, warehouse: &Path) -> Result<Vec<Path>, log::Error> {
    let at = |source| log::Error::Store { path: jobs_root(warehouse), source };
    let mut files = Vec::new();
    for name in job_names(store.as_ref(), warehouse).await.map_err(at)? {
        files.extend(Log::new(store.clone(), JobPaths::new(warehouse, &name)).quarantine_files().await?);
    }
    Ok(files)
}
