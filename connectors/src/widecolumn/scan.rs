//! Reads ranges of keys on the executors.
//!
//! The ranges are rows of a small in-memory table below, one or more per partition, because the engine hands out the
//! partitions of such a table to its tasks, whereas it would run a leaf of our own whole in each of them. This node
//! turns each range into the rows of the table in it.

mod decode;

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, AsArray, BinaryArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::ReplaceChildrenOptions;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PhysicalExpr, PlanProperties,
};
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use super::{Backend, CatalogColumn, KeyRange, ROW_KEY, Scan, connect};

/// What a scan needs to know besides its ranges.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Parameters {
    /// `store://host:port`.
    address: String,
    table: String,
    /// In output order; `None` is the row key.
    columns: Vec<Option<CatalogColumn>>,
    /// Rows per partition.
    limit: Option<u64>,
    /// For display.
    ranges: String,
}

/// Rows of a wide-column table, for ranges of keys that come from below.
#[derive(Debug)]
pub struct ScanExec {
    input: Arc<dyn ExecutionPlan>,
    parameters: Arc<Parameters>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl ScanExec {
    fn new(input: Arc<dyn ExecutionPlan>, parameters: Arc<Parameters>) -> ScanExec {
        let schema = schema(&parameters.columns);
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            input.output_partitioning().clone(),
            input.pipeline_behavior(),
            input.boundedness(),
        );
        ScanExec { input, parameters, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() }
    }

    /// A scan of these ranges (disjoint, in key order) in at most `n_partitions` partitions.
    pub(super) fn plan(
        address: &str,
        table: &str,
        columns: Vec<Option<CatalogColumn>>,
        ranges: &[KeyRange],
        limit: Option<usize>,
        n_partitions: usize,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let per_partition = ranges.len().div_ceil(n_partitions.max(1)).max(1);
        let partitions = ranges.chunks(per_partition).map(|ranges| Ok(vec![descriptors(ranges)?]));
        let partitions = partitions.collect::<Result<Vec<_>>>()?;
        let input = MemorySourceConfig::try_new_exec(&partitions, Arc::new(descriptor_schema()), None)?;
        let parameters = Parameters {
            address: address.into(),
            table: table.into(),
            columns,
            limit: limit.map(|limit| limit as u64),
            ranges: shown(ranges),
        };
        Ok(Arc::new(ScanExec::new(input, Arc::new(parameters))))
    }

    /// All that [`ScanExec::from_json`] needs besides the input.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string(self.parameters.as_ref()).map_err(|error| DataFusionError::External(Box::new(error)))
    }

    /// The node that wrote this JSON, above its one input.
    pub fn from_json(json: &str, inputs: &[Arc<dyn ExecutionPlan>]) -> Result<Arc<dyn ExecutionPlan>> {
        let parameters: Parameters =
            serde_json::from_str(json).map_err(|error| DataFusionError::External(Box::new(error)))?;
        Ok(Arc::new(ScanExec::new(only(inputs)?, Arc::new(parameters))))
    }
}

fn only(inputs: &[Arc<dyn ExecutionPlan>]) -> Result<Arc<dyn ExecutionPlan>> {
    match inputs {
        [input] => Ok(input.clone()),
        _ => Err(DataFusionError::Internal(format!("a scan has one input, not {}", inputs.len()))),
    }
}

fn schema(columns: &[Option<CatalogColumn>]) -> SchemaRef {
    let fields = columns.iter().map(|column| match column {
        Some(column) => Field::new(&column.name, column.data_type.clone(), true),
        None => Field::new(ROW_KEY, DataType::Utf8, false),
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn descriptor_schema() -> Schema {
    Schema::new(vec![Field::new("start", DataType::Binary, false), Field::new("end", DataType::Binary, true)])
}

fn descriptors(ranges: &[KeyRange]) -> Result<RecordBatch> {
    let start: BinaryArray = ranges.iter().map(|range| Some(range.start.as_ref())).collect();
    let end: BinaryArray = ranges.iter().map(|range| range.end.as_deref()).collect();
    Ok(RecordBatch::try_new(Arc::new(descriptor_schema()), vec![Arc::new(start), Arc::new(end)])?)
}

fn ranges(descriptors: &RecordBatch) -> Vec<KeyRange> {
    let (start, end) = (descriptors.column(0).as_binary::<i32>(), descriptors.column(1).as_binary::<i32>());
    let range = |row| KeyRange {
        start: Bytes::copy_from_slice(start.value(row)),
        end: end.is_valid(row).then(|| Bytes::copy_from_slice(end.value(row))),
    };
    (0..descriptors.num_rows()).map(range).collect()
}

fn shown(ranges: &[KeyRange]) -> String {
    const SHOWN: usize = 4;
    let mut text: Vec<String> = ranges.iter().take(SHOWN).map(KeyRange::to_string).collect();
    if ranges.len() > SHOWN {
        text.push(format!("… {} more", ranges.len() - SHOWN));
    }
    text.join(" ")
}

impl DisplayAs for ScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let Parameters { table, columns, limit, ranges, .. } = self.parameters.as_ref();
        let columns: Vec<_> =
            columns.iter().map(|column| column.as_ref().map_or(ROW_KEY, |column| &column.name)).collect();
        write!(f, "StoreScanExec: table={table}, range={ranges}, columns=[{}]", columns.join(", "))?;
        limit.iter().try_for_each(|limit| write!(f, ", limit={limit}"))
    }
}

impl ExecutionPlan for ScanExec {
    fn name(&self) -> &str {
        "StoreScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        // The ranges are cut as they should be.
        vec![false]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(ScanExec::new(only(&children)?, self.parameters.clone())))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(ScanExec::new(only(&children)?, self.parameters.clone())))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let backend = connect(&self.parameters.address)?;
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let schema = self.schema();
        let (parameters, batch_size) = (self.parameters.clone(), context.session_config().batch_size());
        let to = schema.clone();
        let rows = self.input.execute(partition, context)?.map_ok(move |descriptors| {
            let (backend, parameters, schema) = (backend.clone(), parameters.clone(), to.clone());
            let scans = ranges(&descriptors)
                .into_iter()
                .map(move |range| read(backend.as_ref(), &parameters, range, schema.clone(), batch_size));
            futures::stream::iter(scans).flatten()
        });
        // One range after another: rows in key order, one batch in memory.
        let rows = rows.try_flatten().inspect_ok(move |batch| metrics.record_output(batch.num_rows()));
        let rows = limited(rows.boxed(), self.parameters.limit);
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}

type Batches = futures::stream::BoxStream<'static, Result<RecordBatch>>;

fn read(backend: &dyn Backend, parameters: &Arc<Parameters>, range: KeyRange, to: SchemaRef, n: usize) -> Batches {
    let columns = parameters.columns.iter().flatten().map(CatalogColumn::column).collect();
    let scan = Scan { range, columns: Some(columns), limit: parameters.limit };
    let parameters = parameters.clone();
    let batches = backend.scan(&parameters.table, scan).map_err(DataFusionError::from);
    let batches = batches.map_ok(move |batch| {
        let decoded = decode::batch(&parameters.table, &parameters.columns, &to, batch);
        let cut = decoded.map(|decoded| {
            let cut = (0..decoded.num_rows()).step_by(n.max(1));
            cut.map(|at| decoded.slice(at, n.max(1).min(decoded.num_rows() - at))).collect::<Vec<_>>()
        });
        futures::stream::iter(match cut {
            Ok(cut) => cut.into_iter().map(Ok).collect::<Vec<_>>(),
            Err(error) => vec![Err(DataFusionError::from(error))],
        })
    });
    batches.try_flatten().boxed()
}

/// The first rows of a stream, which then ends.
fn limited(rows: Batches, limit: Option<u64>) -> Batches {
    let Some(limit) = limit else { return rows };
    let rows = futures::stream::try_unfold((rows, limit), |(mut rows, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let Some(batch) = rows.try_next().await? else { return Ok(None) };
        let batch = batch.slice(0, batch.num_rows().min(usize::try_from(left).unwrap_or(usize::MAX)));
        let left = left - batch.num_rows() as u64;
        Ok(Some((batch, (rows, left))))
    });
    rows.boxed()
}
