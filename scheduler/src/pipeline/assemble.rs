//! What was read, put together: tables held against the world, one chain of all statements, its plan.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::Expr;
use datafusion::optimizer::simplify_expressions::{ExprSimplifier, SimplifyContext};
use datafusion::scalar::ScalarValue;
use futures::future::join_all;
use redpoll_connectors::avro::ReaderSchema;
use redpoll_core::protocol::Split;
use redpoll_core::runtime::SourceSpec;
use redpoll_core::sink::{SinkKind, SinkSpec};
use redpoll_core::steps::EpochRun;

use super::chain::{Chain, ChainStep, Tap};
use super::columns::Used;
use super::declared::Declared;
use super::diagnosis;
use super::names::Names;
use super::problem::{Problem, Problems};
use super::statements::{Inserted, Reader, View};
use super::{Compiled, Finding, expression};

impl Reader<'_> {
    pub(super) async fn finish(mut self) -> Result<Compiled, Problems> {
        let known = self.problems.is_empty();
        if known && self.source.is_none() {
            let remedy = "CREATE EXTERNAL TABLE alerts STORED AS ALERTS LOCATION '…'";
            self.problem((1, 1), "the pipeline has no table of alerts", remedy);
        }
        if known && self.inserts.is_empty() {
            self.problem((1, 1), "the pipeline writes nothing", "add INSERT INTO … SELECT …");
        }
        self.hold_against_the_world().await;
        self.check_steering();
        let compiled = match self.source.clone() {
            Some((source, reader)) => self.chained(&source, &reader),
            None => None,
        };
        let problems = Problems { file: self.pipeline.file.clone(), problems: self.problems };
        match (problems.finish(), compiled) {
            (Err(problems), _) => Err(problems),
            (Ok(()), Some(compiled)) => {
                self.warnings.sort();
                self.warnings.dedup();
                Ok(Compiled { warnings: self.warnings, ..compiled })
            }
            (Ok(()), None) => Err(Problems::default()),
        }
    }

    /// Asks about each table that is written, all at a time.
    async fn hold_against_the_world(&mut self) {
        let mut asked = Vec::new();
        for declared in self.sinks.values() {
            asked.push(self.ask(declared));
        }
        let told = join_all(asked).await;
        for told in told.into_iter().flatten() {
            match told {
                Told::Problem(problem) => self.problems.push(problem),
                Told::Warning(warning) => self.warnings.push(warning),
            }
        }
    }

    async fn ask(&self, declared: &Declared) -> Vec<Told> {
        let inserts: Vec<&Inserted> = self.inserts.iter().filter(|insert| insert.sink == declared.spec.name).collect();
        let rows: Vec<SchemaRef> = inserts.iter().map(|insert| insert.schema.clone()).collect();
        let places: Vec<_> = inserts.iter().map(|insert| insert.place.at).collect();
        let findings = self.surroundings.sink(&declared.spec, &rows).await;
        findings.iter().map(|finding| tell(declared, finding, &places)).collect()
    }

    /// Options that are expressions over the rows of each `INSERT`.
    fn check_steering(&mut self) {
        let mut problems = Vec::new();
        for insert in &self.inserts {
            let Some(Declared { spec, at, options }) = self.sinks.get(&insert.sink) else { continue };
            for (option, text) in &spec.options {
                let Some(gives) = expression::steering(option) else { continue };
                for problem in self.check_expression(text, &insert.schema, Some(gives)) {
                    let place = options.get(option).map_or(*at, |at| at.within((problem.line, problem.column)));
                    let message = format!("option '{option}' of table '{}': {}", spec.name, problem.message);
                    problems.push(Problem::at(place, message, problem.remedy));
                }
            }
        }
        self.problems.append(&mut problems);
    }

    fn check_expression(&self, text: &str, columns: &SchemaRef, gives: Option<(DataType, &str)>) -> Vec<Problem> {
        let names = Names::new(&self.tables, &self.broken, &self.known);
        expression::check(&self.context, names, &|name: &str| self.is_module(name), text, columns, gives)
    }

    /// One chain of all that is right. Adds what is wrong with it.
    fn chained(&mut self, source: &SourceSpec, reader: &SchemaRef) -> Option<Compiled> {
        let (mut problems, mut warnings) = (Vec::new(), Vec::new());
        let (steps, taps) = {
            let is_module = |name: &str| self.is_module(name);
            let columns = reader.fields().iter().map(|field| field.name().clone());
            let simplify = |expr: Expr| self.simplify(expr, reader);
            let mut chain = Chain::new(&source.name, columns, &is_module, &simplify);
            for View { name, rows, conjuncts, place } in &self.views {
                let added = chain.view(name, rows.clone(), conjuncts, place.at);
                problems.extend(added.err().map(|error| diagnosis::refused(&error, place.of_call())));
            }
            for Inserted { sink, rows, conjuncts, place, .. } in &self.inserts {
                let added = chain.insert(sink, rows.clone(), conjuncts, place.at);
                problems.extend(added.err().map(|error| diagnosis::refused(&error, place.of_call())));
            }
            warnings.extend(self.nulls(&chain, reader));
            (chain.steps, chain.taps)
        };
        problems.extend(self.check_gates(&steps, reader));
        self.problems.append(&mut problems);
        self.warnings.append(&mut warnings);
        if !self.problems.is_empty() {
            return None;
        }
        match self.compiled(source, reader, steps, taps) {
            Ok(compiled) => Some(compiled),
            Err(error) => {
                let problems = self.unplanned(source, reader, &error);
                self.problems.extend(problems);
                None
            }
        }
    }

    /// Each module's own `where`, over the columns of the alerts, told where the module is called.
    fn check_gates(&self, steps: &[ChainStep], reader: &SchemaRef) -> Vec<Problem> {
        let places =
            || self.views.iter().map(|view| &view.place).chain(self.inserts.iter().map(|insert| &insert.place));
        let called: BTreeSet<&String> = steps.iter().filter_map(ChainStep::module).collect();
        let mut problems = Vec::new();
        for module in called.into_iter().filter_map(|name| self.registry.get(name).ok()) {
            let Some(gate) = &module.where_sql else { continue };
            let call = places().filter_map(|place| place.calls.get(&module.name)).min().copied().unwrap_or((1, 1));
            let gives = (DataType::Boolean, "true or false");
            for problem in self.check_expression(gate, reader, Some(gives)) {
                let message = format!("the `where` of module '{}', `{gate}`: {}", module.name, problem.message);
                let file = module.dir.join(redpoll_udfs::manifest::FILE_NAME);
                let remedy = format!("correct {}; {}", file.display(), problem.remedy);
                problems.push(Problem::at(call, message, remedy.trim_end_matches("; ")));
            }
        }
        problems
    }

    /// Conditions that a module without a value makes NULL.
    fn nulls(&self, chain: &Chain<'_>, reader: &SchemaRef) -> Vec<Problem> {
        let value = |step: &ChainStep| match step {
            ChainStep::Enrich { module, column, .. } => {
                let returns = self.registry.get(module).ok()?.returns.data_type();
                Some((column.clone(), ScalarValue::try_from(returns).ok()?, module.clone()))
            }
            ChainStep::Cut { .. } => None,
        };
        let values: Vec<_> = chain.steps.iter().filter_map(value).collect();
        // What cannot be judged is no reason to refuse a pipeline.
        chain.conditions.iter().filter_map(|condition| condition.warning(&values, reader).ok().flatten()).collect()
    }

    /// What only shows when a plan is made, told where the `INSERT`s stand that cannot be planned.
    fn unplanned(&self, source: &SourceSpec, reader: &SchemaRef, error: &DataFusionError) -> Vec<Problem> {
        let is_module = |name: &str| self.is_module(name);
        let simplify = |expr: Expr| self.simplify(expr, reader);
        let mut problems = Vec::new();
        for insert in &self.inserts {
            let columns = reader.fields().iter().map(|field| field.name().clone());
            let mut chain = Chain::new(&source.name, columns, &is_module, &simplify);
            let views = self.views.iter().try_for_each(|View { name, rows, conjuncts, place }| {
                chain.view(name, rows.clone(), conjuncts, place.at)
            });
            let Inserted { sink, rows, conjuncts, place, .. } = insert;
            let alone = views.and_then(|()| chain.insert(sink, rows.clone(), conjuncts, place.at));
            let planned = alone.and_then(|()| self.compiled(source, reader, chain.steps, chain.taps));
            problems.extend(planned.err().map(|error| diagnosis::refused(&error, insert.place.at)));
        }
        if problems.is_empty() {
            problems.push(diagnosis::refused(error, (1, 1)));
        }
        problems
    }

    fn compiled(
        &self,
        source: &SourceSpec,
        reader: &SchemaRef,
        steps: Vec<ChainStep>,
        taps: Vec<Tap>,
    ) -> Result<Compiled, DataFusionError> {
        let (mut needed, mut modules, mut gates) = (Used::default(), BTreeMap::new(), BTreeMap::new());
        for step in &steps {
            match step {
                ChainStep::Cut { rules, .. } => rules.iter().try_for_each(|(_, rule)| needed.add(rule))?,
                ChainStep::Enrich { module, arguments, .. } => {
                    arguments.iter().try_for_each(|argument| needed.add(argument))?;
                    if let Ok(module) = self.registry.get(module) {
                        modules.insert(module.name.clone(), module.fingerprint.clone());
                        if let Some(gate) = &module.where_sql {
                            let gate = self.gate(&source.name, gate)?;
                            needed.add(&gate)?;
                            gates.insert(module.name.clone(), gate);
                        }
                    }
                }
            }
        }
        let mut used = needed.clone();
        for level in taps.iter().filter_map(|tap| tap.levels.first()) {
            let columns = level.columns.iter().map(|(_, expr)| expr);
            columns.clone().try_for_each(|expr| needed.add_computed(expr))?;
            level.conjuncts.iter().try_for_each(|expr| needed.add(expr))?;
            level.conjuncts.iter().chain(columns).try_for_each(|expr| used.add(expr))?;
        }
        let mut reader_schema = ReaderSchema::from(reader.as_ref());
        reader_schema.require(&needed.paths());
        let sinks = self
            .inserts
            .iter()
            .filter_map(|insert| Some((self.sinks.get(&insert.sink)?.spec.clone(), insert.schema.clone())));
        let compiled = Compiled {
            source: source.clone(),
            reader: reader_schema.arrow(),
            alerts: used.prune(reader),
            sinks: sinks.collect(),
            modules,
            steps,
            taps,
            gates,
            warnings: Vec::new(),
            registry: self.registry.clone(),
            context: self.context.clone(),
        };
        // What only shows when a plan is made must show now, not in the first epoch.
        compiled.plan(EpochRun::default(), &[Split::default()])?;
        Ok(compiled)
    }

    /// Folds what is constant, so that a module that a variable switches off is not called.
    fn simplify(&self, expr: Expr, reader: &SchemaRef) -> Result<Expr, DataFusionError> {
        // An expression over a module's value does not type here, and stays as it is.
        let schema = Arc::new(datafusion::common::DFSchema::try_from(reader.as_ref().clone())?);
        let context = SimplifyContext::builder()
            .with_schema(schema)
            .with_config_options(self.context.state().config_options().clone())
            .build();
        Ok(ExprSimplifier::new(context).simplify(expr.clone()).unwrap_or(expr))
    }

    /// A module's own `where`, over the columns of the alerts.
    fn gate(&self, source: &str, text: &str) -> Result<Expr, DataFusionError> {
        let schema = datafusion::common::DFSchema::try_from(self.tables[source].as_ref().clone())?;
        expression::parse(&self.context, text, &schema)
    }
}

impl Compiled {
    /// The view that the job's topics are written from, or the last that anything is: where a filter belongs unless it
    /// says otherwise.
    pub fn base_of_topics(&self) -> &str {
        let is_topic = |tap: &&Tap| self.topics().any(|topic| topic.name == tap.sink);
        let tap = self.taps.iter().rfind(is_topic).or(self.taps.last());
        tap.map_or("", |tap| tap.base.as_str())
    }

    /// The tables that are topics.
    pub fn topics(&self) -> impl Iterator<Item = &SinkSpec> {
        self.sinks.iter().map(|(sink, _)| sink).filter(|sink| sink.kind == SinkKind::Topic)
    }

    /// Archive tables that have every row of the view that a table is written from.
    pub fn archives_of(&self, table: &str) -> Vec<String> {
        let Some(own) = self.taps.iter().find(|tap| tap.sink == table) else { return Vec::new() };
        let is_archive = |name: &str| {
            self.sinks.iter().any(|(sink, _)| sink.name == name && sink.kind == SinkKind::Delta)
        };
        let is_whole = |tap: &&Tap| {
            let [level] = tap.levels.as_slice() else { return false };
            tap.mask == own.mask && level.conjuncts.is_empty() && level.unnest.is_empty() && is_archive(&tap.sink)
        };
        self.taps.iter().filter(is_whole).map(|tap| tap.sink.clone()).collect()
    }
}

enum Told {
    Problem(Problem),
    Warning(Problem),
}

fn tell(declared: &Declared, finding: &Finding, inserts: &[(u64, u64)]) -> Told {
    let text = format!("table '{}': {}", declared.spec.name, finding.text);
    let problem = Problem::told(declared.place(&finding.at, inserts), &text);
    if finding.is_warning { Told::Warning(problem) } else { Told::Problem(problem) }
}
