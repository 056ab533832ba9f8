//! The engine with executors as real processes: work is shared, each split is done, and the loss of an executor is
//! noticed, survived and leaves nothing behind.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, too")]

mod batch;
mod cluster;
mod groups;
mod losses;
mod questions;
mod splits;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use redpoll_cli::embedded;
use redpoll_scheduler::engine::{Config, Ended, Engine, Probe};

use cluster::{Cluster, until};
use splits::{Splits, attempts};

#[test]
#[ignore = "the executor's process, started by the tests"]
fn node() {
    tokio::runtime::Runtime::new().unwrap().block_on(cluster::run_node());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_executors_share_a_plan_and_do_each_split_once() {
    let cluster = Cluster::start(2, Config::default()).await;
    let folder = cluster.folder("splits");
    let query = cluster.take(&folder, 200, 0..8).await;
    query.finished().await.unwrap();

    let done = attempts(&folder, "done");
    assert_eq!(done.iter().map(|(split, _)| *split).collect::<Vec<_>>(), (0..8).collect::<Vec<_>>());
    assert_eq!(done.iter().map(|(_, process)| process).collect::<BTreeSet<_>>().len(), 2);
    assert_eq!(query.rows().await.unwrap().n_rows(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_executor_is_noticed_and_the_missing_splits_are_run_again() {
    let mut cluster = Cluster::start(2, Config::default()).await;
    let folder = cluster.folder("splits");
    let query = cluster.take(&folder, 2_000, 0..8).await;
    let victim = cluster.executors[0].pid();
    until("the victim starts a split", async || attempts(&folder, "started").iter().any(|a| a.1 == victim)).await;
    cluster.executors[0].kill();
    let killed = Instant::now();

    let ended = query.finished().await.unwrap_err();
    assert!(matches!(ended, Ended::Lost { .. }), "{ended}");
    assert!(killed.elapsed() < Duration::from_secs(5), "noticed after {:?}", killed.elapsed());

    let done = |folder| attempts(folder, "done").iter().map(|(split, _)| *split).collect::<BTreeSet<_>>();
    let missing: Vec<_> = (0..8).filter(|split| !done(&folder).contains(split)).collect();
    assert!(!missing.is_empty(), "the victim died with its splits undone");
    let again = cluster.folder("again");
    cluster.take(&again, 10, missing.clone()).await.finished().await.unwrap();
    assert_eq!(attempts(&again, "done").iter().map(|(split, _)| *split).collect::<Vec<_>>(), missing);
    cluster.works("third").await;
}

/// Kills an executor while the second stage runs on both, then expects the loss to be told and nothing to be stuck.
async fn lose_an_executor_in_the_second_stage(config: Config, limit: Duration) {
    let mut cluster = Cluster::start(2, config).await;
    let (map, folder) = (cluster.folder("map"), cluster.folder("sink"));
    std::fs::write(folder.join("hold"), "").unwrap();
    let (session, plan) = cluster.two_stages(Splits::new(&map, 0..8), Splits::new(&folder, [])).await;
    let query = cluster.engine.submit("two stages", None, &session, &plan).await.unwrap();
    let workers = || attempts(&folder, "started").iter().map(|a| a.1).collect::<BTreeSet<_>>();
    until("both executors work on the second stage", async || workers().len() == 2).await;
    cluster.executors[1].kill();
    let killed = Instant::now();

    let ended = query.finished().await.unwrap_err();
    assert!(matches!(ended, Ended::Lost { .. }), "{ended}");
    assert!(killed.elapsed() < limit, "noticed after {:?}", killed.elapsed());
    cluster.works("second").await;
    cluster.works("third").await;
    let engine = cluster.engine.clone();
    until("all vcores are free", async || engine.executors().await.iter().all(|executor| executor.used == 0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shuffle_that_loses_an_executor_leaves_no_vcore_behind() {
    lose_an_executor_in_the_second_stage(Config::default(), Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_end_before_the_engine_hears_of_a_loss_that_only_heartbeats_showed() {
    let never = Probe { interval: Duration::from_secs(1), timeout: Duration::from_secs(1), failures: u32::MAX };
    let config = Config { probe: never, executor_timeout: Duration::from_secs(5), ..Config::default() };
    lose_an_executor_in_the_second_stage(config, Duration::from_secs(12)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_executor_ends_what_it_has_and_takes_nothing_more() {
    let mut cluster = Cluster::start(2, Config::default()).await;
    let folder = cluster.folder("splits");
    let query = cluster.take(&folder, 1_500, 0..8).await;
    let leaver = cluster.executors[0].pid();
    let begun = || attempts(&folder, "started").iter().filter(|a| a.1 == leaver).count();
    until("the leaver has both vcores at work", async || begun() == 2).await;
    cluster.executors[0].drain();
    // Its result goes with it, so the query is told, or was done before.
    if let Err(ended) = query.finished().await {
        assert!(matches!(ended, Ended::Lost { .. }), "{ended}");
    }
    let done = attempts(&folder, "done");
    assert_eq!(done.iter().filter(|a| a.1 == leaver).count(), 2, "it took two splits and ended both");
    until_exited(&mut cluster).await;
    cluster.works("after").await;
}

async fn until_exited(cluster: &mut Cluster) {
    let leaver = std::cell::RefCell::new(&mut cluster.executors[0]);
    until("the leaver exits", async || leaver.borrow_mut().has_exited()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_that_stopped_answering_is_lost_and_may_come_back() {
    let probe = Probe { timeout: Duration::from_millis(700), ..Probe::default() };
    let cluster = Cluster::start(2, Config { probe, ..Config::default() }).await;
    let folder = cluster.folder("splits");
    let query = cluster.take(&folder, 60_000, 0..4).await;
    until("all splits start", async || attempts(&folder, "started").len() == 4).await;
    cluster.executors[0].signal("STOP");
    assert!(matches!(query.finished().await, Err(Ended::Lost { .. })));
    cluster.works("without").await;
    cluster.executors[0].signal("CONT");
    until("it joins again", async || cluster.engine.executors().await.len() == 2).await;
    cluster.works("with").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_query_says_so_and_frees_its_place() {
    let cluster = Cluster::start(1, Config::default()).await;
    let folder = cluster.folder("splits");
    let query = cluster.take(&folder, 60_000, 0..4).await;
    until("a split starts", async || !attempts(&folder, "started").is_empty()).await;
    query.cancel().await;
    assert_eq!(query.finished().await, Err(Ended::Cancelled));
    cluster.works("next").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_stands_still_is_ended() {
    let cluster = Cluster::start(1, Config { stall_timeout: Duration::from_secs(2), ..Config::default() }).await;
    let folder = cluster.folder("splits");
    let query = cluster.take(&folder, 60_000, 0..1).await;
    assert!(matches!(query.finished().await, Err(Ended::Stalled { .. })));
    cluster.works("next").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn executors_find_a_scheduler_that_was_restarted() {
    let mut cluster = Cluster::start(2, Config::default()).await;
    cluster.works("before").await;
    cluster.restart_scheduler().await;
    until("both join again", async || cluster.engine.executors().await.len() == 2).await;
    cluster.works("after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_of_40_mib_reaches_the_executors() {
    let cluster = Cluster::start(1, Config::default()).await;
    let folder = cluster.folder("large");
    let (session, plan) = cluster.plan(Splits { padding: 40 << 20, ..Splits::new(&folder, 0..2) });
    cluster.engine.submit("large", None, &session, &plan).await.unwrap().finished().await.unwrap();
    assert_eq!(attempts(&folder, "done").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_cluster_answers_soon() {
    let (work_dir, start) = (tempfile::tempdir().unwrap(), Instant::now());
    let executor = redpoll_executor::Config { work_dir: work_dir.path().into(), vcores: 2, ..Default::default() };
    let embedded = embedded::start(Config::default(), executor, &cluster::parts(), Router::new()).await.unwrap();
    let session = embedded.engine.session().unwrap();
    let plan = session.state().create_logical_plan("SELECT 1 AS one").await.unwrap();
    let rows = embedded.engine.rows("one", None, &session, &plan).await.unwrap();
    println!("embedded: first row after {:?}", start.elapsed());
    assert_eq!(rows.n_rows(), 1);
    // Well under a second on an idle machine; here other tests run beside it.
    assert!(start.elapsed() < Duration::from_secs(3));
    embedded.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_executor_that_was_given_up_is_replaced() {
    let work_dir = tempfile::tempdir().unwrap();
    let executor = redpoll_executor::Config { work_dir: work_dir.path().join("work"), vcores: 2, ..Default::default() };
    let embedded = embedded::start(Config::default(), executor, &cluster::parts(), Router::new()).await.unwrap();
    let engine = &embedded.engine;
    let first = engine.executors().await.remove(0).id;
    // Something is in the way of the next one, for a while.
    let (place, aside) = (work_dir.path().join("work"), work_dir.path().join("aside"));
    std::fs::rename(&place, &aside).unwrap();
    std::fs::write(&place, "in the way").unwrap();
    engine.give_up(&first, "for a test").await;
    until("it is gone", async || engine.executors().await.is_empty()).await;
    std::fs::remove_file(&place).unwrap();
    std::fs::rename(&aside, &place).unwrap();
    until("another joins", async || engine.executors().await.iter().any(|executor| executor.id != first)).await;
    let session = engine.session().unwrap();
    let plan = session.state().create_logical_plan("SELECT 1 AS one").await.unwrap();
    assert_eq!(engine.rows("one", None, &session, &plan).await.unwrap().n_rows(), 1);
    embedded.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_port_serves_health_the_engine_and_our_routes() {
    let ours = Router::new().route("/v1/jobs", get(|| async { "[]" })).fallback(|| async { "page" });
    let config = Config { bind: "127.0.0.1:0".parse().unwrap(), ..Config::default() };
    let engine = Engine::start(config, cluster::parts().engine().unwrap(), ours).await.unwrap();
    let get = async |path: &str| {
        let answer = reqwest::get(format!("http://{}{path}", engine.address())).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(get("/healthz").await.0, 200);
    assert_eq!(get("/readyz").await.0, 503);
    assert_eq!(get("/api/executors").await, (200, "[]".into()));
    assert_eq!(get("/v1/jobs").await, (200, "[]".into()));
    assert_eq!(get("/").await, (200, "page".into()));
    engine.shutdown().await;
}
