//! How an executor is set up: plain values, and the parts that only code can give.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ballista_core::extension::ballista_scalar_functions;
use ballista_core::registry::BallistaFunctionRegistry;
use ballista_core::{ConfigProducer, RuntimeProducer};
use datafusion::logical_expr::ScalarUDF;
use datafusion_proto::logical_plan::LogicalExtensionCodec;
use datafusion_proto::physical_plan::PhysicalExtensionCodec;

#[derive(Debug, Clone)]
pub struct Config {
    /// Host of the scheduler.
    pub scheduler_host: String,
    pub scheduler_port: u16,
    /// How long to look for the scheduler before giving up.
    pub scheduler_timeout: Duration,
    /// Address of the interface to listen on.
    pub bind: IpAddr,
    /// Port that serves results. 0 takes a free one.
    pub port: u16,
    /// Port that takes tasks. 0 takes a free one.
    pub grpc_port: u16,
    /// The host by which others reach this executor; by default the one that the scheduler sees.
    pub advertise_host: Option<String>,
    /// Only queries of this group, or of none, run here.
    pub group: String,
    /// Tasks at a time. 0: as many as there are cores.
    pub vcores: usize,
    /// Holds results until they are fetched, in a folder of its own per executor that is removed when it stops.
    pub work_dir: PathBuf,
    /// Bounds what operators may hold in all, each vcore an equal share; then they spill or fail. None: unbounded.
    pub memory_bytes: Option<usize>,
    /// Between two heartbeats.
    pub heartbeat: Duration,
    /// Largest message between processes, as of the scheduler.
    pub max_message_bytes: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            scheduler_host: "localhost".into(),
            scheduler_port: 50050,
            scheduler_timeout: Duration::from_secs(60),
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 0,
            grpc_port: 0,
            advertise_host: None,
            group: "live".into(),
            vcores: 0,
            work_dir: std::env::temp_dir().join("redpoll"),
            memory_bytes: None,
            heartbeat: Duration::from_secs(3),
            max_message_bytes: 256 << 20,
        }
    }
}

/// What the caller brings: how tasks find their options, stores and functions, and how nodes and tables travel.
#[derive(Clone)]
pub struct Parts {
    /// Options of a task before the query's own, with the caller's extensions registered.
    pub session_config: ConfigProducer,
    /// Makes what tasks of a session share: object stores, caches, spill files. The memory pool is this crate's.
    pub runtime: RuntimeProducer,
    /// The caller's functions, beside those that the engine knows.
    pub functions: Vec<Arc<ScalarUDF>>,
    pub logical_codec: Arc<dyn LogicalExtensionCodec>,
    pub physical_codec: Arc<dyn PhysicalExtensionCodec>,
}

impl Parts {
    /// All functions by name. The engine's own default lacks the nested ones.
    pub(crate) fn registry(&self) -> BallistaFunctionRegistry {
        let mut registry = BallistaFunctionRegistry::default();
        for function in ballista_scalar_functions().into_iter().chain(self.functions.iter().cloned()) {
            registry.scalar_functions.insert(function.name().to_owned(), function);
        }
        registry
    }
}
