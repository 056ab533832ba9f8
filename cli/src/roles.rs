//! The roles of this binary: scheduler, executor, store, and the first two with a store in one process.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use axum::Router;
use redpoll_connectors::local::{Service as StoreService, Store, Unmade};
use redpoll_connectors::widecolumn::Backend;
use redpoll_core::objects::Stores;
use redpoll_executor::Runtime;
use redpoll_scheduler::coordinator::{Status, sweep};
use redpoll_scheduler::engine::{self, Engine};
use redpoll_scheduler::service::{self, Peers, Service};
use redpoll_udfs::functions;
use redpoll_udfs::host::{Host, HostConfig};
use redpoll_udfs::registry::Registry;
use tokio::net::TcpListener;
use url::Url;

use crate::attendant::Attendant;
use crate::client::Client;
use crate::embedded;
use crate::parts::Parts;

/// What a cluster in this process is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Work,
    /// Nothing is made that is not there.
    Look,
}

/// A scheduler and an executor in this process.
#[derive(Debug, Clone)]
pub struct EmbeddedConfig {
    /// Path or URL.
    pub warehouse: String,
    pub purpose: Purpose,
    /// Tasks at a time; 0: as many as there are cores.
    pub vcores: usize,
    /// Bytes that splits and operators may take.
    pub memory: Option<u64>,
    /// Folders of science modules.
    pub modules: Vec<PathBuf>,
    /// Where environments of modules are built.
    pub cache: PathBuf,
}

#[derive(Debug, Clone)]
pub struct SchedulerConfig {
    pub warehouse: String,
    pub engine: engine::Config,
    pub upkeep: sweep::Config,
    /// `host:port` of a `redpoll store`; without one the scheduler serves the store itself.
    pub store: Option<String>,
    pub modules: Vec<PathBuf>,
    pub cache: PathBuf,
}

#[derive(Debug, Clone)]
pub struct ExecutorConfig {
    pub executor: redpoll_executor::Config,
    /// Bytes that the process is to take at most.
    pub memory: Option<u64>,
    /// `host:port` of a `redpoll store`; by default the scheduler's own.
    pub store: Option<String>,
    pub modules: Vec<PathBuf>,
    pub cache: PathBuf,
    /// How long tasks under way may take after the signal to stop.
    pub patience: Duration,
}

/// A running embedded cluster.
pub struct Embedded {
    pub address: SocketAddr,
    cluster: embedded::Embedded,
    _attendant: Attendant,
}

impl Embedded {
    pub async fn shutdown(self) {
        self.cluster.shutdown().await;
    }
}

/// Other schedulers, as their REST tells.
struct OverRest;

/// A scheduler that is frozen takes calls and answers none.
const PEER_TIMEOUT: Duration = Duration::from_secs(3);

#[async_trait]
impl Peers for OverRest {
    async fn job(&self, address: &str, name: &str) -> Option<Status> {
        let client = Client::new(Url::parse(address).ok()?).ok()?;
        tokio::time::timeout(PEER_TIMEOUT, client.job(name)).await.ok()?.ok()
    }
}

/// Starts a scheduler, an executor and a store in this process, over loopback.
pub async fn embedded(config: EmbeddedConfig) -> Result<Embedded> {
    let stores = stores();
    let registry = Registry::load(&config.modules)?;
    let host = Host::start(HostConfig::new(&config.cache))?;
    let (routes, address) = store(&config.warehouse, &stores, None, config.purpose)?;
    // The scheduler's own port is not known yet, so the store of this process gets one of its own.
    let store = match address {
        Some(address) => address,
        None => {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            let address = listener.local_addr()?;
            announce(&config.warehouse, &stores, &address.to_string())?;
            tokio::spawn(async move { axum::serve(listener, routes).await });
            address.to_string()
        }
    };
    let service = service::Config {
        warehouse: config.warehouse,
        name: process_name(),
        store: Some(store.clone()),
        cache: config.cache,
        upkeep: sweep::Config::default(),
        peers: Arc::new(OverRest),
    };
    let service = Service::new(service, stores.clone(), functions::all(), registry.clone())?;
    let runtime = Runtime::new(process_name(), stores.clone(), Some(store), registry, host).within(config.memory);
    let runtime = Arc::new(runtime);
    let parts = Parts::new(stores, Some(runtime.clone()));
    let executor = redpoll_executor::Config {
        vcores: config.vcores,
        memory_bytes: config.memory.map(of_operators),
        work_dir: std::env::temp_dir().join("redpoll"),
        ..redpoll_executor::Config::default()
    };
    let routes = service::routes(service.clone());
    let cluster = embedded::start(engine::Config::default(), executor, &parts, routes).await?;
    let address = cluster.engine.address();
    service.attach(cluster.engine.clone(), service::Resume::Nothing).await?;
    let _attendant = Attendant::start(Client::new(Url::parse(&format!("http://{address}"))?)?, runtime);
    Ok(Embedded { address, cluster, _attendant })
}

/// Runs a scheduler until `signal`, or until another one has taken its jobs over, which is an error. Jobs of its
/// warehouse that nobody stopped go on.
pub async fn scheduler(config: SchedulerConfig, signal: impl Future<Output = ()>) -> Result<()> {
    let stores = stores();
    let registry = Registry::load(&config.modules)?;
    let advertised = format!("{}:{}", config.engine.advertise_host, config.engine.bind.port());
    let (store_routes, address) = store(&config.warehouse, &stores, config.store.clone(), Purpose::Work)?;
    if address.is_none() {
        announce(&config.warehouse, &stores, &advertised)?;
    }
    let service = service::Config {
        warehouse: config.warehouse,
        name: process_name(),
        store: Some(address.unwrap_or(advertised)),
        cache: config.cache,
        upkeep: config.upkeep,
        peers: Arc::new(OverRest),
    };
    let parts = Parts::new(stores.clone(), None);
    let service = Service::new(service, stores, functions::all(), registry)?;
    let routes = service::routes(service.clone()).merge(store_routes);
    let engine = Engine::start(config.engine, parts.engine()?, routes).await?;
    println!("scheduler at http://{}", engine.address());
    service.attach(engine.clone(), service::Resume::AllJobs).await?;
    let fenced = tokio::select! {
        () = signal => None,
        reason = service.fenced() => Some(reason),
    };
    engine.shutdown().await;
    match fenced {
        Some(reason) => bail!("{reason}"),
        None => Ok(()),
    }
}

/// Runs an executor until `signal`, then drains it.
pub async fn executor(config: ExecutorConfig, signal: impl Future<Output = ()>) -> Result<()> {
    let stores = stores();
    let registry = Registry::load(&config.modules)?;
    let host = Host::start(HostConfig::new(&config.cache))?;
    let scheduler = format!("{}:{}", config.executor.scheduler_host, config.executor.scheduler_port);
    let asked = Client::new(Url::parse(&format!("http://{scheduler}"))?)?;
    let store = config.store.unwrap_or(scheduler);
    let runtime = Runtime::new(process_name(), stores.clone(), Some(store), registry, host).within(config.memory);
    let runtime = Arc::new(runtime);
    let parts = Parts::new(stores, Some(runtime.clone()));
    let _attendant = Attendant::start(asked, runtime);
    redpoll_executor::run(config.executor, parts.executor()?, signal, config.patience).await?;
    Ok(())
}

/// Serves the wide-column store below `folder` alone until `signal`.
pub async fn store_alone(folder: &Path, bind: SocketAddr, signal: impl Future<Output = ()>) -> Result<()> {
    let store = Store::open(folder)?;
    let listener = TcpListener::bind(bind).await.with_context(|| format!("cannot listen on {bind}"))?;
    println!("store at {}", listener.local_addr()?);
    StoreService::new(Arc::new(store)).serve(listener, signal).await?;
    Ok(())
}

/// Routes of the warehouse's store if this process serves it, else the address of the one that does.
fn store(
    warehouse: &str,
    stores: &Stores,
    given: Option<String>,
    purpose: Purpose,
) -> Result<(Router, Option<String>)> {
    if given.is_some() {
        return Ok((Router::new(), given));
    }
    let folder = store_folder(warehouse, stores)?;
    if purpose == Purpose::Look && !folder.exists() {
        return Ok((store_routes(Arc::new(Unmade)), None));
    }
    std::fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    match Store::open(&folder) {
        Ok(store) => Ok((store_routes(Arc::new(store)), None)),
        // Only one process opens the files: another scheduler of this warehouse does.
        Err(error) => match std::fs::read_to_string(folder.join(ADDRESS)) {
            Ok(address) if is_listening(&address) => Ok((Router::new(), Some(address))),
            _ => bail!("the store in {} cannot be opened: {error}", folder.display()),
        },
    }
}

fn store_routes(store: Arc<dyn Backend>) -> Router {
    StoreService::new(store).routes().into_axum_router().reset_fallback()
}

/// Name of the file that says where a store is served.
const ADDRESS: &str = "address";

/// Not of a store that nobody made.
fn announce(warehouse: &str, stores: &Stores, address: &str) -> Result<()> {
    let folder = store_folder(warehouse, stores)?;
    if !folder.exists() {
        return Ok(());
    }
    let file = folder.join(ADDRESS);
    std::fs::write(&file, address).with_context(|| format!("{} cannot be written", file.display()))
}

fn is_listening(address: &str) -> bool {
    let timeout = Duration::from_secs(1);
    address.parse().is_ok_and(|address| std::net::TcpStream::connect_timeout(&address, timeout).is_ok())
}

/// Beside the warehouse on a local disk; of a warehouse on an object store, in the working folder.
fn store_folder(warehouse: &str, stores: &Stores) -> Result<PathBuf> {
    let location = stores.locate(warehouse)?;
    match location.url.to_file_path() {
        Ok(path) => Ok(path.join("_redpoll").join("store")),
        Err(()) => Ok(std::env::current_dir()?.join("redpoll-store")),
    }
}

fn stores() -> Arc<Stores> {
    Arc::new(Stores::new(std::env::vars().filter(|(name, _)| name.starts_with("AWS_"))))
}

/// Unique among the processes of a cluster.
fn process_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}-{}", if host.trim().is_empty() { "local" } else { host.trim() }, std::process::id())
}

/// What operators of questions may hold of a process's memory: sorts and joins spill beyond it.
pub fn of_operators(memory: u64) -> usize {
    usize::try_from(memory / 2).unwrap_or(usize::MAX)
}

/// Loopback, for addresses that are not given.
pub const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
