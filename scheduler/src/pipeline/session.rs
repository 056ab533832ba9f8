//! The SQL session that pipelines and questions are planned in.

use std::collections::BTreeSet;
use std::sync::Arc;

use ballista_core::extension::ballista_scalar_functions;
use datafusion::catalog::{MemorySchemaProvider, SchemaProvider, TableProvider};
use datafusion::common::{TableReference, plan_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{FunctionRegistry, SessionStateBuilder};
use datafusion::logical_expr::ScalarUDF;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::Expr;
use datafusion::sql::sqlparser::dialect::{Dialect, dialect_from_str};
use redpoll_udfs::functions::{DIALECT, StructPaths, rewrite, rewrite_expression};

/// Settings that make SQL read as surveys write it: names keep their case, errors know their place.
pub fn configure(config: SessionConfig) -> SessionConfig {
    let mut config = config;
    let options = config.options_mut();
    options.sql_parser.enable_ident_normalization = false;
    options.sql_parser.collect_spans = true;
    options.execution.parquet.schema_force_view_types = false;
    config
}

/// A session with the functions given beside the engine's own.
pub fn context(functions: &[Arc<ScalarUDF>]) -> SessionContext {
    let state = SessionStateBuilder::new()
        .with_config(configure(SessionConfig::new()))
        .with_expr_planners(vec![Arc::new(StructPaths)])
        .with_default_features()
        .build();
    let context = SessionContext::new_with_state(state);
    for function in ballista_scalar_functions() {
        context.register_udf(function.as_ref().clone());
    }
    for function in functions {
        context.register_udf(function.as_ref().clone());
    }
    context
}

/// The statements of a text, in the dialect that knows `x -> …`, with the shorthands of our SQL written out.
pub fn parse(text: &str) -> Result<Vec<Statement>> {
    let statements = DFParserBuilder::new(text).with_dialect(dialect()?.as_ref()).build()?.parse_statements()?;
    let mut statements = Vec::from(statements);
    for statement in &mut statements {
        rewrite(statement);
    }
    Ok(statements)
}

/// The expression that a text is, in the same dialect and with the same shorthands.
pub(super) fn parse_expression(text: &str) -> Result<Expr> {
    let mut parsed = DFParserBuilder::new(text).with_dialect(dialect()?.as_ref()).build()?.parse_into_expr()?;
    if let Some(alias) = parsed.alias {
        return plan_err!("a name, '{alias}', where nothing is named; leave out AS {alias}");
    }
    rewrite_expression(&mut parsed.expr);
    Ok(parsed.expr)
}

fn dialect() -> Result<Box<dyn Dialect>> {
    dialect_from_str(DIALECT).ok_or_else(|| DataFusionError::Internal("no such dialect".into()))
}

/// Registers a table under a plain or dotted name; the schema before the dot is made.
pub fn register(context: &SessionContext, name: &str, table: Arc<dyn TableProvider>) -> Result<()> {
    let reference = TableReference::parse_str_normalized(name, true);
    if let Some(schema) = reference.schema() {
        let options = context.copied_config().options().clone();
        let catalog = context.catalog(&options.catalog.default_catalog);
        let catalog = catalog.ok_or_else(|| DataFusionError::Internal("no default catalog".into()))?;
        if catalog.schema(schema).is_none() {
            let provider: Arc<dyn SchemaProvider> = Arc::new(MemorySchemaProvider::new());
            catalog.register_schema(schema, provider)?;
        }
    }
    context.register_table(reference, table)?;
    Ok(())
}

/// Names of all functions that SQL may call.
pub(super) fn function_names(context: &SessionContext) -> BTreeSet<String> {
    let state = context.state();
    let mut names: BTreeSet<String> = state.udfs().into_iter().chain(state.udafs()).collect();
    names.extend(state.udwfs());
    names.extend(state.higher_order_functions().keys().cloned());
    // Written as functions, but part of the language.
    names.extend(["unnest", "coalesce", "nullif", "struct", "named_struct", "make_array"].map(str::to_owned));
    names
}
