//! Runs science modules in Python processes beside the executor.
//!
//! Each environment has a warm parent that imports modules and forks workers, each of one module. A call takes a free
//! worker, sends it the arguments as Arrow IPC over a Unix socket and gets one column back, with the rows that failed. A
//! worker that dies or takes too long costs at most the rows that killed it: the batch is sent again to a new worker,
//! then halved until those rows stand alone. That search is bounded; a module that exhausts it rests, as does one that
//! fails on too many rows, and its rows fail at once meanwhile.
//!
//! Workers end with the host: they are killed when it is dropped, and by the kernel when its process dies.

mod assemble;
mod breaker;
mod evaluate;
pub(crate) mod frames;
mod metrics;
mod output;
mod parent;
mod pool;
mod spawner;
mod worker;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::error::ArrowError;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::OnceCell;

use crate::environment::{self, Environments};
use crate::manifest::Module;
use breaker::Breaker;
pub use metrics::Metrics;
use parent::{Parent, ParentKey};
use pool::{Cost, Pool};
use spawner::Spawner;

/// How the host runs its workers.
#[derive(Debug, Clone)]
pub struct HostConfig {
    /// Where environments are kept between runs.
    pub cache_dir: PathBuf,
    /// Where the workers' sockets are; short, for the path of a socket has at most 107 bytes.
    pub socket_dir: PathBuf,
    /// Most worker processes of each module; calls beyond them wait, in order of arrival.
    pub workers_per_module: usize,
    /// Longest time from the start of a worker until it has connected, and for importing one module.
    pub start_timeout: Duration,
    /// How often a batch is sent before it is halved to find the rows that kill workers.
    pub tries: u32,
    /// Longest time for finding the rows that kill workers; then all rows of the call still in doubt fail, and the
    /// module rests, as when it has lost more workers than its manifest allows.
    pub max_search: Duration,
    /// How long a module rests at first.
    pub rest: Duration,
    /// Workers that nobody has called for so long are ended.
    pub idle: Duration,
}

impl HostConfig {
    /// As many workers per module as there are cores, a minute to start, two tries; at most two minutes of search per
    /// call, then a minute of rest.
    pub fn new(cache_dir: impl Into<PathBuf>) -> Self {
        Self {
            cache_dir: cache_dir.into(),
            socket_dir: std::env::temp_dir().join(format!("redpoll-{}", std::process::id())),
            workers_per_module: std::thread::available_parallelism().map_or(1, usize::from),
            start_timeout: Duration::from_secs(60),
            tries: 2,
            max_search: Duration::from_secs(120),
            rest: Duration::from_secs(60),
            idle: Duration::from_secs(300),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A host was started outside a tokio runtime, or could not make its socket directory or thread.
    #[error("the module host cannot start: {0}")]
    Start(String),
    /// The module's environment could not be built.
    #[error("module {module}: {source}")]
    Environment { module: String, source: environment::Error },
    /// The module cannot be imported or called as its manifest says.
    #[error("module {module} ({function}): {reason}")]
    Load { module: String, function: String, reason: String },
    /// Workers of the module's environment do not come up.
    #[error("module {module}: its worker does not start: {reason}")]
    Worker { module: String, reason: String },
    /// The arguments are not those of the module.
    #[error("module {module}: {n_columns} columns for {n_inputs} inputs")]
    Arguments { module: String, n_columns: usize, n_inputs: usize },
    /// Arguments or results could not be converted.
    #[error("module {module}: {source}")]
    Arrow { module: String, source: ArrowError },
    /// The worker answered something that is no result.
    #[error("module {module}: its worker could not answer: {reason}")]
    Answer { module: String, reason: String },
}

/// One value per row, and why some are null.
#[derive(Debug)]
pub struct Evaluated {
    /// One value per row, of the module's declared type; null in the rows that failed.
    pub values: ArrayRef,
    /// The rows that failed, in order, each with `ExceptionType: message` or `worker died: signal 9`.
    pub failures: Vec<(u32, String)>,
    pub usage: Usage,
}

/// What a call of [`Host::evaluate`] took.
#[derive(Debug, Clone, Default)]
pub struct Usage {
    /// Of each batch that was answered: its rows, and the time from sending it to having its values.
    pub batches: Vec<(usize, Duration)>,
    /// Sum of the times that batches waited for a worker.
    pub queue: Duration,
    /// Workers that died or timed out.
    pub restarts: u64,
    /// Rows that failed at once because the module rests.
    pub rested: u64,
    /// Arguments and values that crossed.
    pub bytes: u64,
    /// Largest memory of a worker in RAM, in KiB.
    pub peak_kib: u64,
    /// New workers that had to import the module themselves, since its import starts threads.
    pub imports: u64,
}

impl Usage {
    fn add(&mut self, n_rows: usize, cost: &Cost) {
        self.batches.push((n_rows, cost.call));
        self.queue += cost.queue;
        self.bytes += cost.bytes;
        self.peak_kib = self.peak_kib.max(cost.resident_kib);
        self.imports += u64::from(cost.imported);
    }
}

/// A handle to the workers; cheap to clone. The workers end when the last handle is dropped.
#[derive(Debug, Clone)]
pub struct Host {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: HostConfig,
    environments: Environments,
    spawner: Spawner,
    runtime: Handle,
    parents: Mutex<HashMap<ParentKey, Arc<OnceCell<Parent>>>>,
    pools: Mutex<HashMap<String, Arc<OnceCell<Arc<Pool>>>>>,
    metrics: metrics::All,
    breaker: Breaker,
}

impl Host {
    /// Starts a host without any worker, on the tokio runtime of the caller.
    pub fn start(mut config: HostConfig) -> Result<Self, Error> {
        let runtime = Handle::try_current().map_err(|error| Error::Start(error.to_string()))?;
        let socket_dir = config.socket_dir.display().to_string();
        config.socket_dir = worker::create_socket_dir(&config.socket_dir)
            .map_err(|error| Error::Start(format!("{socket_dir}: {error}")))?;
        let spawner = Spawner::start(runtime.clone()).map_err(|error| Error::Start(error.to_string()))?;
        let environments = Environments::new(&config.cache_dir).map_err(|error| Error::Start(error.to_string()))?;
        let (parents, pools, metrics) = Default::default();
        let (breaker, idle) = (Breaker::new(config.rest), config.idle);
        let inner = Inner { config, environments, spawner, runtime, parents, pools, metrics, breaker };
        let inner = Arc::new(inner);
        inner.runtime.spawn(end_idle(Arc::downgrade(&inner), idle));
        Ok(Self { inner })
    }

    /// Builds the modules' environments, imports the modules and forks a worker of each, so that the first alert finds
    /// them warm and a module that cannot run is told now.
    pub async fn prepare(&self, modules: &[Arc<Module>]) -> Result<(), Error> {
        for module in modules {
            let (inner, module) = (Arc::clone(&self.inner), Arc::clone(module));
            self.on_runtime(async move { inner.pool(&module).await?.warm().await }).await?;
        }
        Ok(())
    }

    /// Evaluates a module on rows: one column per input, in order, of types that cast to the declared ones.
    ///
    /// What fails for single rows is in the result. An error means that the module cannot run at all. A call that is
    /// dropped before it ends kills the worker that was busy with it.
    ///
    /// `epoch` says which rows belong together when the module is judged by the rows that it failed on.
    pub async fn evaluate(&self, module: &Arc<Module>, args: &RecordBatch, epoch: i64) -> Result<Evaluated, Error> {
        let (inner, module, args) = (Arc::clone(&self.inner), Arc::clone(module), args.clone());
        self.on_runtime(async move { inner.evaluate(&module, args, epoch).await }).await
    }

    /// Where environments and deployed modules are kept.
    pub fn cache_dir(&self) -> &std::path::Path {
        &self.inner.config.cache_dir
    }

    /// What each module has done so far, by name.
    pub fn metrics(&self) -> BTreeMap<String, Metrics> {
        let mut all = self.inner.metrics.read();
        for pool in self.inner.pools() {
            if let Some(metrics) = all.get_mut(&pool.module().name) {
                metrics.resting = metrics.resting.take().or_else(|| self.inner.breaker.reason(&key(pool.module())));
            }
        }
        all
    }

    /// Process ids of the workers that are up and idle.
    pub fn idle_workers(&self) -> Vec<u32> {
        self.inner.pools().iter().flat_map(|pool| pool.idle_pids()).collect()
    }

    // Sockets and timers belong to the host's runtime: tasks of the engine may run on another one without them.
    async fn on_runtime<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let mut task = AbortOnDrop(self.inner.runtime.spawn(work));
        (&mut task.0).await.unwrap_or_else(|error| Err(Error::Start(format!("its runtime has ended: {error}"))))
    }
}

struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A module as it is now: another version of it has workers and a judgement of its own.
fn key(module: &Module) -> String {
    format!("{} {}", module.name, module.fingerprint)
}

/// Ends idle workers until the host is gone.
async fn end_idle(inner: Weak<Inner>, idle: Duration) {
    loop {
        tokio::time::sleep(idle / 4).await;
        let Some(inner) = inner.upgrade() else { return };
        inner.pools().iter().for_each(|pool| pool.end_idle(idle));
    }
}

impl Inner {
    fn pools(&self) -> Vec<Arc<Pool>> {
        self.pools.lock().values().filter_map(|cell| cell.get().cloned()).collect()
    }

    async fn pool(&self, module: &Arc<Module>) -> Result<Arc<Pool>, Error> {
        let cell = Arc::clone(self.pools.lock().entry(key(module)).or_default());
        let pool = cell.get_or_try_init(|| async {
            let parent = self.parent(module).await?;
            Ok(Arc::new(Pool::new(module.clone(), parent, self.config.workers_per_module)))
        });
        pool.await.cloned()
    }

    async fn parent(&self, module: &Module) -> Result<Parent, Error> {
        let cell = Arc::clone(self.parents.lock().entry(ParentKey::of(module)).or_default());
        let parent = cell.get_or_try_init(|| async {
            let (environments, wanted) = (self.environments.clone(), module.environment.clone());
            let failed = |source| Error::Environment { module: module.name.clone(), source };
            let paths = tokio::task::spawn_blocking(move || {
                Ok((environments.interpreter(&wanted)?, environments.worker_path()?))
            });
            let (interpreter, python_path) =
                paths.await.map_err(|error| Error::Start(error.to_string()))?.map_err(failed)?;
            Ok(Parent::new(parent::Start {
                interpreter,
                python_path,
                socket_dir: self.config.socket_dir.clone(),
                network: module.network,
                timeout: self.config.start_timeout,
                spawner: self.spawner.clone(),
            }))
        });
        parent.await.cloned()
    }
}

#[cfg(test)]
mod tests;
