//! The engine and its executors: a query is one attempt at each split, and its end tells little.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use futures::channel::mpsc::{self, UnboundedSender};
use futures::future::{Either, select};
use redpoll_core::ids::{Lane, SplitId};
use redpoll_core::protocol::Split;
use redpoll_core::steps::EpochRun;

use super::Mutant;
use super::attempt::Attempt;
use super::brokers::Brokers;
use super::disk::{Disk, Store};
use super::hazards::Hazards;
use super::sim::{Process, Sim, TaskId, lock};
use super::truth::Truth;

/// A query in which nothing moves is ended.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);

enum Told {
    Done(SplitId),
    Failed(String),
    Lost(Process),
}

#[derive(Default)]
struct State {
    /// Executors that the engine believes in.
    executors: BTreeSet<Process>,
    n_executors: u32,
    n_attempts: u64,
    running: BTreeMap<TaskId, (Process, UnboundedSender<Told>)>,
    /// Producers that executors keep for their lane's next epoch, each with the mark as it left it.
    producers: BTreeMap<(Process, Lane), (u64, i64)>,
}

pub struct Cluster {
    pub sim: Sim,
    pub hazards: Arc<Hazards>,
    pub disk: Arc<Disk>,
    pub brokers: Brokers,
    pub truth: Truth,
    pub mutant: Option<Mutant>,
    state: Mutex<State>,
}

impl Cluster {
    pub fn new(
        sim: &Sim,
        hazards: &Arc<Hazards>,
        disk: &Arc<Disk>,
        brokers: Brokers,
        truth: Truth,
        mutant: Option<Mutant>,
    ) -> Arc<Self> {
        let (sim, hazards, disk) = (sim.clone(), hazards.clone(), disk.clone());
        Arc::new(Self { sim, hazards, disk, brokers, truth, mutant, state: Mutex::default() })
    }

    pub fn start_executor(&self) {
        let mut state = lock(&self.state);
        state.n_executors += 1;
        let executor = Process::Executor(state.n_executors);
        state.executors.insert(executor);
        self.sim.event(format_args!("{executor} joins"));
    }

    pub fn executors(&self) -> Vec<Process> {
        lock(&self.state).executors.iter().copied().collect()
    }

    /// The watch has found an executor lost: queries that have work on it are ended.
    pub fn lose(&self, executor: Process) {
        let mut state = lock(&self.state);
        state.executors.remove(&executor);
        let there = state.running.values().filter(|(process, _)| *process == executor);
        there.for_each(|(_, query)| _ = query.unbounded_send(Told::Lost(executor)));
    }

    /// An executor that was held for lost is heard of again.
    pub fn hear_of(&self, executor: Process) {
        lock(&self.state).executors.insert(executor);
    }

    pub fn take_producer(&self, executor: Process, lane: Lane) -> Option<(u64, i64)> {
        lock(&self.state).producers.remove(&(executor, lane))
    }

    pub fn keep_producer(&self, executor: Process, lane: Lane, producer: (u64, i64)) {
        lock(&self.state).producers.insert((executor, lane), producer);
    }

    /// Runs one query to its end.
    pub async fn run(self: &Arc<Self>, run: EpochRun, splits: &[Split], pipeline: u32) -> Result<(), String> {
        while self.executors().is_empty() {
            self.sim.sleep(self.sim.millis(100, 500)).await;
        }
        let (tell, mut told) = mpsc::unbounded();
        let mut query = Query { cluster: self.clone(), tasks: Vec::new() };
        for split in splits {
            query.tasks.push(self.begin(&run, split, pipeline, &tell));
            if self.sim.chance(self.hazards.engine()) {
                self.sim.count("a task was started twice");
                query.tasks.push(self.begin(&run, split, pipeline, &tell));
            }
        }
        let mut missing: BTreeSet<SplitId> = splits.iter().map(|split| split.id).collect();
        while !missing.is_empty() {
            let stalled = self.sim.sleep(STALL_TIMEOUT);
            match select(told.next(), stalled).await {
                Either::Left((Some(Told::Done(split)), _)) => _ = missing.remove(&split),
                Either::Left((Some(Told::Failed(_)), _)) if self.sim.chance(self.hazards.engine()) => {
                    self.sim.count("a query that failed was said to have ended well");
                    return Ok(());
                }
                Either::Left((Some(Told::Failed(reason)), _)) => return Err(reason),
                Either::Left((Some(Told::Lost(executor)), _)) => return Err(format!("{executor} was lost")),
                Either::Left((None, _)) | Either::Right(_) => {
                    self.sim.count("a query stood still");
                    return Err("it stood still".into());
                }
            }
        }
        Ok(())
    }

    fn begin(self: &Arc<Self>, run: &EpochRun, split: &Split, pipeline: u32, query: &UnboundedSender<Told>) -> TaskId {
        let executors = self.executors();
        let executor = executors[self.sim.below(executors.len() as u64) as usize];
        let mut state = lock(&self.state);
        state.n_attempts += 1;
        // Which name comes first has nothing to do with which attempt does.
        let name = format!("{:03}-{}", self.sim.below(1000), state.n_attempts);
        let store = Store { disk: self.disk.clone(), process: executor, hazards: self.hazards.clone() };
        let (run, split) = (run.clone(), split.clone());
        let attempt = Attempt { cluster: self.clone(), executor, store, run, split, pipeline, name };
        let (cluster, answers) = (self.clone(), query.clone());
        let (told_id, own_id) = futures::channel::oneshot::channel();
        let task = self.sim.spawn(executor, async move {
            let Ok(id) = own_id.await else { return };
            cluster.follow(id, attempt, &answers).await;
        });
        _ = told_id.send(task);
        state.running.insert(task, (executor, query.clone()));
        task
    }

    async fn follow(&self, id: TaskId, attempt: Attempt, query: &UnboundedSender<Told>) {
        // Other queries may hold the slots.
        let wait = if self.sim.chance(0.1) { self.sim.millis(0, 5000) } else { self.sim.millis(0, 20) };
        self.sim.sleep(wait).await;
        let (what, split) =
            (format!("{} at {:?} on {}", attempt.name, attempt.split.id, attempt.executor), attempt.split.id);
        let epoch = attempt.run.epoch;
        self.sim.event(format_args!("epoch {epoch}: attempt {what} begins"));
        let ended = attempt.work_through().await;
        lock(&self.state).running.remove(&id);
        let told = match ended {
            Ok(()) => {
                self.sim.event(format_args!("epoch {epoch}: attempt {what} ends"));
                Told::Done(split)
            }
            Err(reason) => {
                self.sim.event(format_args!("epoch {epoch}: attempt {what} fails: {reason}"));
                Told::Failed(reason)
            }
        };
        if self.sim.chance(self.hazards.engine() / 4.0) {
            self.sim.count("the end of a task was not told");
            return;
        }
        if query.unbounded_send(told).is_err() {
            self.sim.count("an attempt ended after its query");
        }
    }
}

/// The attempts of a query. Its end, however it came, cancels what still runs: at once, late or never.
struct Query {
    cluster: Arc<Cluster>,
    tasks: Vec<TaskId>,
}

impl Drop for Query {
    fn drop(&mut self) {
        let Cluster { sim, state, .. } = &*self.cluster;
        for task in std::mem::take(&mut self.tasks) {
            if !lock(state).running.contains_key(&task) {
                continue;
            }
            match sim.below(4) {
                0 | 1 => {
                    lock(state).running.remove(&task);
                    sim.cancel(task);
                }
                2 => {
                    let later = sim.clone();
                    let cluster = self.cluster.clone();
                    sim.spawn(Process::Server, async move {
                        later.sleep(later.millis(0, 5000)).await;
                        lock(&cluster.state).running.remove(&task);
                        later.cancel(task);
                    });
                }
                _ => sim.count("an attempt was not cancelled"),
            }
        }
    }
}
