//! The engine that runs queries: Ballista's scheduler in this process, started our way.
//!
//! A query is a plan that executors run in tasks. It ends well, or it names why not; what was lost with an executor is
//! submitted again by the caller, who knows which part is still missing. Three rules make that exact:
//! 1. executors are watched by calls of our own, quicker than by heartbeats ([`watch`]);
//! 2. before an executor leaves the books, every query that has tasks or results on it is cancelled ([`cluster`]);
//! 3. rows are shown only if no executor left between submission and the last row ([`Query::rows`]); until then they
//!    are held back here, within bounds ([`Limits`]).

mod cluster;
mod config;
mod query;
mod routes;
mod spool;
mod watch;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ballista_core::serde::protobuf::UpdateTaskStatusParams;
use ballista_core::serde::protobuf::scheduler_grpc_server::SchedulerGrpc;
use ballista_scheduler::cluster::memory::InMemoryJobState;
use ballista_scheduler::cluster::{BallistaCluster, ClusterState};
use ballista_scheduler::scheduler_process::create_scheduler;
use ballista_scheduler::scheduler_server::SchedulerServer;
use dashmap::DashMap;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use tokio::net::TcpListener;
use tokio::sync::watch::{Sender, channel};
use tokio::task::JoinHandle;

pub use cluster::group_of;
pub use config::{Config, Parts, Probe};
pub use query::{Ended, Progress, Query};
pub use spool::{Limits, Rows};

use cluster::{Cluster, Group};

type Server = SchedulerServer<LogicalPlanNode, PhysicalPlanNode>;

/// How long a shutdown waits for open calls.
const LAST_CALLS: Duration = Duration::from_secs(2);

/// A cheap handle; the engine runs until [`Engine::shutdown`].
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    server: Server,
    cluster: Arc<Cluster>,
    config: Config,
    parts: Parts,
    address: SocketAddr,
    /// The queries that somebody follows, with the reason of those that were told to end.
    causes: DashMap<String, Option<Ended>>,
    stop: Sender<bool>,
    serving: tokio::sync::Mutex<Option<JoinHandle<std::io::Result<()>>>>,
}

/// An executor as the scheduler sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutorInfo {
    pub id: String,
    pub group: String,
    pub host: String,
    /// Serves results and shuffles.
    pub port: u16,
    /// Takes tasks.
    pub grpc_port: u16,
    pub vcores: u32,
    /// Vcores that tasks hold.
    pub used: u32,
    pub draining: bool,
}

impl Engine {
    /// Binds, then serves executors, Ballista's `/api`, health and `routes` on one port. Returns once it listens.
    pub async fn start(config: Config, parts: Parts, routes: axum::Router) -> Result<Self, Error> {
        let bind = |source| Error::Bind { address: config.bind, source };
        let listener = TcpListener::bind(config.bind).await.map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;

        let scheduler = Arc::new(config::scheduler_config(&config, &parts, address.port()));
        let produce = scheduler.override_config_producer.clone().expect("set by scheduler_config");
        let cluster = Arc::new(Cluster::default());
        let queries = InMemoryJobState::new(scheduler.scheduler_id.clone(), parts.session_state.clone(), produce);
        let state = BallistaCluster::new(cluster.clone(), Arc::new(queries));
        let server: Server = create_scheduler(state, scheduler).await.map_err(Error::Start)?;

        let (stop, stopped) = channel(false);
        let router = routes::router(&server, &config, routes);
        let serving = tokio::spawn(routes::serve(listener, router, stopped));
        let inner = Inner {
            server,
            cluster,
            config,
            parts,
            address,
            causes: DashMap::new(),
            stop,
            serving: tokio::sync::Mutex::new(Some(serving)),
        };
        let inner = Arc::new(inner);
        watch::start(&inner);
        tracing::info!(%address, "scheduler listens");
        Ok(Self { inner })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.inner.address
    }

    /// Where others reach it.
    pub fn url(&self) -> String {
        format!("http://{}:{}", self.inner.config.advertise_host, self.inner.address.port())
    }

    /// A session as queries need it, of the caller's parts.
    pub fn session(&self) -> Result<SessionContext, Error> {
        let config = config::for_engine((self.inner.parts.session_config)(), self.inner.config.max_message_bytes);
        let state = (self.inner.parts.session_state)(config).map_err(Error::Session)?;
        Ok(SessionContext::new_with_state(state))
    }

    /// Queues a plan and returns at once. With a `group`, only executors of that group take its tasks.
    pub async fn submit(
        &self,
        name: &str,
        group: Option<&str>,
        session: &SessionContext,
        plan: &LogicalPlan,
    ) -> Result<Query, Error> {
        let mut config = config::for_engine(session.copied_config(), self.inner.config.max_message_bytes);
        if let Some(group) = group {
            config = config.with_extension(Arc::new(Group(group.to_owned())));
        }
        // A builder would register a fresh default catalog in the caller's session.
        let mut state = session.state();
        *state.config_mut() = config;
        query::submit(&self.inner, name, group, SessionContext::new_with_state(state), plan).await
    }

    /// The executors that are there, drained ones too.
    pub async fn executors(&self) -> Vec<ExecutorInfo> {
        let cluster = &self.inner.cluster;
        let mut executors: Vec<_> = cluster.registered_executor_metadata().await.into_iter().collect();
        executors.sort_by(|a, b| a.id.cmp(&b.id));
        let info = |metadata: ballista_core::serde::scheduler::ExecutorMetadata| ExecutorInfo {
            group: group_of(&metadata.id).to_owned(),
            used: cluster.used(&metadata.id),
            draining: cluster.is_draining(&metadata.id),
            vcores: metadata.specification.vcores,
            host: metadata.host,
            port: metadata.port,
            grpc_port: metadata.grpc_port,
            id: metadata.id,
        };
        executors.into_iter().map(info).collect()
    }

    /// Gives an executor no more tasks; it keeps those it runs. For scale-in: drain, wait for `used` to be 0, stop.
    pub fn drain(&self, executor: &str) {
        self.inner.cluster.drain(executor);
    }

    /// Takes an executor out of the books now: what it has is run again elsewhere. It is told to start anew.
    pub async fn give_up(&self, executor: &str, reason: &str) {
        watch::give_up(&self.inner, executor, reason).await;
    }

    /// Whether an executor of this group, or of any, takes tasks.
    pub fn has_executor(&self, group: Option<&str>) -> bool {
        self.inner.cluster.has_open(group)
    }

    /// How many executors have left since this scheduler started.
    pub fn departed(&self) -> u64 {
        self.inner.cluster.departed()
    }

    /// Vcores that were given back since no task held them.
    pub fn reclaimed(&self) -> u64 {
        self.inner.cluster.reclaimed()
    }

    /// Stops serving and watching. Queries still running are left to their executors, which find no scheduler.
    pub async fn shutdown(&self) {
        self.inner.stop.send_replace(true);
        if let Some(mut serving) = self.inner.serving.lock().await.take()
            && tokio::time::timeout(LAST_CALLS, &mut serving).await.is_err()
        {
            serving.abort();
        }
        // Without heartbeats Ballista would take them for dead later, and tell them to stop.
        self.inner.cluster.forget_all().await;
    }
}

impl Inner {
    /// Asks for a query's end, which [`Query::finished`] then reports as `cause`. The first cause stays.
    async fn end(&self, query: &str, cause: Ended) {
        if let Some(mut known) = self.causes.get_mut(query) {
            known.get_or_insert(cause);
        }
        if let Err(error) = self.server.cancel_job(query.into()).await {
            tracing::error!(query, %error, "query could not be cancelled");
        }
    }

    /// Makes the scheduler look for tasks to place, as if an executor had reported.
    async fn nudge(&self, executor: String) {
        let nothing = UpdateTaskStatusParams { executor_id: executor, task_status: Vec::new() };
        _ = SchedulerGrpc::update_task_status(&self.server, tonic::Request::new(nothing)).await;
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen on {address}: {source}; choose another --bind")]
    Bind { address: SocketAddr, source: std::io::Error },
    #[error("the engine did not start: {0}")]
    Start(ballista_core::error::BallistaError),
    #[error("no session could be made: {0}")]
    Session(datafusion::error::DataFusionError),
    #[error("query '{name}' was not accepted: {source}")]
    Submit { name: String, source: ballista_core::error::BallistaError },
    #[error("query '{name}' ended: {source}")]
    Ended { name: String, source: Ended },
}
