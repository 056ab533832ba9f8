//! Questions: their rows are held back until they are certain, on disk if they are many; nothing hangs.

use std::collections::BTreeSet;
use std::time::Duration;

use ballista_core::config::BALLISTA_CLIENT_IO_RETRIES_TIMES;
use datafusion::prelude::SessionContext;
use redpoll_scheduler::engine::{Config, Ended, Error, Limits, Probe};

use crate::cluster::{Cluster, PATIENCE, until};
use crate::losses::quick;
use crate::splits::{Splits, attempts};

#[tokio::test(flavor = "multi_thread")]
async fn rows_beyond_memory_wait_on_disk_and_are_those_of_a_run_that_lost_nobody() {
    let results = Limits { memory_bytes: 64 << 10, ..Limits::default() };
    let mut cluster = Cluster::start(2, Config { results, ..quick() }).await;
    let folder = cluster.folder("splits");
    let (session, plan) = cluster.plan(Splits { rows: 20_000, millis: 50, ..Splits::new(&folder, 0..8) });
    let engine = cluster.engine.clone();
    let rows = tokio::spawn(async move { engine.rows("rows", None, &session, &plan).await });
    // From here on the last tasks report, the query succeeds, and its rows are fetched.
    until("all splits are done", async || attempts(&folder, "done").len() == 8).await;
    cluster.executors[0].kill();
    let rows = tokio::time::timeout(PATIENCE, rows).await.expect("it ends").unwrap().unwrap();
    assert!(rows.is_on_disk());
    assert_eq!(rows.n_rows(), 160_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_above_the_limit_is_refused_and_leaves_nothing_behind() {
    let results = Limits { max_bytes: 100_000, ..Limits::default() };
    let cluster = Cluster::start(1, Config { results, ..quick() }).await;
    let folder = cluster.folder("splits");
    let (session, plan) = cluster.plan(Splits { rows: 20_000, ..Splits::new(&folder, 0..4) });
    let refused = cluster.engine.rows("large", None, &session, &plan).await.unwrap_err();
    assert!(matches!(refused, Error::Ended { source: Ended::TooLarge { limit: 100_000 }, .. }), "{refused}");
    cluster.works("next").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_nobody_waits_for_any_more_ends() {
    let cluster = Cluster::start(1, quick()).await;
    let folder = cluster.folder("splits");
    std::fs::write(folder.join("hold"), "").unwrap();
    let (session, plan) = cluster.plan(Splits::new(&folder, 0..4));
    let engine = cluster.engine.clone();
    let rows = tokio::spawn(async move { engine.rows("dropped", None, &session, &plan).await });
    until("it runs", async || !attempts(&folder, "started").is_empty()).await;
    rows.abort();
    // Its splits are still held: only its end gives their place to others.
    cluster.works("next").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_without_executors_is_answered_that_there_are_none() {
    let cluster = Cluster::start(0, Config { executor_wait: Duration::from_millis(1500), ..quick() }).await;
    let (session, plan) = cluster.plan(Splits::new(&cluster.folder("splits"), 0..4));
    let answer = tokio::time::timeout(PATIENCE, cluster.engine.rows("alone", Some("batch"), &session, &plan)).await;
    let refused = answer.expect("it ends").unwrap_err();
    assert_eq!(
        refused.to_string(),
        "query 'alone' ended: no executor of group 'batch' was there for 1.5s; start one, or more"
    );
}

/// The engine's own recovery takes running tasks back and forgets the vcores that they hold, and then the query.
#[tokio::test(flavor = "multi_thread")]
async fn vcores_and_a_query_that_the_engine_lost_track_of_are_found_and_healed() {
    // Nobody watches: only a reader that asks the dead executor for its rows finds out.
    let never = Probe { interval: Duration::from_millis(200), failures: u32::MAX, ..Probe::default() };
    let (executor_timeout, lost_timeout) = (Duration::from_secs(120), Duration::from_secs(2));
    let config = Config { probe: never, executor_timeout, lost_timeout, ..Config::default() };
    let mut cluster = Cluster::start(2, config).await;
    let (first, last) = (cluster.folder("first"), cluster.folder("last"));
    let victim = cluster.executors[0].pid();
    std::fs::write(last.join("hold"), "").unwrap();
    let (session, plan) = cluster.two_stages(Splits::new(&first, 0..64), Splits::new(&last, [])).await;
    let session = impatient(&session);
    let query = cluster.engine.submit("two stages", None, &session, &plan).await.unwrap();
    let workers = || attempts(&last, "started").iter().map(|a| a.1).collect::<BTreeSet<_>>();
    until("both work on the last stage", async || workers().len() == 2).await;
    // The survivor goes on to parts of the result that it has to ask the dead one for.
    cluster.executors[0].kill();
    std::fs::write(last.join(format!("hold-{victim}")), "").unwrap();
    std::fs::remove_file(last.join("hold")).unwrap();

    let ended = tokio::time::timeout(PATIENCE, query.finished()).await.expect("it ends").unwrap_err();
    assert!(ended.is_transient(), "{ended}");
    let engine = cluster.engine.clone();
    until("vcores that were lost are given back", async || engine.reclaimed() > 0).await;
    println!("the query ended: {ended}; vcores given back: {}", engine.reclaimed());
    cluster.works("next").await;
    until("all vcores are free", async || engine.executors().await.iter().all(|executor| executor.used == 0)).await;
}

/// Executors give up asking each other for rows after the first failure.
fn impatient(session: &SessionContext) -> SessionContext {
    let mut state = session.state();
    let config = state.config().clone().set_usize(BALLISTA_CLIENT_IO_RETRIES_TIMES, 1);
    *state.config_mut() = config;
    SessionContext::new_with_state(state)
}
