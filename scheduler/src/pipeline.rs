//! A pipeline: SQL text in, one checked chain of steps out.
//!
//! `Fetch → Decode → Cut → Enrich → Match … → FanOut`, whatever the number of views and `INSERT`s. Views are expanded here,
//! before anything is optimised: a view is a mask and a set of expressions, and a row stays until the last sink that
//! wants it. Everything that can be wrong is found here, before the night.

mod assemble;
mod by_name;
mod calls;
mod chain;
mod columns;
mod crossmatch;
mod declared;
mod diagnosis;
mod expression;
pub mod filters;
mod flatten;
mod names;
mod nulls;
mod options;
mod outline;
mod plan;
mod problem;
mod refused;
pub mod session;
mod statements;
mod text;
mod volatile;
mod withholding;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::logical_expr::{LogicalPlan, ScalarUDF};
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;
use redpoll_core::catalog::CatalogSpec;
use redpoll_core::protocol::Pipeline;
use redpoll_core::revision;
use redpoll_core::runtime::SourceSpec;
use redpoll_core::sink::SinkSpec;
use redpoll_udfs::registry::Registry;

pub use calls::ModuleCall;
use chain::{ChainStep, Tap};
pub use crossmatch::Listed;
pub(crate) use problem::nearest;
pub use problem::{Problem, Problems};

/// What a pipeline is checked against: the world outside of its text.
#[async_trait]
pub trait Surroundings: Send + Sync {
    /// Absolute URL of a location, as the pipeline's folders and the warehouse have it.
    fn locate(&self, kind: TableKind, location: &str, pipeline: &Pipeline) -> Result<String, String>;

    /// The columns of a table of alerts; fails if it cannot be read at all.
    async fn alerts(&self, spec: &SourceSpec, pipeline: &Pipeline) -> Result<SchemaRef, Vec<Finding>>;

    /// What is wrong with a table and with rows of these columns, of each of its `INSERT`s, in it. Changes nothing.
    async fn sink(&self, spec: &SinkSpec, rows: &[SchemaRef]) -> Vec<Finding>;

    /// A catalogue as it is now, or as a running job knows it.
    async fn catalog(&self, spec: &CatalogSpec) -> Result<Listed, Vec<Finding>>;
}

/// What is wrong with a table, or seldom meant, as far as the world tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub at: At,
    /// What is wrong, then perhaps `; ` and what to do.
    pub text: String,
    pub is_warning: bool,
}

impl Finding {
    pub fn problem(at: At, text: impl ToString) -> Self {
        Self { at, text: text.to_string(), is_warning: false }
    }

    pub fn warning(at: At, text: impl ToString) -> Self {
        Self { at, text: text.to_string(), is_warning: true }
    }
}

/// The part of a table's declaration and use that a finding is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    /// All of it: told at its first `INSERT`.
    Table,
    Declaration,
    /// The name of an option.
    Option(String),
    /// The value of an option.
    Value(String),
    /// One of its `INSERT`s, in their order.
    Insert(usize),
}

/// The five kinds of table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableKind {
    Alerts,
    Delta,
    Topic,
    Store,
    Outbox,
    Catalog,
}

/// A checked pipeline, ready to be planned for an epoch.
#[derive(Clone)]
pub struct Compiled {
    pub source: SourceSpec,
    /// Every column that the table of alerts declares.
    pub reader: SchemaRef,
    /// Those in use.
    pub alerts: SchemaRef,
    /// Sinks in the order of their `INSERT`s, each with the rows it gets.
    pub sinks: Vec<(SinkSpec, SchemaRef)>,
    /// Locks of the modules that are called.
    pub modules: BTreeMap<String, String>,
    /// The catalogues that alerts are looked up in.
    pub catalogs: BTreeMap<String, Listed>,
    /// What is allowed but seldom meant.
    pub warnings: Vec<Problem>,
    steps: Vec<ChainStep>,
    taps: Vec<Tap>,
    gates: BTreeMap<String, datafusion::logical_expr::Expr>,
    /// What of each column of matches is in use.
    matches: BTreeMap<String, DataType>,
    registry: Registry,
    context: SessionContext,
}

impl Compiled {
    /// Locks of the modules and the catalogues that it depends on.
    pub fn locks(&self) -> BTreeMap<String, String> {
        let catalogs = self.catalogs.iter();
        let catalogs =
            catalogs.map(|(name, listed)| (format!("{}{name}", revision::CATALOG), listed.catalog.lock.clone()));
        self.modules.clone().into_iter().chain(catalogs).collect()
    }
}

/// Plans a question over tables that `context` knows. What is misspelt is told with its place and the nearest name.
pub(crate) async fn plan_question(
    context: &SessionContext,
    statement: Statement,
    tables: &BTreeMap<String, SchemaRef>,
) -> Result<LogicalPlan, Problems> {
    let state = context.state();
    let planned = state.statement_to_plan(statement.clone()).await.and_then(|plan| state.optimize(&plan));
    let error = match planned {
        Ok(plan) => return Ok(plan),
        Err(error) => error,
    };
    let (functions, broken) = (session::function_names(context), Default::default());
    let mut names = names::Names::new(tables, &broken, &functions);
    if let Some(query) = question(&statement) {
        names.query(query);
    }
    let mut problems = names.problems;
    if problems.is_empty() {
        problems.push(diagnosis::unplannable(&state, &statement, &error, (1, 1)).await);
    }
    Err(Problems { file: "query".to_owned(), problems }.sorted())
}

/// The query in a statement, behind any `EXPLAIN`.
fn question(statement: &Statement) -> Option<&ast::Query> {
    let mut statement = match statement {
        Statement::Statement(statement) => statement.as_ref(),
        Statement::Explain(explain) => return question(&explain.statement),
        _ => return None,
    };
    while let ast::Statement::Explain { statement: inner, .. } = statement {
        statement = inner;
    }
    match statement {
        ast::Statement::Query(query) => Some(query),
        _ => None,
    }
}

/// Checks a pipeline and takes it apart. All problems are told, not only the first.
pub async fn compile(
    pipeline: &Pipeline,
    functions: &[Arc<ScalarUDF>],
    registry: &Registry,
    surroundings: &dyn Surroundings,
) -> Result<Compiled, Problems> {
    statements::compile(pipeline, functions, registry, surroundings).await
}
