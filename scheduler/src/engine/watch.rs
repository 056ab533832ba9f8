//! Watches executors and the placing of tasks.
//!
//! Each executor is called every second on the port where it takes tasks. One that does not answer is removed, which
//! cancels its queries first (see [`super::cluster`]). Beside that, a round per interval gives back vcores that
//! nothing holds, and starts the placing of tasks if tasks wait while vcores are free.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ballista_core::serde::protobuf::executor_grpc_client::ExecutorGrpcClient;
use ballista_core::serde::protobuf::{RemoveJobDataParams, StopExecutorParams, task_status};
use ballista_core::serde::scheduler::ExecutorMetadata;
use ballista_scheduler::cluster::ClusterState;
use ballista_scheduler::state::execution_graph::ExecutionGraphBox;
use futures::future::join_all;
use tokio::task::JoinHandle;
use tokio::time::{interval, sleep, timeout};
use tonic::transport::{Channel, Endpoint};

use super::config::Probe;
use super::{Ended, Inner};
use crate::metrics;

/// How long a given-up executor may take to hear of it.
pub(super) const LAST_WORD: Duration = Duration::from_secs(30);

/// Starts the watch, which ends with the engine.
pub(super) fn start(engine: &Arc<Inner>) {
    let weak = Arc::downgrade(engine);
    engine.cluster.on_departure(Box::new(move |executor| {
        let engine = weak.clone();
        Box::pin(async move {
            if let Some(engine) = engine.upgrade() {
                end_queries_on(&engine, &executor).await;
            }
        })
    }));
    tokio::spawn(rounds(Arc::downgrade(engine)));
}

async fn rounds(engine: Weak<Inner>) {
    let Some(mut round) = engine.upgrade().map(|engine| interval(engine.config.probe.interval)) else { return };
    let mut probes: HashMap<String, JoinHandle<()>> = HashMap::new();
    loop {
        round.tick().await;
        let Some(engine) = engine.upgrade() else { return };
        if *engine.stop.borrow() {
            return;
        }
        probes.retain(|_, probe| !probe.is_finished());
        for executor in engine.cluster.registered_executor_metadata().await {
            let weak = Arc::downgrade(&engine);
            probes.entry(executor.id.clone()).or_insert_with(|| tokio::spawn(probe(weak, executor)));
        }
        keep_placing(&engine).await;
    }
}

/// Calls one executor until it leaves or is lost.
async fn probe(engine: Weak<Inner>, executor: ExecutorMetadata) {
    let Some(config) = engine.upgrade().map(|engine| engine.config.probe) else { return };
    let Some(mut client) = client(&executor, config.timeout) else { return };
    let mut failures = 0;
    loop {
        sleep(config.interval).await;
        let Some(engine) = engine.upgrade() else { return };
        if *engine.stop.borrow() {
            return;
        }
        if !engine.cluster.knows(&executor.id) {
            // Ballista keeps a connection to it until it is told.
            _ = engine.server.state.executor_manager.remove_executor(&executor.id, None).await;
            return;
        }
        let Err(reason) = call(&mut client, config.timeout).await else {
            failures = 0;
            continue;
        };
        failures += 1;
        tracing::debug!(executor = executor.id, failures, reason, "executor did not answer");
        // One that drains is expected to go.
        if failures >= config.failures || engine.cluster.is_draining(&executor.id) {
            give_up(&engine, &executor.id, &reason).await;
            return;
        }
    }
}

/// Takes an executor out of the books, which ends the queries that may need it, and tells it so if it still listens.
pub(super) async fn give_up(engine: &Inner, executor: &str, reason: &str) {
    let metadata = engine.cluster.get_executor_metadata(executor).await;
    tracing::warn!(executor, reason, "executor lost");
    _ = engine.server.state.executor_manager.remove_executor(executor, Some(reason.to_owned())).await;
    if let Ok(metadata) = metadata {
        tell_to_stop(metadata);
    }
}

/// Whether each executor in the books answers a call now. One that does not may be dead, though nobody knows it yet.
pub(super) async fn all_answer(engine: &Inner) -> Result<(), Ended> {
    let config = engine.config.probe;
    let asked = engine.cluster.registered_executor_metadata().await.into_iter().map(|executor| async move {
        let Some(client) = client(&executor, config.timeout) else { return Ok(()) };
        answers(client, config).await.then_some(()).ok_or(Ended::Lost { executor: executor.id })
    });
    join_all(asked).await.into_iter().collect()
}

/// A busy machine may miss a call, as it may one of the watch.
async fn answers(mut client: ExecutorGrpcClient<Channel>, config: Probe) -> bool {
    for _ in 0..config.failures.clamp(1, 2) {
        if call(&mut client, config.timeout).await.is_ok() {
            return true;
        }
    }
    false
}

fn client(executor: &ExecutorMetadata, patience: Duration) -> Option<ExecutorGrpcClient<Channel>> {
    let address = format!("http://{}:{}", executor.host, executor.grpc_port);
    let endpoint = Endpoint::from_shared(address).ok()?;
    Some(ExecutorGrpcClient::new(endpoint.connect_timeout(patience).connect_lazy()))
}

/// Asks for something that changes nothing: the removal of data that no query has.
async fn call(client: &mut ExecutorGrpcClient<Channel>, patience: Duration) -> Result<(), String> {
    let nothing = RemoveJobDataParams { job_id: "none".into(), remove_stage_ids: Vec::new() };
    match timeout(patience, client.remove_job_data(nothing)).await {
        Err(_) => Err(format!("no answer within {patience:?}")),
        Ok(Err(status)) if status.code() == tonic::Code::Unavailable => Err(status.message().to_owned()),
        Ok(_) => Ok(()),
    }
}

/// One that lives after all must not go on with tasks that are run again elsewhere: it is to stop, and to start anew.
pub(super) fn tell_to_stop(executor: ExecutorMetadata) {
    let Some(mut client) = client(&executor, LAST_WORD) else { return };
    let stop = StopExecutorParams { executor_id: executor.id, reason: "given up".into(), force: true };
    tokio::spawn(async move { timeout(LAST_WORD, client.stop_executor(stop)).await });
}

/// Cancels the queries that run or keep results on an executor, and returns when they are cancelled or queued to be,
/// which is before the scheduler can hear that the executor is gone.
async fn end_queries_on(engine: &Inner, executor: &str) {
    metrics::executor_left();
    for (id, query) in engine.server.state.task_manager.get_running_job_cache().iter() {
        let touched = may_need(&*query.execution_graph.read().await, executor);
        if touched {
            tracing::warn!(query = %id, executor, "query cancelled: it may need a lost executor");
            engine.end(id.as_str(), Ended::Lost { executor: executor.to_owned() }).await;
        }
    }
}

/// A later stage may have failed to read from the executor already, which wiped its traces from the graph: beyond one
/// stage every query is taken to need it.
fn may_need(graph: &ExecutionGraphBox, executor: &str) -> bool {
    let mut tasks = graph.stages().values().filter_map(|stage| stage.task_infos()).flatten();
    let on_it = tasks.any(|task| match &task.task_status {
        task_status::Status::Running(running) => running.executor_id == executor,
        task_status::Status::Successful(done) => done.executor_id == executor,
        task_status::Status::Failed(_) => false,
    });
    on_it || graph.stage_count() > 1
}

/// Gives back lost vcores, and wakes the scheduler if tasks wait beside free vcores.
async fn keep_placing(engine: &Inner) {
    let (mut held, mut waiting) = (HashMap::new(), 0);
    for query in engine.server.state.task_manager.get_running_job_cache().values() {
        let graph = query.execution_graph.read().await;
        waiting += graph.available_tasks();
        for task in graph.running_tasks() {
            let vcores = graph.task_vcores(task.stage_id, task.task_id).unwrap_or(0);
            *held.entry(task.executor_id).or_default() += vcores;
        }
    }
    for (executor, vcores) in engine.cluster.reclaim(&held).await {
        tracing::warn!(executor, vcores, "vcores given back that no task held");
        metrics::reclaimed(vcores);
    }
    if waiting > 0
        && let Some(executor) = engine.cluster.idle(None)
    {
        engine.nudge(executor).await;
    }
}
