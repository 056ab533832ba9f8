//! `Enrich`: one call of a science module, on the rows that want it.
//!
//! Wanted are the rows that the view kept and that pass the module's own `where`. Rows are collected over several
//! input batches until there are enough for one call, since a call has a fixed cost. A module that fails on a row costs
//! its own value: null, and an entry in `redpoll_notes`. A second column tells the rows that are set aside from nulls that
//! are meant: whatever uses the value leaves them out. Set aside are those on which an argument or the `where` errs, and
//! where the module says so those that it fails on.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{and, concat_batches, not};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr_common::physical_expr::fmt_sql;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use super::evaluate::{Erred, evaluate};
use super::mask::{all_but, mask_of, places, scatter, select};
use super::notes::add_notes;
use super::{Parts, Step, StepContext, failed, internal};

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
    module: String,
    lock: String,
    /// Name of the column that the values become.
    column: String,
    inputs: Vec<String>,
    mask: Option<String>,
    gated: bool,
    /// Whether alerts on which it fails are set aside.
    sets_aside: bool,
    /// Rows and bytes to collect for one call.
    batch_rows: usize,
    batch_bytes: usize,
}

/// What a module is, as far as the plan is concerned.
#[derive(Debug, Clone)]
pub struct Call {
    pub module: String,
    pub lock: String,
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

/// Input batches that wait for a call.
struct Pending {
    batch: RecordBatch,
    /// Rows that the module is called for.
    wanted: BooleanArray,
    /// For those.
    arguments: RecordBatch,
    /// Rows that it is not called for, since an argument or its `where` errs.
    erred: Erred,
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
            module: call.module,
            lock: call.lock,
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
        format!("{}({}) on={mask}{gate} batch={}", self.params.module, arguments.join(", "), self.params.batch_rows)
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
                let next = step.arguments(batch)?;
                rows += next.arguments.num_rows();
                bytes += next.batch.get_array_memory_size();
                pending.push(next);
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
    fn arguments(&self, batch: RecordBatch) -> Result<Pending> {
        let mut wanted = mask_of(&batch, self.params.mask.as_deref())?;
        let mut erred = Erred::new();
        if let Some(gate) = self.exprs.last().filter(|_| self.params.gated) {
            let computed = evaluate(gate, &select(&batch, &wanted)?)?;
            erred.extend(computed.erred_in(&wanted, format_args!("where {}", fmt_sql(gate.as_ref()))));
            let passes = scatter(&computed.values, &wanted)?;
            let passes = passes.as_boolean_opt().ok_or_else(|| internal("a module's where is a boolean"))?;
            let yes = BooleanArray::from_iter(passes.iter().map(|value| Some(value == Some(true))));
            wanted = and(&wanted, &yes)?;
        }
        let chosen = select(&batch, &wanted)?;
        let (mut fields, mut columns, mut errs) = (Vec::new(), Vec::<ArrayRef>::new(), Erred::new());
        for (name, expr) in self.params.inputs.iter().zip(&self.exprs) {
            let computed = evaluate(expr, &chosen)?;
            let what = format_args!("argument {name}, {}", fmt_sql(expr.as_ref()));
            computed
                .erred_in(&wanted, what)
                .into_iter()
                .for_each(|(row, reason)| _ = errs.entry(row).or_insert(reason));
            fields.push(Field::new(name, computed.values.data_type().clone(), true));
            columns.push(computed.values);
        }
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(chosen.num_rows()));
        let mut arguments = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?;
        if !errs.is_empty() {
            let fine: BooleanArray = places(&wanted).iter().map(|row| Some(!errs.contains_key(row))).collect();
            arguments = select(&arguments, &fine)?;
            wanted = and(&wanted, &all_but(batch.num_rows(), &errs))?;
            erred.extend(errs);
        }
        Ok(Pending { batch, wanted, arguments, erred })
    }

    async fn call(&self, pending: Vec<Pending>, context: &StepContext) -> Result<Vec<RecordBatch>> {
        let Some(Pending { arguments: first, .. }) = pending.first() else { return Ok(Vec::new()) };
        let arguments = concat_batches(&first.schema(), pending.iter().map(|pending| &pending.arguments))?;
        let value = self.schema.field_with_name(&self.params.column)?.data_type();
        let (values, failures) = match arguments.num_rows() {
            0 => (arrow::array::new_empty_array(value), BTreeMap::new()),
            _ => {
                let Params { module, lock, .. } = &self.params;
                let evaluated = context.runtime.evaluate(module, lock, arguments).await.map_err(failed)?;
                (evaluated.values, evaluated.failures.into_iter().collect::<BTreeMap<_, _>>())
            }
        };
        if !failures.is_empty() {
            let mut counts = context.run.counts();
            *counts.failures.entry(self.params.module.clone()).or_default() += failures.len() as u64;
        }
        let mut first = 0;
        let put_back = |pending: Pending| {
            let n = pending.arguments.num_rows();
            let of_batch = failures.range(first..first + n).map(|(call, reason)| (call - first, reason.clone()));
            let batch = self.put_back(pending, &values.slice(first, n), of_batch.collect());
            first += n;
            batch
        };
        pending.into_iter().map(put_back).collect()
    }

    /// `values` and `failures` are of the rows that the module was called for.
    fn put_back(&self, pending: Pending, values: &ArrayRef, failures: Erred) -> Result<RecordBatch> {
        let Pending { batch, wanted, erred, .. } = pending;
        let mut columns = batch.columns().to_vec();
        let called = places(&wanted);
        let mut noted: Erred = failures.into_iter().map(|(call, reason)| (called[call], reason)).collect();
        let mut aside = erred;
        if self.params.sets_aside {
            aside.extend(noted.clone());
        }
        noted.extend(aside.clone());
        add_notes(&batch, &mut columns, &self.params.module, &noted)?;
        columns.push(scatter(values, &wanted)?);
        columns.push(Arc::new(not(&all_but(batch.num_rows(), &aside))?));
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }
}
