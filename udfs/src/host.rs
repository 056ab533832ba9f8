//! Runs science modules in Python processes beside the executor.
//!
//! Each environment has a pool of long-lived workers. A call takes a free worker, sends it the arguments as Arrow
//! IPC over a Unix socket and gets one column back, with the rows that failed. A worker that dies or takes too long
//! costs at most the rows that killed it: the batch is sent again to a new worker, then halved until those rows
//! stand alone. That search is bounded; a module that exhausts it rests, and its rows fail at once meanwhile.
//!
//! Workers end with the host: they are killed when it is dropped, and by the kernel when its process dies.

mod assemble;
mod breaker;
mod evaluate;
mod frames;
mod metrics;
mod output;
mod pool;
mod spawner;
mod worker;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
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
use pool::{Pool, PoolKey};
use spawner::Spawner;

/// How the host runs its workers.
#[derive(Debug, Clone)]
pub struct HostConfig {
    /// Where environments are kept between runs.
    pub cache_dir: PathBuf,
    /// Where the workers' sockets are; short, for the path of a socket has at most 107 bytes.
    pub socket_dir: PathBuf,
    /// Worker processes of each environment; calls beyond them wait, in order of arrival.
    pub workers_per_environment: usize,
    /// Longest time from the start of a worker until it has connected, and for importing one module.
    pub start_timeout: Duration,
    /// How often a batch is sent before it is halved to find the rows that kill workers.
    pub tries: u32,
    /// Most workers that one call may lose; then all its rows still in doubt fail, and the module rests.
    pub max_restarts: u32,
    /// Longest time for finding the rows that kill workers, with the same end.
    pub max_search: Duration,
    /// How long a module rests that exhausted either limit.
    pub rest: Duration,
}

impl HostConfig {
    /// One worker per environment, a minute to start, two tries; at most 32 lost workers and two minutes of search
    /// per call, then a minute of rest.
    pub fn new(cache_dir: impl Into<PathBuf>) -> Self {
        Self {
            cache_dir: cache_dir.into(),
            socket_dir: std::env::temp_dir().join(format!("redpoll-{}", std::process::id())),
            workers_per_environment: 1,
            start_timeout: Duration::from_secs(60),
            tries: 2,
            max_restarts: 32,
            max_search: Duration::from_secs(120),
            rest: Duration::from_secs(60),
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
    pools: Mutex<HashMap<PoolKey, Arc<OnceCell<Arc<Pool>>>>>,
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
        let (pools, metrics, breaker) = Default::default();
        Ok(Self { inner: Arc::new(Inner { config, environments, spawner, runtime, pools, metrics, breaker }) })
    }

    /// Builds the modules' environments, starts all workers and imports the modules, so that the first alert finds
    /// them warm and a module that cannot run is told now.
    pub async fn prepare(&self, modules: &[Arc<Module>]) -> Result<(), Error> {
        for module in modules {
            let (inner, module) = (Arc::clone(&self.inner), Arc::clone(module));
            self.on_runtime(async move { inner.pool(&module).await?.warm(&module).await }).await?;
        }
        Ok(())
    }

    /// Evaluates a module on rows: one column per input, in order, of types that cast to the declared ones.
    ///
    /// What fails for single rows is in the result. An error means that the module cannot run at all. A call that is
    /// dropped before it ends kills the worker that was busy with it.
    pub async fn evaluate(&self, module: &Arc<Module>, args: &RecordBatch) -> Result<Evaluated, Error> {
        let (inner, module, args) = (Arc::clone(&self.inner), Arc::clone(module), args.clone());
        self.on_runtime(async move { inner.evaluate(&module, args).await }).await
    }

    /// Where environments and deployed modules are kept.
    pub fn cache_dir(&self) -> &std::path::Path {
        &self.inner.config.cache_dir
    }

    /// What each module has done so far, by name.
    pub fn metrics(&self) -> BTreeMap<String, Metrics> {
        self.inner.metrics.read()
    }

    /// Process ids of the workers that are up and idle.
    pub fn idle_workers(&self) -> Vec<u32> {
        let pools: Vec<_> = self.inner.pools.lock().values().filter_map(|cell| cell.get().cloned()).collect();
        pools.iter().flat_map(|pool| pool.idle_pids()).collect()
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

impl Inner {
    async fn pool(&self, module: &Module) -> Result<Arc<Pool>, Error> {
        let key = PoolKey::of(module);
        let cell = Arc::clone(self.pools.lock().entry(key).or_default());
        let pool = cell.get_or_try_init(|| async {
            let (environments, wanted) = (self.environments.clone(), module.environment.clone());
            let failed = |source| Error::Environment { module: module.name.clone(), source };
            let paths = tokio::task::spawn_blocking(move || {
                Ok((environments.interpreter(&wanted)?, environments.worker_path()?))
            });
            let (interpreter, python_path) =
                paths.await.map_err(|error| Error::Start(error.to_string()))?.map_err(failed)?;
            let start = worker::Start {
                interpreter,
                python_path,
                socket_dir: self.config.socket_dir.clone(),
                memory_limit_mb: module.memory_limit_mb,
                timeout: self.config.start_timeout,
                spawner: self.spawner.clone(),
            };
            Ok(Arc::new(Pool::new(start, self.config.workers_per_environment)))
        });
        pool.await.cloned()
    }
}

#[cfg(test)]
mod tests;
