//! Every way to lose an executor, in every phase of every shape of plan: all rows are right, once, and the next query
//! runs.
//!
//! The shapes: a stream's epoch, of one stage, whose splits without a receipt are run again by its coordinator; a
//! question of one stage; a question with a shuffle that loses the executor in its first stage, in its last one while
//! the other executor has nothing left to do, or in its last one while both work. Processes are held at the point in
//! question by files, so that it is always the same point.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::UInt64Type;
use redpoll_scheduler::engine::{Config, Ended, Engine, Probe, Rows};

use crate::cluster::{Cluster, PATIENCE, until};
use crate::splits::{Splits, attempts};

const SPLITS: std::ops::Range<u64> = 0..8;
const ROWS: u64 = 500;
/// From the loss to the last row, all that was lost done again.
const RECOVERY: Duration = Duration::from_secs(15);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Epoch,
    OneStage,
    MapStage,
    LastStage,
    LastStageOfBoth,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    /// SIGKILL.
    Killed,
    /// SIGKILL, and another process starts at the same address and folder.
    Restarted,
    /// SIGTERM.
    Terminated,
    /// SIGSTOP until it was noticed, then SIGCONT.
    Paused,
}

pub fn quick() -> Config {
    let probe = Probe { interval: Duration::from_millis(200), timeout: Duration::from_millis(1500), failures: 2 };
    Config { probe, ..Config::default() }
}

/// The folders of a run's two stages; of one stage, the first.
struct Stages {
    shape: Shape,
    first: PathBuf,
    last: PathBuf,
}

impl Stages {
    fn new(shape: Shape, cluster: &Cluster) -> Self {
        Self { shape, first: cluster.folder("first"), last: cluster.folder("last") }
    }

    fn of_interest(&self) -> &PathBuf {
        match self.shape {
            Shape::LastStage | Shape::LastStageOfBoth => &self.last,
            _ => &self.first,
        }
    }

    /// Keeps the victim, or all, at the point where the loss is to happen.
    fn hold(&self, victim: u32) {
        let name = match self.shape {
            Shape::LastStageOfBoth => "hold".to_owned(),
            _ => format!("hold-{victim}"),
        };
        std::fs::write(self.of_interest().join(name), "").unwrap();
    }

    fn release(&self) {
        for file in std::fs::read_dir(self.of_interest()).unwrap() {
            let path = file.unwrap().path();
            if path.is_file() {
                std::fs::remove_file(path).unwrap();
            }
        }
    }

    /// Runs it to its end: for each split, the number of its rows and the sum of their values.
    async fn run(&self, cluster: &Cluster) -> impl Future<Output = BTreeMap<u64, Vec<(u64, u64)>>> + Send + 'static {
        let engine = cluster.engine.clone();
        let splits = Splits { rows: ROWS, ..Splits::new(&self.first, SPLITS) };
        let shape = self.shape;
        let (session, plan) = match shape {
            Shape::Epoch | Shape::OneStage => cluster.plan(splits.clone()),
            _ => cluster.two_stages(splits.clone(), Splits::new(&self.last, [])).await,
        };
        async move {
            match shape {
                Shape::Epoch => epoch(&engine, splits).await,
                Shape::OneStage => sums(engine.rows("one stage", None, &session, &plan).await.unwrap()),
                _ => summed(engine.rows("two stages", None, &session, &plan).await.unwrap()),
            }
        }
    }
}

/// What a job's coordinator does: the splits that left no receipt are run again, until each has one.
async fn epoch(engine: &Engine, splits: Splits) -> BTreeMap<u64, Vec<(u64, u64)>> {
    loop {
        let done: BTreeSet<u64> = attempts(&splits.folder, "done").iter().map(|(split, _)| *split).collect();
        let missing: Vec<u64> = SPLITS.filter(|split| !done.contains(split)).collect();
        if missing.is_empty() {
            return done.into_iter().map(|split| (split, vec![Splits::expected(split, ROWS)])).collect();
        }
        let session = engine.session().unwrap();
        let table = Splits { splits: missing, ..splits.clone() };
        let plan = session.read_table(std::sync::Arc::new(table)).unwrap().logical_plan().clone();
        if let Err(ended) = engine.submit("epoch", None, &session, &plan).await.unwrap().finished().await {
            assert!(ended.is_transient(), "{ended}");
        }
    }
}

/// Rows of (split, value, 1), summed by split.
fn sums(rows: Rows) -> BTreeMap<u64, Vec<(u64, u64)>> {
    let mut found: BTreeMap<u64, Vec<(u64, u64)>> = BTreeMap::new();
    for [split, value, n] in columns(rows) {
        let sums = found.entry(split).or_insert_with(|| vec![(0, 0)]);
        sums[0] = (sums[0].0 + n, sums[0].1 + value);
    }
    found
}

/// Rows of (split, sum of its values, number of its rows).
fn summed(rows: Rows) -> BTreeMap<u64, Vec<(u64, u64)>> {
    let mut found: BTreeMap<u64, Vec<(u64, u64)>> = BTreeMap::new();
    for [split, sum, n] in columns(rows) {
        found.entry(split).or_default().push((n, sum));
    }
    found
}

fn columns(rows: Rows) -> Vec<[u64; 3]> {
    let of = |batch: &datafusion::arrow::array::RecordBatch, row| {
        [0, 1, 2].map(|column| batch.column(column).as_primitive::<UInt64Type>().value(row))
    };
    let batches = rows.batches().unwrap();
    batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| of(batch, row))).collect()
}

fn exactly() -> BTreeMap<u64, Vec<(u64, u64)>> {
    SPLITS.map(|split| (split, vec![Splits::expected(split, ROWS)])).collect()
}

/// Waits until the run stands at the point of interest.
async fn stands(shape: Shape, stages: &Stages, cluster: &Cluster, victim: u32) {
    let started = || attempts(stages.of_interest(), "started");
    let done = || attempts(stages.of_interest(), "done");
    let n_of = |attempts: Vec<(u64, u32)>, mine: bool| attempts.iter().filter(|a| (a.1 == victim) == mine).count();
    until("the victim works", async || n_of(started(), true) > 0).await;
    match shape {
        Shape::LastStageOfBoth => until("the other works too", async || n_of(started(), false) > 0).await,
        _ => {
            until("the other has done something", async || n_of(done(), false) > 0).await;
            // Between two of its tasks it looks idle for a moment, too.
            let idle = Cell::new(0);
            until("the other has done all it can", async || {
                let busy = cluster.engine.executors().await.iter().filter(|executor| executor.used > 0).count();
                idle.set(if busy == 1 { idle.get() + 1 } else { 0 });
                idle.get() == 5
            })
            .await;
        }
    }
}

async fn check(shape: Shape, loss: Loss) {
    let mut cluster = Cluster::start(2, quick()).await;
    let stages = Stages::new(shape, &cluster);
    let victim = cluster.executors[0].pid();
    stages.hold(victim);
    let run = tokio::spawn(stages.run(&cluster).await);
    stands(shape, &stages, &cluster, victim).await;

    let engine = cluster.engine.clone();
    let lost = Instant::now();
    match loss {
        Loss::Killed => cluster.executors[0].kill(),
        Loss::Restarted => {
            cluster.executors[0].kill();
            cluster.executors[0].start_again();
        }
        Loss::Terminated => cluster.executors[0].signal("TERM"),
        Loss::Paused => cluster.executors[0].signal("STOP"),
    }
    match loss {
        Loss::Terminated => {
            until("it drains", async || engine.executors().await.iter().any(|executor| executor.draining)).await
        }
        _ => until("the loss is noticed", async || engine.departed() > 0).await,
    }
    let noticed = lost.elapsed();
    if loss == Loss::Paused {
        cluster.executors[0].signal("CONT");
    }
    stages.release();
    let found = tokio::time::timeout(PATIENCE, run).await.expect("it ends").unwrap();
    let took = lost.elapsed();
    assert_eq!(found, exactly());
    println!("{shape:?} {loss:?}: noticed after {noticed:?}, all rows after {took:?}");
    assert!(took < RECOVERY, "recovered after {took:?}");

    match loss {
        Loss::Killed => {}
        Loss::Terminated => {
            until("it has left", async || engine.departed() > 0).await;
            let node = std::cell::RefCell::new(&mut cluster.executors[0]);
            until("it exits", async || node.borrow_mut().has_exited()).await;
        }
        Loss::Restarted | Loss::Paused => {
            until("it is back", async || engine.executors().await.len() == 2).await;
        }
    }
    cluster.works("after").await;
    until("all vcores are free", async || engine.executors().await.iter().all(|executor| executor.used == 0)).await;
}

macro_rules! cells {
    ($($name:ident: $shape:ident, $loss:ident;)*) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            check(Shape::$shape, Loss::$loss).await;
        })*
    };
}

cells! {
    an_epoch_whose_executor_is_killed_is_exact: Epoch, Killed;
    an_epoch_whose_executor_is_restarted_is_exact: Epoch, Restarted;
    an_epoch_whose_executor_is_terminated_is_exact: Epoch, Terminated;
    an_epoch_whose_executor_is_paused_is_exact: Epoch, Paused;
    a_question_whose_executor_is_killed_is_exact: OneStage, Killed;
    a_question_whose_executor_is_restarted_is_exact: OneStage, Restarted;
    a_question_whose_executor_is_terminated_is_exact: OneStage, Terminated;
    a_question_whose_executor_is_paused_is_exact: OneStage, Paused;
    a_shuffle_whose_executor_is_killed_in_the_first_stage_is_exact: MapStage, Killed;
    a_shuffle_whose_executor_is_restarted_in_the_first_stage_is_exact: MapStage, Restarted;
    a_shuffle_whose_executor_is_terminated_in_the_first_stage_is_exact: MapStage, Terminated;
    a_shuffle_whose_executor_is_paused_in_the_first_stage_is_exact: MapStage, Paused;
    a_shuffle_whose_executor_is_killed_in_the_last_stage_is_exact: LastStage, Killed;
    a_shuffle_whose_executor_is_restarted_in_the_last_stage_is_exact: LastStage, Restarted;
    a_shuffle_whose_executor_is_terminated_in_the_last_stage_is_exact: LastStage, Terminated;
    a_shuffle_whose_executor_is_paused_in_the_last_stage_is_exact: LastStage, Paused;
    a_shuffle_whose_executor_is_killed_while_both_work_is_exact: LastStageOfBoth, Killed;
    a_shuffle_whose_executor_is_restarted_while_both_work_is_exact: LastStageOfBoth, Restarted;
    a_shuffle_whose_executor_is_terminated_while_both_work_is_exact: LastStageOfBoth, Terminated;
    a_shuffle_whose_executor_is_paused_while_both_work_is_exact: LastStageOfBoth, Paused;
}

/// The query has succeeded and an executor with a part of its result is gone before that was fetched.
async fn dies_after_success(shape: Shape) {
    let mut cluster = Cluster::start(2, quick()).await;
    let stages = Stages::new(shape, &cluster);
    let splits = Splits { rows: ROWS, ..Splits::new(&stages.first, SPLITS) };
    let (session, plan) = match shape {
        Shape::OneStage => cluster.plan(splits),
        _ => cluster.two_stages(splits, Splits::new(&stages.last, [])).await,
    };
    let query = cluster.engine.submit("succeeds", None, &session, &plan).await.unwrap();
    query.finished().await.unwrap();
    cluster.executors[0].kill();
    let rows = tokio::time::timeout(PATIENCE, query.rows()).await.expect("it ends");
    assert!(matches!(rows, Err(Ended::Lost { .. })), "{rows:?}");

    let rows = cluster.engine.rows("again", None, &session, &plan).await.unwrap();
    assert_eq!(if shape == Shape::OneStage { sums(rows) } else { summed(rows) }, exactly());
    cluster.works("after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_an_executor_that_dies_after_success_are_asked_for_again() {
    dies_after_success(Shape::OneStage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_shuffle_whose_executor_dies_after_success_are_asked_for_again() {
    dies_after_success(Shape::LastStage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_whose_executor_dies_after_success_runs_nothing_again() {
    let mut cluster = Cluster::start(2, quick()).await;
    let stages = Stages::new(Shape::Epoch, &cluster);
    assert_eq!(stages.run(&cluster).await.await, exactly());
    cluster.executors[0].kill();
    let engine = cluster.engine.clone();
    until("the loss is noticed", async || engine.departed() > 0).await;
    assert_eq!(stages.run(&cluster).await.await, exactly());
    assert_eq!(attempts(&stages.first, "done").len(), SPLITS.end as usize);
    cluster.works("after").await;
}
