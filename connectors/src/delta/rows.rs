//! The rows of a table read in this process, without a cluster: of the files that the caller wants, the columns that it
//! names.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::{SessionConfig, SessionContext};
use url::Url;

use super::{Error, Provider};

/// Reads the newest version. `wanted` is asked by the name of a file without folders. Columns that the table lacks are
/// left out.
pub async fn rows(
    url: &Url,
    columns: &[&str],
    wanted: impl Fn(&str) -> bool + Send + Sync + 'static,
) -> Result<SendableRecordBatchStream, Error> {
    let provider = Provider::open(url, None).await?.of_files(Arc::new(wanted));
    let plan_error = |source| Error::Plan { url: url.to_string(), source: Box::new(source) };
    let schema = provider.schema();
    let projection: Vec<usize> = columns.iter().filter_map(|name| schema.index_of(name).ok()).collect();
    let mut config = SessionConfig::new();
    config.options_mut().execution.parquet.schema_force_view_types = false;
    let context = SessionContext::new_with_config(config);
    let plan = provider.scan(&context.state(), Some(&projection), &[], None).await.map_err(plan_error)?;
    execute_stream(plan, context.task_ctx()).map_err(plan_error)
}
