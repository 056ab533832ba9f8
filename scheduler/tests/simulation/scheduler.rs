//! A scheduler process: it begins to reign and runs the job by the coordinator's own code, in a simulated world.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::lock::Mutex;
use redpoll_connectors::delta::{self, Commit, Committed, commit_once};
use redpoll_core::log::{Fold, Log};
use redpoll_core::protocol::{JobPaths, Pipeline, Split};
use redpoll_core::revision::{Outline, Rule};
use redpoll_core::steps::EpochRun;
use redpoll_scheduler::coordinator::revision::Meant;
use redpoll_scheduler::coordinator::world::Fence;
use redpoll_scheduler::coordinator::{
    Ask, Job, JobConfig, Revision, Scheduler, Status, Swaps, Upkeep, Wanted, World, job, reign, sweep,
};
use serde_json::json;
use tokio::sync::{mpsc, watch};

use super::archive::{Archive, url};
use super::check::Checks;
use super::cluster::Cluster;
use super::disk::Store;
use super::sim::{Process, Sim};
use super::source::Feed;
use super::truth::{SINKS, Sink};
use super::{Mutant, Simulation};

/// The world of one scheduler.
struct Simulated {
    sim: Sim,
    process: Process,
    cluster: Arc<Cluster>,
    archives: BTreeMap<&'static str, Mutex<Archive>>,
    /// The version of the pipeline that its plan is made from.
    pipeline: u32,
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
        self.cluster.run(EpochRun { clock, ..run }, splits, self.pipeline).await
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
pub struct Asked {
    pub config: JobConfig,
    /// Which version of the pipeline.
    pub pipeline: u32,
    pub stop: watch::Receiver<bool>,
    pub asks: mpsc::Receiver<Ask>,
}

/// A job that a scheduler reigns over.
struct Begun {
    fold: Fold,
    config: JobConfig,
    pipeline: u32,
    /// An epoch is open by an older pipeline, and finished first.
    finishes: bool,
}

/// The life of a scheduler, from its start until it leaves the job.
pub async fn live(simulation: Arc<Simulation>, process: Process, mut asked: Asked) {
    simulation.sim.event(format_args!("{process} starts"));
    loop {
        let begun = begin(&simulation, process, &asked).await;
        let finishes = begun.finishes;
        let deaf = mpsc::channel(1).1;
        let told = match finishes {
            true => (watch::channel(true).1, deaf),
            false => (asked.stop.clone(), std::mem::replace(&mut asked.asks, deaf)),
        };
        let well = run(&simulation, process, begun, told).await;
        if !(finishes && well) {
            return;
        }
    }
}

/// Runs the job until the scheduler leaves it; whether that was by its own decision.
async fn run(
    simulation: &Simulation,
    process: Process,
    begun: Begun,
    (stop, asks): (watch::Receiver<bool>, mpsc::Receiver<Ask>),
) -> bool {
    let Simulation { sim, cluster, checks, mutant, .. } = simulation;
    let Begun { fold, config, pipeline, .. } = begun;
    let (store, feed, log) = hands(simulation, process, &config.name);
    let uid = fold.spec.as_ref().map(|spec| spec.uid.clone()).unwrap_or_default();
    let archive =
        |name| (name, Mutex::new(Archive::open(sim, &store, name, *mutant == Some(Mutant::IgnoresTransactions))));
    let world = Simulated {
        sim: sim.clone(),
        process,
        cluster: cluster.clone(),
        archives: SINKS.iter().filter(|sink| sink.is_archive()).map(|sink| archive(sink.name())).collect(),
        pipeline,
        mutant: *mutant,
    };
    let (status, watched) = watch::channel(Status::beginning(&config.name));
    let job = Job {
        paths: JobPaths::new(&"warehouse".into(), &config.name),
        config,
        world: Arc::new(world),
        modules: BTreeMap::new(),
        source: Arc::new(feed),
        log,
        fold,
        job_uid: uid,
        warehouse: "warehouse".into(),
        objects: Arc::new(store),
        status,
        stop: stop.clone(),
        asks,
        swaps: Swaps::new(mpsc::channel(1).1),
        answer: watch::channel(None).1,
        // Sweeps go on beside a job, which a simulation cannot hold; checkpoints are part of its work.
        upkeep: Upkeep::new(sweep::Config { checkpoint_every: 7, ..Default::default() }, None),
        ends: None,
    };
    let ended = job.run().await;
    let well = ended.is_ok();
    judge(sim, checks, process, ended, &stop, &watched.borrow());
    well
}

/// What a scheduler reaches the world by.
fn hands(simulation: &Simulation, process: Process, job: &str) -> (Store, Feed, Log) {
    let Simulation { sim, cluster, hazards, holdings, .. } = simulation;
    let store = Store { disk: cluster.disk.clone(), process, hazards: hazards.clone() };
    let feed = Feed { sim: sim.clone(), process, hazards: hazards.clone(), holdings: holdings.clone() };
    let log = Log::new(Arc::new(store.clone()), JobPaths::new(&"warehouse".into(), job));
    (store, feed, log)
}

/// As the service begins a job: again for as long as something is in the way.
async fn begin(simulation: &Simulation, process: Process, asked: &Asked) -> Begun {
    let mut pause = Duration::from_millis(500);
    loop {
        match try_to_begin(simulation, process, asked).await {
            Ok(begun) => return begun,
            Err(error) => simulation.sim.event(format_args!("{process} does not reign yet: {error}")),
        }
        simulation.sim.sleep(pause).await;
        pause = (2 * pause).min(Duration::from_secs(30));
    }
}

async fn try_to_begin(simulation: &Simulation, process: Process, asked: &Asked) -> Result<Begun, reign::Error> {
    let (_, feed, log) = hands(simulation, process, &asked.config.name);
    let known = log.read().await?;
    let (mut config, mut pipeline) = (asked.config.clone(), asked.pipeline);
    let mut revision = plan(&known, &config, pipeline, &feed).await?;
    if simulation.mutant == Some(Mutant::ForgetsOpenEpochs) {
        revision.changes.clear();
        revision.open = None;
    }
    let finishes = revision.open.is_some();
    if let Some(spec) = known.spec.as_ref().filter(|_| finishes) {
        simulation.sim.count("an open epoch was finished by the pipeline before");
        (config, pipeline) = (serde_json::from_value(spec.config.clone())?, number(&spec.pipeline));
        revision = plan(&known, &config, pipeline, &feed).await?;
    }
    let (name, uid, text, outline) =
        (process.to_string(), format!("uid-{process}"), written(pipeline), outline(pipeline));
    let wanted = Wanted { config: &config, pipeline: &text, outline: &outline, meant: &Meant::default() };
    let scheduler = Scheduler { name: &name, address: None };
    let fold = reign(&log, scheduler, &uid, wanted, &revision, &feed).await?;
    Ok(Begun { fold, config, pipeline, finishes })
}

async fn plan(known: &Fold, config: &JobConfig, pipeline: u32, feed: &Feed) -> Result<Revision, reign::Error> {
    let (text, outline) = (written(pipeline), outline(pipeline));
    let wanted = Wanted { config, pipeline: &text, outline: &outline, meant: &Meant::default() };
    Revision::plan(known, wanted, feed).await
}

/// A version of the pipeline as a file: its head comment says which.
fn written(version: u32) -> Pipeline {
    let text = format!("-- {version}\nINSERT INTO raw SELECT * FROM alerts");
    Pipeline { text, file: "night.sql".into(), ..Pipeline::default() }
}

/// The version that is written in a pipeline.
pub fn number(pipeline: &Pipeline) -> u32 {
    let head = pipeline.text.lines().next().and_then(|line| line.strip_prefix("-- "));
    head.and_then(|number| number.parse().ok()).expect("a pipeline of this simulation")
}

/// All tables have the rows of one view, whose rule is the version.
fn outline(version: u32) -> Outline {
    let rule = Rule { text: format!("v{version}"), means: format!("v{version}") };
    let sink = |sink: &Sink| json!({ "name": sink.name(), "kind": "delta", "url": sink.name() });
    let insert = |sink: &Sink| json!({ "sink": sink.name(), "over": "good", "columns": [] });
    let outline = json!({
        "reads": { "table": "alerts", "places": ["ztf"] }, "fields": {},
        "views": [{ "name": "good", "rules": [rule] }], "sinks": SINKS.iter().map(sink).collect::<Vec<_>>(),
        "inserts": SINKS.iter().map(insert).collect::<Vec<_>>(), "modules": {},
    });
    serde_json::from_value(outline).expect("an outline as a log has it")
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
