//! Joining, working, draining, going.
//!
//! An executor binds its two ports, registers, and from then on the scheduler pushes tasks to it. To go in peace it
//! says so once: the scheduler gives it nothing more, its tasks end and report, then it signs off. What it keeps of
//! results is lost; queries that need it are run again by the scheduler.

use std::net::{IpAddr, SocketAddr, TcpListener as Probe};
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use ballista_core::BALLISTA_PROTOCOL_VERSION;
use ballista_core::config::TaskSchedulingPolicy;
use ballista_core::error::BallistaError;
use ballista_core::extension::SessionConfigExt;
use ballista_core::serde::BallistaCodec;
use ballista_core::serde::protobuf::scheduler_grpc_client::SchedulerGrpcClient;
use ballista_core::serde::protobuf::{
    ExecutorRegistration, ExecutorStatus, ExecutorStoppedParams, HeartBeatParams, executor_status::Status,
};
use ballista_core::serde::scheduler::{ExecutorOperatingSystemSpecification, ExecutorSpecification};
use ballista_core::utils::{GrpcClientConfig, GrpcServerConfig, create_grpc_client_endpoint, create_grpc_server};
use ballista_executor::execution_engine::DefaultExecutionEngine;
use ballista_executor::executor::{Executor as Worker, TasksDrainedFuture};
use ballista_executor::executor_process::ExecutorProcessConfig;
use ballista_executor::executor_server;
use ballista_executor::flight_service::BallistaFlightService;
use ballista_executor::health::ExecutorHealth;
use ballista_executor::metrics::LoggingMetricsCollector;
use ballista_executor::runtime_cache::{DefaultSessionRuntimeCache, MemoryPoolPolicy};
use ballista_executor::shutdown::ShutdownNotifier;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Channel;
use tonic::transport::server::TcpIncoming;
use uuid::Uuid;

use crate::folder::Folder;
use crate::{Config, Parts};

/// Sessions whose stores and caches are kept.
const SESSIONS: usize = 64;
/// Ports are found free and then bound by the engine: another process may be quicker.
const PORT_TRIES: usize = 5;
/// Between two tries to reach the scheduler.
const RETRY: Duration = Duration::from_millis(250);
/// Between two tries to replace an executor within this process.
const AGAIN: Duration = Duration::from_secs(1);
/// What is on its way when the last task ends, a task just pushed or a report, is given this long.
const IN_FLIGHT: Duration = Duration::from_millis(300);
/// How long the scheduler may take to hear of a departure.
const FAREWELL: Duration = Duration::from_secs(2);
/// Requests to stop that may wait; one is enough.
const STOPS: usize = 8;
/// Between two looks for forgotten results.
const SWEEP: Duration = Duration::from_secs(600);
/// How long the servers may take to close.
const CLOSE: Duration = Duration::from_secs(5);

type Client = SchedulerGrpcClient<Channel>;

/// A working executor.
pub struct Executor {
    registration: ExecutorRegistration,
    worker: Arc<Worker>,
    scheduler: Client,
    health: ExecutorHealth,
    notifier: ShutdownNotifier,
    stop_requests: mpsc::Receiver<bool>,
    _folder: Folder,
}

/// Why an executor no longer works though nobody here asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// The scheduler gave it up: start a new one.
    ByScheduler,
    /// No heartbeat got through five times: start a new one, which waits for the scheduler.
    SchedulerGone,
}

impl Executor {
    /// Binds, registers, and returns once tasks may come.
    pub async fn start(config: Config, parts: Parts) -> Result<Self, Error> {
        let id = format!("{}.{}", config.group, Uuid::new_v4());
        let folder = Folder::make(&config.work_dir, &id)
            .map_err(|source| Error::WorkDir { path: config.work_dir.clone(), source })?;
        Self::join(&config, &parts, id, folder).await
    }

    async fn join(config: &Config, parts: &Parts, id: String, folder: Folder) -> Result<Self, Error> {
        let path = folder.path.to_str().ok_or_else(|| Error::NotText(folder.path.clone()))?.to_owned();
        let scheduler = connect(config, parts).await?;
        let notifier = ShutdownNotifier::new();
        let port = serve_results(config, &path, &notifier).await?;
        sweep(folder.path.clone(), &notifier);
        let health = ExecutorHealth::new();
        let mut tries = 1;
        loop {
            let grpc_port = free_port(config)?;
            let registration = registration(config, &id, port, grpc_port);
            let worker = Arc::new(worker(config, parts, registration.clone(), &path)?);
            let (stop, stop_requests) = mpsc::channel(STOPS);
            let codec: BallistaCodec<LogicalPlanNode, PhysicalPlanNode> =
                BallistaCodec::new(parts.logical_codec.clone(), parts.physical_codec.clone());
            let process = Arc::new(process_config(config, &id));
            let serving = executor_server::startup(
                scheduler.clone(),
                process,
                worker.clone(),
                codec,
                stop,
                &notifier,
                health.clone(),
            );
            match serving.await {
                Ok(_) => {
                    tracing::info!(executor = id, port, grpc_port, vcores = worker.vcores, "executor joined");
                    let _folder = folder;
                    return Ok(Self { registration, worker, scheduler, health, notifier, stop_requests, _folder });
                }
                Err(BallistaError::IoError(_)) if config.grpc_port == 0 && tries < PORT_TRIES => tries += 1,
                Err(source) => return Err(Error::Join { scheduler: address(config), source }),
            }
        }
    }

    /// `group.name`, as the scheduler knows it.
    pub fn id(&self) -> &str {
        &self.registration.id
    }

    /// Tasks it works on.
    pub fn tasks(&self) -> usize {
        self.worker.active_task_count()
    }

    /// Whether the last heartbeat got through; for a readiness probe.
    pub fn is_ready(&self) -> bool {
        self.health.is_ready()
    }

    /// Waits until it was stopped from outside; [`Executor::shutdown`] then cleans up.
    pub async fn stopped(&mut self) -> Stopped {
        let mut gone = self.notifier.subscribe_for_shutdown();
        tokio::select! {
            _ = self.stop_requests.recv() => Stopped::ByScheduler,
            _ = gone.recv() => Stopped::SchedulerGone,
        }
    }

    /// Takes no more tasks, lets those it has end for up to `patience`, signs off and stops.
    pub async fn drain(mut self, patience: Duration) {
        self.say_farewell().await;
        let deadline = Instant::now() + patience;
        loop {
            sleep(IN_FLIGHT).await;
            if self.tasks() == 0 || timeout(left(deadline), TasksDrainedFuture(self.worker.clone())).await.is_err() {
                break;
            }
        }
        let goodbye = ExecutorStoppedParams { executor_id: self.registration.id.clone(), reason: "drained".into() };
        _ = self.scheduler.executor_stopped(goodbye).await;
        self.shutdown().await;
    }

    /// Stops at once; tasks it has are lost.
    pub async fn shutdown(mut self) {
        self.say_farewell().await;
        let ShutdownNotifier { notify_shutdown, mut shutdown_complete_rx, shutdown_complete_tx } = self.notifier;
        _ = notify_shutdown.send(());
        drop((notify_shutdown, shutdown_complete_tx));
        if timeout(CLOSE, shutdown_complete_rx.recv()).await.is_err() {
            tracing::warn!(executor = self.registration.id, "executor left with open calls");
        }
    }

    /// From then on the scheduler gives it nothing, and does not wait for a second missed call to give it up.
    async fn say_farewell(&mut self) {
        let draining = HeartBeatParams {
            executor_id: self.registration.id.clone(),
            metrics: Vec::new(),
            status: Some(ExecutorStatus { status: Some(Status::Terminating(String::new())) }),
            metadata: Some(self.registration.clone()),
        };
        if !matches!(timeout(FAREWELL, self.scheduler.heart_beat_from_executor(draining)).await, Ok(Ok(_))) {
            tracing::warn!(executor = self.id(), "the scheduler does not know that this executor goes");
        }
    }
}

/// Works until `signal`, then drains for up to `patience`. An executor that was given up, or lost its scheduler for
/// long, stops and a new one takes its place.
pub async fn run(
    config: Config,
    parts: Parts,
    signal: impl Future<Output = ()>,
    patience: Duration,
) -> Result<(), Error> {
    let mut signal = pin!(signal);
    let executor = tokio::select! {
        started = Executor::start(config.clone(), parts.clone()) => started?,
        () = &mut signal => return Ok(()),
    };
    if let Some(executor) = replaced_until(signal, executor, &config, &parts).await? {
        executor.drain(patience).await;
    }
    Ok(())
}

/// The executor that works when `signal` comes: the first, or one of those that took its place.
async fn replaced_until(
    mut signal: Pin<&mut impl Future<Output = ()>>,
    mut executor: Executor,
    config: &Config,
    parts: &Parts,
) -> Result<Option<Executor>, Error> {
    loop {
        tokio::select! {
            () = &mut signal => return Ok(Some(executor)),
            reason = executor.stopped() => {
                tracing::warn!(executor = executor.id(), ?reason, "executor stops, a new one starts");
                executor.shutdown().await;
            }
        }
        executor = tokio::select! {
            started = Executor::start(config.clone(), parts.clone()) => started?,
            () = &mut signal => return Ok(None),
        };
    }
}

/// An executor beside a scheduler in one process, replaced when it was given up, as [`run`] does.
pub struct Attached {
    stop: oneshot::Sender<()>,
    working: JoinHandle<()>,
}

impl Attached {
    /// Returns once tasks may come.
    pub async fn start(config: Config, parts: Parts) -> Result<Self, Error> {
        let executor = Executor::start(config.clone(), parts.clone()).await?;
        let (stop, stopped) = oneshot::channel::<()>();
        let working = tokio::spawn(async move {
            let mut stopped = pin!(async { _ = stopped.await });
            let mut next = Ok(executor);
            loop {
                let ended = match next {
                    Ok(executor) => replaced_until(stopped.as_mut(), executor, &config, &parts).await,
                    Err(error) => Err(error),
                };
                match ended {
                    Ok(Some(executor)) => return executor.shutdown().await,
                    Ok(None) => return,
                    Err(error) => tracing::error!(%error, "no executor takes the place of one that was given up yet"),
                }
                // Nobody starts this process again for that: what is in the way may go.
                next = tokio::select! {
                    () = &mut stopped => return,
                    started = async { sleep(AGAIN).await; Executor::start(config.clone(), parts.clone()).await } => started,
                };
            }
        });
        Ok(Self { stop, working })
    }

    /// Stops at once; tasks under way are lost.
    pub async fn shutdown(self) {
        _ = self.stop.send(());
        _ = self.working.await;
    }
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

fn address(config: &Config) -> String {
    format!("{}:{}", config.scheduler_host, config.scheduler_port)
}

async fn connect(config: &Config, parts: &Parts) -> Result<Client, Error> {
    let grpc = GrpcClientConfig::from(&(parts.session_config)().ballista_config());
    let url = format!("http://{}", address(config));
    let endpoint = create_grpc_client_endpoint(url, Some(&grpc))
        .map_err(|e| Error::Scheduler { address: address(config), reason: e.to_string() })?;
    let deadline = Instant::now() + config.scheduler_timeout;
    let channel = loop {
        match endpoint.connect().await {
            Ok(channel) => break channel,
            Err(error) if Instant::now() >= deadline => {
                return Err(Error::Scheduler { address: address(config), reason: error.to_string() });
            }
            Err(error) => tracing::debug!(scheduler = address(config), %error, "scheduler not there yet"),
        }
        sleep(RETRY).await;
    };
    let max = config.max_message_bytes as usize;
    Ok(SchedulerGrpcClient::new(channel).max_encoding_message_size(max).max_decoding_message_size(max))
}

/// Serves results and shuffles by Arrow Flight; returns the port.
async fn serve_results(config: &Config, folder: &str, notifier: &ShutdownNotifier) -> Result<u16, Error> {
    let bind = |source| Error::Bind { address: SocketAddr::new(config.bind, config.port), source };
    let listener = TcpListener::bind((config.bind, config.port)).await.map_err(bind)?;
    let port = listener.local_addr().map_err(bind)?.port();
    let max = config.max_message_bytes as usize;
    let service = FlightServiceServer::new(BallistaFlightService::new(folder.to_owned()))
        .max_decoding_message_size(max)
        .max_encoding_message_size(max);
    let mut stop = notifier.subscribe_for_shutdown();
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    tokio::spawn(async move {
        let server = create_grpc_server(&GrpcServerConfig::default()).add_service(service);
        if let Err(error) = server.serve_with_incoming_shutdown(incoming, stop.recv()).await {
            tracing::error!(%error, "results are no longer served");
        }
    });
    Ok(port)
}

/// Removes forgotten results until the executor stops.
fn sweep(folder: PathBuf, notifier: &ShutdownNotifier) {
    let mut stop = notifier.subscribe_for_shutdown();
    tokio::spawn(async move {
        while timeout(SWEEP, stop.recv()).await.is_err() {
            if let Err(error) = Folder::sweep(&folder) {
                tracing::warn!(path = %folder.display(), %error, "forgotten results not removed");
            }
        }
    });
}

/// The port that takes tasks is bound by Ballista, which has to be told which.
fn free_port(config: &Config) -> Result<u16, Error> {
    let bind = |source| Error::Bind { address: SocketAddr::new(config.bind, config.grpc_port), source };
    match config.grpc_port {
        0 => Ok(Probe::bind((config.bind, 0)).and_then(|probe| probe.local_addr()).map_err(bind)?.port()),
        port => Ok(port),
    }
}

fn vcores(config: &Config) -> usize {
    match config.vcores {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        vcores => vcores,
    }
}

fn registration(config: &Config, id: &str, port: u16, grpc_port: u16) -> ExecutorRegistration {
    ExecutorRegistration {
        id: id.to_owned(),
        host: config.advertise_host.clone(),
        port: port.into(),
        grpc_port: grpc_port.into(),
        specification: Some(ExecutorSpecification::default().with_vcores(vcores(config) as u32).into()),
        os_info: Some(ExecutorOperatingSystemSpecification::default().into()),
        ballista_protocol_version: BALLISTA_PROTOCOL_VERSION,
    }
}

/// Of Ballista's own process only these settings reach the server of tasks.
fn process_config(config: &Config, id: &str) -> ExecutorProcessConfig {
    let host = match config.bind {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    ExecutorProcessConfig {
        executor_id: id.to_owned(),
        bind_host: host,
        task_scheduling_policy: TaskSchedulingPolicy::PushStaged,
        grpc_max_decoding_message_size: config.max_message_bytes,
        grpc_max_encoding_message_size: config.max_message_bytes,
        executor_heartbeat_interval_seconds: config.heartbeat.as_secs().max(1),
        ..ExecutorProcessConfig::default()
    }
}

fn worker(config: &Config, parts: &Parts, registration: ExecutorRegistration, folder: &str) -> Result<Worker, Error> {
    let vcores = vcores(config);
    let pool = memory_pool(config, vcores)?;
    let (produce, share) = (parts.runtime.clone(), pool.clone());
    let worker = Worker::new(
        registration,
        folder,
        Arc::new(move |config| share(produce(config)?, config, 1)),
        parts.session_config.clone(),
        Arc::new(parts.registry()),
        Arc::new(LoggingMetricsCollector::default()),
        vcores,
        Arc::new(DefaultExecutionEngine::new()),
    );
    let cache = DefaultSessionRuntimeCache::new(parts.runtime.clone(), pool, SESSIONS);
    Ok(worker.with_session_runtime_cache(Some(Arc::new(cache))))
}

/// Each task gets a pool of its own of the share of its vcores, so that one cannot take another's memory.
fn memory_pool(config: &Config, vcores: usize) -> Result<MemoryPoolPolicy, Error> {
    let Some(bytes) = config.memory_bytes else { return Ok(Arc::new(|runtime, _, _| Ok(runtime))) };
    let share = bytes / vcores;
    if share == 0 {
        return Err(Error::Memory { bytes, vcores });
    }
    Ok(Arc::new(move |runtime, _, vcores| {
        let pool = FairSpillPool::new(share.saturating_mul(vcores.max(1) as usize));
        RuntimeEnvBuilder::from_runtime_env(&runtime).with_memory_pool(Arc::new(pool)).build_arc()
    }))
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen on {address}: {source}; choose another port")]
    Bind { address: SocketAddr, source: std::io::Error },
    #[error("no scheduler at {address}: {reason}; start it first, or name another with --scheduler")]
    Scheduler { address: String, reason: String },
    #[error("the scheduler at {scheduler} did not accept this executor: {source}")]
    Join { scheduler: String, source: BallistaError },
    #[error("work folder {path} cannot be made: {source}; name another with --work-dir")]
    WorkDir { path: PathBuf, source: std::io::Error },
    #[error("work folder {0:?} is not text; name another with --work-dir")]
    NotText(PathBuf),
    #[error("{bytes} bytes of memory are too few for {vcores} vcores; give more with --memory")]
    Memory { bytes: usize, vcores: usize },
}
