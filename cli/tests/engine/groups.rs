//! Groups of executors: reprocessing and questions never take the places of a stream.

use std::collections::BTreeSet;
use std::path::PathBuf;

use redpoll_scheduler::engine::{Ended, Query};

use crate::cluster::{Cluster, PATIENCE, until};
use crate::losses::quick;
use crate::splits::{Splits, attempts};

#[tokio::test(flavor = "multi_thread")]
async fn a_query_runs_in_its_group_only() {
    let cluster = Cluster::start(1, quick()).await;
    let folder = cluster.folder("batch");
    let (session, plan) = cluster.plan(Splits::new(&folder, 0..2));
    let batch = cluster.engine.submit("batch", Some("batch"), &session, &plan).await.unwrap();
    cluster.engine.submit("live", Some("live"), &session, &plan).await.unwrap().finished().await.unwrap();
    assert_eq!(attempts(&folder, "started").len(), 2, "only the live query's splits");
    until("the other waits", async || batch.progress().await.is_some_and(|batch| batch.waiting == 2)).await;
    batch.cancel().await;
    assert_eq!(batch.finished().await, Err(Ended::Cancelled));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heavy_batch_query_takes_no_place_of_a_stream() {
    let mut cluster = Cluster::start(1, quick()).await;
    cluster.add_executor_of("batch").await;
    let [live, batch] = [cluster.executors[0].pid(), cluster.executors[1].pid()];
    let heavy = cluster.folder("heavy");
    std::fs::write(heavy.join("hold"), "").unwrap();
    let (session, plan) = cluster.plan(Splits::new(&heavy, 0..200));
    let query = cluster.engine.submit("heavy", Some("batch"), &session, &plan).await.unwrap();
    until("it holds all it may have", async || attempts(&heavy, "started").len() == 2).await;

    let engine = &cluster.engine;
    for epoch in 0..20 {
        let folder = cluster.folder(&format!("epoch-{epoch}"));
        let (session, plan) = cluster.plan(Splits::new(&folder, 0..4));
        engine.submit("epoch", Some("live"), &session, &plan).await.unwrap().finished().await.unwrap();
        let workers: BTreeSet<u32> = attempts(&folder, "done").iter().map(|a| a.1).collect();
        assert_eq!(workers, BTreeSet::from([live]));
    }
    let progress = query.progress().await.unwrap();
    assert_eq!((progress.waiting, progress.running), (198, 2), "198 batch tasks waited through 20 epochs");
    std::fs::remove_file(heavy.join("hold")).unwrap();
    query.finished().await.unwrap();
    let workers: BTreeSet<u32> = attempts(&heavy, "done").iter().map(|a| a.1).collect();
    assert_eq!(workers, BTreeSet::from([batch]));
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_that_may_go_anywhere_wait_for_those_that_may_not() {
    let cluster = Cluster::start(1, quick()).await;
    let held = |name: &str| {
        let folder = cluster.folder(name);
        std::fs::write(folder.join("hold"), "").unwrap();
        folder
    };
    let (first, anywhere, live) = (held("first"), held("anywhere"), cluster.folder("live"));
    let submit = async |folder: &PathBuf, group, n| {
        let (session, plan) = cluster.plan(Splits::new(folder, 0..n));
        cluster.engine.submit("test", group, &session, &plan).await.unwrap()
    };
    let blocker = submit(&first, None, 2).await;
    until("both places are taken", async || attempts(&first, "started").len() == 2).await;
    let question = submit(&anywhere, None, 100).await;
    let epoch = submit(&live, Some("live"), 2).await;
    let waits = async |query: &Query| query.progress().await.is_some_and(|progress| progress.waiting > 0);
    until("both wait", async || waits(&question).await && waits(&epoch).await).await;
    blocker.cancel().await;
    // The question's tasks are held: had they come first, the epoch would never run.
    tokio::time::timeout(PATIENCE, epoch.finished()).await.expect("the epoch came first").unwrap();
    question.cancel().await;
}
