//! What the scheduler offers beside the engine: jobs, SQL over the warehouse, the ledger. REST is a thin layer on it.

mod audit;
mod begin;
mod catalog;
mod deployed;
mod filters;
mod growth;
mod jobs;
mod modules;
mod outboxes;
mod readiness;
mod replays;
mod rest;
mod sql;
mod surroundings;
mod swaps;
mod vetting;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, RwLock};

use async_trait::async_trait;
use datafusion::logical_expr::ScalarUDF;
use object_store::ObjectStore;
use object_store::path::Path;
use redpoll_core::objects::{Location, Stores};
use redpoll_udfs::registry::{Deployed, Registry, State};
use tokio::sync::{Mutex, watch};

use crate::coordinator::{Revision, Status, Trouble, sweep};
use crate::engine::Engine;
use crate::pipeline::Problems;

pub use audit::{DEFAULT_LIMIT, Finding, Kind, Question, Report, SinkSums};
pub use catalog::{Table, TableCatalog};
use deployed::Current;
pub use filters::{FilterRequest, Yield};
pub use jobs::{Request, read_ledger};
pub use modules::{Known, Outcome, Wanting};
use readiness::Readiness;
pub use readiness::{Attendance, Awaited};
pub use replays::Wanted;
pub use rest::routes;

/// What the service is made of.
#[derive(Clone)]
pub struct Config {
    /// URL or path of the warehouse.
    pub warehouse: String,
    /// Name of this scheduler in the logs of its jobs.
    pub name: String,
    /// Address of the cluster's store of wide-column tables, `host:port`.
    pub store: Option<String>,
    /// Where environments of modules are built, to check them before a job starts.
    pub cache: PathBuf,
    /// How the logs of jobs are kept short.
    pub upkeep: sweep::Config,
    /// How other schedulers are asked.
    pub peers: Arc<dyn Peers>,
}

/// Other schedulers of the warehouse.
#[async_trait]
pub trait Peers: Send + Sync {
    /// What the scheduler at `address` says of a job; nothing if it does not know it, or does not answer within a few
    /// seconds.
    async fn job(&self, address: &str, name: &str) -> Option<Status>;
}

/// What becomes of the jobs of the warehouse that nobody stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// A new scheduler takes them up.
    AllJobs,
    /// A process that only asks leaves them to their scheduler.
    Nothing,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Service {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    warehouse: Location,
    stores: Arc<Stores>,
    functions: Vec<Arc<ScalarUDF>>,
    /// Modules that this process was started with.
    registry: Registry,
    /// What is deployed to the warehouse.
    deployed: Deployed,
    current: RwLock<Arc<Current>>,
    /// One deployment at a time is taken over.
    deploying: Mutex<()>,
    /// Which executors have which versions of modules ready.
    readiness: Readiness,
    engine: OnceLock<Engine>,
    jobs: Mutex<BTreeMap<String, jobs::Running>>,
    /// Who sends the messages of jobs, by job and table.
    outboxes: Mutex<BTreeMap<(String, String), outboxes::Sending>>,
    /// Jobs that are to be taken up and cannot be yet, with the reason.
    waiting: Mutex<BTreeMap<String, Trouble>>,
    /// Why this scheduler has nothing left to do, once another one has its jobs.
    fenced: watch::Sender<Option<String>>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Pipeline(#[from] Problems),
    #[error("there is no job '{0}'; `redpoll jobs` lists them")]
    NoJob(String),
    #[error("job '{0}' is running; stop it first, or give this one another --name")]
    Running(String),
    #[error("job '{0}' is just beginning or ending; ask again")]
    Busy(String),
    #[error(
        "job '{job}' is run by scheduler {scheduler} at {address}; stop it there (`redpoll stop {job} --scheduler \
         {address}`), or give this one another --name"
    )]
    Taken { job: String, scheduler: String, address: String },
    #[error("rows would differ from now on: show what changes to whoever asks, and send it back as `confirmed`")]
    Unconfirmed(Box<Revision>),
    #[error("{0}")]
    Refused(String),
    #[error("{what}: {reason}")]
    Failed { what: String, reason: String },
}

impl Error {
    fn failed(what: impl Into<String>, reason: impl ToString) -> Self {
        Self::Failed { what: what.into(), reason: reason.to_string() }
    }
}

impl Service {
    /// Nothing is started; [`Service::attach`] gives it the engine once that listens.
    pub fn new(
        config: Config,
        stores: Arc<Stores>,
        functions: Vec<Arc<ScalarUDF>>,
        registry: Registry,
    ) -> Result<Self, Error> {
        let warehouse = stores.locate(&config.warehouse).map_err(|error| Error::failed("warehouse", error))?;
        let deployed = Deployed::of(&stores, &config.warehouse).map_err(|error| Error::failed("warehouse", error))?;
        let current = Current { state: State::default(), registry: registry.clone() };
        let inner = Inner {
            config,
            warehouse,
            stores,
            functions,
            registry,
            deployed,
            current: RwLock::new(Arc::new(current)),
            deploying: Mutex::default(),
            readiness: Readiness::default(),
            engine: OnceLock::new(),
            jobs: Mutex::default(),
            outboxes: Mutex::default(),
            waiting: Mutex::default(),
            fenced: watch::Sender::new(None),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Gives the service its engine.
    pub async fn attach(&self, engine: Engine, resume: Resume) -> Result<(), Error> {
        if self.inner.engine.set(engine).is_err() {
            return Err(Error::Refused("the service has an engine already".to_owned()));
        }
        self.watch_deployments();
        match resume {
            Resume::AllJobs => self.resume().await,
            Resume::Nothing => Ok(()),
        }
    }

    fn engine(&self) -> Result<&Engine, Error> {
        self.inner.engine.get().ok_or_else(|| Error::Refused("the scheduler is still starting".to_owned()))
    }

    fn objects(&self) -> (&Arc<dyn ObjectStore>, &Path) {
        (&self.inner.warehouse.store, &self.inner.warehouse.path)
    }
}
