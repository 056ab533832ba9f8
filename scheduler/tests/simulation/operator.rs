//! Who pulls the strings: kills, freezes, outages, stops and restarts while the trouble lasts; then all is healed, and
//! the job has to come to its end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redpoll_scheduler::coordinator::{Ask, JobConfig, Mode, Point, Policy, replays};
use tokio::sync::{mpsc, oneshot, watch};

use super::Simulation;
use super::scheduler::{Asked, live};
use super::sim::{Process, Sim, lock};
use super::source::RECORD_BYTES;

/// Within this time after the world is healed, everything is committed.
const PATIENCE: Duration = Duration::from_secs(1800);

/// What a scheduler hears its user by.
struct Strings {
    stop: watch::Sender<bool>,
    asks: mpsc::Sender<Ask>,
}

#[derive(Default)]
struct Schedulers {
    n: u32,
    /// Those that have not left the job.
    live: BTreeMap<Process, Strings>,
    /// The newest version of the pipeline.
    pipeline: u32,
}

#[derive(Clone)]
pub struct Operator {
    simulation: Arc<Simulation>,
    sim: Sim,
    schedulers: Arc<Mutex<Schedulers>>,
    /// Where the job begins: said again by each run, so that none sets it elsewhere.
    from: Option<Point>,
}

impl Operator {
    pub fn new(simulation: Arc<Simulation>) -> Self {
        let sim = simulation.sim.clone();
        let from = sim.chance(0.2).then_some(Point::Latest);
        Self { sim, simulation, schedulers: Arc::default(), from }
    }

    pub async fn work(self) {
        let sim = &self.sim;
        (0..sim.between(1, 3)).for_each(|_| self.simulation.cluster.start_executor());
        let config = self.config();
        sim.event(format_args!("the job is run with {:?}, {} lanes", config.policy, config.lanes));
        _ = self.start_scheduler(config);
        let trouble = Duration::from_secs(sim.between(20, 150));
        while sim.elapsed() < trouble {
            sim.sleep(sim.millis(50, 8_000)).await;
            self.act().await;
        }
        self.heal().await;
        self.see_it_through().await;
    }

    fn config(&self) -> JobConfig {
        let sim = &self.sim;
        let mode = match sim.below(6) {
            0 => Mode::AvailableNow,
            1 => Mode::Until(sim.now() + 1000 * sim.between(5, 100) as i64),
            _ => Mode::Continuous,
        };
        let policy = Policy {
            mode: mode.clone(),
            trigger: sim.millis(0, 2_000),
            archive_interval: sim.millis(0, if sim.chance(0.5) { 500 } else { 30_000 }),
            max_tries: sim.between(1, 5) as u32,
            max_pause: Duration::from_secs(10),
            idle_pause: sim.millis(100, 1_000),
            ..Policy::default()
        };
        let lanes = sim.between(1, 4) as u32;
        JobConfig {
            policy,
            from: self.from.clone(),
            split_bytes: RECORD_BYTES * sim.between(1, 12),
            lanes,
            ..JobConfig::new("ztf", mode)
        }
    }

    fn start_scheduler(&self, config: JobConfig) -> Process {
        let (stop, stopped) = watch::channel(false);
        let (asks, asked) = mpsc::channel(16);
        let (process, pipeline) = {
            let mut schedulers = lock(&self.schedulers);
            schedulers.n += 1;
            let process = Process::Scheduler(schedulers.n);
            schedulers.live.insert(process, Strings { stop, asks });
            (process, schedulers.pipeline)
        };
        let (simulation, schedulers) = (self.simulation.clone(), self.schedulers.clone());
        let asked = Asked { config, pipeline, stop: stopped, asks: asked };
        self.sim.spawn(process, async move {
            live(simulation, process, asked).await;
            lock(&schedulers).live.remove(&process);
        });
        process
    }

    /// A scheduler that sends records of the quarantine again, and does nothing else.
    fn start_scheduler_to_replay(&self) {
        let mut config = self.config();
        config.policy.mode = Mode::Replay;
        let scheduler = self.start_scheduler(config);
        self.ask_for_replays(scheduler);
    }

    /// Asks for some of all that was ever set aside: what was sent again before must be left out.
    fn ask_for_replays(&self, scheduler: Process) {
        let mut records = self.simulation.checks.set_aside();
        records.retain(|_| self.sim.chance(0.7));
        self.sim.event(format_args!("{scheduler} is asked for {} records of the quarantine", records.len()));
        let (answer, _) = oneshot::channel();
        let ask = Ask { asked: replays::Asked { records, again: false }, answer };
        lock(&self.schedulers).live.get(&scheduler).map(|strings| strings.asks.try_send(ask));
    }

    fn live(&self) -> Vec<Process> {
        lock(&self.schedulers).live.keys().copied().collect()
    }

    fn any(&self, processes: Vec<Process>) -> Option<Process> {
        let i = self.sim.below(processes.len() as u64) as usize;
        processes.get(i).copied()
    }

    fn kill_scheduler(&self, process: Process) {
        self.sim.kill(process);
        lock(&self.schedulers).live.remove(&process);
    }

    /// Does something after a while, beside everything else.
    fn later(&self, from: u64, to: u64, act: impl FnOnce(&Operator) + Send + 'static) {
        let operator = self.clone();
        self.sim.spawn(Process::Operator, async move {
            operator.sim.sleep(operator.sim.millis(from, to)).await;
            act(&operator);
        });
    }

    fn succeed(&self) {
        self.later(0, 5_000, |operator| _ = operator.start_scheduler(operator.config()));
    }

    async fn act(&self) {
        let (sim, hazards) = (&self.sim, self.simulation.hazards.clone());
        let scheduler = self.any(self.live());
        match (sim.below(23), scheduler) {
            (0..6, _) => self.grow(),
            (20.., None) => self.start_scheduler_to_replay(),
            (_, None) => _ = self.start_scheduler(self.config()),
            (20.., Some(scheduler)) => self.ask_for_replays(scheduler),
            (6 | 7, Some(scheduler)) => {
                sim.count("a scheduler was killed");
                self.kill_scheduler(scheduler);
                self.succeed();
            }
            (8 | 9, Some(scheduler)) => {
                sim.count("a scheduler was frozen, and woke beside its successor");
                sim.freeze(scheduler);
                self.succeed();
                self.later(1_000, 30_000, move |operator| operator.sim.thaw(scheduler));
            }
            (10, Some(scheduler)) => {
                sim.freeze(scheduler);
                self.later(100, 10_000, move |operator| operator.sim.thaw(scheduler));
            }
            (11, Some(_)) => {
                sim.count("a second scheduler was started");
                _ = self.start_scheduler(self.config());
            }
            (12, Some(scheduler)) => {
                sim.event(format_args!("{scheduler} is asked to stop the job"));
                sim.count("a job was stopped");
                lock(&self.schedulers).live.get(&scheduler).map(|strings| strings.stop.send_replace(true));
            }
            (18 | 19, _) => {
                sim.count("a pipeline was changed");
                lock(&self.schedulers).pipeline += 1;
                self.start_scheduler(self.config());
            }
            (13, _) => self.kill_executor(),
            (14, _) => self.freeze_executor(),
            (15, _) => {
                sim.event("the object store is out");
                hazards.store_is_out(true);
                self.later(1_000, 20_000, move |_| hazards.store_is_out(false));
            }
            (16, _) => {
                sim.event("the sinks' brokers are out");
                hazards.broker_is_out(true);
                self.later(1_000, 20_000, move |_| hazards.broker_is_out(false));
            }
            _ => {
                sim.event("the source is out");
                hazards.source_is_out(true);
                self.later(1_000, 20_000, move |_| hazards.source_is_out(false));
            }
        }
    }

    fn grow(&self) {
        lock(&self.simulation.holdings).grow(&self.sim, self.sim.between(1, 12));
    }

    fn kill_executor(&self) {
        let Some(executor) = self.any(self.simulation.cluster.executors()) else { return };
        self.sim.count("an executor was killed");
        self.sim.kill(executor);
        self.later(1_000, 3_000, move |operator| operator.simulation.cluster.lose(executor));
        self.later(500, 10_000, |operator| operator.simulation.cluster.start_executor());
    }

    fn freeze_executor(&self) {
        let Some(executor) = self.any(self.simulation.cluster.executors()) else { return };
        self.sim.count("an executor was frozen");
        self.sim.freeze(executor);
        self.later(1_000, 3_000, move |operator| {
            if operator.sim.is_frozen(executor) {
                operator.simulation.cluster.lose(executor);
            }
        });
        self.later(500, 30_000, move |operator| {
            operator.sim.thaw(executor);
            operator.simulation.cluster.hear_of(executor);
        });
    }

    /// Lets what was put off come, then ends all trouble.
    async fn heal(&self) {
        self.sim.sleep(Duration::from_secs(35)).await;
        self.sim.event("the world is healed");
        self.simulation.hazards.heal();
        if self.simulation.cluster.executors().is_empty() {
            self.simulation.cluster.start_executor();
        }
        // Something new, so that each scheduler that takes itself for the one that reigns tries to write.
        self.grow();
    }

    /// Everything that the source holds must be committed, and no scheduler but one may stay.
    async fn see_it_through(&self) {
        let until = self.sim.elapsed() + PATIENCE;
        let mut config = self.config();
        config.policy.mode = Mode::AvailableNow;
        while !self.simulation.checks.is_done() {
            if self.live().is_empty() {
                _ = self.start_scheduler(config.clone());
            }
            if self.simulation.checks.is_committed() {
                let schedulers = lock(&self.schedulers);
                schedulers.live.values().for_each(|strings| _ = strings.stop.send_replace(true));
            }
            if self.sim.elapsed() > until {
                let lacks = self.simulation.checks.unfinished();
                self.sim.violation(format_args!("liveness: {lacks}, {PATIENCE:?} after all trouble"));
            }
            self.sim.sleep(Duration::from_secs(1)).await;
        }
        self.sim.event("everything is committed, and the job has ended");
        self.sim.end();
    }
}
