//! A wide-column table for SQL.
//!
//! Its columns are `_row_key` and the table's cells. A filter on the row key, or one that fixes the first columns of it,
//! becomes ranges of keys, so that only their rows are read; `EXPLAIN` shows them.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::project_schema;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;

use super::key_range::Keys;
use super::{Backend, Catalog, Error, ScanExec, connect};

/// The column that holds the row key.
pub const ROW_KEY: &str = "_row_key";

/// A table of a store, as its catalog describes it at the time of [`Provider::open`].
#[derive(Debug)]
pub struct Provider {
    address: String,
    table: String,
    backend: Arc<dyn Backend>,
    catalog: Catalog,
    schema: SchemaRef,
}

impl Provider {
    /// Opens a table of the store at `address` (`store://host:port`), which every executor must reach.
    pub async fn open(address: &str, table: &str) -> Result<Provider, Error> {
        let backend = connect(address)?;
        let catalog = Catalog::of(backend.as_ref(), table).await?;
        let schema = Arc::new(catalog.schema());
        Ok(Provider { address: address.into(), table: table.into(), backend, catalog, schema })
    }

    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }
}

#[async_trait]
impl TableProvider for Provider {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        // A prefix of the key can be that of another object too (`a` and `a_b`), so the filter stays above the scan.
        let support = |filter: &&Expr| match Keys::is_exact(filter) {
            true => TableProviderFilterPushDown::Exact,
            false => TableProviderFilterPushDown::Inexact,
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = project_schema(&self.schema, projection)?;
        let mut parts = Vec::new();
        for range in (Keys { catalog: &self.catalog }).ranges(filters) {
            parts.extend(self.backend.parts(&self.table, range).await?);
        }
        if parts.is_empty() {
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let all = 0..self.schema.fields().len();
        let projected = projection.cloned().unwrap_or_else(|| all.collect());
        // Column 0 is the key; it is read with every row.
        let columns = projected.iter().map(|i| i.checked_sub(1).map(|i| self.catalog.columns[i].clone()));
        let n_partitions = state.config().target_partitions();
        ScanExec::plan(&self.address, &self.table, columns.collect(), &parts, limit, n_partitions)
    }
}
