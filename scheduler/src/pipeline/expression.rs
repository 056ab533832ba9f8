//! Expressions that stand outside of a statement: in options of a table, and as a module's `where`.

use datafusion::arrow::compute::can_cast_types;
use datafusion::arrow::datatypes::{DataType, Schema, TimeUnit};
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::logical_expr::utils::find_aggregate_exprs;
use datafusion::logical_expr::{Expr, ExprSchemable};
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::ExprWithAlias;

use super::crossmatch::is_crossmatch;
use super::diagnosis;
use super::names::Names;
use super::problem::Problem;
use super::session::parse_expression;
use super::volatile::volatile;

/// Options of a table that are expressions over its rows: what each must give, and the words for that.
const STEERING: [(&str, DataType, &str); 3] = [
    ("key", DataType::Utf8, "text"),
    ("partition", DataType::Int32, "an integer"),
    ("timestamp", DataType::Timestamp(TimeUnit::Millisecond, None), "a time"),
];

/// What an option's expression must give: a type, and the words for it.
pub(super) fn steering(option: &str) -> Option<(DataType, &'static str)> {
    STEERING.into_iter().find(|(name, ..)| *name == option).map(|(_, data_type, words)| (data_type, words))
}

/// The expression of a text over columns.
pub(super) fn parse(context: &SessionContext, text: &str, columns: &DFSchema) -> Result<Expr> {
    let expr = ExprWithAlias { expr: parse_expression(text)?, alias: None };
    context.state().create_logical_expr_from_sql_expr(expr, columns)
}

/// What is wrong with an expression over these columns, at places within its text.
pub(super) fn check(
    context: &SessionContext,
    mut names: Names,
    is_lifted: &dyn Fn(&str) -> bool,
    text: &str,
    columns: &Schema,
    gives: Option<(DataType, &str)>,
) -> Vec<Problem> {
    let start = (1, 1);
    let sql = match parse_expression(text) {
        Ok(sql) => sql,
        Err(error) => return vec![diagnosis::unparsable(&error, start)],
    };
    let planned = DFSchema::try_from(columns.clone()).and_then(|schema| {
        let expr = parse(context, text, &schema)?;
        let data_type = expr.get_type(&schema)?;
        Ok((expr, data_type))
    });
    let (expr, data_type) = match planned {
        Ok(planned) => planned,
        Err(error) => {
            names.over(&sql, columns.fields());
            return match names.problems.is_empty() {
                true => vec![diagnosis::refused(&error, start)],
                false => names.problems,
            };
        }
    };
    let wrong = |message: String, remedy: &str| vec![Problem::at(start, message, remedy)];
    if let Some(name) = volatile(&expr).into_iter().next() {
        return match is_lifted(&name) {
            true if is_crossmatch(&name) => {
                wrong("a catalogue is asked here".to_owned(), "ask it in a view, and use its column")
            }
            true => {
                wrong(format!("the science module '{name}' is called here"), "call it in a view, and use its column")
            }
            false => wrong(
                format!("{name}() gives another value each time"),
                "a re-run must compute the same rows; derive it from the alert's id instead",
            ),
        };
    }
    if !find_aggregate_exprs([&expr]).is_empty() {
        return wrong("an aggregate needs other rows".to_owned(), "use a column of the row");
    }
    match gives {
        Some((wanted, words)) if !fits(&data_type, &wanted) => {
            wrong(format!("it gives {data_type}, not {words}"), "write CAST(… AS …), or use another column")
        }
        _ => Vec::new(),
    }
}

/// Whether a value can be taken for what an option needs.
fn fits(given: &DataType, wanted: &DataType) -> bool {
    let nested = given.is_nested() || matches!(given, DataType::Null);
    let whole = |data_type: &DataType| data_type.is_integer() || matches!(data_type, DataType::Boolean);
    match wanted {
        DataType::Utf8 => !nested && can_cast_types(given, wanted),
        DataType::Int32 => whole(given),
        DataType::Boolean => matches!(given, DataType::Boolean | DataType::Null),
        DataType::Timestamp(..) => given.is_temporal() && can_cast_types(given, wanted),
        _ => can_cast_types(given, wanted),
    }
}
