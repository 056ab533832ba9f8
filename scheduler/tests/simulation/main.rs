//! The coordinator under a seeded simulation: schedulers, executors, brokers and an object store that fail, delay,
//! reorder, freeze and die at every step, and the invariants of the epoch protocol checked after each.
//!
//! What decides is the code of production: [`redpoll_scheduler::coordinator`], the log, the ledger, the commit of
//! archives. What it meets is here. `REDPOLL_SEEDS` says how many seeds are run, from `REDPOLL_FIRST_SEED` on;
//! `REDPOLL_SEED` runs one and prints its trace.

mod archive;
mod attempt;
mod brokers;
mod check;
mod cluster;
mod disk;
mod hazards;
mod operator;
mod scheduler;
mod sim;
mod source;
mod truth;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use brokers::Brokers;
use check::Checks;
use cluster::Cluster;
use disk::Disk;
use hazards::Hazards;
use operator::Operator;
use sim::{Process, Report, Sim, lock};
use source::Holdings;
use truth::Truth;

/// Seeds of a test run.
const SEEDS: u64 = 200;
/// Seeds within which a broken step must be found.
const MUTANT_SEEDS: u64 = 100;
/// Last events of a failing seed that are printed; its replay prints all.
const EVENTS: usize = 120;

/// Steps that are broken on purpose: the simulation is worth what it finds of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// A publish does not look at the table's application transaction.
    IgnoresTransactions,
    /// `Committed` is logged before anything is published.
    CommittedBeforePublish,
    /// A number of the log that is taken is written again.
    OverwritesLog,
    /// An attempt leaves its receipt before its sinks are finished.
    ReceiptBeforeSinks,
    /// An attempt writes to a lane whose mark says that it is out.
    LaneIgnoresMarks,
    /// A re-run reads its own clock, not the intent's.
    ClockOfTheRun,
    /// An epoch that is open when the pipeline changes goes on by the new one.
    ForgetsOpenEpochs,
}

/// All parts of one simulation.
pub struct Simulation {
    sim: Sim,
    hazards: Arc<Hazards>,
    holdings: Arc<Mutex<Holdings>>,
    checks: Arc<Checks>,
    cluster: Arc<Cluster>,
    mutant: Option<Mutant>,
}

fn simulate(seed: u64, mutant: Option<Mutant>) -> Report {
    let sim = Sim::new(seed);
    let hazards = Arc::new(Hazards::draw(&sim));
    let holdings = Arc::new(Mutex::new(Holdings::draw(&sim)));
    let truth = Truth { seed };
    let checks = Checks::new(sim.clone(), truth, holdings.clone());
    let disk = Disk::new(sim.clone(), checks.clone(), mutant == Some(Mutant::OverwritesLog));
    let brokers = Brokers::new(&sim, &checks, &hazards);
    let cluster = Cluster::new(&sim, &hazards, &disk, brokers, truth, mutant);
    let simulation = Simulation { sim: sim.clone(), hazards, holdings, checks, cluster, mutant };
    sim.spawn(Process::Operator, Operator::new(Arc::new(simulation)).work());
    sim.run()
}

/// What the seeds of a run came to.
#[derive(Default)]
struct Sum {
    passed: u64,
    failed: Vec<u64>,
    counts: BTreeMap<&'static str, u64>,
}

/// Runs `n` seeds on all cores, and says how it gets on.
fn run_all(first: u64, n: u64) -> Sum {
    let (next, sum) = (AtomicU64::new(first), Mutex::new(Sum::default()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + n {
                return;
            }
            let report = simulate(seed, None);
            let mut sum = lock(&sum);
            for (what, times) in &report.counts {
                *sum.counts.entry(what).or_default() += times;
            }
            match &report.violation {
                None => sum.passed += 1,
                Some(_) => {
                    sum.failed.push(seed);
                    tell(seed, &report, EVENTS);
                }
            }
            let done = sum.passed + sum.failed.len() as u64;
            if done.is_multiple_of(100) || done == n {
                println!("{done} of {n} seeds, {} failed", sum.failed.len());
            }
        }
    };
    std::thread::scope(|scope| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        (0..cores).for_each(|_| _ = scope.spawn(work));
    });
    sum.into_inner().unwrap_or_default()
}

fn tell(seed: u64, report: &Report, events: usize) {
    let skipped = report.trace.len().saturating_sub(events);
    println!("seed {seed}: {}", report.violation.as_deref().unwrap_or("no violation"));
    if skipped > 0 {
        println!("      ({skipped} earlier events are not shown)");
    }
    report.trace[skipped..].iter().for_each(|event| println!("{event}"));
    println!("replay: REDPOLL_SEED={seed} cargo test --workspace --test simulation seeds -- --nocapture");
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text}: not a number")))
}

#[test]
fn seeds_break_no_invariant() {
    if let Some(seed) = number("REDPOLL_SEED") {
        let report = simulate(seed, None);
        tell(seed, &report, usize::MAX);
        assert_eq!(report.violation, None, "seed {seed}");
        return;
    }
    let n = number("REDPOLL_SEEDS").unwrap_or(SEEDS);
    let sum = run_all(number("REDPOLL_FIRST_SEED").unwrap_or(0), n);
    sum.counts.iter().for_each(|(what, times)| println!("{times:8} times: {what}"));
    println!("{} passed, {} failed", sum.passed, sum.failed.len());
    assert!(sum.failed.is_empty(), "seeds {:?} failed", sum.failed);
    // A simulation in which nothing goes wrong shows nothing.
    let missing: Vec<_> = MUST_HAPPEN.iter().filter(|what| !sum.counts.contains_key(*what)).collect();
    assert!(n < SEEDS || missing.is_empty(), "never happened: {missing:?}");
}

const MUST_HAPPEN: [&str; 24] = [
    "a record of the quarantine was sent again",
    "a request failed before it took effect",
    "a request took effect and its answer was lost",
    "a request was never answered",
    "a request took effect and was never answered",
    "a request took effect after it was given up",
    "a scheduler was killed",
    "a scheduler was frozen, and woke beside its successor",
    "a second scheduler was started",
    "a scheduler was fenced",
    "a job was stopped",
    "a pipeline was changed",
    "an open epoch was finished by the pipeline before",
    "a degraded job was stopped",
    "an executor was killed",
    "an executor was frozen",
    "a task was started twice",
    "an attempt was not cancelled",
    "an attempt ended after its query",
    "the end of a task was not told",
    "a query that failed was said to have ended well",
    "a zombie's transaction was aborted",
    "a lane was already out",
    "an archive held the epoch already",
];

#[test]
fn a_seed_replays_to_the_same_trace() {
    for seed in [1, 7, 23, 42, 101] {
        assert_eq!(simulate(seed, None), simulate(seed, None), "seed {seed}");
    }
    assert_ne!(simulate(1, None).trace, simulate(2, None).trace);
}

/// A broken step is found, as a violation that begins so; and it is found again in the replay.
fn finds(mutant: Mutant, violations: &[&str]) {
    let found = (0..MUTANT_SEEDS).find_map(|seed| Some((seed, simulate(seed, Some(mutant)).violation?)));
    let (seed, violation) = found.unwrap_or_else(|| panic!("{mutant:?} was not found by {MUTANT_SEEDS} seeds"));
    println!("{mutant:?} was found by seed {seed}: {violation}");
    assert!(violations.iter().any(|begin| violation.starts_with(begin)), "{mutant:?}: seed {seed}: {violation}");
    assert_eq!(simulate(seed, Some(mutant)).violation, Some(violation));
}

#[test]
fn a_publish_that_ignores_the_application_transaction_is_found() {
    finds(Mutant::IgnoresTransactions, &["I2: readers of"]);
}

#[test]
fn a_commit_that_is_logged_before_it_is_published_is_found() {
    finds(Mutant::CommittedBeforePublish, &["I2:"]);
}

#[test]
fn a_log_whose_numbers_are_written_twice_is_found() {
    finds(Mutant::OverwritesLog, &["I3:"]);
}

#[test]
fn a_receipt_that_is_left_before_the_sinks_are_finished_is_found() {
    finds(Mutant::ReceiptBeforeSinks, &["I2:"]);
}

#[test]
fn an_attempt_that_ignores_its_lanes_mark_is_found() {
    finds(Mutant::LaneIgnoresMarks, &["I2: read_committed readers see"]);
}

#[test]
fn an_open_epoch_that_goes_on_by_another_pipeline_is_found() {
    finds(Mutant::ForgetsOpenEpochs, &["I6: epoch"]);
}

#[test]
fn a_rerun_by_another_clock_is_found() {
    finds(Mutant::ClockOfTheRun, &["I2:", "I6:"]);
}
