//! Where in the text a statement went wrong.
//!
//! DataFusion's errors carry a place for unknown columns, functions and tables, but none for unknown fields of structs
//! and for types that do not fit. [`place`] finds those: the innermost expression that cannot be planned on its own.

use std::ops::ControlFlow;

use arrow::datatypes::{DataType, Fields};
use datafusion::common::{DFSchema, DataFusionError, Location, Result};
use datafusion::execution::SessionState;
use datafusion::logical_expr::ExprSchemable;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    Expr, ExprWithAlias, Ident, Query, Select, SelectItem, SetExpr, Spanned, Statement as SqlStatement, Visit, Visitor,
};

use super::list_field::nearest;
use super::lists::item_of;

/// A place in the text of a statement, and what is wrong there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Line and column, from 1.
    pub location: Location,
    pub reason: String,
}

/// The place of an error that planning or optimising `statement` gave. None where no single expression is at fault.
///
/// The statement is the rewritten one ([`super::rewrite`]), planned with `collect_spans`.
pub async fn place(state: &SessionState, statement: &Statement, error: &DataFusionError) -> Option<Place> {
    let found = error.diagnostic().and_then(|found| Some((found.span?.start, error.find_root().strip_backtrace())));
    if let Some((location, reason)) = found {
        return Some(Place { location, reason });
    }
    let Statement::Statement(sql) = statement else { return None };
    let mut selects = Selects::default();
    let _: ControlFlow<()> = sql.visit(&mut selects);
    for select in selects.innermost_first {
        // Where the source itself cannot be planned, one of its own selects was at fault.
        let Ok(schema) = schema_of_source(state, &select).await else { continue };
        for expr in expressions(&select) {
            let mut search = Search { state, schema: &schema, depth: 0 };
            if check(state, &schema, expr).is_err()
                && let ControlFlow::Break(found) = expr.visit(&mut search)
            {
                return found;
            }
        }
    }
    None
}

#[derive(Default)]
struct Selects {
    innermost_first: Vec<Select>,
}

impl Visitor for Selects {
    type Break = ();

    fn post_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        self.innermost_first.push(select.clone());
        ControlFlow::Continue(())
    }
}

/// What the expressions of a select see: the columns of `SELECT *`.
async fn schema_of_source(state: &SessionState, select: &Select) -> Result<DFSchema> {
    let mut all = state.sql_to_statement("SELECT * FROM source", &super::DIALECT)?;
    if let Statement::Statement(sql) = &mut all
        && let SqlStatement::Query(query) = sql.as_mut()
        && let Query { body, .. } = query.as_mut()
        && let SetExpr::Select(all) = body.as_mut()
    {
        all.from = select.from.clone();
    }
    Ok(state.statement_to_plan(all).await?.schema().as_ref().clone())
}

fn expressions(select: &Select) -> impl Iterator<Item = &Expr> {
    let projected = select.projection.iter().filter_map(|item| match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
        _ => None,
    });
    projected.chain(&select.selection)
}

fn check(state: &SessionState, schema: &DFSchema, expr: &Expr) -> Result<DataType> {
    let expr = ExprWithAlias { expr: expr.clone(), alias: None };
    state.create_logical_expr_from_sql_expr(expr, schema)?.get_type(schema)
}

/// Stops at the first expression, inner before outer, that cannot be planned.
struct Search<'a> {
    state: &'a SessionState,
    schema: &'a DFSchema,
    /// How many lambdas and subqueries the visitor is inside of: those see other names.
    depth: usize,
}

impl Visitor for Search<'_> {
    type Break = Option<Place>;

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<Self::Break> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<Self::Break> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Self::Break> {
        self.depth += usize::from(matches!(expr, Expr::Lambda(_)));
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Self::Break> {
        if matches!(expr, Expr::Lambda(_)) {
            self.depth -= 1;
            return ControlFlow::Continue(());
        }
        if self.depth > 0 {
            return ControlFlow::Continue(());
        }
        let Err(error) = check(self.state, self.schema, expr) else { return ControlFlow::Continue(()) };
        let (at, reason) = match expr {
            Expr::CompoundIdentifier(names) => unknown_field(self.schema, names),
            _ => None,
        }
        .unwrap_or_else(|| (expr.span(), error.find_root().strip_backtrace()));
        let known = at.start.line > 0;
        ControlFlow::Break(known.then(|| Place { location: at.start.into(), reason }))
    }
}

/// The first name of a path that is no field of the struct before it.
fn unknown_field(schema: &DFSchema, names: &[Ident]) -> Option<(datafusion::sql::sqlparser::tokenizer::Span, String)> {
    let column = names.iter().position(|name| schema.field_with_unqualified_name(&name.value).is_ok())?;
    let mut data_type = schema.field_with_unqualified_name(&names[column].value).ok()?.data_type();
    for (parent, name) in names[column..].iter().zip(&names[column + 1..]) {
        let Some(fields) = fields_of(data_type) else {
            return Some((name.span, format!("'{}' is {data_type} and has no fields", parent.value)));
        };
        let Some((_, field)) = fields.find(&name.value) else {
            let nearest = nearest(fields, &name.value);
            return Some((name.span, format!("'{}' has no field '{}'{nearest}", parent.value, name.value)));
        };
        data_type = field.data_type();
    }
    None
}

/// The fields that a dot may name: a struct's, or those of the structs in a list.
fn fields_of(data_type: &DataType) -> Option<&Fields> {
    match (data_type, item_of(data_type)) {
        (DataType::Struct(fields), _) | (_, Some(DataType::Struct(fields))) => Some(fields),
        _ => None,
    }
}
