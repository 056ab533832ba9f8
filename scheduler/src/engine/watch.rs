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
use tokio::task::JoinHandle;
use tokio::time::{interval, sleep, timeout};
use tonic::transport::{Channel, Endpoint};

use super::{Ended, Inner};

/// How long a given-up executor may take to hear of it.
const LAST_WORD: Duration = Duration::from_secs(30);

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
    let address = format!("http://{}:{}", executor.host, executor.grpc_port);
    let Ok(endpoint) = Endpoint::from_shared(address) else { return };
    let mut client = ExecutorGrpcClient::new(endpoint.connect_timeout(config.timeout).connect_lazy());
    let mut failures = 0;
    loop {
        sleep(config.interval).await;
        let Some(engine) = engine.upgrade() else { return };
        if *engine.stop.borrow() || !engine.cluster.knows(&executor.id) {
            return;
        }
        let answer = timeout(config.timeout, call(&mut client)).await;
        let Err(reason) = answer.unwrap_or_else(|_| Err(format!("no answer within {:?}", config.timeout))) else {
            failures = 0;
            continue;
        };
        failures += 1;
        tracing::debug!(executor = executor.id, failures, reason, "executor did not answer");
        // One that drains is expected to go.
        if failures >= config.failures || engine.cluster.is_draining(&executor.id) {
            tracing::warn!(executor = executor.id, reason, "executor lost");
            _ = engine.server.state.executor_manager.remove_executor(&executor.id, Some(reason)).await;
            tell_to_stop(client, executor.id).await;
            return;
        }
    }
}

/// Asks for something that changes nothing: the removal of data that no query has.
async fn call(client: &mut ExecutorGrpcClient<Channel>) -> Result<(), String> {
    let nothing = RemoveJobDataParams { job_id: "none".into(), remove_stage_ids: Vec::new() };
    match client.remove_job_data(nothing).await {
        Err(status) if status.code() == tonic::Code::Unavailable => Err(status.message().to_owned()),
        _ => Ok(()),
    }
}

/// One that lives after all must not go on with tasks that are run again elsewhere: it is to stop, and to start anew.
async fn tell_to_stop(mut client: ExecutorGrpcClient<Channel>, executor_id: String) {
    let stop = StopExecutorParams { executor_id, reason: "given up".into(), force: true };
    _ = timeout(LAST_WORD, client.stop_executor(stop)).await;
}

/// Cancels the queries that run or keep results on an executor, and returns when they are cancelled or queued to be,
/// which is before the scheduler can hear that the executor is gone.
async fn end_queries_on(engine: &Inner, executor: &str) {
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
    }
    if waiting > 0
        && let Some(executor) = engine.cluster.idle()
    {
        engine.nudge(executor).await;
    }
}
