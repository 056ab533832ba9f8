//! A scheduler process: it begins to reign and runs the job by the coordinator's own code, in a simulated world.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::lock::Mutex;
use redpoll_connectors::delta::{self, Commit, Committed, commit_once};
use redpoll_core::log::{Fold, Log};
use redpoll_core::protocol::{JobPaths, Pipeline, Split};
use redpoll_core::steps::EpochRun;
use redpoll_scheduler::coordinator::world::Fence;
use redpoll_scheduler::coordinator::{Job, JobConfig, Status, Upkeep, World, job, reign, sweep};
use tokio::sync::watch;

use super::archive::{Archive, url};
use super::check::Checks;
use super::cluster::Cluster;
use super::disk::Store;
use super::sim::{Process, Sim};
use super::source::Feed;
use super::truth::SINKS;
use super::{Mutant, Simulation};

/// The world of one scheduler.
struct Simulated {
    sim: Sim,
    process: Process,
    cluster: Arc<Cluster>,
    archives: BTreeMap<&'static str, Mutex<Archive>>,
    mutant: Option<Mutant>,
}

#[async_trait]
impl World for Simulated {
    fn now(&self) -> i64 {
        self.sim.now()
    }

    async fn sleep(&self, duration: Duration) {
        self.sim.sleep(duration).await;
    }

    async fn run(&self, run: EpochRun, _: Option<&str>, splits: &[Split]) -> Result<(), String> {
        let clock = if self.mutant == Some(Mutant::ClockOfTheRun) { self.sim.now() } else { run.clock };
        let names: Vec<_> = splits.iter().map(|split| split.id.0).collect();
        self.sim.event(format_args!("{} runs epoch {}, splits {names:?}", self.process, run.epoch));
        self.cluster.run(EpochRun { clock, ..run }, splits).await
    }

    fn archives(&self) -> Vec<String> {
        SINKS.iter().filter(|sink| sink.is_archive()).map(|sink| sink.name().to_owned()).collect()
    }

    async fn commit(&self, name: &str, commit: Commit, fence: &Fence<'_>) -> Result<(String, u64), delta::Error> {
        if self.mutant == Some(Mutant::CommittedBeforePublish) {
            return Ok((url(name), 0));
        }
        let archive = self.archives.get(name).ok_or_else(|| delta::Error::Missing { url: url(name) })?;
        let committed = commit_once(&mut *archive.lock().await, &commit, fence).await?;
        match committed {
            Committed::Now(_) => {}
            Committed::Already(_) => self.sim.count("an archive held the epoch already"),
            Committed::Empty(_) => self.sim.count("an epoch had no rows for an archive"),
        }
        Ok((url(name), committed.version()))
    }
}

/// How the user runs the job.
#[derive(Clone)]
pub struct Asked {
    pub config: JobConfig,
    pub stop: watch::Receiver<bool>,
}

/// The life of a scheduler, from its start until it leaves the job.
pub async fn live(simulation: Arc<Simulation>, process: Process, asked: Asked) {
    let Simulation { sim, cluster, hazards, checks, holdings, mutant, .. } = &*simulation;
    sim.event(format_args!("{process} starts"));
    let store = Store { disk: cluster.disk.clone(), process, hazards: hazards.clone() };
    let feed = Feed { sim: sim.clone(), process, hazards: hazards.clone(), holdings: holdings.clone() };
    let paths = JobPaths::new(&"warehouse".into(), &asked.config.name);
    let log = Log::new(Arc::new(store.clone()), paths.clone());
    let fold = begin(sim, process, &log, &asked.config, &feed).await;
    let uid = fold.spec.as_ref().map(|spec| spec.uid.clone()).unwrap_or_default();
    let archive =
        |name| (name, Mutex::new(Archive::open(sim, &store, name, *mutant == Some(Mutant::IgnoresTransactions))));
    let world = Simulated {
        sim: sim.clone(),
        process,
        cluster: cluster.clone(),
        archives: SINKS.iter().filter(|sink| sink.is_archive()).map(|sink| archive(sink.name())).collect(),
        mutant: *mutant,
    };
    let (status, watched) = watch::channel(Status::beginning(&asked.config.name));
    let job = Job {
        config: asked.config,
        world: Arc::new(world),
        modules: BTreeMap::new(),
        source: Arc::new(feed),
        log,
        fold,
        job_uid: uid,
        warehouse: "warehouse".into(),
        objects: Arc::new(store),
        paths,
        status,
        stop: asked.stop.clone(),
        answer: watch::channel(None).1,
        // Sweeps go on beside a job, which a simulation cannot hold; checkpoints are part of its work.
        upkeep: Upkeep::new(sweep::Config { checkpoint_every: 7, ..Default::default() }, None),
        ends: None,
    };
    let ended = job.run().await;
    judge(sim, checks, process, ended, &asked.stop, &watched.borrow());
}

/// As the service begins a job: again for as long as something is in the way.
async fn begin(sim: &Sim, process: Process, log: &Log, config: &JobConfig, feed: &Feed) -> Fold {
    let (name, uid) = (process.to_string(), format!("uid-{process}"));
    let pipeline = Pipeline {
        text: "INSERT INTO raw SELECT * FROM alerts".into(),
        file: "night.sql".into(),
        folder: "/".into(),
        working_folder: "/".into(),
        variables: BTreeMap::new(),
    };
    let mut pause = Duration::from_millis(500);
    loop {
        match reign(log, &name, &uid, config, &pipeline, feed).await {
            Ok(fold) => return fold,
            Err(error) => sim.event(format_args!("{process} does not reign yet: {error}")),
        }
        sim.sleep(pause).await;
        pause = (2 * pause).min(Duration::from_secs(30));
    }
}

/// A scheduler may leave a job that has ended, or that another one has.
fn judge(
    sim: &Sim,
    checks: &Checks,
    process: Process,
    ended: Result<String, job::Error>,
    stop: &watch::Receiver<bool>,
    status: &Status,
) {
    match ended {
        Ok(reason) => {
            sim.event(format_args!("{process} ends: {reason}"));
            let well = checks.was_stopped_by(process) || (*stop.borrow() && status.state == "degraded");
            if status.state == "degraded" {
                sim.count("a degraded job was stopped");
            }
            if !well {
                sim.violation(format_args!("liveness: {process} left a job that goes on: {reason}"));
            }
        }
        Err(job::Error::Fenced { term, .. }) => {
            sim.event(format_args!("{process} leaves: term {term} reigns"));
            sim.count("a scheduler was fenced");
            if checks.reigns() == Some(process) {
                sim.violation(format_args!("liveness: {process} reigns, and took itself for fenced"));
            }
        }
        Err(error) => sim.violation(format_args!("liveness: {process} left its job over an error: {error}")),
    }
}
