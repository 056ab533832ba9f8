//! Conditions that leave an alert out because a science module gave it no value.
//!
//! A module may fail on a row, or not be called for it: its column is NULL there, and so is a comparison with it. That
//! is no decision of the pipeline's author, so it is told before the night. A condition that has an answer for NULL
//! (`IS NULL OR …`, `COALESCE`, `IS NOT NULL`) is meant.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, ExprSchemable};
use datafusion::optimizer::simplify_expressions::{ExprSimplifier, SimplifyContext};
use datafusion::scalar::ScalarValue;

use super::flatten::replace;
use super::problem::Problem;

/// A conjunct of a `WHERE`.
#[derive(Debug, Clone)]
pub(super) struct Condition {
    pub place: (u64, u64),
    pub text: String,
    /// Over the columns of the chain.
    pub rule: Expr,
}

impl Condition {
    /// What is to be said of it. `values` are the columns of modules, each with a NULL of its type and the module's name;
    /// `alerts` are the columns of the alerts.
    pub fn warning(&self, values: &[(String, ScalarValue, String)], alerts: &SchemaRef) -> Result<Option<Problem>> {
        let used = |(column, ..): &&(String, ScalarValue, String)| {
            self.rule.column_refs().iter().any(|used| used.name == *column)
        };
        let used: Vec<_> = values.iter().filter(used).collect();
        if used.is_empty() {
            return Ok(None);
        }
        let nulls = used.iter().map(|(column, null, _)| (column.clone(), Expr::Literal(null.clone(), None)));
        let without = replace(self.rule.clone(), &nulls.collect::<Vec<_>>());
        if !may_be_null(without, alerts)? {
            return Ok(None);
        }
        let mut modules: Vec<&str> = used.iter().map(|(.., module)| module.as_str()).collect();
        modules.dedup();
        let (text, modules) = (&self.text, modules.join(" and "));
        let message = format!("`{text}` is NULL where {modules} gives no value, and then the alert is left out");
        let remedy = format!(
            "to keep it write COALESCE({text}, true) or … IS NULL OR {text}; to mean it, … IS NOT NULL AND {text}"
        );
        Ok(Some(Problem::at(self.place, message, remedy)))
    }
}

/// Whether a condition can be NULL though every column has a value.
fn may_be_null(condition: Expr, alerts: &SchemaRef) -> Result<bool> {
    let schema = DFSchema::try_from(Schema::new(certain(alerts.fields())))?;
    let context = SimplifyContext::builder().with_schema(Arc::new(schema.clone())).build();
    let simplifier = ExprSimplifier::new(context);
    let simple = simplifier.simplify(simplifier.coerce(condition, &schema)?)?;
    match simple {
        Expr::Literal(value, _) => Ok(value.is_null()),
        simple => simple.nullable(&schema),
    }
}

/// The fields as if no alert lacked one.
fn certain(fields: &Fields) -> Vec<Field> {
    let field = |field: &Arc<Field>| {
        let data_type = match field.data_type() {
            DataType::Struct(fields) => DataType::Struct(certain(fields).into()),
            other => other.clone(),
        };
        Field::new(field.name(), data_type, false)
    };
    fields.iter().map(field).collect()
}
