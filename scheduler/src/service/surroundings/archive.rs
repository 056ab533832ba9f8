//! Archive tables: nothing to set, and rows that a table which is there must be able to take.

use datafusion::arrow::datatypes::SchemaRef;
use redpoll_connectors::delta;
use redpoll_connectors::sinks::archive_schema;
use redpoll_core::sink::SinkSpec;

use super::unknown;
use crate::pipeline::{At, Finding};

pub(super) fn options(spec: &SinkSpec) -> Vec<Finding> {
    unknown(spec.options.keys(), &[], "a DELTA table")
}

pub(super) async fn rows(spec: &SinkSpec, rows: &[SchemaRef]) -> Vec<Finding> {
    let url = match delta::location(&spec.url) {
        Ok(url) => url,
        Err(error) => return vec![Finding::problem(At::Declaration, error)],
    };
    let schemas: Vec<SchemaRef> = rows.iter().map(|rows| archive_schema(rows)).collect();
    let clashes = delta::inspect(&url, &schemas, &spec.partition_by).await;
    clashes.into_iter().map(|clash| Finding::problem(clash.query.map_or(At::Table, At::Insert), clash.error)).collect()
}
