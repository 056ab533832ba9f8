//! A table of splits, each a row that takes its time, and the plan node that takes it.
//!
//! The node writes `started/<split>-<pid>-<attempt>` when it begins a split and `done/…` when it ends one, so that a
//! test can say which process did what, and how often.

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
use tokio::time::sleep;

/// One row per partition: `split`, `millis`.
#[derive(Debug)]
pub struct Splits {
    pub folder: PathBuf,
    pub millis: u64,
    pub splits: Vec<u64>,
    /// Bytes that the node takes on the wire beside what it needs.
    pub padding: usize,
}

fn schema() -> SchemaRef {
    let column = |name| Field::new(name, DataType::UInt64, false);
    Arc::new(Schema::new(vec![column("split"), column("millis")]))
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
        assert!(projection.is_none_or(|columns| columns == &[0, 1]), "the tests read all columns");
        let column = |value| Arc::new(UInt64Array::from(vec![value])) as _;
        let row = |split: &u64| RecordBatch::try_new(schema(), vec![column(*split), column(self.millis)]);
        let partitions: Vec<_> = self.splits.iter().map(|split| Ok(vec![row(split)?])).collect::<Result<_>>()?;
        let rows = MemorySourceConfig::try_new_exec(&partitions, schema(), None)?;
        Ok(Arc::new(Take::new(rows, self.folder.clone(), self.padding)))
    }

    /// Takes the rows of a query again: a second stage that lasts.
    async fn insert_into(
        &self,
        _: &dyn Session,
        input: Arc<dyn ExecutionPlan>,
        _: InsertOp,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Take::new(input, self.folder.clone(), self.padding)))
    }
}

#[derive(Debug)]
struct Take {
    input: Arc<dyn ExecutionPlan>,
    folder: PathBuf,
    padding: usize,
    properties: Arc<PlanProperties>,
}

impl Take {
    fn new(input: Arc<dyn ExecutionPlan>, folder: PathBuf, padding: usize) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(input.schema()),
            input.output_partitioning().clone(),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { input, folder, padding, properties: Arc::new(properties) }
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
        Ok(Arc::new(Self::new(inputs.remove(0), self.folder.clone(), self.padding)))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let folder = self.folder.clone();
        let rows = self.input.execute(partition, context)?.and_then(move |rows| take(rows, folder.clone()));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows.boxed())))
    }
}

async fn take(rows: RecordBatch, folder: PathBuf) -> Result<RecordBatch> {
    let column = |i| rows.column(i).as_primitive::<UInt64Type>();
    for (split, millis) in column(0).values().iter().zip(column(1).values()) {
        let name = format!("{split}-{}-{}", std::process::id(), uuid::Uuid::new_v4().simple());
        std::fs::write(folder.join("started").join(&name), "")?;
        sleep(Duration::from_millis(*millis)).await;
        std::fs::write(folder.join("done").join(&name), "")?;
    }
    Ok(rows)
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
        let mut bytes = take.folder.to_str().unwrap().as_bytes().to_vec();
        bytes.resize(bytes.len() + take.padding, 0);
        Ok(Some(bytes))
    }

    fn decode(
        &self,
        bytes: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        _: &TaskContext,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let folder = std::str::from_utf8(bytes).map_err(|e| DataFusionError::External(Box::new(e)))?;
        let name = folder.trim_end_matches('\0');
        Ok(Arc::new(Take::new(inputs[0].clone(), name.into(), folder.len() - name.len())))
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
