//! The physical plan of one epoch.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SessionState;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::utils::conjunction;
use datafusion::optimizer::simplify_expressions::{ExprSimplifier, SimplifyContext};
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};
use redpoll_connectors::sinks::{KEY_COLUMN, PARTITION_COLUMN, TIMESTAMP_COLUMN};
use redpoll_core::protocol::Split;
use redpoll_core::steps::{
    Call, Cut, Decode, Enrich, EpochRun, FanOut, Fetch, Output, Stage, Step, StepExec, split_table,
};

use super::Compiled;
use super::chain::{ChainStep, Tap};
use super::expression;
use super::flatten::{Level, named};

/// Payload of one batch. A few batches are in flight in each task.
const BATCH_BYTES: usize = 8 << 20;

impl Compiled {
    /// The plan of an epoch over these splits: one stage, one partition for each split.
    pub fn plan(&self, run: EpochRun, splits: &[Split]) -> Result<Arc<dyn ExecutionPlan>> {
        let mut state = self.context.state();
        // `now()` is the intent's clock, so that a re-run computes the same rows.
        state.execution_props_mut().query_execution_start_time =
            DateTime::<Utc>::from_timestamp_millis(run.clock).map(|time| time.to_utc());
        let epoch = run.epoch;
        let mut plan = split_table(splits)?;
        let push = |plan: &mut Arc<dyn ExecutionPlan>, step: Arc<dyn Step>| {
            *plan = Arc::new(StepExec::new(step, plan.clone(), None));
        };
        push(&mut plan, Arc::new(Fetch { source: self.source.clone(), batch_bytes: BATCH_BYTES }));
        push(&mut plan, Arc::new(Decode::new(self.source.clone(), self.reader.clone(), self.alerts.clone(), epoch)));
        let mut n_views = 0;
        for step in &self.steps {
            let schema = plan.schema();
            let step: Arc<dyn Step> = match step {
                ChainStep::Cut { view, from, mask, rules } => {
                    let rules = rules
                        .iter()
                        .map(|(text, rule)| Ok((text.clone(), physical(&state, rule, &schema)?)))
                        .collect::<Result<_>>()?;
                    n_views += 1;
                    Arc::new(Cut::new(n_views - 1, view, from, mask.clone(), rules, &schema))
                }
                ChainStep::Enrich { module, column, mask, arguments } => {
                    let call = self.call(&state, module, column, arguments, &schema)?;
                    Arc::new(Enrich::new(call, mask.clone(), &schema))
                }
            };
            push(&mut plan, step);
        }
        let schema = plan.schema();
        let outputs = self.taps.iter().map(|tap| self.output(&state, tap, &schema)).collect::<Result<_>>()?;
        push(&mut plan, Arc::new(FanOut::new(run, outputs)));
        Ok(plan)
    }

    fn call(
        &self,
        state: &SessionState,
        name: &str,
        column: &str,
        arguments: &[Expr],
        schema: &SchemaRef,
    ) -> Result<Call> {
        let module = self.registry.get(name).map_err(|error| DataFusionError::Plan(error.to_string()))?;
        let inputs = module.inputs.iter().map(|input| input.name.clone());
        let arguments = inputs
            .zip(arguments)
            .map(|(name, argument)| Ok((name, physical(state, argument, schema)?)))
            .collect::<Result<_>>()?;
        let gate = self.gates.get(name).map(|gate| physical(state, gate, schema)).transpose()?;
        Ok(Call {
            module: name.to_owned(),
            lock: module.fingerprint.clone(),
            column: column.to_owned(),
            arguments,
            gate,
            returns: module.returns.data_type().clone(),
            batch_rows: module.batch_rows,
            batch_bytes: 8 * BATCH_BYTES,
        })
    }

    fn output(&self, state: &SessionState, tap: &Tap, schema: &SchemaRef) -> Result<Output> {
        let (sink, _) = self
            .sinks
            .iter()
            .find(|(sink, _)| sink.name == tap.sink)
            .ok_or_else(|| DataFusionError::Plan(format!("there is no table '{}'", tap.sink)))?;
        let (mut stages, mut over) = (Vec::new(), schema.clone());
        for level in &tap.levels {
            let stage = stage(state, level, &over)?;
            over = Arc::new(Schema::new(stage.output_fields()));
            stages.push(stage);
        }
        stages.extend(self.steering(state, &sink.options, &over)?);
        Ok(Output { sink: sink.clone(), mask: tap.mask.clone(), stages })
    }
}

impl Compiled {
    /// Adds the columns that say how a row is written: options of a table that are expressions over its rows.
    fn steering(
        &self,
        state: &SessionState,
        options: &BTreeMap<String, String>,
        over: &SchemaRef,
    ) -> Result<Option<Stage>> {
        let names = [("key", KEY_COLUMN), ("partition", PARTITION_COLUMN), ("timestamp", TIMESTAMP_COLUMN)];
        let given: Vec<_> =
            names.iter().filter_map(|(option, column)| Some((options.get(*option)?, *column))).collect();
        if given.is_empty() {
            return Ok(None);
        }
        let schema = DFSchema::try_from(over.as_ref().clone())?;
        let mut columns =
            over.fields().iter().map(|field| (field.name().clone(), named(field.name()))).collect::<Vec<_>>();
        for (text, column) in given {
            columns.push((column.to_owned(), expression::parse(&self.context, text, &schema)?));
        }
        let level = Level { conjuncts: Vec::new(), columns, unnest: Vec::new() };
        stage(state, &level, over).map(Some)
    }
}

fn stage(state: &SessionState, level: &Level, over: &SchemaRef) -> Result<Stage> {
    let predicate = conjunction(level.conjuncts.clone()).map(|expr| physical(state, &expr, over)).transpose()?;
    let columns = level
        .columns
        .iter()
        .map(|(name, expr)| {
            let expr = physical(state, expr, over)?;
            Ok((Field::new(name, expr.data_type(over)?, true), expr))
        })
        .collect::<Result<_>>()?;
    Ok(Stage { predicate, columns, unnest: level.unnest.clone() })
}

fn physical(state: &SessionState, expr: &Expr, schema: &SchemaRef) -> Result<Arc<dyn PhysicalExpr>> {
    let schema = DFSchema::try_from(schema.as_ref().clone())?;
    let context = SimplifyContext::builder()
        .with_schema(Arc::new(schema.clone()))
        .with_config_options(state.config_options().clone())
        .with_query_execution_start_time(state.execution_props().query_execution_start_time)
        .build();
    let simplifier = ExprSimplifier::new(context);
    let expr = simplifier.simplify(simplifier.coerce(expr.clone(), &schema)?)?;
    state.create_physical_expr(expr, &schema)
}
