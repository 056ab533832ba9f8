//! A pipeline: SQL text in, one checked chain of steps out.
//!
//! `Fetch → Decode → Cut → Enrich … → FanOut`, whatever the number of views and `INSERT`s. Views are expanded here,
//! before anything is optimised: a view is a mask and a set of expressions, and a row stays until the last sink that
//! wants it. Everything that can be wrong is found here, before the night.

mod chain;
mod columns;
mod flatten;
mod names;
mod nulls;
mod outline;
mod plan;
mod problem;
pub mod session;
mod statements;
mod text;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::logical_expr::ScalarUDF;
use datafusion::prelude::SessionContext;
use redpoll_core::protocol::Pipeline;
use redpoll_core::runtime::SourceSpec;
use redpoll_core::sink::SinkSpec;
use redpoll_udfs::registry::Registry;

use chain::{ChainStep, Tap};
pub use problem::{Problem, Problems};

/// What a pipeline is checked against: the world outside of its text.
#[async_trait]
pub trait Surroundings: Send + Sync {
    /// Absolute URL of a location, as the pipeline's folders and the warehouse have it.
    fn locate(&self, kind: TableKind, location: &str, pipeline: &Pipeline) -> Result<String, String>;

    /// The columns of a table of alerts; fails if it cannot be read at all.
    async fn alerts(&self, spec: &SourceSpec, pipeline: &Pipeline) -> Result<SchemaRef, String>;

    /// Whether rows of this schema can be written there. Changes nothing.
    async fn sink(&self, spec: &SinkSpec, schema: &SchemaRef) -> Result<(), String>;
}

/// The four kinds of table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableKind {
    Alerts,
    Delta,
    Topic,
    Store,
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
    /// What is allowed but seldom meant.
    pub warnings: Vec<Problem>,
    steps: Vec<ChainStep>,
    taps: Vec<Tap>,
    gates: BTreeMap<String, datafusion::logical_expr::Expr>,
    registry: Registry,
    context: SessionContext,
}

/// Looks up the names of a question.
pub(crate) fn check_names(
    context: &SessionContext,
    query: &datafusion::sql::sqlparser::ast::Query,
    tables: &BTreeMap<String, SchemaRef>,
) -> Result<(), Problems> {
    let functions = session::function_names(context);
    let (broken, problems) = (Default::default(), Vec::new());
    let mut names = names::Names { tables, broken: &broken, functions: &functions, problems, reads_broken: false };
    names.query(query);
    Problems { file: "query".to_owned(), problems: names.problems }.finish()
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
