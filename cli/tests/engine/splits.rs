//! A table of splits, each a row that takes its time, and the plan node that takes it.
//!
//! The node writes `started/<split>-<pid>-<attempt>` when it begins a split and `done/…` when it ends one, so that a
//! test can say which process did what, and how often. While there is a file `hold`, or `hold-<pid>`, the process keeps
//! the splits that it began: a test decides what runs when something happens.
//!
//! As a source it makes [`Splits::rows`] rows of each split, with values that tell the splits apart.

use std::any::Any;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use datafusion::arrow::array::{AsArray, RecordBatch, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, TableReference};
use datafusion::datasource::TableType;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties};
use futures::{StreamExt, TryStreamExt};
use redpoll_core::codec::{NodeCodec, TableCodec};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

/// One partition for each split, with these rows: the split, a value, and 1.
#[derive(Debug, Clone)]
pub struct Splits {
    pub folder: PathBuf,
    /// How long a split takes; written to, a row.
    pub millis: u64,
    pub splits: Vec<u64>,
    pub rows: u64,
    /// Bytes that the node takes on the wire beside what it needs.
    pub padding: usize,
}

impl Splits {
    pub fn new(folder: &Path, splits: impl IntoIterator<Item = u64>) -> Self {
        Self { folder: folder.to_owned(), millis: 0, splits: splits.into_iter().collect(), rows: 1, padding: 0 }
    }

    /// Number of rows of a split, and the sum of their values.
    pub fn expected(split: u64, rows: u64) -> (u64, u64) {
        (rows, (0..rows).map(|row| value(split, row)).sum())
    }

    fn work(&self, source: bool) -> Work {
        let (folder, millis, rows) = (self.folder.clone(), self.millis, source.then_some(self.rows));
        Work { folder, millis, rows, padding: "0".repeat(self.padding) }
    }
}

fn value(split: u64, row: u64) -> u64 {
    split * 1_000 + row
}

/// What the node is to do; crosses processes.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Work {
    folder: PathBuf,
    millis: u64,
    /// How many rows to make of each; none: rows are passed on.
    rows: Option<u64>,
    padding: String,
}

fn schema() -> SchemaRef {
    let column = |name| Field::new(name, DataType::UInt64, false);
    Arc::new(Schema::new(vec![column("split"), column("value"), column("n")]))
}

fn batch(rows: impl IntoIterator<Item = (u64, u64)>) -> Result<RecordBatch> {
    let (splits, values): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
    let ones = vec![1; splits.len()];
    let column = |values| Arc::new(UInt64Array::from(values)) as _;
    Ok(RecordBatch::try_new(schema(), vec![column(splits), column(values), column(ones)])?)
}

#[async_trait]
impl TableProvider for Splits {
    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        assert!(projection.is_none_or(|columns| columns == &[0, 1, 2]), "the tests read all columns");
        let partitions: Vec<_> =
            self.splits.iter().map(|split| Ok(vec![batch([(*split, 0)])?])).collect::<Result<_>>()?;
        let rows = MemorySourceConfig::try_new_exec(&partitions, schema(), None)?;
        Ok(Arc::new(Take::new(rows, self.work(true))))
    }

    /// Takes the rows of a query again: a second stage that lasts.
    async fn insert_into(
        &self,
        _: &dyn Session,
        input: Arc<dyn ExecutionPlan>,
        _: InsertOp,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Take::new(input, self.work(false))))
    }
}

#[derive(Debug)]
struct Take {
    input: Arc<dyn ExecutionPlan>,
    work: Work,
    properties: Arc<PlanProperties>,
}

impl Take {
    fn new(input: Arc<dyn ExecutionPlan>, work: Work) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(input.schema()),
            input.output_partitioning().clone(),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { input, work, properties: Arc::new(properties) }
    }
}

impl DisplayAs for Take {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Take")
    }
}

impl ExecutionPlan for Take {
    fn name(&self) -> &str {
        "Take"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut inputs: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::new(inputs.remove(0), self.work.clone())))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let work = self.work.clone();
        let rows = self.input.execute(partition, context)?.and_then(move |rows| take(rows, work.clone()));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows.boxed())))
    }
}

async fn take(rows: RecordBatch, work: Work) -> Result<RecordBatch> {
    let splits = rows.column(0).as_primitive::<UInt64Type>().values();
    let pid = std::process::id();
    for split in splits {
        let name = format!("{split}-{pid}-{}", uuid::Uuid::new_v4().simple());
        std::fs::write(work.folder.join("started").join(&name), "")?;
        while work.folder.join("hold").exists() || work.folder.join(format!("hold-{pid}")).exists() {
            sleep(Duration::from_millis(10)).await;
        }
        sleep(Duration::from_millis(work.millis)).await;
        std::fs::write(work.folder.join("done").join(&name), "")?;
    }
    match work.rows {
        Some(rows) => batch(splits.iter().flat_map(|split| (0..rows).map(|row| (*split, value(*split, row))))),
        None => Ok(rows),
    }
}

/// What the files say: (split, process) of each attempt.
pub fn attempts(folder: &Path, state: &str) -> Vec<(u64, u32)> {
    let names = std::fs::read_dir(folder.join(state)).unwrap().map(|file| file.unwrap().file_name());
    let mut attempts: Vec<_> = names
        .map(|name| {
            let name = name.into_string().unwrap();
            let mut parts = name.split('-');
            (parts.next().unwrap().parse().unwrap(), parts.next().unwrap().parse().unwrap())
        })
        .collect();
    attempts.sort_unstable();
    attempts
}

#[derive(Debug)]
pub struct Codec;

impl NodeCodec for Codec {
    fn encode(&self, node: &dyn ExecutionPlan) -> Result<Option<Vec<u8>>> {
        let Some(take) = (node as &dyn Any).downcast_ref::<Take>() else { return Ok(None) };
        Ok(Some(serde_json::to_vec(&take.work).unwrap()))
    }

    fn decode(
        &self,
        bytes: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        _: &TaskContext,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let work = serde_json::from_slice(bytes).map_err(|e| DataFusionError::External(Box::new(e)))?;
        Ok(Arc::new(Take::new(inputs[0].clone(), work)))
    }
}

impl TableCodec for Codec {
    fn encode(&self, _: &TableReference, _: &dyn TableProvider) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }

    fn decode(&self, _: &[u8], name: &TableReference, _: SchemaRef, _: &TaskContext) -> Result<Arc<dyn TableProvider>> {
        Err(DataFusionError::Plan(format!("no table {name}")))
    }
}
