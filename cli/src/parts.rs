//! What scheduler and executors must agree on: functions, object stores, and how nodes and tables travel.

use std::sync::Arc;

use ballista_core::extension::{
    SessionConfigExt, ballista_aggregate_functions, ballista_scalar_functions, ballista_window_functions,
};
use ballista_core::optimizer::ballista_default_optimizer_rules;
use ballista_core::serde::{BallistaLogicalExtensionCodec, BallistaPhysicalExtensionCodec};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::common::TableReference;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::ScalarUDF;
use datafusion::prelude::SessionConfig;
use datafusion_proto::logical_plan::LogicalExtensionCodec;
use datafusion_proto::physical_plan::PhysicalExtensionCodec;
use redpoll_connectors::nodes::Nodes;
use redpoll_core::codec::{NodeCodec, TableCodec, WithNodes, WithTables};
use redpoll_core::objects::Stores;
use redpoll_core::runtime::Runtime;
use redpoll_scheduler::pipeline::session;
use redpoll_udfs::functions::StructPaths;

/// Plans are made where the tables are known, so no table travels.
#[derive(Debug)]
struct NoTables;

impl TableCodec for NoTables {
    fn encode(&self, _: &TableReference, _: &dyn TableProvider) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }

    fn decode(&self, _: &[u8], name: &TableReference, _: SchemaRef, _: &TaskContext) -> Result<Arc<dyn TableProvider>> {
        Err(DataFusionError::Internal(format!("table {name} came in a plan: send SQL to /v1/sql instead")))
    }
}

#[derive(Clone)]
pub struct Parts {
    pub stores: Arc<Stores>,
    pub functions: Vec<Arc<ScalarUDF>>,
    pub nodes: Arc<dyn NodeCodec>,
    pub tables: Arc<dyn TableCodec>,
}

impl Parts {
    /// The parts of a process of ours; only executors have a runtime.
    pub fn new(stores: Arc<Stores>, runtime: Option<Arc<dyn Runtime>>) -> Self {
        let nodes = Arc::new(Nodes::new(runtime));
        Self { stores, functions: redpoll_udfs::functions::all(), nodes, tables: Arc::new(NoTables) }
    }

    pub fn engine(&self) -> Result<redpoll_scheduler::engine::Parts> {
        let (functions, runtime) = (self.functions.clone(), self.runtime()?);
        Ok(redpoll_scheduler::engine::Parts {
            session_config: Arc::new(session_config),
            session_state: Arc::new(move |config| session_state(config, runtime.clone(), &functions)),
            logical_codec: self.logical_codec(),
            physical_codec: self.physical_codec(),
        })
    }

    pub fn executor(&self) -> Result<redpoll_executor::Parts> {
        let runtime = self.runtime()?;
        Ok(redpoll_executor::Parts {
            session_config: Arc::new(session_config),
            runtime: Arc::new(move |_| Ok(runtime.clone())),
            functions: self.functions.clone(),
            logical_codec: self.logical_codec(),
            physical_codec: self.physical_codec(),
        })
    }

    fn runtime(&self) -> Result<Arc<RuntimeEnv>> {
        RuntimeEnvBuilder::new().with_object_store_registry(self.stores.clone()).build_arc()
    }

    fn logical_codec(&self) -> Arc<dyn LogicalExtensionCodec> {
        Arc::new(WithTables { inner: BallistaLogicalExtensionCodec::default(), tables: self.tables.clone() })
    }

    fn physical_codec(&self) -> Arc<dyn PhysicalExtensionCodec> {
        Arc::new(WithNodes { inner: BallistaPhysicalExtensionCodec::default(), nodes: self.nodes.clone() })
    }
}

fn session_config() -> SessionConfig {
    session::configure(SessionConfig::new_with_ballista())
}

fn session_state(
    config: SessionConfig,
    runtime: Arc<RuntimeEnv>,
    functions: &[Arc<ScalarUDF>],
) -> Result<SessionState> {
    let scalar = ballista_scalar_functions().into_iter().chain(functions.iter().cloned()).collect();
    let state = SessionStateBuilder::new()
        .with_expr_planners(vec![Arc::new(StructPaths)])
        .with_default_features()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_optimizer_rules(ballista_default_optimizer_rules())
        .with_scalar_functions(scalar)
        .with_aggregate_functions(ballista_aggregate_functions())
        .with_window_functions(ballista_window_functions())
        .build();
    Ok(state)
}
