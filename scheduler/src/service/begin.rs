//! How a job begins or goes on: what is asked for is checked, compared with what the job's log says, agreed to where rows
//! would differ, and run.
//!
//! An epoch that is open is finished by the pipeline that it was planned by. Only then does another one take over.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use datafusion::arrow::datatypes::SchemaRef;
use redpoll_connectors::sinks::{SchemaId, TopicFormat, archive_schema, kafka_topic, open_table, register_schema};
use redpoll_connectors::{delta, kafka, sources};
use redpoll_core::ids::Epoch;
use redpoll_core::log::Fold;
use redpoll_core::protocol::{JobPaths, Pipeline};
use redpoll_core::revision::Outline;
use redpoll_core::sink::{SinkKind, SinkSpec};
use redpoll_core::source::Source;
use redpoll_udfs::host::{Host, HostConfig};
use redpoll_udfs::manifest::Module;
use redpoll_udfs::registry::Registry;
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use super::growth::JobPlanner;
use super::jobs::{By, Request, follow};
use super::swaps::Live;
use super::{Error, Service, TableCatalog};
use crate::coordinator::revision::Meant;
use crate::coordinator::{
    Answer, Ask, Cluster, Job, JobConfig, Revision, Scheduler, Status, Swaps, Sweeper, Upkeep, Wanted, point, reign,
};
use crate::pipeline::Compiled;

/// How a job tells how it does, and is told what to do.
pub(super) struct Told {
    pub status: watch::Sender<Status>,
    pub stop: watch::Receiver<bool>,
    /// Requests for records of the quarantine.
    pub asks: mpsc::Receiver<Ask>,
    pub answer: watch::Receiver<Option<Answer>>,
    /// Plans for what is deployed while it runs.
    pub swaps: Swaps,
}

/// A job that may run: its pipeline is right and its source is there.
struct Planned {
    config: JobConfig,
    pipeline: Pipeline,
    compiled: Compiled,
    outline: Outline,
    source: Arc<dyn Source>,
    /// Modules that it was planned with.
    registry: Registry,
    meant: Meant,
    /// Of what is deployed.
    number: u64,
    /// Why it is planned without what is deployed, if it is.
    refused: Option<String>,
}

impl Planned {
    fn wanted(&self) -> Wanted<'_> {
        let Self { config, pipeline, outline, meant, .. } = self;
        Wanted { config, pipeline, outline, meant }
    }
}

/// Which modules and filters a job is planned with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum With {
    /// Those that are deployed now.
    Deployed,
    /// Those of its last spec.
    AsBefore,
}

impl Service {
    /// Begins the job, or changes nothing but an epoch that was open before, which may be finished by now.
    pub(super) async fn begin(&self, request: Request, by: By, told: Told) -> Result<Status, Error> {
        let status = told.status.clone();
        let Request { config, pipeline, confirmed } = request;
        let mut known = self.fold(&config.name).await?;
        if by != By::Scheduler {
            self.is_free(&config.name, &known).await?;
        }
        let mut planned = self.plan_for(by, config, pipeline, &known).await?;
        let mut revision = revise(&known, &planned).await?;
        if self.finishes_as_before(&known, &planned).await {
            revision.open = known.open.keys().next().copied();
        }
        if by == By::User {
            revision = agreed(revision, confirmed)?;
        }
        if revision.open.is_some() {
            self.finish_open(&known, &status).await?;
            // Alerts may have grown meanwhile.
            known = self.fold(&planned.config.name).await?;
            planned = self.plan_for(by, planned.config, planned.pipeline, &known).await?;
            revision = Revision { moves: revision.moves, ..revise(&known, &planned).await? };
        }
        let worth_knowing = tell(&known, &planned, &revision, by);
        let (job, live) = self.assemble(planned, &revision, told).await?;
        status.send_modify(|status| status.told = worth_knowing);
        if let Some(running) = self.inner.jobs.lock().await.get_mut(&job.config.name) {
            running.live = Some(live);
        }
        let first = status.borrow().clone();
        tokio::spawn(follow(self.clone(), job, status));
        Ok(first)
    }

    async fn fold(&self, name: &str) -> Result<Fold, Error> {
        self.log(name).read().await.map_err(|error| Error::failed(name, error))
    }

    /// Refuses the name of a job that another scheduler runs. It is asked whether it does: one that is dead or frozen
    /// does not answer, and its job is there to be taken over.
    async fn is_free(&self, name: &str, known: &Fold) -> Result<(), Error> {
        let (Some(scheduler), Some(address)) = (&known.scheduler, &known.address) else { return Ok(()) };
        if known.stopped.is_some() || *scheduler == self.inner.config.name {
            return Ok(());
        }
        let status = self.inner.config.peers.job(address, name).await;
        let runs = |status: &Status| !status.is_over() && status.scheduler.as_ref() == Some(scheduler);
        match status.is_some_and(|status| runs(&status)) {
            true => {
                let (job, scheduler, address) = (name.to_owned(), scheduler.clone(), address.clone());
                Err(Error::Taken { job, scheduler, address })
            }
            false => Ok(()),
        }
    }

    /// A scheduler takes a job up as it was where what is deployed by now is refused: nobody is there to mend it.
    async fn plan_for(&self, by: By, config: JobConfig, pipeline: Pipeline, known: &Fold) -> Result<Planned, Error> {
        let planned = self.plan(config.clone(), pipeline, known, With::Deployed).await;
        let (By::Scheduler, Err(Error::Pipeline(problems)), Some(spec)) = (by, &planned, &known.spec) else {
            return planned;
        };
        let as_before = self.plan(config, spec.pipeline.clone(), known, With::AsBefore).await;
        let refused = Some(problems.to_string());
        as_before.map(|as_before| Planned { refused, ..as_before }).or(planned)
    }

    /// Whether an open epoch was planned with other versions of modules than those that are deployed now, and can be
    /// finished by them.
    async fn finishes_as_before(&self, known: &Fold, planned: &Planned) -> bool {
        let before = known.spec.as_ref().and_then(|spec| spec.outline.as_ref()).filter(|_| !known.open.is_empty());
        let Some(before) = before.filter(|before| before.modules != planned.outline.modules) else { return false };
        self.registry_of(&before.modules).await.1
    }

    async fn plan(&self, config: JobConfig, pipeline: Pipeline, known: &Fold, with: With) -> Result<Planned, Error> {
        let grown = known.spec.as_ref().map(|spec| spec.grown.clone()).unwrap_or_default();
        let current = self.look().await?;
        let (pipeline, registry) = match with {
            With::Deployed => (current.pipeline(&config.name, pipeline)?, current.registry.clone()),
            With::AsBefore => {
                let before = known.spec.as_ref().and_then(|spec| spec.outline.as_ref());
                (pipeline, self.registry_of(&before.map(|before| before.modules.clone()).unwrap_or_default()).await.0)
            }
        };
        let compiled = self.check_grown(&pipeline, &grown, &registry).await?;
        let source = sources::open(&compiled.source, &self.inner.stores).await;
        let source = source.map_err(|error| Error::failed(&compiled.source.name, error))?;
        let outline = compiled.outline();
        let meant = current.meant(known.spec.as_ref().map(|spec| &spec.pipeline), &pipeline);
        let (number, refused) = (current.state.number, None);
        Ok(Planned { config, pipeline, compiled, outline, source, registry, meant, number, refused })
    }

    /// Finishes and publishes the epochs that are open, by the pipeline that they were planned by.
    async fn finish_open(&self, known: &Fold, status: &watch::Sender<Status>) -> Result<(), Error> {
        let (Some(spec), Some(epoch)) = (&known.spec, known.open.keys().next()) else { return Ok(()) };
        let refused = |reason: String| {
            Error::Refused(format!(
                "epoch {epoch} is open, planned by revision {}, and has to be finished by it first: {reason}",
                spec.revision
            ))
        };
        let config: JobConfig = serde_json::from_value(spec.config.clone())
            .map_err(|error| refused(format!("its configuration is of another version ({error})")))?;
        info!(job = config.name, epoch = epoch.0, revision = spec.revision, "open epoch is finished first");
        let name = config.name.clone();
        let planned = self.plan(config, spec.pipeline.clone(), known, With::AsBefore).await.map_err(|error| {
            refused(format!(
                "that pipeline can no longer be planned: {error}. Put back what it needs and run the job again"
            ))
        })?;
        let revision = revise(known, &planned).await?;
        let (_stop, stopped) = watch::channel(true);
        let (_answer, answer) = watch::channel(None);
        let (_asks, asks) = mpsc::channel(1);
        let swaps = Swaps::new(mpsc::channel(1).1);
        let told = Told { status: status.clone(), stop: stopped, asks, answer, swaps };
        let (job, _) = self.assemble(planned, &revision, told).await?;
        let ended = job.run().await.map_err(|error| Error::failed(&name, error))?;
        match self.fold(&name).await?.open.is_empty() {
            true => Ok(()),
            false => Err(refused(format!("{ended}; remove the cause and run the job again"))),
        }
    }

    /// Makes ready what the job needs, and begins to reign over it.
    async fn assemble(&self, planned: Planned, revision: &Revision, told: Told) -> Result<(Job, Live), Error> {
        let Told { status, stop, asks, answer, swaps } = told;
        let engine = self.engine()?.clone();
        self.prepare_modules(&planned.compiled, &planned.registry).await?;
        self.ready(&planned.compiled, &planned.registry).await?;
        let tables = self.prepare_sinks(&planned.compiled.sinks, planned.config.lanes).await?;
        let name = planned.config.name.clone();
        let (log, address) = (self.log(&name), engine.url());
        let scheduler = Scheduler { name: &self.inner.config.name, address: Some(&address) };
        let uid = uuid::Uuid::new_v4().simple().to_string()[..12].to_owned();
        let fold = reign(&log, scheduler, &uid, planned.wanted(), revision, planned.source.as_ref()).await;
        let fold = fold.map_err(|error| wrong(&name, error))?;
        let spec = fold.spec.as_ref().ok_or_else(|| Error::failed(&name, "its log has no spec"))?;
        let job_uid = spec.uid.clone();
        refuse_lost_entries(&name, &job_uid, fold.next_epoch, &tables).await?;
        let mut first = Status::beginning(&name);
        (first.scheduler, first.revision) = (fold.scheduler.clone(), spec.revision);
        first.prepared = fold.next_epoch.0 - fold.open.len() as u64;
        first.count(&fold.sums);
        status.send_replace(first);
        let (store, warehouse) = self.objects();
        let paths = JobPaths::new(warehouse, &name);
        let archives = tables.values().map(|table| table.url().clone()).collect();
        let upkeep = self.inner.config.upkeep.clone();
        let sweeper = Sweeper::new(&name, &job_uid, store.clone(), paths.clone(), archives, upkeep.min_age);
        let Planned { config, pipeline, compiled, source, registry, number, refused, .. } = planned;
        let planner = Arc::new(JobPlanner::new(self, &pipeline, &registry, &compiled));
        let modules = compiled.modules.clone();
        let compiled = RwLock::new(Arc::new(compiled));
        let world = Arc::new(Cluster { engine, planner: RwLock::new(planner.clone()), compiled, tables });
        let live = Live { cluster: world.clone(), planner, lanes: config.lanes, number, refused };
        let job = Job {
            upkeep: Upkeep::new(upkeep, Some(sweeper)),
            paths,
            objects: store.clone(),
            warehouse: self.inner.warehouse.url.to_string(),
            config,
            modules,
            world,
            source,
            log,
            fold,
            job_uid,
            status,
            stop,
            asks,
            swaps,
            answer,
            ends: None,
        };
        Ok((job, live))
    }

    /// Makes the tables that the job writes, and the topic of marks.
    pub(super) async fn prepare_sinks(
        &self,
        sinks: &[(SinkSpec, SchemaRef)],
        lanes: u32,
    ) -> Result<BTreeMap<String, delta::Table>, Error> {
        let mut tables = BTreeMap::new();
        for (spec, schema) in sinks {
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
                    if let Ok(TopicFormat::Confluent(SchemaId::Registry(url))) = TopicFormat::of(spec) {
                        let registered = register_schema(spec, &url, schema).await;
                        registered.map_err(|error| Error::failed(&spec.name, error))?;
                    }
                    let (config, _) = kafka_topic(spec).map_err(|error| Error::failed(&spec.name, error.reason))?;
                    let prepared = kafka::prepare(&config, &[], lanes).await;
                    prepared.map_err(|error| Error::failed(&spec.name, error))?;
                }
                SinkKind::Topic => {}
            }
        }
        let (store, warehouse) = self.objects();
        let catalog = TableCatalog { store: store.as_ref(), warehouse };
        let specs: Vec<_> = sinks.iter().map(|(spec, _)| spec.clone()).collect();
        let added = catalog.add(&specs).await;
        added.map_err(|error| Error::failed("catalog of tables", error))?;
        Ok(tables)
    }

    /// Imports each module once in its own environment, so that a misspelt name is an error now.
    pub(super) async fn prepare_modules(&self, compiled: &Compiled, registry: &Registry) -> Result<(), Error> {
        let names = compiled.modules.keys();
        self.import(names.filter_map(|name| registry.get(name).ok().cloned()).collect()).await
    }

    pub(super) async fn import(&self, modules: Vec<Arc<Module>>) -> Result<(), Error> {
        if modules.is_empty() {
            return Ok(());
        }
        let host = Host::start(HostConfig::new(&self.inner.config.cache));
        let host = host.map_err(|error| Error::failed("science modules", error))?;
        host.prepare(&modules).await.map_err(|error| Error::Refused(error.to_string()))
    }
}

async fn revise(known: &Fold, planned: &Planned) -> Result<Revision, Error> {
    let revision = Revision::plan(known, planned.wanted(), planned.source.as_ref()).await;
    revision.map_err(|error| wrong(&planned.config.name, error))
}

fn wrong(job: &str, error: reign::Error) -> Error {
    match error {
        reign::Error::Point(point::Error::Refused(reason)) => Error::Refused(format!("job '{job}': {reason}")),
        reign::Error::Source { .. } | reign::Error::UnderWay { .. } => Error::Refused(error.to_string()),
        error => Error::failed(job, error),
    }
}

/// What was shown is what is applied: a revision that became another one since is refused.
fn agreed(revision: Revision, confirmed: Option<Revision>) -> Result<Revision, Error> {
    match confirmed {
        _ if !revision.asks() => Ok(revision),
        None => Err(Error::Unconfirmed(Box::new(revision))),
        // Where `latest` lies moves on while somebody reads: the moves are those that were shown.
        Some(shown) if Revision { moves: revision.moves.clone(), ..shown.clone() } == revision => Ok(shown),
        Some(_) => Err(Error::Refused("what was shown is not what would be done by now; look again".to_owned())),
    }
}

/// What is worth knowing of how a job goes on, though nobody has to be asked.
fn tell(known: &Fold, planned: &Planned, revision: &Revision, by: By) -> Vec<String> {
    let mut told = Vec::new();
    if by == By::User
        && let Some(spec) = known.spec.as_ref().filter(|spec| reign::is_set(spec, &planned.config))
    {
        told.push(format!(
            "the job began or was set where --from says by revision {} or before, and goes on where it stands",
            spec.revision
        ));
    }
    told.extend(revision.changes.iter().filter(|change| by != By::User || !change.asks).map(ToString::to_string));
    if by == By::Scheduler {
        told.iter().for_each(|change| warn!(job = planned.config.name, change, "job is taken up with a change"));
    }
    told
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
