//! The steps of an epoch's plan: `Fetch → Decode → Cut → Enrich → FanOut`, each a non-leaf node with one input.
//!
//! The leaf below `Fetch` is an ordinary in-memory table with one row, one split, for each partition: the engine
//! slices that among tasks, and would run a leaf of our own whole in every task. All steps are one kind of execution
//! plan, [`StepExec`], that differs in its [`Step`]: a step has parameters, expressions and schemas, and turns one
//! stream into another. That is also all that crosses processes.

mod codec;
mod cut;
mod decode;
mod enrich;
mod fan_out;
mod fetch;
mod identify;
mod mask;
mod origin;
mod refusals;
mod split_run;

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties};

pub use codec::StepCodec;
pub use cut::Cut;
pub use decode::Decode;
pub use enrich::{Call, Enrich, failed_column};
pub use fan_out::{EpochRun, FanOut, Output, Stage};
pub use fetch::{Fetch, split_table};
pub use identify::{Identified, Identify, Selected, Undecoded};
pub use mask::mask_column;
pub use refusals::{Withheld, insert_names};
pub use split_run::SplitRun;

use crate::runtime::Runtime;

/// What a step's stream may use while it runs.
#[derive(Debug, Clone)]
pub struct StepContext {
    pub runtime: Arc<dyn Runtime>,
    pub run: Arc<SplitRun>,
}

/// Parameters, expressions and schemas of a step: what crosses processes.
#[derive(Debug, Clone, Default)]
pub struct Parts {
    /// JSON.
    pub params: String,
    /// Over the input's schema.
    pub exprs: Vec<Arc<dyn PhysicalExpr>>,
    pub schemas: Vec<SchemaRef>,
}

/// One step of the chain.
pub trait Step: fmt::Debug + Send + Sync + 'static {
    /// `Fetch`, `Decode`, …: shown in plans, and names the step between processes.
    fn name(&self) -> &'static str;

    /// Of the stream that the step returns.
    fn schema(&self) -> SchemaRef;

    /// In `EXPLAIN`, after the name.
    fn describe(&self) -> String;

    fn parts(&self) -> Result<Parts>;

    fn run(&self, input: SendableRecordBatchStream, context: StepContext) -> Result<SendableRecordBatchStream>;

    /// The step that owns the attempt at a split makes the run that the steps below it report to.
    fn starts_run(&self) -> bool {
        false
    }
}

/// A [`Step`] as a node of a plan.
#[derive(Debug)]
pub struct StepExec {
    step: Arc<dyn Step>,
    input: Arc<dyn ExecutionPlan>,
    /// Absent on the scheduler, which only plans.
    runtime: Option<Arc<dyn Runtime>>,
    properties: Arc<PlanProperties>,
}

impl StepExec {
    pub fn new(step: Arc<dyn Step>, input: Arc<dyn ExecutionPlan>, runtime: Option<Arc<dyn Runtime>>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(step.schema()),
            input.output_partitioning().clone(),
            EmissionType::Incremental,
            input.boundedness(),
        );
        Self { step, input, runtime, properties: Arc::new(properties) }
    }

    pub fn step(&self) -> &dyn Step {
        self.step.as_ref()
    }
}

impl DisplayAs for StepExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step.name(), self.step.describe())
    }
}

impl ExecutionPlan for StepExec {
    fn name(&self) -> &str {
        self.step.name()
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        for expr in &self.step.parts()?.exprs {
            if f(expr)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(Self::new(self.step.clone(), input, self.runtime.clone()))),
            _ => Err(internal(format!("{} has exactly one input", self.step.name()))),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let mode = datafusion::physical_plan::execution_plan::ChildrenPropertiesMode::Recompute;
        self.replace_children(children, ReplaceChildrenOptions::new(mode))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let runtime = self.runtime.clone().ok_or_else(|| internal("a step was run where there is no runtime"))?;
        let found = context.session_config().get_extension::<SplitRun>();
        let (run, context) = match (self.step.starts_run(), found) {
            (false, Some(run)) => (run, context),
            _ => split_run::begin(&context),
        };
        let input = self.input.execute(partition, context)?;
        self.step.run(input, StepContext { runtime, run })
    }
}

/// The columns that say where a row came from. They go with each row through the chain, and into the archive.
pub fn meta_fields() -> Vec<Field> {
    vec![
        Field::new("_topic", DataType::Utf8, true),
        Field::new("_partition", DataType::Int32, true),
        Field::new("_offset", DataType::Int64, true),
        Field::new("_row", DataType::Int32, true),
        Field::new("_epoch", DataType::Int64, true),
        notes_field(),
    ]
}

/// What went wrong with a row on its way: module name → reason.
pub fn notes_field() -> Field {
    let entries = Field::new(
        "entries",
        DataType::Struct(
            vec![Field::new("keys", DataType::Utf8, false), Field::new("values", DataType::Utf8, true)].into(),
        ),
        false,
    );
    Field::new("redpoll_notes", DataType::Map(Arc::new(entries), false), true)
}

/// What computed a row of an archive: module name → fingerprint of its version, and Redpoll's own version.
pub fn versions_field() -> Field {
    Field::new("redpoll_versions", notes_field().data_type().clone(), true)
}

pub(crate) fn internal(message: impl Into<String>) -> DataFusionError {
    DataFusionError::Internal(message.into())
}

pub(crate) fn failed(error: impl ToString) -> DataFusionError {
    DataFusionError::Execution(error.to_string())
}
