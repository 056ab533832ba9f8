//! The statements of a pipeline, one after the other: tables, views, `INSERT`s.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::{Arc, RwLock};

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::logical_expr::{LogicalPlan, ScalarUDF};
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{self, BinaryOperator, Query, SetExpr, TableObject, visit_expressions};
use redpoll_core::protocol::Pipeline;
use redpoll_core::runtime::SourceSpec;
use redpoll_udfs::registry::{Registry, placeholder_udf};

use super::by_name::name_arguments;
use super::chain::Written;
use super::crossmatch::{self, Catalogs};
use super::declared::Declared;
use super::diagnosis::{unparsable, unplannable};
use super::flatten::{Rows, flatten};
use super::names::{Names, Tables, place_of_node, table_name};
use super::problem::{Problem, Problems, nearest};
use super::refused::refused;
use super::session;
use super::text::{Piece, pieces, substitute, values, wanted};
use super::volatile::volatile;
use super::{Compiled, Surroundings};

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
    let catalogs = Arc::new(RwLock::new(Catalogs::new()));
    crossmatch::functions(&catalogs).for_each(|function| context.register_udf(function));
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
        catalogs,
        declared: None,
        views: Vec::new(),
        inserts: Vec::new(),
        problems: Vec::new(),
        warnings: Vec::new(),
    };
    let values = values(&pipeline.text, &pipeline.variables);
    let pieces = substitute(&pipeline.text, &pipeline.variables)
        .and_then(|text| pieces(&text).map_err(|problem| vec![problem]))
        .and_then(|pieces| wanted(pieces, &values));
    match pieces {
        Ok(pieces) => {
            for piece in &pieces {
                reader.statement(piece, 0).await;
            }
        }
        Err(problems) => reader.problems = problems,
    }
    let places = reader.filters().await;
    reader.finish().await.map_err(|problems| places.tell(problems))
}

/// Reads statement after statement, and keeps what is right and what is wrong.
pub(super) struct Reader<'a> {
    pub pipeline: &'a Pipeline,
    pub surroundings: &'a dyn Surroundings,
    pub registry: &'a Registry,
    pub context: SessionContext,
    pub known: BTreeSet<String>,
    pub tables: Tables,
    /// Tables and views that have problems of their own: statements over them add none.
    pub broken: BTreeSet<String>,
    pub source: Option<(SourceSpec, SchemaRef)>,
    pub sinks: BTreeMap<String, Declared>,
    /// Shared with the functions that ask them.
    pub catalogs: Arc<RwLock<Catalogs>>,
    /// The one that was declared last.
    pub declared: Option<String>,
    pub views: Vec<View>,
    pub inserts: Vec<Inserted>,
    pub problems: Vec<Problem>,
    pub warnings: Vec<Problem>,
}

/// A view that is right as far as it was looked at.
pub(super) struct View {
    pub name: String,
    pub rows: Rows,
    pub conjuncts: Written,
    pub place: Place,
}

/// An `INSERT` that is right as far as it was looked at.
pub(super) struct Inserted {
    pub sink: String,
    pub rows: Rows,
    pub schema: SchemaRef,
    pub conjuncts: Written,
    pub place: Place,
}

/// Where a statement stands, and each science module that it calls.
pub(super) struct Place {
    pub at: (u64, u64),
    pub calls: BTreeMap<String, (u64, u64)>,
}

impl Place {
    /// Of the first call of a module, if there is one.
    pub fn of_call(&self) -> (u64, u64) {
        self.calls.values().min().copied().unwrap_or(self.at)
    }

    /// Moves it and the places of its conditions down by so many lines.
    fn shift(&mut self, conjuncts: &mut Written, lines: u64) {
        let places = conjuncts.iter_mut().map(|(_, place)| place).chain(self.calls.values_mut()).chain([&mut self.at]);
        places.for_each(|place| place.0 += lines);
    }
}

impl Reader<'_> {
    pub(super) fn problem(&mut self, place: (u64, u64), message: impl Into<String>, remedy: impl Into<String>) {
        self.problems.push(Problem::at(place, message, remedy));
    }

    pub(super) fn is_module(&self, name: &str) -> bool {
        self.registry.get(name).is_ok()
    }

    /// Reads a statement of a text that has so many lines before it.
    pub(super) async fn statement(&mut self, piece: &Piece, before: u64) {
        let (n_problems, n_views, n_inserts) = (self.problems.len(), self.views.len(), self.inserts.len());
        self.read(piece).await;
        let lines = before + piece.before;
        let placed = self.problems[n_problems..].iter_mut().filter(|problem| problem.line > 0);
        placed.for_each(|problem| problem.line += lines);
        self.views[n_views..].iter_mut().for_each(|view| view.place.shift(&mut view.conjuncts, lines));
        self.inserts[n_inserts..].iter_mut().for_each(|insert| insert.place.shift(&mut insert.conjuncts, lines));
        if let Some(declared) = self.declared.take().and_then(|name| self.sinks.get_mut(&name)) {
            declared.shift(lines);
        }
    }

    async fn read(&mut self, piece: &Piece) {
        let statement = match session::parse(&piece.text).map(|mut statements| statements.pop()) {
            Ok(Some(statement)) => statement,
            Ok(None) => return,
            Err(error) => return self.problems.push(unparsable(&error, piece.start)),
        };
        match statement {
            Statement::CreateExternalTable(table) => self.table(table, piece).await,
            Statement::Statement(statement) => match *statement {
                ast::Statement::CreateView(view) => self.view(view, piece).await,
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

    async fn view(&mut self, view: ast::CreateView, piece: &Piece) {
        let name = table_name(&view.name);
        if self.is_declared(&name) {
            let message = format!("'{name}' is declared twice");
            return self.problem(piece.start, message, "give each view a name of its own");
        }
        if !view.columns.is_empty() {
            let message = format!("view '{name}' has a list of columns");
            self.problem(piece.start, message, "name the columns in the SELECT, with AS");
        }
        let (conjuncts, place) = (conjuncts(&view.query), self.place(&view.query, piece.start));
        if let Some((rows, schema)) = self.select(*view.query, piece).await {
            self.add_table(&name, &schema);
            self.views.push(View { name, rows, conjuncts, place });
        } else {
            self.broken.insert(name);
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
        if insert.overwrite {
            self.problem(
                at,
                "INSERT OVERWRITE: a job only adds rows",
                "write INSERT INTO, and a table of another name",
            );
        }
        let Some(query) = insert.source else { return self.unknown_statement(piece) };
        let (conjuncts, place) = (conjuncts(&query), self.place(&query, at));
        if let Some((rows, schema)) = self.select(*query, piece).await {
            self.inserts.push(Inserted { sink, rows, schema, conjuncts, place });
        }
    }

    fn place(&self, query: &Query, at: (u64, u64)) -> Place {
        let mut calls = BTreeMap::new();
        let _ = visit_expressions(query, |expr| {
            if let ast::Expr::Function(function) = expr
                && self.is_module(&function.name.to_string())
            {
                calls.entry(function.name.to_string()).or_insert(place_of_node(&function.name));
            }
            ControlFlow::<()>::Continue(())
        });
        Place { at, calls }
    }

    /// Plans a `SELECT` and takes it apart. Adds the problems it finds.
    async fn select(&mut self, mut query: Query, piece: &Piece) -> Option<(Rows, SchemaRef)> {
        let unnamed = name_arguments(&mut query, &self.tables, self.registry);
        let refused = refused(&query);
        let is_refused = !refused.is_empty();
        self.problems.extend(refused);
        let mut names = Names::new(&self.tables, &self.broken, &self.known);
        names.query(&query);
        let Names { problems: mut misspelt, reads_broken, .. } = names;
        if reads_broken || crossmatch::asks(&query, |name| self.broken.contains(name)) {
            self.problems.append(&mut misspelt);
            return None;
        }
        if !unnamed.is_empty() {
            self.problems.extend(unnamed);
            self.problems.append(&mut misspelt);
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
            Ok(plan) if !is_refused => return self.rows(&plan, piece),
            Ok(_) => {}
            Err(_) if !misspelt.is_empty() => self.problems.append(&mut misspelt),
            Err(_) if is_refused => {}
            Err(error) => self.problems.push(unplannable(&state, &statement, &error, piece.start).await),
        }
        None
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
        if let Some(name) = exprs.flat_map(volatile).find(|name| !self.is_lifted(name)) {
            let remedy = "a re-run must compute the same rows; derive it from the alert's id instead";
            self.problem(piece.start, format!("{name}() gives another value each time"), remedy);
            return None;
        }
        Some((rows, plan.schema().inner().clone()))
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
