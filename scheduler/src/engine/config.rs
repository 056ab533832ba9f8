//! How the engine is set up: plain values, and the parts that only code can give.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ballista_core::ConfigProducer;
use ballista_core::config::{
    BALLISTA_CLIENT_GRPC_CONNECT_TIMEOUT_SECONDS, BALLISTA_SCHEDULER_MAX_PARTITIONS_PER_TASK, TaskSchedulingPolicy,
};
use ballista_core::extension::SessionConfigExt;
use ballista_scheduler::SessionBuilder;
use ballista_scheduler::config::{SchedulerConfig, TaskDistributionPolicy};
use datafusion::prelude::SessionConfig;
use datafusion_proto::logical_plan::LogicalExtensionCodec;
use datafusion_proto::physical_plan::PhysicalExtensionCodec;

use super::spool::Limits;

#[derive(Debug, Clone)]
pub struct Config {
    /// Where gRPC, REST and the pages are served. Port 0 takes a free one.
    pub bind: SocketAddr,
    /// The host by which executors reach this scheduler.
    pub advertise_host: String,
    /// How executors are watched, beside their heartbeats.
    pub probe: Probe,
    /// Without a heartbeat for this long an executor is given up. Well above what the probe needs, which finds a dead
    /// process sooner; this finds one that still answers but does not work.
    pub executor_timeout: Duration,
    /// How long a query may go on without a task starting or ending, while it could.
    pub stall_timeout: Duration,
    /// As `stall_timeout`, while no task of the query runs: the engine has lost track of it, or of free vcores.
    pub lost_timeout: Duration,
    /// How long a question waits while there is no executor that may answer it.
    pub executor_wait: Duration,
    /// How large results may become.
    pub results: Limits,
    /// How long results and states of finished queries are kept.
    pub retention: Duration,
    /// Largest message between processes. A plan of a thousand filters passes 16 MiB.
    pub max_message_bytes: u32,
    /// `/readyz` says no until this many executors are there.
    pub min_executors: usize,
}

/// A call to each executor every `interval`; one that fails `failures` times in a row is lost. A dead process refuses
/// at once, a stopped or unreachable one costs `timeout` each time.
#[derive(Debug, Clone, Copy)]
pub struct Probe {
    pub interval: Duration,
    pub timeout: Duration,
    pub failures: u32,
}

impl Default for Probe {
    fn default() -> Self {
        Self { interval: Duration::from_secs(1), timeout: Duration::from_secs(3), failures: 2 }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bind: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 50050),
            advertise_host: "localhost".into(),
            probe: Probe::default(),
            executor_timeout: Duration::from_secs(15),
            stall_timeout: Duration::from_secs(600),
            lost_timeout: Duration::from_secs(10),
            executor_wait: Duration::from_secs(60),
            results: Limits::default(),
            retention: Duration::from_secs(45),
            max_message_bytes: 256 << 20,
            min_executors: 1,
        }
    }
}

/// What the caller brings: how sessions are made, and how its nodes and tables travel.
#[derive(Clone)]
pub struct Parts {
    /// Options of a new session, with the caller's extensions registered.
    pub session_config: ConfigProducer,
    /// Makes a session of a configuration: functions, object stores, optimizer rules.
    pub session_state: SessionBuilder,
    pub logical_codec: Arc<dyn LogicalExtensionCodec>,
    pub physical_codec: Arc<dyn PhysicalExtensionCodec>,
}

/// What every session needs here. The adaptive planner is the one whose single-stage plans survive the loss of an
/// executor; one partition per task, so that a slow split holds back no other.
pub(super) fn for_engine(config: SessionConfig, max_message_bytes: u32) -> SessionConfig {
    config
        .upgrade_for_ballista()
        .with_ballista_adaptive_query_planner(true)
        .with_ballista_grpc_client_max_message_size(max_message_bytes as usize)
        .set_usize(BALLISTA_SCHEDULER_MAX_PARTITIONS_PER_TASK, 1)
        .set_usize(BALLISTA_CLIENT_GRPC_CONNECT_TIMEOUT_SECONDS, 3)
}

/// How long an executor that said goodbye is kept in the books: its queries are moved in that time.
pub(super) const FAREWELL: Duration = Duration::from_secs(10);

pub(super) fn scheduler_config(config: &Config, parts: &Parts, port: u16) -> SchedulerConfig {
    let seconds = |duration: Duration| duration.as_secs().max(1);
    let (produce, max) = (parts.session_config.clone(), config.max_message_bytes);
    SchedulerConfig {
        external_host: config.advertise_host.clone(),
        bind_host: config.bind.ip().to_string(),
        bind_port: port,
        scheduling_policy: TaskSchedulingPolicy::PushStaged,
        task_distribution: TaskDistributionPolicy::RoundRobin,
        finished_job_data_clean_up_interval_seconds: seconds(config.retention),
        finished_job_state_clean_up_interval_seconds: seconds(config.retention),
        executor_timeout_seconds: seconds(config.executor_timeout),
        expire_dead_executor_interval_seconds: 2,
        no_executors_grace_period_seconds: 2 * seconds(config.executor_timeout),
        executor_termination_grace_period: seconds(FAREWELL),
        grpc_server_max_decoding_message_size: max,
        grpc_server_max_encoding_message_size: max,
        grpc_client_max_message_size: max,
        min_ready_executors: config.min_executors,
        override_config_producer: Some(Arc::new(move || for_engine(produce(), max))),
        override_session_builder: Some(parts.session_state.clone()),
        override_logical_codec: Some(parts.logical_codec.clone()),
        override_physical_codec: Some(parts.physical_codec.clone()),
        // The route that leads to a page outside: kept off `/`, which is ours.
        web_tui_route: "/api/tui".into(),
        ..SchedulerConfig::default()
    }
}
