//! `Enrich`: one call of a science module, on the rows that want it.
//!
//! Wanted are the rows that the view kept and that pass the module's own `where`. Rows are collected over several
//! input batches, and batches are cut, until there are as many as the module wants for one call, since a call has a fixed
//! cost. While workers compute, further input is read. A module that fails on a row costs its own value: null, and an
//! entry in `redpoll_notes`. A second column tells the rows that are set aside from nulls that are meant: whatever uses
//! the value leaves them out. Set aside are those on which an argument or the `where` errs, and where the module says so
//! those that it fails on.

mod gather;
mod put_back;
mod shadow;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, new_empty_array};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::common::runtime::SpawnedTask;
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};

use super::{Parts, Step, StepContext, failed, internal};
use crate::ledger::ModuleCounts;
use crate::runtime::Version;
use gather::{Gathering, Rows};
use put_back::PutBack;

/// Calls of one step under way while it reads on.
const IN_FLIGHT: usize = 2;

/// A call of a module in a view.
#[derive(Debug, Clone)]
pub struct Enrich {
    params: Params,
    /// The module's arguments, then its `where` if it has one.
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    schema: SchemaRef,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Params {
    version: Version,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shadow: Option<Version>,
    /// Name of the column that the values become.
    column: String,
    inputs: Vec<String>,
    mask: Option<String>,
    gated: bool,
    /// Whether rows on which it fails are told apart.
    sets_aside: bool,
    /// Rows and bytes to collect for one call.
    batch_rows: usize,
    batch_bytes: usize,
}

/// What a module is, as far as the plan is concerned.
#[derive(Debug, Clone)]
pub struct Call {
    pub version: Version,
    /// Called beside it and compared with it.
    pub shadow: Option<Version>,
    pub column: String,
    /// Name and value of each input.
    pub arguments: Vec<(String, Arc<dyn PhysicalExpr>)>,
    pub gate: Option<Arc<dyn PhysicalExpr>>,
    pub returns: DataType,
    /// Whether alerts on which it fails are set aside.
    pub sets_aside: bool,
    pub batch_rows: usize,
    pub batch_bytes: usize,
}

/// Name of the column that says which rows are set aside, by that of the value or mask that they lack.
pub fn failed_column(column: &str) -> String {
    format!("_failed{column}")
}

impl Enrich {
    /// Calls the module on the rows of `mask`, a column of `input`.
    pub fn new(call: Call, mask: Option<String>, input: &SchemaRef) -> Self {
        let value = Arc::new(Field::new(&call.column, call.returns, true));
        let failed = Arc::new(Field::new(failed_column(&call.column), DataType::Boolean, false));
        let fields = input.fields().iter().cloned().chain([value, failed]);
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let (inputs, mut exprs): (Vec<_>, Vec<_>) = call.arguments.into_iter().unzip();
        let gated = call.gate.is_some();
        exprs.extend(call.gate);
        let params = Params {
            version: call.version,
            shadow: call.shadow,
            column: call.column,
            inputs,
            mask,
            gated,
            sets_aside: call.sets_aside,
            batch_rows: call.batch_rows,
            batch_bytes: call.batch_bytes,
        };
        Self { params, exprs, schema }
    }

    pub(super) fn from_parts(parts: &Parts) -> Result<Self> {
        let params = serde_json::from_str(&parts.params).map_err(|error| internal(error.to_string()))?;
        let schema = parts.schemas.first().ok_or_else(|| internal("Enrich has a schema"))?.clone();
        Ok(Self { params, exprs: parts.exprs.clone(), schema })
    }
}

impl Step for Enrich {
    fn name(&self) -> &'static str {
        "Enrich"
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn describe(&self) -> String {
        let arguments: Vec<_> = self.exprs.iter().take(self.params.inputs.len()).map(|e| e.to_string()).collect();
        let gate = self.exprs.last().filter(|_| self.params.gated).map(|e| format!(" where={e}")).unwrap_or_default();
        let mask = self.params.mask.as_deref().unwrap_or("all rows");
        format!(
            "{}({}) on={mask}{gate} batch={}",
            self.params.version.module,
            arguments.join(", "),
            self.params.batch_rows
        )
    }

    fn parts(&self) -> Result<Parts> {
        let params = serde_json::to_string(&self.params).map_err(|error| internal(error.to_string()))?;
        Ok(Parts { params, exprs: self.exprs.clone(), schemas: vec![self.schema.clone()] })
    }

    fn run(&self, input: SendableRecordBatchStream, context: StepContext) -> Result<SendableRecordBatchStream> {
        let gathering = Gathering::new(self, &input.schema())?;
        let (step, run) = (Arc::new(self.clone()), context.run.clone());
        let calls = gathering.calls(input, run).map_ok(move |rows| {
            // Begun at once: who is asked for the next call reads input first, which is work of its own.
            let (step, context) = (step.clone(), context.clone());
            let call = SpawnedTask::spawn(async move { step.call(rows, &context).await });
            async move { call.await.map_err(|error| failed(format!("a module's call ended: {error}")))? }
        });
        let batches = calls.try_buffered(IN_FLIGHT).map_ok(|batches| stream::iter(batches.into_iter().map(Ok)));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), batches.try_flatten().boxed())))
    }
}

impl Enrich {
    async fn call(&self, rows: Vec<Rows>, context: &StepContext) -> Result<Vec<RecordBatch>> {
        let Some(first) = rows.first() else { return Ok(Vec::new()) };
        let arguments = concat_batches(&first.arguments.schema(), rows.iter().map(|rows| &rows.arguments))?;
        let value = self.schema.field_with_name(&self.params.column)?.data_type();
        let (values, failures) = match arguments.num_rows() {
            0 => (new_empty_array(value), BTreeMap::new()),
            _ => {
                let Params { version, shadow, .. } = &self.params;
                let epoch = epoch(&first.batch);
                let for_shadow = shadow.is_some().then(|| arguments.clone());
                let evaluated = context.runtime.evaluate(version, epoch, arguments).await.map_err(failed)?;
                if let (Some(shadow), Some(arguments)) = (shadow, for_shadow) {
                    let beside = context.runtime.evaluate(shadow, epoch, arguments).await;
                    let found = shadow::compare(shadow, &evaluated.values, beside);
                    context.run.counts().shadows.entry(shadow.module.clone()).or_default().add(&found);
                }
                let n_failed = evaluated.failures.len() as u64;
                let null = (evaluated.values.null_count() as u64).saturating_sub(n_failed);
                self.count(&ModuleCounts { null, failed: n_failed, ..evaluated.took }, context);
                (evaluated.values, evaluated.failures.into_iter().collect())
            }
        };
        let Params { version, sets_aside, .. } = &self.params;
        PutBack { module: &version.module, schema: &self.schema, sets_aside: *sets_aside, failures }.all(rows, &values)
    }

    fn count(&self, more: &ModuleCounts, context: &StepContext) {
        let (mut counts, module) = (context.run.counts(), &self.params.version.module);
        counts.modules.entry(module.clone()).or_default().add(more);
        if more.failed > 0 {
            *counts.failures.entry(module.clone()).or_default() += more.failed;
        }
    }
}

/// Of the rows of a batch, which are all of one.
fn epoch(batch: &RecordBatch) -> i64 {
    let epochs = batch.column_by_name("_epoch").and_then(|column| column.as_primitive_opt::<Int64Type>());
    epochs.filter(|epochs| !epochs.is_empty() && epochs.is_valid(0)).map_or(0, |epochs| epochs.value(0))
}

#[cfg(test)]
mod tests;
