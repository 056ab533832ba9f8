//! Which columns, and which fields within them, a chain uses: only those are decoded.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::Expr;
use datafusion::scalar::ScalarValue;

/// Columns in use, as paths: `candidate.magpsf`, or `candidate` for all of it.
#[derive(Debug, Default, Clone)]
pub(super) struct Used(BTreeSet<Vec<String>>);

impl Used {
    pub fn add(&mut self, expr: &Expr) -> Result<()> {
        expr.apply(|expr| match path(expr) {
            Some(path) => {
                self.0.insert(path);
                Ok(TreeNodeRecursion::Jump)
            }
            None => Ok(TreeNodeRecursion::Continue),
        })?;
        Ok(())
    }

    /// As [`add`](Self::add), but a column that is only handed on does not count: it may as well be null.
    pub fn add_computed(&mut self, expr: &Expr) -> Result<()> {
        match expr {
            Expr::Alias(alias) => self.add_computed(&alias.expr),
            Expr::Column(_) => Ok(()),
            expr => self.add(expr),
        }
    }

    /// With dots.
    pub fn paths(&self) -> Vec<String> {
        self.0.iter().map(|path| path.join(".")).collect()
    }

    /// The part of a schema that is in use. At least one column, so that rows are counted.
    pub fn prune(&self, schema: &SchemaRef) -> SchemaRef {
        let paths: Vec<&[String]> = self.0.iter().map(Vec::as_slice).collect();
        let mut fields = prune(schema.fields(), &paths);
        if fields.is_empty() {
            let smallest = schema.fields().iter().find(|field| !field.data_type().is_nested());
            fields.extend(smallest.or(schema.fields().first()).map(|field| field.as_ref().clone()));
        }
        Arc::new(Schema::new(fields))
    }
}

/// The part of a column's type that is in use.
pub(super) fn in_use(used: &Used, column: &str, data_type: DataType) -> DataType {
    let schema = Arc::new(Schema::new(vec![Field::new(column, data_type, true)]));
    used.prune(&schema).field(0).data_type().clone()
}

/// A column, or a chain of field accesses that ends in one.
fn path(expr: &Expr) -> Option<Vec<String>> {
    match expr {
        Expr::Column(column) => Some(vec![column.name.clone()]),
        Expr::ScalarFunction(call) if matches!(call.func.name(), "get_field" | "list_field") => {
            let (base, names) = call.args.split_first()?;
            let mut path = path(base)?;
            for name in names {
                path.push(literal(name)?);
            }
            Some(path)
        }
        _ => None,
    }
}

fn literal(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Literal(ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)), _) => Some(text.clone()),
        _ => None,
    }
}

fn prune(fields: &Fields, paths: &[&[String]]) -> Vec<Field> {
    let mut kept = Vec::new();
    for field in fields {
        let below: Vec<&[String]> =
            paths.iter().filter(|path| path.first() == Some(field.name())).map(|path| &path[1..]).collect();
        if below.is_empty() {
            continue;
        }
        let whole = below.iter().any(|path| path.is_empty());
        let pruned = if whole { None } else { prune_type(field.data_type(), &below) };
        kept.push(match pruned {
            Some(data_type) => field.as_ref().clone().with_data_type(data_type),
            None => field.as_ref().clone(),
        });
    }
    kept
}

fn prune_type(data_type: &DataType, paths: &[&[String]]) -> Option<DataType> {
    match data_type {
        DataType::Struct(fields) => Some(DataType::Struct(prune(fields, paths).into())),
        DataType::List(item) => {
            let inner = prune_type(item.data_type(), paths)?;
            Some(DataType::List(Arc::new(item.as_ref().clone().with_data_type(inner))))
        }
        _ => None,
    }
}
