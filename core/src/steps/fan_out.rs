//! `FanOut`: one pass, many sinks. The top of an epoch's plan, and the owner of the attempt.
//!
//! Its outputs are expressions, not child plans: each batch is pushed to every output before the next is asked for, so
//! there is no tee and no queue, and memory is the batches in flight. At the end the sinks are finished, what was set
//! aside is put, and then, last, the receipt: the only thing that the coordinator believes.

mod picker;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int32Array, RecordBatch, StringArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectStoreExt, PutPayload};
use serde::{Deserialize, Serialize};

use super::mask::select;
use super::refusals::{self, Refusals, Withheld};
use super::split_run::hashes;
use super::{Parts, SplitRun, Step, StepContext, failed, internal};
use crate::fault;
use crate::ids::{Epoch, SplitId};
use crate::protocol::{JobPaths, Receipt, SinkReceipt};
use crate::quarantine::{self, SetAside};
use crate::sink::{Attempt, OpenSink, SinkSpec};

pub(super) use picker::Picker;

/// Which epoch of which job runs, and where its receipts go.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct EpochRun {
    pub job: String,
    pub job_uid: String,
    pub epoch: Epoch,
    /// Of the job's spec that this plan is made from.
    #[serde(default)]
    pub revision: u32,
    /// Milliseconds since 1970-01-01 UTC.
    pub clock: i64,
    /// URL.
    pub warehouse: String,
    /// Fingerprints of the modules that the plan calls, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub modules: BTreeMap<String, String>,
}

/// A selection, a projection, and lists to take apart: what one level of a `SELECT` does to rows.
#[derive(Debug, Clone)]
pub struct Stage {
    pub predicate: Option<Arc<dyn PhysicalExpr>>,
    pub columns: Vec<(Field, Arc<dyn PhysicalExpr>)>,
    /// Positions of columns that are lists, of which each element becomes a row of its own.
    pub unnest: Vec<usize>,
}

/// What one `INSERT` writes.
#[derive(Debug, Clone)]
pub struct Output {
    pub sink: SinkSpec,
    /// Mask column of the view that it reads.
    pub mask: Option<String>,
    /// Modules that keep alerts from it by failing on them.
    pub withheld_by: Vec<Withheld>,
    /// The first is over the chain's columns, each next one over the columns before it. At least one.
    pub stages: Vec<Stage>,
}

#[derive(Debug, Clone)]
pub struct FanOut {
    run: EpochRun,
    outputs: Vec<Output>,
}

#[derive(Serialize, Deserialize)]
struct Params {
    run: EpochRun,
    outputs: Vec<OutputParams>,
}

#[derive(Serialize, Deserialize)]
struct OutputParams {
    sink: SinkSpec,
    mask: Option<String>,
    withheld_by: Vec<Withheld>,
    /// For each stage: whether it has a predicate, how many columns, and which are taken apart.
    stages: Vec<(bool, usize, Vec<usize>)>,
}

impl Output {
    /// Of the rows that the sink gets.
    pub fn schema(&self) -> SchemaRef {
        let last = self.stages.last().map(Stage::output_fields).unwrap_or_default();
        Arc::new(Schema::new(last))
    }
}

impl Stage {
    /// Of the columns as they are computed, lists still whole.
    pub fn computed(&self) -> SchemaRef {
        Arc::new(Schema::new(self.columns.iter().map(|(field, _)| field.clone()).collect::<Vec<_>>()))
    }

    /// Of the rows that leave the stage.
    pub fn output_fields(&self) -> Vec<Field> {
        unnested(self.columns.iter().map(|(field, _)| field.clone()).collect(), &self.unnest)
    }
}

/// Lists at `positions` become their elements.
fn unnested(mut fields: Vec<Field>, positions: &[usize]) -> Vec<Field> {
    for i in positions {
        if let DataType::List(item) = fields[*i].data_type() {
            fields[*i] = Field::new(fields[*i].name(), item.data_type().clone(), true);
        }
    }
    fields
}

impl FanOut {
    pub fn new(run: EpochRun, outputs: Vec<Output>) -> Self {
        Self { run, outputs }
    }

    pub fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    /// The schema that each of the expressions in `parts` is over, in their order.
    pub(super) fn expression_schemas(parts: &Parts, input: &SchemaRef) -> Result<Vec<SchemaRef>> {
        let params: Params = serde_json::from_str(&parts.params).map_err(|error| internal(error.to_string()))?;
        let mut schemas = parts.schemas.iter();
        let mut over = Vec::new();
        for output in params.outputs {
            let mut before = input.clone();
            for (has_predicate, n, unnest) in output.stages {
                over.extend(std::iter::repeat_n(before, n + usize::from(has_predicate)));
                let computed = schemas.next().ok_or_else(|| internal("FanOut lacks a schema"))?;
                before = Arc::new(Schema::new(unnested(
                    computed.fields().iter().map(|f| f.as_ref().clone()).collect(),
                    &unnest,
                )));
            }
        }
        Ok(over)
    }

    pub(super) fn from_parts(parts: &Parts) -> Result<Self> {
        let params: Params = serde_json::from_str(&parts.params).map_err(|error| internal(error.to_string()))?;
        let mut exprs = parts.exprs.iter().cloned();
        let mut schemas = parts.schemas.iter();
        let mut next = || exprs.next().ok_or_else(|| internal("FanOut lacks an expression"));
        let mut outputs = Vec::new();
        for output in params.outputs {
            let mut stages = Vec::new();
            for (has_predicate, n, unnest) in output.stages {
                let predicate = if has_predicate { Some(next()?) } else { None };
                let schema = schemas.next().ok_or_else(|| internal("FanOut lacks a schema"))?;
                let columns = (0..n).map(|i| Ok((schema.field(i).clone(), next()?))).collect::<Result<_>>()?;
                stages.push(Stage { predicate, columns, unnest });
            }
            let OutputParams { sink, mask, withheld_by, .. } = output;
            outputs.push(Output { sink, mask, withheld_by, stages });
        }
        Ok(Self { run: params.run, outputs })
    }
}

impl Step for FanOut {
    fn name(&self) -> &'static str {
        "FanOut"
    }

    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("split", DataType::Int32, false),
            Field::new("attempt", DataType::Utf8, false),
        ]))
    }

    fn describe(&self) -> String {
        let outputs = self.outputs.iter().map(|output| {
            let predicates = output.stages.iter().filter_map(|stage| stage.predicate.as_ref());
            let predicates: Vec<_> = predicates.map(|predicate| format!(" where {predicate}")).collect();
            let mask = output.mask.as_deref().map(|mask| format!(" on {mask}")).unwrap_or_default();
            format!("{}{mask}{}", output.sink.name, predicates.concat())
        });
        format!("outputs=[{}]", outputs.collect::<Vec<_>>().join("; "))
    }

    fn parts(&self) -> Result<Parts> {
        let (mut exprs, mut schemas, mut outputs) = (Vec::new(), Vec::new(), Vec::new());
        for output in &self.outputs {
            let mut stages = Vec::new();
            for stage in &output.stages {
                exprs.extend(stage.predicate.iter().cloned());
                exprs.extend(stage.columns.iter().map(|(_, expr)| expr.clone()));
                schemas.push(stage.computed());
                stages.push((stage.predicate.is_some(), stage.columns.len(), stage.unnest.clone()));
            }
            let Output { sink, mask, withheld_by, .. } = output.clone();
            outputs.push(OutputParams { sink, mask, withheld_by, stages });
        }
        let params = serde_json::to_string(&Params { run: self.run.clone(), outputs });
        Ok(Parts { params: params.map_err(|error| internal(error.to_string()))?, exprs, schemas })
    }

    fn starts_run(&self) -> bool {
        true
    }

    fn run(&self, input: SendableRecordBatchStream, context: StepContext) -> Result<SendableRecordBatchStream> {
        let step = self.clone();
        let schema = self.schema();
        let row = futures::stream::once(async move { step.attempt(input, context).await });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, row.boxed())))
    }
}

impl FanOut {
    async fn attempt(&self, mut input: SendableRecordBatchStream, context: StepContext) -> Result<RecordBatch> {
        let begun = Instant::now();
        // The first batch tells which split this is; a split may also have none.
        let mut batch = input.try_next().await?;
        let Some(split) = context.run.counts().split else { return self.nothing() };
        let open: Vec<OpenSink> =
            self.outputs.iter().map(|output| OpenSink { spec: output.sink.clone(), schema: output.schema() }).collect();
        let attempt = self.names(split, &context.run);
        if context.run.has_growth() {
            return self.outgrown(&attempt, &context, begun).await;
        }
        let mut sinks = context.runtime.sinks(&attempt, &open).await.map_err(failed)?;
        let mut wanted: Vec<SinkReceipt> = self.outputs.iter().map(|_| SinkReceipt::default()).collect();
        let mut refusals = Refusals::new(&self.outputs);
        let mut picker = None;
        while let Some(rows) = batch {
            let hashes = hashes(&rows)?;
            refusals.withhold(&self.outputs, &rows, &context)?;
            let picker = match &mut picker {
                Some(picker) => &*picker,
                none => none.insert(Picker::new(&self.outputs, &rows.schema())?),
            };
            let picked = picker.pick(&self.outputs, &rows)?;
            for (index, output) in self.outputs.iter().enumerate() {
                let Some((rows, _)) = picked.rows(index, &hashes)? else { continue };
                let rows = refusals.lacked(index, rows, &context.run)?;
                if rows.batch.num_rows() > 0 {
                    wanted[index].wanted += rows.digest();
                    let refused = sinks.write(index, &rows).await.map_err(failed)?;
                    wanted[index].add(&refusals.refuse(output, index, &rows, refused)?);
                }
            }
            fault::at("mid-run");
            batch = input.try_next().await?;
        }
        if context.run.has_growth() {
            drop(sinks);
            return self.outgrown(&attempt, &context, begun).await;
        }
        // Before anything becomes visible, as it may fail.
        let items = refusals.items(&context).await?;
        let mut written = sinks.finish().await.map_err(failed)?;
        for (receipt, SinkReceipt { wanted, refused, refused_digest, .. }) in written.iter_mut().zip(wanted) {
            (receipt.wanted, receipt.refused, receipt.refused_digest) = (wanted, refused, refused_digest);
            if receipt.recomputed.is_some() {
                // What is out already is what was wanted when it went out.
                receipt.wanted = receipt.written;
                receipt.wanted += refused_digest;
            }
        }
        let receipt = self.receipt(&attempt, &context, written, &items, begun);
        self.put(&attempt, &context, &receipt, &items).await?;
        context.run.leave_place();
        self.done(attempt)
    }

    /// The alerts have fields that the plan does not: sinks stay as they were, and the receipt only tells the fields.
    async fn outgrown(&self, attempt: &Attempt, context: &StepContext, begun: Instant) -> Result<RecordBatch> {
        let receipt = self.receipt(attempt, context, Vec::new(), &[], begun);
        self.put(attempt, context, &receipt, &[]).await?;
        self.done(attempt.clone())
    }

    fn done(&self, attempt: Attempt) -> Result<RecordBatch> {
        let split = attempt.split.0 as i32;
        let columns: Vec<ArrayRef> =
            vec![Arc::new(Int32Array::from(vec![split])), Arc::new(StringArray::from(vec![attempt.attempt]))];
        Ok(RecordBatch::try_new(self.schema(), columns)?)
    }

    /// A partition that was given no split.
    fn nothing(&self) -> Result<RecordBatch> {
        Ok(RecordBatch::new_empty(self.schema()))
    }

    fn names(&self, split: SplitId, run: &SplitRun) -> Attempt {
        Attempt {
            job: self.run.job.clone(),
            job_uid: self.run.job_uid.clone(),
            epoch: self.run.epoch,
            split,
            ranges: run.counts().ranges,
            attempt: run.attempt.clone(),
            clock: self.run.clock,
            modules: self.run.modules.clone(),
        }
    }

    fn receipt(
        &self,
        attempt: &Attempt,
        context: &StepContext,
        written: Vec<SinkReceipt>,
        items: &[SetAside],
        begun: Instant,
    ) -> Receipt {
        let counts = context.run.counts();
        let mut sinks: BTreeMap<String, SinkReceipt> = BTreeMap::new();
        for (output, receipt) in self.outputs.iter().zip(written) {
            sinks.entry(output.sink.name.clone()).or_default().merge(receipt);
        }
        Receipt {
            epoch: attempt.epoch,
            split: attempt.split,
            attempt: attempt.attempt.clone(),
            revision: self.run.revision,
            executor: context.runtime.executor().to_owned(),
            sources: counts.sources.clone(),
            views: counts.views.values().cloned().collect(),
            sinks,
            failures: counts.failures.clone(),
            withheld: counts.withheld.clone(),
            set_aside: Some(refusals::count(items)),
            growth: counts.growth(),
            seconds: begun.elapsed().as_secs_f64(),
        }
    }

    async fn put(&self, attempt: &Attempt, context: &StepContext, receipt: &Receipt, items: &[SetAside]) -> Result<()> {
        let (store, prefix) = context.runtime.objects(&self.run.warehouse).map_err(failed)?;
        let paths = JobPaths::new(&prefix, &attempt.job);
        if !items.is_empty() {
            let path = paths.quarantined(attempt.epoch, attempt.split, &attempt.attempt);
            let bytes = quarantine::encode(attempt, items).map_err(failed)?;
            store.put(&path, PutPayload::from(bytes)).await.map_err(failed)?;
        }
        let path = paths.receipt(attempt.epoch, attempt.split, &attempt.attempt);
        let bytes = serde_json::to_vec(receipt).map_err(failed)?;
        fault::at("before-receipt");
        store.put(&path, PutPayload::from(bytes)).await.map_err(failed)?;
        fault::at("after-receipt");
        Ok(())
    }
}

impl SinkReceipt {
    /// Several `INSERT`s into one table are one sink.
    fn merge(&mut self, other: SinkReceipt) {
        self.add(&other);
        self.files.extend(other.files);
    }
}

/// Rows on their way through the stages, each with the row of the chain's batch that it came from.
struct Selected {
    batch: RecordBatch,
    origin: Vec<u32>,
    unnested: bool,
}

impl Stage {
    fn apply(&self, rows: Selected) -> Result<Selected> {
        let Selected { mut batch, mut origin, unnested } = rows;
        if let Some(predicate) = &self.predicate {
            let keep = predicate.evaluate(&batch)?.into_array(batch.num_rows())?;
            let keep = keep.as_boolean_opt().ok_or_else(|| internal("a predicate is a boolean"))?;
            let keep = BooleanArray::from_iter(keep.iter().map(|value| Some(value == Some(true))));
            batch = select(&batch, &keep)?;
            origin = origin.into_iter().zip(keep.values()).filter(|(_, keep)| *keep).map(|(row, _)| row).collect();
        }
        self.project(Selected { batch, origin, unnested })
    }

    /// Of rows that meet the predicate.
    fn project(&self, rows: Selected) -> Result<Selected> {
        let Selected { batch, origin, unnested } = rows;
        let columns: Vec<ArrayRef> = self
            .columns
            .iter()
            .map(|(_, expr)| expr.evaluate(&batch)?.into_array(batch.num_rows()))
            .collect::<Result<_>>()?;
        match self.unnest.is_empty() {
            true => Ok(Selected { batch: self.batch(columns, batch.num_rows(), self.computed())?, origin, unnested }),
            false => self.explode(columns, &origin),
        }
    }

    fn batch(&self, columns: Vec<ArrayRef>, n: usize, schema: SchemaRef) -> Result<RecordBatch> {
        let fields = schema.fields().iter().zip(&columns);
        // What an expression says it returns and what it returns may differ in nullability.
        let fields: Vec<Field> =
            fields.map(|(field, column)| Field::new(field.name(), column.data_type().clone(), true)).collect();
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(n));
        Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?)
    }

    /// One row for each element; as many as the longest list of the row, the shorter ones filled with null.
    fn explode(&self, columns: Vec<ArrayRef>, origin: &[u32]) -> Result<Selected> {
        let lists: Vec<_> = self
            .unnest
            .iter()
            .map(|i| columns[*i].as_list_opt::<i32>().ok_or_else(|| failed("unnest takes lists")))
            .collect::<Result<_>>()?;
        let length = |row: usize| {
            let of = |list: &&arrow::array::ListArray| if list.is_valid(row) { list.value_length(row) } else { 0 };
            lists.iter().map(of).max().unwrap_or(0)
        };
        let places: Vec<(u32, i32)> =
            (0..origin.len()).flat_map(|row| (0..length(row)).map(move |i| (row as u32, i))).collect();
        let rows = UInt32Array::from_iter_values(places.iter().map(|(row, _)| *row));
        let mut out = Vec::with_capacity(columns.len());
        for (i, column) in columns.iter().enumerate() {
            match self.unnest.iter().position(|unnested| *unnested == i) {
                None => out.push(take(column, &rows, None)?),
                Some(k) => {
                    let list = lists[k];
                    let element = places.iter().map(|(row, i)| {
                        let row = *row as usize;
                        let within = list.is_valid(row) && *i < list.value_length(row);
                        within.then(|| (list.value_offsets()[row] + i) as u32)
                    });
                    out.push(take(list.values(), &UInt32Array::from_iter(element), None)?);
                }
            }
        }
        let n = places.len();
        let batch = self.batch(out, n, Arc::new(Schema::new(self.output_fields())))?;
        let origin = places.iter().map(|(row, _)| origin[*row as usize]).collect();
        Ok(Selected { batch, origin, unnested: true })
    }
}

/// Rows that came from one alert get different hashes, by their order.
fn numbered(origin: &[u32], hashes: &[u128]) -> Vec<u128> {
    let (mut last, mut n) = (None, 0u32);
    let number = |row: &u32| {
        n = if last == Some(*row) { n + 1 } else { 0 };
        last = Some(*row);
        xxhash_rust::xxh3::xxh3_128_with_seed(&hashes[*row as usize].to_le_bytes(), u64::from(n))
    };
    origin.iter().map(number).collect()
}
