//! An epoch's plan as the engine takes it: a table whose scan is the plan that we made.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::provider_as_source;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableType};
use datafusion::physical_plan::ExecutionPlan;

#[derive(Debug)]
struct EpochTable {
    plan: Arc<dyn ExecutionPlan>,
}

/// A logical plan that is planned to `plan`.
pub(crate) fn logical(plan: Arc<dyn ExecutionPlan>) -> Result<LogicalPlan> {
    let source = provider_as_source(Arc::new(EpochTable { plan }));
    LogicalPlanBuilder::scan("epoch", source, None)?.build()
}

#[async_trait]
impl TableProvider for EpochTable {
    fn schema(&self) -> SchemaRef {
        self.plan.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        _: &dyn Session,
        _: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self.plan.clone())
    }
}
