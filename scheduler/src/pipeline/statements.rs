//! The statements of a pipeline, one after the other: tables, views, `INSERT`s.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::datasource::empty::EmptyTable;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, LogicalPlan, ScalarUDF};
use datafusion::optimizer::simplify_expressions::{ExprSimplifier, SimplifyContext};
use datafusion::prelude::SessionContext;
use datafusion::scalar::ScalarValue;
use datafusion::sql::parser::{CreateExternalTable, Statement};
use datafusion::sql::sqlparser::ast::{self, BinaryOperator, Query, SetExpr, TableObject};
use redpoll_connectors::avro::ReaderSchema;
use redpoll_connectors::sources::ID_OPTION;
use redpoll_core::protocol::{Pipeline, Split};
use redpoll_core::runtime::SourceSpec;
use redpoll_core::sink::{SinkKind, SinkSpec};
use redpoll_core::steps::EpochRun;
use redpoll_udfs::functions::{Place, place};
use redpoll_udfs::registry::{Registry, placeholder_udf};

use super::chain::{Chain, ChainStep, Written};
use super::columns::Used;
use super::flatten::{Rows, flatten};
use super::names::{Names, Tables, place_of_node, table_name};
use super::problem::{Problem, Problems, nearest};
use super::session;
use super::text::{Piece, pieces, substitute};
use super::{Compiled, Surroundings, TableKind};

pub(super) async fn compile(
    pipeline: &Pipeline,
    functions: &[Arc<ScalarUDF>],
    registry: &Registry,
    surroundings: &dyn Surroundings,
) -> Result<Compiled, Problems> {
    let context = session::context(functions);
    for module in registry.iter() {
        context.register_udf(placeholder_udf(module));
    }
    let mut reader = Reader {
        pipeline,
        surroundings,
        registry,
        known: session::function_names(&context),
        context,
        tables: Tables::new(),
        broken: BTreeSet::new(),
        source: None,
        sinks: BTreeMap::new(),
        views: Vec::new(),
        inserts: Vec::new(),
        problems: Vec::new(),
    };
    let pieces =
        substitute(&pipeline.text, &pipeline.variables).and_then(|text| pieces(&text).map_err(|problem| vec![problem]));
    match pieces {
        Ok(pieces) => {
            for piece in &pieces {
                reader.statement(piece).await;
            }
        }
        Err(problems) => reader.problems = problems,
    }
    reader.finish().await
}

struct Reader<'a> {
    pipeline: &'a Pipeline,
    surroundings: &'a dyn Surroundings,
    registry: &'a Registry,
    context: SessionContext,
    known: BTreeSet<String>,
    tables: Tables,
    /// Tables and views that have problems of their own: statements over them add none.
    broken: BTreeSet<String>,
    source: Option<(SourceSpec, SchemaRef)>,
    sinks: BTreeMap<String, (SinkSpec, (u64, u64))>,
    views: Vec<(String, Rows, Written, (u64, u64))>,
    inserts: Vec<(Insert, SchemaRef, (u64, u64))>,
    problems: Vec<Problem>,
}

/// An `INSERT` as it was read.
struct Insert {
    sink: String,
    rows: Rows,
    conjuncts: Written,
}

impl Reader<'_> {
    fn problem(&mut self, place: (u64, u64), message: impl Into<String>, remedy: impl Into<String>) {
        self.problems.push(Problem::at(place, message, remedy));
    }

    async fn statement(&mut self, piece: &Piece) {
        let statement = match session::parse(&piece.text).map(|mut statements| statements.pop()) {
            Ok(Some(statement)) => statement,
            Ok(None) => return,
            Err(error) => {
                let (place, message) = parse_error(&error, piece.start);
                return self.problem(place, message, "");
            }
        };
        match statement {
            Statement::CreateExternalTable(table) => self.table(table, piece).await,
            Statement::Statement(statement) => match *statement {
                ast::Statement::CreateView(view) => self.view(&table_name(&view.name), *view.query, piece).await,
                ast::Statement::Insert(insert) => self.insert(insert, piece).await,
                _ => self.unknown_statement(piece),
            },
            _ => self.unknown_statement(piece),
        }
    }

    fn unknown_statement(&mut self, piece: &Piece) {
        let remedy = "a pipeline is made of CREATE EXTERNAL TABLE, CREATE VIEW and INSERT INTO … SELECT; ask questions with `redpoll sql`";
        self.problem(piece.start, "this statement has no place in a pipeline", remedy);
    }

    async fn table(&mut self, table: CreateExternalTable, piece: &Piece) {
        let (name, at) = (table_name(&table.name), piece.start);
        let kind = match table.file_type.to_uppercase().as_str() {
            "ALERTS" => TableKind::Alerts,
            "DELTA" => TableKind::Delta,
            "TOPIC" => TableKind::Topic,
            "STORE" => TableKind::Store,
            other => {
                let near = nearest(other, ["ALERTS", "DELTA", "TOPIC", "STORE"]);
                self.broken.insert(name.clone());
                return self.problem(
                    at,
                    format!("table '{name}' is STORED AS {other}, which is not a kind of table"),
                    near,
                );
            }
        };
        let location = table.locations.first().map(String::as_str).unwrap_or_default();
        let url = match self.surroundings.locate(kind, location, self.pipeline) {
            Ok(url) => url,
            Err(error) => {
                self.problem(at, format!("table '{name}': {error}"), "correct its LOCATION");
                self.broken.insert(name);
                return;
            }
        };
        let options: BTreeMap<_, _> =
            table.options.iter().map(|(key, value)| (key.clone(), self.option(key, value))).collect();
        let kind = match kind {
            TableKind::Alerts => return self.source(SourceSpec { name, url, options }, at).await,
            TableKind::Delta => SinkKind::Delta,
            TableKind::Topic => SinkKind::Topic,
            TableKind::Store => SinkKind::Store,
        };
        let partition_by = table.table_partition_cols.clone();
        if self
            .sinks
            .insert(name.clone(), (SinkSpec { name: name.clone(), kind, url, partition_by, options }, at))
            .is_some()
        {
            self.problem(at, format!("table '{name}' is declared twice"), "give each table a name of its own");
        }
    }

    /// The text of an option. Paths of schema files start from the pipeline's folder.
    fn option(&self, key: &str, value: &ast::Value) -> String {
        let text = match value {
            ast::Value::SingleQuotedString(text) | ast::Value::DoubleQuotedString(text) => text.clone(),
            other => other.to_string(),
        };
        match key {
            "schema" | "registry" if !text.contains("://") => {
                Path::new(&self.pipeline.folder).join(text).to_string_lossy().into_owned()
            }
            _ => text,
        }
    }

    async fn source(&mut self, spec: SourceSpec, at: (u64, u64)) {
        if let Some((other, _)) = &self.source {
            let message = format!("'{}' is a second table of alerts, after '{}'", spec.name, other.name);
            return self.problem(at, message, "a pipeline reads one; a Kafka LOCATION may list topics or be a pattern");
        }
        match self.surroundings.alerts(&spec, self.pipeline).await {
            Ok(schema) => {
                if let Some(id) = spec.options.get(ID_OPTION).filter(|id| schema.field_with_name(id).is_err()) {
                    let near = nearest(id, schema.fields().iter().map(|field| field.name().as_str()));
                    self.problem(
                        at,
                        format!("table '{}': its 'id' is '{id}', which is no column of it", spec.name),
                        near,
                    );
                }
                self.add_table(&spec.name, &schema);
                self.source = Some((spec, schema));
            }
            Err(error) => {
                self.problems.push(Problem::told(at, &format!("table '{}': {error}", spec.name)));
                self.broken.insert(spec.name);
            }
        }
    }

    fn add_table(&mut self, name: &str, schema: &SchemaRef) {
        // The terms of a table of alerts are no matter of its rows.
        let schema = &Arc::new(Schema::new(schema.fields().clone()));
        self.tables.insert(name.to_owned(), schema.clone());
        let registered = session::register(&self.context, name, Arc::new(EmptyTable::new(schema.clone())));
        if let Err(error) = registered {
            self.problem((0, 0), format!("table '{name}': {error}"), "");
        }
    }

    async fn view(&mut self, name: &str, query: Query, piece: &Piece) {
        if self.tables.contains_key(name) {
            return self.problem(
                piece.start,
                format!("'{name}' is declared twice"),
                "give each view a name of its own",
            );
        }
        let texts = conjuncts(&query);
        if let Some((rows, schema)) = self.select(query, piece).await {
            self.add_table(name, &schema);
            self.views.push((name.to_owned(), rows, texts, piece.start));
        } else {
            self.broken.insert(name.to_owned());
        }
    }

    async fn insert(&mut self, insert: ast::Insert, piece: &Piece) {
        let TableObject::TableName(target) = &insert.table else { return self.unknown_statement(piece) };
        let (sink, at) = (table_name(target), place_of_node(target));
        if !self.sinks.contains_key(&sink) && !self.broken.contains(&sink) {
            let near = nearest(&sink, self.sinks.keys().map(String::as_str));
            self.problem(at, format!("there is no table '{sink}' to insert into"), near);
        }
        if !insert.columns.is_empty() {
            self.problem(at, "a list of columns after INSERT INTO", "name the columns in the SELECT, with AS");
        }
        let Some(query) = insert.source else { return self.unknown_statement(piece) };
        let conjuncts = conjuncts(&query);
        if let Some((rows, schema)) = self.select(*query, piece).await {
            self.inserts.push((Insert { sink, rows, conjuncts }, schema, at));
        }
    }

    /// Plans a `SELECT` and takes it apart. Adds the problems it finds.
    async fn select(&mut self, query: Query, piece: &Piece) -> Option<(Rows, SchemaRef)> {
        let (tables, functions) = (&self.tables, &self.known);
        let mut names = Names { tables, broken: &self.broken, functions, problems: Vec::new(), reads_broken: false };
        names.query(&query);
        if !names.problems.is_empty() || names.reads_broken {
            self.problems.append(&mut names.problems);
            return None;
        }
        let statement = Statement::Statement(Box::new(ast::Statement::Query(Box::new(query))));
        let state = self.context.state();
        let planned = state.statement_to_plan(statement.clone()).await.and_then(|plan| {
            // Some types are only found wrong when the plan is optimised.
            state.optimize(&plan)?;
            state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {})
        });
        match planned {
            Ok(plan) => self.rows(&plan, piece),
            Err(error) => {
                let (at, message) = match place(&state, &statement, &error).await {
                    Some(Place { location, reason }) => ((location.line, location.column), reason),
                    None => plan_error(&error, piece.start),
                };
                let message = message.trim_start_matches("Error during planning: ");
                self.problem(at, message, remedy(message));
                None
            }
        }
    }

    fn rows(&mut self, plan: &LogicalPlan, piece: &Piece) -> Option<(Rows, SchemaRef)> {
        let rows = match flatten(plan) {
            Ok(rows) => rows,
            Err(refused) => {
                self.problem(piece.start, format!("a pipeline cannot have {}", refused.what), refused.remedy);
                return None;
            }
        };
        let exprs =
            rows.levels.iter().flat_map(|level| level.conjuncts.iter().chain(level.columns.iter().map(|(_, e)| e)));
        let is_module = |name: &String| self.registry.get(name).is_ok();
        if let Some(name) = exprs.flat_map(volatile).find(|name| !is_module(name)) {
            let remedy = "a re-run must compute the same rows; derive it from the alert's id instead";
            self.problem(piece.start, format!("{name}() gives another value each time"), remedy);
            return None;
        }
        Some((rows, plan.schema().inner().clone()))
    }

    async fn finish(mut self) -> Result<Compiled, Problems> {
        let known = self.problems.is_empty();
        if known && self.source.is_none() {
            self.problem(
                (1, 1),
                "the pipeline has no table of alerts",
                "CREATE EXTERNAL TABLE alerts STORED AS ALERTS LOCATION '…'",
            );
        }
        if known && self.inserts.is_empty() {
            self.problem((1, 1), "the pipeline writes nothing", "add INSERT INTO … SELECT …");
        }
        for (Insert { sink, .. }, schema, at) in &self.inserts {
            let Some((spec, _)) = self.sinks.get(sink) else { continue };
            if let Err(error) = self.surroundings.sink(spec, schema).await {
                self.problems.push(Problem::told(*at, &format!("table '{sink}': {error}")));
            }
        }
        let compiled = match (&self.source, self.problems.is_empty()) {
            (Some((source, reader)), true) => self.chain(source, reader),
            _ => None,
        };
        let problems = Problems { file: self.pipeline.file.clone(), problems: self.problems };
        match compiled {
            Some(Ok(compiled)) => problems.finish().map(|()| compiled),
            Some(Err(error)) => {
                let problem = Problem::at((1, 1), error.strip_backtrace(), "");
                Err(Problems { problems: vec![problem], ..problems })
            }
            None => Err(problems.finish().err().unwrap_or_default()),
        }
    }

    fn chain(&self, source: &SourceSpec, reader: &SchemaRef) -> Option<Result<Compiled, DataFusionError>> {
        let is_module = |name: &str| self.registry.get(name).is_ok();
        let columns = reader.fields().iter().map(|field| field.name().clone());
        let simplify = |expr: Expr| self.simplify(expr, reader);
        let mut chain = Chain::new(&source.name, columns, &is_module, &simplify);
        let build = || {
            for (name, rows, texts, at) in &self.views {
                chain.view(name, rows.clone(), texts, *at)?;
            }
            for (Insert { sink, rows, conjuncts }, _, at) in &self.inserts {
                chain.insert(sink, rows.clone(), conjuncts, *at)?;
            }
            let warnings = self.warnings(&chain, reader)?;
            let (steps, taps) = (chain.steps, chain.taps);
            Ok(Compiled { warnings, ..self.compiled(source, reader, steps, taps)? })
        };
        Some(build())
    }

    fn compiled(
        &self,
        source: &SourceSpec,
        reader: &SchemaRef,
        steps: Vec<ChainStep>,
        taps: Vec<super::chain::Tap>,
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
        let sinks = self.inserts.iter().filter_map(|(insert, schema, _)| {
            self.sinks.get(&insert.sink).map(|(spec, _)| (spec.clone(), schema.clone()))
        });
        let compiled = Compiled {
            source: source.clone(),
            reader: reader_schema.arrow(),
            alerts: used.prune(reader),
            sinks: sinks.collect(),
            modules,
            warnings: Vec::new(),
            steps,
            taps,
            gates,
            registry: self.registry.clone(),
            context: self.context.clone(),
        };
        // What only shows when a plan is made must show now, not in the first epoch.
        compiled.plan(EpochRun::default(), &[Split::default()])?;
        Ok(compiled)
    }

    /// Conditions that a module without a value makes NULL.
    fn warnings(&self, chain: &Chain<'_>, reader: &SchemaRef) -> Result<Vec<Problem>, DataFusionError> {
        let mut values = Vec::new();
        for step in &chain.steps {
            if let ChainStep::Enrich { module, column, .. } = step
                && let Ok(found) = self.registry.get(module)
            {
                values.push((column.clone(), ScalarValue::try_from(found.returns.data_type())?, module.clone()));
            }
        }
        let mut warnings = Vec::new();
        for condition in &chain.conditions {
            // What cannot be judged is no reason to refuse a pipeline.
            warnings.extend(condition.warning(&values, reader).ok().flatten());
        }
        warnings.sort();
        warnings.dedup();
        Ok(warnings)
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
        let schema = &self.tables[source];
        let schema = datafusion::common::DFSchema::try_from(schema.as_ref().clone())?;
        self.context.parse_sql_expr(text, &schema)
    }
}

/// The conjuncts of a `WHERE` as written, each with its place.
fn conjuncts(query: &Query) -> Written {
    fn split(expr: &ast::Expr, texts: &mut Written) {
        match expr {
            ast::Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
                split(left, texts);
                split(right, texts);
            }
            ast::Expr::Nested(inner) if matches!(**inner, ast::Expr::BinaryOp { op: BinaryOperator::And, .. }) => {
                split(inner, texts);
            }
            other => texts.push((other.to_string(), place_of_node(other))),
        }
    }
    let mut texts = Vec::new();
    if let SetExpr::Select(select) = query.body.as_ref() {
        select.selection.iter().for_each(|selection| split(selection, &mut texts));
    }
    texts
}

fn volatile(expr: &Expr) -> Vec<String> {
    use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
    let mut found = Vec::new();
    let _ = expr.apply(|expr| {
        if let Expr::ScalarFunction(call) = expr
            && call.func.signature().volatility == datafusion::logical_expr::Volatility::Volatile
        {
            found.push(call.func.name().to_owned());
        }
        Ok(TreeNodeRecursion::Continue)
    });
    found
}

/// What to do about an error of the planner, where that is plain.
fn remedy(message: &str) -> &'static str {
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    match () {
        () if says(&["coerce", "common argument type"]) => "write CAST(… AS …) where the types differ",
        () if says(&["ambiguous", "unique expression names"]) => "give one of the two another name with AS",
        () => "",
    }
}

/// The place and message of a parser's error, which ends in ` at Line: 3, Column: 7`.
fn parse_error(error: &DataFusionError, start: (u64, u64)) -> ((u64, u64), String) {
    let text = error.strip_backtrace();
    let text = text.trim_start_matches("SQL error: ").to_owned();
    let number = |after: &str| {
        let digits: String = text.rsplit(after).next()?.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<u64>().ok()
    };
    let place = match (text.contains("Line: "), number("Line: "), number("Column: ")) {
        (true, Some(line), Some(column)) => (line, column),
        _ => start,
    };
    let message = text.split(" at Line:").next().unwrap_or(&text);
    let message = message.trim_start_matches("ParserError(\"").trim_end_matches("\")");
    (place, message.to_owned())
}

fn plan_error(error: &DataFusionError, start: (u64, u64)) -> ((u64, u64), String) {
    let span = error.diagnostic().and_then(|diagnostic| diagnostic.span);
    let place = span.map_or(start, |span| (span.start.line, span.start.column));
    let root = error.find_root().strip_backtrace();
    let message = root.split_once(": ").filter(|(kind, _)| kind.ends_with("error") || kind.ends_with("Error"));
    (place, message.map_or(root.clone(), |(_, message)| message.to_owned()))
}
