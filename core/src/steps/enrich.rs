//! `Enrich`: one call of a science module, on the rows that want it.
//!
//! Wanted are the rows that the view kept and that pass the module's own `where`. Rows are collected over several
//! input batches until there are enough for one call, since a call has a fixed cost. A module that fails on a row costs
//! its own value: null, and an entry in `redpoll_notes`. A module that sets such alerts aside adds a second column, which
//! tells them from nulls that it means: whatever uses its value leaves them out.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, MapBuilder, RecordBatch, StringBuilder};
use arrow::compute::{and, concat_batches};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use super::mask::{mask_of, scatter, select};
use super::{Parts, Step, StepContext, failed, internal, notes_field};
use crate::runtime::Version;

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

/// Name of the column that says on which rows a module failed, by that of its value.
pub fn failed_column(column: &str) -> String {
    format!("_failed{column}")
}

impl Enrich {
    /// Calls the module on the rows of `mask`, a column of `input`.
    pub fn new(call: Call, mask: Option<String>, input: &SchemaRef) -> Self {
        let value = Arc::new(Field::new(&call.column, call.returns, true));
        let failed =
            call.sets_aside.then(|| Arc::new(Field::new(failed_column(&call.column), DataType::Boolean, false)));
        let fields = input.fields().iter().cloned().chain([value]).chain(failed);
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let (inputs, mut exprs): (Vec<_>, Vec<_>) = call.arguments.into_iter().unzip();
        let gated = call.gate.is_some();
        exprs.extend(call.gate);
        let params = Params {
            version: call.version,
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
        format!("{}({}) on={mask}{gate} batch={}", self.params.version.module, arguments.join(", "), self.params.batch_rows)
    }

    fn parts(&self) -> Result<Parts> {
        let params = serde_json::to_string(&self.params).map_err(|error| internal(error.to_string()))?;
        Ok(Parts { params, exprs: self.exprs.clone(), schemas: vec![self.schema.clone()] })
    }

    fn run(&self, mut input: SendableRecordBatchStream, context: StepContext) -> Result<SendableRecordBatchStream> {
        let step = self.clone();
        let schema = self.schema.clone();
        let batches = async_stream::try_stream! {
            let (mut pending, mut rows, mut bytes) = (Vec::new(), 0, 0);
            while let Some(batch) = input.try_next().await? {
                let (wanted, arguments) = step.arguments(&batch)?;
                rows += arguments.num_rows();
                bytes += batch.get_array_memory_size();
                pending.push((batch, wanted, arguments));
                if rows >= step.params.batch_rows || bytes >= step.params.batch_bytes {
                    for batch in step.call(std::mem::take(&mut pending), &context).await? {
                        yield batch;
                    }
                    (rows, bytes) = (0, 0);
                }
            }
            for batch in step.call(pending, &context).await? {
                yield batch;
            }
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches.boxed())))
    }
}

impl Enrich {
    /// Which rows the module is called for, and its arguments for them.
    fn arguments(&self, batch: &RecordBatch) -> Result<(BooleanArray, RecordBatch)> {
        let mut wanted = mask_of(batch, self.params.mask.as_deref())?;
        if let Some(gate) = self.exprs.last().filter(|_| self.params.gated) {
            let passes = gate.evaluate(&select(batch, &wanted)?)?.into_array(wanted.true_count())?;
            let passes = scatter(&passes, &wanted)?;
            let passes = passes.as_boolean_opt().ok_or_else(|| internal("a module's where is a boolean"))?;
            let yes = BooleanArray::from_iter(passes.iter().map(|value| Some(value == Some(true))));
            wanted = and(&wanted, &yes)?;
        }
        let chosen = select(batch, &wanted)?;
        let (mut fields, mut columns) = (Vec::new(), Vec::<ArrayRef>::new());
        for (name, expr) in self.params.inputs.iter().zip(&self.exprs) {
            let values = expr.evaluate(&chosen)?.into_array(chosen.num_rows())?;
            fields.push(Field::new(name, values.data_type().clone(), true));
            columns.push(values);
        }
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(chosen.num_rows()));
        let schema = Arc::new(Schema::new(fields));
        Ok((wanted, RecordBatch::try_new_with_options(schema, columns, &options)?))
    }

    async fn call(
        &self,
        pending: Vec<(RecordBatch, BooleanArray, RecordBatch)>,
        context: &StepContext,
    ) -> Result<Vec<RecordBatch>> {
        let Some((_, _, first)) = pending.first() else { return Ok(Vec::new()) };
        let arguments = concat_batches(&first.schema(), pending.iter().map(|(_, _, arguments)| arguments))?;
        let value = self.schema.field_with_name(&self.params.column)?.data_type();
        let (values, failures) = match arguments.num_rows() {
            0 => (arrow::array::new_empty_array(value), BTreeMap::new()),
            _ => {
                let evaluated = context.runtime.evaluate(&self.params.version, arguments).await.map_err(failed)?;
                (evaluated.values, evaluated.failures.into_iter().collect::<BTreeMap<_, _>>())
            }
        };
        if !failures.is_empty() {
            let mut counts = context.run.counts();
            *counts.failures.entry(self.params.version.module.clone()).or_default() += failures.len() as u64;
        }
        self.put_back(pending, &values, &failures)
    }

    fn put_back(
        &self,
        pending: Vec<(RecordBatch, BooleanArray, RecordBatch)>,
        values: &ArrayRef,
        failures: &BTreeMap<usize, String>,
    ) -> Result<Vec<RecordBatch>> {
        let mut first = 0;
        pending
            .into_iter()
            .map(|(batch, wanted, arguments)| {
                let n = arguments.num_rows();
                let column = scatter(&values.slice(first, n), &wanted)?;
                let mut columns = batch.columns().to_vec();
                if failures.range(first..first + n).next().is_some() {
                    let notes = batch.schema().index_of(notes_field().name())?;
                    columns[notes] = self.note(&columns[notes], &wanted, failures, first)?;
                }
                columns.push(column);
                if self.params.sets_aside {
                    let mut calls = first..first + n;
                    let failed = wanted.values().iter().map(|wanted| match wanted {
                        true => calls.next().is_some_and(|call| failures.contains_key(&call)),
                        false => false,
                    });
                    columns.push(Arc::new(failed.map(Some).collect::<BooleanArray>()));
                }
                first += n;
                Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
            })
            .collect()
    }

    /// Adds the reasons of the failed rows to the notes.
    fn note(
        &self,
        notes: &ArrayRef,
        wanted: &BooleanArray,
        failures: &BTreeMap<usize, String>,
        first: usize,
    ) -> Result<ArrayRef> {
        let old = notes.as_map();
        let mut builder = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
        let mut called = first;
        for row in 0..old.len() {
            let reason = match wanted.value(row) {
                true => {
                    called += 1;
                    failures.get(&(called - 1))
                }
                false => None,
            };
            if old.is_valid(row) {
                let entries = old.value(row);
                let (keys, values) = (entries.column(0).as_string::<i32>(), entries.column(1).as_string::<i32>());
                for i in 0..entries.len() {
                    builder.keys().append_value(keys.value(i));
                    builder.values().append_value(values.value(i));
                }
            }
            let noted = old.is_valid(row)
                && old.value(row).column(0).as_string::<i32>().iter().any(|key| key == Some(&self.params.version.module));
            if let Some(reason) = reason.filter(|_| !noted) {
                builder.keys().append_value(&self.params.version.module);
                builder.values().append_value(reason);
            }
            builder.append(old.is_valid(row) || reason.is_some())?;
        }
        let built = builder.finish();
        Ok(arrow::compute::cast(&built, notes_field().data_type())?)
    }
}
