//! `Identify`: the top of a plan that computes an epoch again and writes nothing.
//!
//! It has the outputs of a `FanOut`, and gives back which rows each of them selects: where a row was read, the hash that
//! digests are sums of, the alert's id, and what its sink keeps that tells it apart. A last row sums a split up.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, FixedSizeBinaryArray, Int32Array, RecordBatch, StringArray, UInt32Array,
    new_null_array,
};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use super::refusals::Refusals;
use super::split_run::hashes;
use super::fan_out::Picker;
use super::{EpochRun, FanOut, Output, Parts, Step, StepContext, failed, internal};
use crate::ids::SplitId;
use crate::ledger::{SourceCounts, ViewCounts};
use crate::quarantine::Stage;
use crate::runtime::Marker;
use crate::sink::{OpenSink, Refused, Rows};

/// Selects the rows of every output, and says which they are.
#[derive(Debug, Clone)]
pub struct Identify {
    outputs: FanOut,
    /// The column of the alerts that names an alert.
    id: Option<String>,
}

/// What became of a split that was computed again.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Identified {
    pub split: SplitId,
    pub sources: Vec<SourceCounts>,
    /// Offsets that hold a record: place in `sources`, first, one past the last.
    pub runs: Vec<(usize, i64, i64)>,
    pub views: Vec<ViewCounts>,
    pub quarantined: Vec<Undecoded>,
    pub failures: BTreeMap<String, u64>,
    /// The alerts have fields that the plan does not: no row is certain.
    pub outgrown: bool,
}

/// Where a record was that did not decode, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undecoded {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub error: String,
}

#[derive(Serialize, Deserialize)]
struct Params {
    id: Option<String>,
    outputs: String,
}

impl Identify {
    pub fn new(run: EpochRun, outputs: Vec<Output>, id: Option<String>) -> Self {
        Self { outputs: FanOut::new(run, outputs), id }
    }

    pub(super) fn expression_schemas(parts: &Parts, input: &SchemaRef) -> Result<Vec<SchemaRef>> {
        FanOut::expression_schemas(&unwrapped(parts)?.1, input)
    }

    pub(super) fn from_parts(parts: &Parts) -> Result<Self> {
        let (id, parts) = unwrapped(parts)?;
        Ok(Self { outputs: FanOut::from_parts(&parts)?, id })
    }
}

/// The origins of the rows that are left.
fn without(origin: Vec<u32>, had: &[Refused]) -> Vec<u32> {
    let is_left = |row: &usize| had.binary_search_by_key(row, |had| had.row).is_err();
    origin.into_iter().enumerate().filter(|(row, _)| is_left(row)).map(|(_, origin)| origin).collect()
}

/// The id's column, and the parts of the outputs.
fn unwrapped(parts: &Parts) -> Result<(Option<String>, Parts)> {
    let params: Params = serde_json::from_str(&parts.params).map_err(|error| internal(error.to_string()))?;
    Ok((params.id, Parts { params: params.outputs, ..parts.clone() }))
}

impl Step for Identify {
    fn name(&self) -> &'static str {
        "Identify"
    }

    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("output", DataType::Int32, true),
            Field::new("split", DataType::Int32, true),
            Field::new("topic", DataType::Utf8, true),
            Field::new("partition", DataType::Int32, true),
            Field::new("offset", DataType::Int64, true),
            Field::new("row", DataType::Int32, true),
            Field::new("hash", DataType::FixedSizeBinary(16), true),
            Field::new("id", DataType::Utf8, true),
            Field::new("mark", DataType::Binary, true),
            Field::new("summary", DataType::Utf8, true),
        ]))
    }

    fn describe(&self) -> String {
        format!("{} id={}", self.outputs.describe(), self.id.as_deref().unwrap_or("none"))
    }

    fn parts(&self) -> Result<Parts> {
        let parts = self.outputs.parts()?;
        let params = Params { id: self.id.clone(), outputs: parts.params };
        Ok(Parts { params: serde_json::to_string(&params).map_err(|error| internal(error.to_string()))?, ..parts })
    }

    fn starts_run(&self) -> bool {
        true
    }

    fn run(&self, mut input: SendableRecordBatchStream, context: StepContext) -> Result<SendableRecordBatchStream> {
        let (step, schema) = (self.clone(), self.schema());
        let markers = self.markers(&context)?;
        let batches = async_stream::try_stream! {
            let inserts = Refusals::new(step.outputs.outputs());
            let mut picker = None;
            while let Some(alerts) = input.try_next().await? {
                let (hashes, ids) = (hashes(&alerts)?, step.ids(&alerts)?);
                let picker = match &mut picker {
                    Some(picker) => &*picker,
                    none => none.insert(Picker::new(step.outputs.outputs(), &alerts.schema())?),
                };
                let picked = picker.pick(step.outputs.outputs(), &alerts)?;
                for index in 0..step.outputs.outputs().len() {
                    let Some((rows, origin)) = picked.rows(index, &hashes)? else { continue };
                    // A replay gave an INSERT only what it lacked.
                    let had = inserts.had(index, &rows, &context.run)?;
                    let (rows, origin) = (rows.without(&had)?, without(origin, &had));
                    if !origin.is_empty() {
                        let origin = UInt32Array::from(origin);
                        let ids = ids.as_ref().map(|ids| take(ids, &origin, None)).transpose()?;
                        let marks = markers[index].as_ref().map(|marker| marker.marks(&rows));
                        yield step.batch(&context, index, &rows, ids, marks.transpose().map_err(failed)?)?;
                    }
                }
            }
            if let Some(summary) = step.summary(&context)? {
                yield summary;
            }
            context.run.leave_place();
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches.boxed())))
    }
}

impl Identify {
    fn markers(&self, context: &StepContext) -> Result<Vec<Option<Box<dyn Marker>>>> {
        let marker = |output: &Output| {
            let open = OpenSink { spec: output.sink.clone(), schema: output.schema() };
            context.runtime.marker(&open, self.id.as_deref()).map_err(failed)
        };
        self.outputs.outputs().iter().map(marker).collect()
    }

    fn ids(&self, alerts: &RecordBatch) -> Result<Option<ArrayRef>> {
        let column = self.id.as_deref().and_then(|id| alerts.column_by_name(id));
        Ok(column.map(|column| cast(column, &DataType::Utf8)).transpose()?)
    }

    fn batch(
        &self,
        context: &StepContext,
        index: usize,
        rows: &Rows,
        ids: Option<ArrayRef>,
        marks: Option<Vec<Option<bytes::Bytes>>>,
    ) -> Result<RecordBatch> {
        let n = rows.hashes.len();
        let split = context.run.counts().split.unwrap_or_default();
        let meta = |name: &str| {
            let column = rows.meta.column_by_name(name);
            column.cloned().ok_or_else(|| internal(format!("no column {name}")))
        };
        let hashes = rows.hashes.iter().map(|hash| hash.to_be_bytes());
        let marks: ArrayRef = match marks {
            Some(marks) => Arc::new(BinaryArray::from_iter(marks)),
            None => new_null_array(&DataType::Binary, n),
        };
        Ok(RecordBatch::try_new(
            self.schema(),
            vec![
                Arc::new(Int32Array::from(vec![index as i32; n])),
                Arc::new(Int32Array::from(vec![split.0 as i32; n])),
                meta("_topic")?,
                meta("_partition")?,
                meta("_offset")?,
                meta("_row")?,
                Arc::new(FixedSizeBinaryArray::try_from_iter(hashes)?),
                ids.unwrap_or_else(|| new_null_array(&DataType::Utf8, n)),
                marks,
                new_null_array(&DataType::Utf8, n),
            ],
        )?)
    }

    /// A row without an output. `None` of a partition that was given no split.
    fn summary(&self, context: &StepContext) -> Result<Option<RecordBatch>> {
        let counts = context.run.counts();
        let Some(split) = counts.split else { return Ok(None) };
        let quarantined =
            counts.set_aside.iter().filter(|item| item.why.stage == Stage::Decode).map(|set_aside| Undecoded {
                topic: set_aside.record.topic.to_string(),
                partition: set_aside.record.partition,
                offset: set_aside.record.offset,
                error: set_aside.why.error.clone(),
            });
        let identified = Identified {
            split,
            sources: counts.sources.clone(),
            runs: counts.runs.clone(),
            views: counts.views.values().cloned().collect(),
            quarantined: quarantined.collect(),
            failures: counts.failures.clone(),
            outgrown: !counts.growth.is_empty(),
        };
        let text = serde_json::to_string(&identified).map_err(|error| internal(error.to_string()))?;
        let schema = self.schema();
        let mut columns: Vec<ArrayRef> =
            schema.fields().iter().map(|field| new_null_array(field.data_type(), 1)).collect();
        columns.pop();
        columns.push(Arc::new(StringArray::from(vec![text])));
        Ok(Some(RecordBatch::try_new(schema, columns)?))
    }
}

/// A row that an output selects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    /// Place of the output in the plan.
    pub output: usize,
    pub split: SplitId,
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    /// Number of the alert in its record.
    pub row: u32,
    pub hash: u128,
    pub id: Option<String>,
    pub mark: Option<Vec<u8>>,
}

impl Identified {
    /// Reads a batch of an `Identify`: the rows, or the sums of splits.
    pub fn read(batch: &RecordBatch) -> Result<(Vec<Selected>, Vec<Identified>)> {
        use arrow::datatypes::{Int32Type, Int64Type};
        let column = |i: usize| batch.column(i);
        let outputs = column(0).as_primitive::<Int32Type>();
        let (splits, partitions) = (column(1).as_primitive::<Int32Type>(), column(3).as_primitive::<Int32Type>());
        let (offsets, rows) = (column(4).as_primitive::<Int64Type>(), column(5).as_primitive::<Int32Type>());
        let (topics, ids, sums) =
            (column(2).as_string::<i32>(), column(7).as_string::<i32>(), column(9).as_string::<i32>());
        let (hashes, marks) = (column(6).as_fixed_size_binary(), column(8).as_binary::<i32>());
        let (mut selected, mut identified) = (Vec::new(), Vec::new());
        for i in 0..batch.num_rows() {
            if outputs.is_null(i) {
                let sum = serde_json::from_str(sums.value(i)).map_err(|error| internal(error.to_string()))?;
                identified.push(sum);
                continue;
            }
            let hash = hashes.value(i).try_into().map_err(|_| internal("a hash has 16 bytes"))?;
            selected.push(Selected {
                output: outputs.value(i) as usize,
                split: SplitId(splits.value(i).unsigned_abs()),
                topic: topics.value(i).to_owned(),
                partition: partitions.value(i),
                offset: offsets.value(i),
                row: rows.value(i).unsigned_abs(),
                hash: u128::from_be_bytes(hash),
                id: ids.is_valid(i).then(|| ids.value(i).to_owned()),
                mark: marks.is_valid(i).then(|| marks.value(i).to_vec()),
            });
        }
        Ok((selected, identified))
    }
}
