//! `check` and `refused`: what an expression of SQL gives, or why it is refused.

use std::sync::Arc;

use arrow::util::display::{ArrayFormatter, FormatOptions};
use ballista_core::extension::ballista_scalar_functions;
use datafusion::common::Result;
use datafusion::execution::SessionStateBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{SessionConfig, SessionContext};

/// A session as pipelines have it: names keep their case, Spark's and our functions, dots that reach into lists.
pub(crate) fn session() -> SessionContext {
    let config = SessionConfig::new()
        .set_bool("datafusion.sql_parser.enable_ident_normalization", false)
        .set_bool("datafusion.sql_parser.collect_spans", true)
        .set_str("datafusion.sql_parser.dialect", super::DIALECT.as_ref());
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_expr_planners(vec![Arc::new(super::StructPaths)])
        .with_default_features()
        .build();
    let session = SessionContext::new_with_state(state);
    for function in ballista_scalar_functions().into_iter().chain(super::all()) {
        session.register_udf(function.as_ref().clone());
    }
    session
}

/// Parses, rewrites and plans a query, as pipelines do.
pub(crate) async fn plan(session: &SessionContext, query: &str) -> Result<LogicalPlan> {
    let state = session.state();
    let mut statement = state.sql_to_statement(query, &super::DIALECT)?;
    super::rewrite(&mut statement);
    state.statement_to_plan(statement).await
}

/// The rows of a query, one text per row with its columns between bars.
pub(crate) async fn rows(session: &SessionContext, query: &str) -> Result<Vec<String>> {
    let batches = session.execute_logical_plan(plan(session, query).await?).await?.collect().await?;
    let options = FormatOptions::new().with_null("NULL");
    let mut rows = Vec::new();
    for batch in &batches {
        let columns = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options));
        let columns = columns.collect::<std::result::Result<Vec<_>, _>>()?;
        let row = |row| columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join(" | ");
        rows.extend((0..batch.num_rows()).map(row));
    }
    Ok(rows)
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// The value of an expression; `error: …` asks for an error with that text when it runs.
#[track_caller]
pub(crate) fn check(expression: &str, expected: &str) {
    let found = match block_on(rows(&session(), &format!("SELECT {expression}"))) {
        Ok(rows) => rows.join(" / "),
        Err(error) => format!("error: {}", error.strip_backtrace()),
    };
    match expected.strip_prefix("error: ") {
        Some(reason) => assert!(found.starts_with("error: ") && found.contains(reason), "{expression}: {found}"),
        None => assert_eq!(found, expected, "{expression}"),
    }
}

/// Asserts that the expression is refused when it is planned, before anything runs, for this reason.
#[track_caller]
pub(crate) fn refused(expression: &str, reason: &str) {
    let plan = block_on(plan(&session(), &format!("SELECT {expression}")));
    let error = plan.expect_err(expression).strip_backtrace();
    assert!(error.contains(reason), "{expression}: {error}");
}
