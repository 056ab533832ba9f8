//! The physical plan of one epoch.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
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
use redpoll_connectors::sources::ID_OPTION;
use redpoll_core::protocol::Split;
use redpoll_core::runtime::Version;
use redpoll_core::sink::SinkSpec;
use redpoll_core::steps::{
    Call, Cut, Decode, Enrich, EpochRun, FanOut, Fetch, Identify, Output, Stage, Step, StepExec, Withheld, split_table,
};
use redpoll_udfs::manifest::OnError;

use super::Compiled;
use super::chain::{ChainStep, Tap};
use super::expression;
use super::flatten::{Level, named};
use super::withholding::Withholding;

/// Payload of one batch. A few batches are in flight in each task.
const BATCH_BYTES: usize = 8 << 20;

fn top(step: Arc<dyn Step>, plan: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
    Arc::new(StepExec::new(step, plan, None))
}

impl Compiled {
    /// The plan of an epoch over these splits: one stage, one partition for each split.
    pub fn plan(&self, run: EpochRun, splits: &[Split]) -> Result<Arc<dyn ExecutionPlan>> {
        let state = self.state(run.clock);
        let (plan, withheld) = self.chain(&state, &self.alerts, &run, splits)?;
        let outputs = self.outputs(&state, &plan.schema(), &withheld)?;
        Ok(top(Arc::new(FanOut::new(run, outputs)), plan))
    }

    /// A plan that computes an epoch again, says which rows each sink gets, and writes nothing.
    /// `id` is the column that names an alert.
    pub fn plan_again(&self, run: EpochRun, splits: &[Split], id: Option<&str>) -> Result<Arc<dyn ExecutionPlan>> {
        let state = self.state(run.clock);
        let (plan, withheld) = self.chain(&state, &self.alerts_with(id), &run, splits)?;
        let outputs = self.outputs(&state, &plan.schema(), &withheld)?;
        Ok(top(Arc::new(Identify::new(run, outputs, id.map(str::to_owned))), plan))
    }

    /// The column that names an alert, if the table of alerts says so.
    pub fn id(&self) -> Option<&str> {
        self.source.options.get(ID_OPTION).map(String::as_str)
    }

    /// Sinks in the order of their `INSERT`s, each with whether one alert may become several of its rows.
    pub fn inserts(&self) -> impl Iterator<Item = (&SinkSpec, bool)> {
        let unnests = |tap: &Tap| tap.levels.iter().any(|level| !level.unnest.is_empty());
        self.sinks.iter().zip(&self.taps).map(move |((spec, _), tap)| (spec, unnests(tap)))
    }

    fn state(&self, clock: i64) -> Physical {
        let mut state = self.context.state();
        // `now()` is the intent's clock, so that a re-run computes the same rows.
        state.execution_props_mut().query_execution_start_time =
            DateTime::<Utc>::from_timestamp_millis(clock).map(|time| time.to_utc());
        Physical { state, known: RefCell::default() }
    }

    /// The columns in use, and this one.
    fn alerts_with(&self, id: Option<&str>) -> SchemaRef {
        let used = |field: &Arc<Field>| match self.alerts.field_with_name(field.name()) {
            Ok(used) => Some(Arc::new(used.clone())),
            Err(_) => Some(field.clone()).filter(|field| Some(field.name().as_str()) == id),
        };
        // In the order of the reader: that is how alerts are decoded.
        Arc::new(Schema::new(self.reader.fields().iter().filter_map(used).collect::<Vec<_>>()))
    }

    /// All steps below the top, and which modules keep alerts from what stands on it.
    fn chain(
        &self,
        state: &Physical,
        alerts: &SchemaRef,
        run: &EpochRun,
        splits: &[Split],
    ) -> Result<(Arc<dyn ExecutionPlan>, Withholding)> {
        let mut plan = split_table(splits)?;
        let push = |plan: &mut Arc<dyn ExecutionPlan>, step: Arc<dyn Step>| *plan = top(step, plan.clone());
        let fetch = Fetch { source: self.source.clone(), batch_bytes: BATCH_BYTES, run: run.clone() };
        push(&mut plan, Arc::new(fetch));
        push(&mut plan, Arc::new(Decode::new(self.source.clone(), self.reader.clone(), alerts.clone(), run.epoch)));
        let mut withheld = Withholding::default();
        let mut n_views = 0;
        for step in &self.steps {
            let schema = plan.schema();
            let step: Arc<dyn Step> = match step {
                ChainStep::Cut { view, from, mask, rules } => {
                    let by = withheld.cut(view, mask.as_deref(), rules);
                    let rules = rules
                        .iter()
                        .map(|(text, rule)| Ok((text.clone(), physical(state, rule, &schema)?)))
                        .collect::<Result<_>>()?;
                    n_views += 1;
                    Arc::new(Cut::new(n_views - 1, view, from, mask.clone(), rules, &schema).withhold(by))
                }
                ChainStep::Enrich { module, column, mask, arguments } => {
                    let call = self.call(state, module, column, arguments, &schema)?;
                    withheld.enrich(&call, mask.as_deref(), arguments);
                    Arc::new(Enrich::new(call, mask.clone(), &schema))
                }
            };
            push(&mut plan, step);
        }
        Ok((plan, withheld))
    }

    fn outputs(&self, state: &Physical, schema: &SchemaRef, withheld: &Withholding) -> Result<Vec<Output>> {
        self.taps.iter().map(|tap| self.output(state, tap, schema, withheld.output(tap))).collect()
    }

    fn call(
        &self,
        state: &Physical,
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
            version: Version {
                module: name.to_owned(),
                lock: module.fingerprint.clone(),
                bundles: module.bundles.clone(),
            },
            column: column.to_owned(),
            arguments,
            gate,
            returns: module.returns.data_type().clone(),
            sets_aside: module.on_error == OnError::Quarantine,
            batch_rows: module.batch_rows,
            batch_bytes: 8 * BATCH_BYTES,
        })
    }

    fn output(
        &self,
        state: &Physical,
        tap: &Tap,
        schema: &SchemaRef,
        withheld_by: Vec<Withheld>,
    ) -> Result<Output> {
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
        Ok(Output { sink: sink.clone(), mask: tap.mask.clone(), withheld_by, stages })
    }
}

impl Compiled {
    /// Adds the columns that say how a row is written: options of a table that are expressions over its rows.
    fn steering(
        &self,
        state: &Physical,
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

fn stage(state: &Physical, level: &Level, over: &SchemaRef) -> Result<Stage> {
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

/// Makes expressions of one plan physical: equal ones over one schema once, since a thousand filters have one list of
/// columns.
struct Physical {
    state: SessionState,
    known: RefCell<Vec<Over>>,
}

/// The expressions over one schema.
struct Over {
    /// By which it is known: the schemas of a plan are few, and shared.
    schema: SchemaRef,
    context: Arc<DFSchema>,
    exprs: HashMap<Expr, Arc<dyn PhysicalExpr>>,
}

fn physical(state: &Physical, expr: &Expr, schema: &SchemaRef) -> Result<Arc<dyn PhysicalExpr>> {
    let mut known = state.known.borrow_mut();
    let place = match known.iter().position(|over| Arc::ptr_eq(&over.schema, schema)) {
        Some(place) => place,
        None => {
            let context = Arc::new(DFSchema::try_from(schema.as_ref().clone())?);
            known.push(Over { schema: schema.clone(), context, exprs: HashMap::new() });
            known.len() - 1
        }
    };
    let over = &mut known[place];
    if let Some(made) = over.exprs.get(expr) {
        return Ok(made.clone());
    }
    let made = made(&state.state, expr, &over.context)?;
    over.exprs.insert(expr.clone(), made.clone());
    Ok(made)
}

fn made(state: &SessionState, expr: &Expr, schema: &Arc<DFSchema>) -> Result<Arc<dyn PhysicalExpr>> {
    let context = SimplifyContext::builder()
        .with_schema(schema.clone())
        .with_config_options(state.config_options().clone())
        .with_query_execution_start_time(state.execution_props().query_execution_start_time)
        .build();
    let simplifier = ExprSimplifier::new(context);
    let expr = simplifier.simplify(simplifier.coerce(expr.clone(), schema)?)?;
    state.create_physical_expr(expr, schema)
}
