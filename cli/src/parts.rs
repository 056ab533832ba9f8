//! What scheduler and executors must agree on: functions, object stores, and how nodes and tables travel.

use std::sync::Arc;

use ballista_core::extension::{
    SessionConfigExt, ballista_aggregate_functions, ballista_scalar_functions, ballista_window_functions,
};
use ballista_core::optimizer::ballista_default_optimizer_rules;
use ballista_core::serde::{BallistaLogicalExtensionCodec, BallistaPhysicalExtensionCodec};
use datafusion::error::Result;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::ScalarUDF;
use datafusion::prelude::SessionConfig;
use datafusion_proto::logical_plan::LogicalExtensionCodec;
use datafusion_proto::physical_plan::PhysicalExtensionCodec;
use redpoll_core::codec::{NodeCodec, TableCodec, WithNodes, WithTables};
use redpoll_core::objects::Stores;

#[derive(Clone)]
pub struct Parts {
    pub stores: Arc<Stores>,
    pub functions: Vec<Arc<ScalarUDF>>,
    pub nodes: Arc<dyn NodeCodec>,
    pub tables: Arc<dyn TableCodec>,
}

impl Parts {
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

/// Surveys use camelCase, so identifiers keep their case.
fn session_config() -> SessionConfig {
    SessionConfig::new_with_ballista().set_bool("datafusion.sql_parser.enable_ident_normalization", false)
}

fn session_state(
    config: SessionConfig,
    runtime: Arc<RuntimeEnv>,
    functions: &[Arc<ScalarUDF>],
) -> Result<SessionState> {
    let scalar = ballista_scalar_functions().into_iter().chain(functions.iter().cloned()).collect();
    let state = SessionStateBuilder::new()
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
