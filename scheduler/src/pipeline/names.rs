//! Names of a statement, looked up before it is planned: every unknown one is told at once, with its place.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use datafusion::arrow::datatypes::{DataType, Fields, SchemaRef};
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, ObjectName, Query, Select, SelectItem, SetExpr, Spanned, TableFactor, visit_expressions,
};

use super::problem::{Problem, nearest};

/// The tables and views that a statement may read, with their columns.
pub(super) type Tables = BTreeMap<String, SchemaRef>;

pub(super) struct Names<'a> {
    pub tables: &'a Tables,
    /// Tables and views that are declared with problems of their own: what their columns are is not known.
    pub broken: &'a BTreeSet<String>,
    pub functions: &'a BTreeSet<String>,
    pub problems: Vec<Problem>,
    /// Whether the statement reads one of those, so that it cannot be planned.
    pub reads_broken: bool,
}

/// The columns in scope: of a table, or only the names of a subquery's.
enum Columns {
    Of { qualifiers: Vec<String>, fields: Fields },
    Named { qualifiers: Vec<String>, names: Vec<String> },
    Unknown,
}

impl Names<'_> {
    /// Checks a query.
    pub fn query(&mut self, query: &Query) {
        match query.body.as_ref() {
            SetExpr::Select(select) => self.select(select),
            SetExpr::Query(inner) => self.query(inner),
            // What a stream cannot do is told when the statement is planned.
            _ => {}
        }
    }

    fn select(&mut self, select: &Select) {
        let scopes: Vec<Columns> = select.from.iter().map(|from| self.relation(&from.relation)).collect();
        let mut lambdas = BTreeSet::new();
        for item in &select.projection {
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                self.expression(expr, &scopes, &mut lambdas);
            }
        }
        if let Some(selection) = &select.selection {
            self.expression(selection, &scopes, &mut lambdas);
        }
    }

    fn relation(&mut self, relation: &TableFactor) -> Columns {
        match relation {
            TableFactor::Table { name, alias, args: None, .. } => {
                let written = table_name(name);
                if self.broken.contains(&written) {
                    self.reads_broken = true;
                    return Columns::Unknown;
                }
                let Some(schema) = self.tables.get(&written) else {
                    let near = nearest(&written, self.tables.keys().map(String::as_str));
                    self.problems.push(Problem::at(
                        place_of_node(name),
                        format!("there is no table '{written}'"),
                        near,
                    ));
                    return Columns::Unknown;
                };
                let last = written.rsplit('.').next().unwrap_or_default().to_owned();
                let alias = alias.as_ref().map(|alias| alias.name.value.clone());
                let qualifiers = alias.map_or_else(|| vec![written, last], |alias| vec![alias]);
                Columns::Of { qualifiers, fields: schema.fields().clone() }
            }
            TableFactor::Derived { subquery, alias, .. } => {
                self.query(subquery);
                let qualifiers = alias.iter().map(|alias| alias.name.value.clone()).collect();
                match names_of(subquery) {
                    Some(names) => Columns::Named { qualifiers, names },
                    None => Columns::Unknown,
                }
            }
            _ => Columns::Unknown,
        }
    }

    fn expression(&mut self, expr: &Expr, scopes: &[Columns], lambdas: &mut BTreeSet<String>) {
        let _ = visit_expressions(expr, |expr| {
            if let Expr::Lambda(lambda) = expr {
                lambdas.extend(lambda.params.iter().map(|param| param.name.value.clone()));
            }
            ControlFlow::<()>::Continue(())
        });
        let mut found = Vec::new();
        let _ = visit_expressions(expr, |expr| {
            match expr {
                Expr::Identifier(ident) => found.extend(look_up(std::slice::from_ref(ident), scopes, lambdas).err()),
                Expr::CompoundIdentifier(idents) => found.extend(look_up(idents, scopes, lambdas).err()),
                Expr::Function(function) => {
                    let name = function.name.to_string();
                    if !self.functions.contains(&name.to_lowercase()) && !self.functions.contains(&name) {
                        let near = nearest(&name, self.functions.iter().map(String::as_str));
                        let message = format!("there is no function or science module '{name}'");
                        found.push(Problem::at(place_of_node(&function.name), message, near));
                    }
                }
                _ => {}
            }
            ControlFlow::<()>::Continue(())
        });
        self.problems.append(&mut found);
    }
}

fn look_up(idents: &[Ident], scopes: &[Columns], lambdas: &BTreeSet<String>) -> Result<(), Problem> {
    let first = &idents[0];
    if lambdas.contains(&first.value) || scopes.is_empty() {
        return Ok(());
    }
    let mut names = Vec::new();
    for scope in scopes {
        match scope {
            Columns::Unknown => return Ok(()),
            Columns::Named { qualifiers, names: columns } => {
                let at = usize::from(idents.len() > 1 && qualifiers.contains(&first.value));
                if idents.get(at).is_some_and(|ident| columns.contains(&ident.value)) {
                    return Ok(());
                }
                names.extend(columns.iter().map(String::as_str));
            }
            Columns::Of { qualifiers, fields } => {
                let qualified = qualifiers.iter().map(|qualifier| qualifier.split('.').count()).filter(|n| {
                    let written: Vec<_> = idents.iter().take(*n).map(|ident| ident.value.as_str()).collect();
                    idents.len() > *n && qualifiers.contains(&written.join("."))
                });
                for at in qualified.chain([0]) {
                    if fields.find(&idents[at].value).is_some() {
                        return within(idents, at, fields);
                    }
                }
                names.extend(fields.iter().map(|field| field.name().as_str()));
            }
        }
    }
    let message = format!("there is no column '{}'", first.value);
    Err(Problem::at(place_of(first), message, nearest(&first.value, names)))
}

/// Follows `column.field.field` from the column at `at`.
fn within(idents: &[Ident], at: usize, fields: &Fields) -> Result<(), Problem> {
    let mut fields = fields.clone();
    for (i, ident) in idents.iter().enumerate().skip(at) {
        let Some((_, field)) = fields.find(&ident.value) else {
            let before: Vec<_> = idents[..i].iter().map(|ident| ident.value.as_str()).collect();
            let message = format!("'{}' has no field '{}'", before.join("."), ident.value);
            let near = nearest(&ident.value, fields.iter().map(|field| field.name().as_str()));
            return Err(Problem::at(place_of(ident), message, near));
        };
        let rest = idents.len() - i - 1;
        match field.data_type() {
            _ if rest == 0 => return Ok(()),
            DataType::Struct(inner) => fields = inner.clone(),
            DataType::List(item) | DataType::LargeList(item) => {
                if let DataType::Struct(inner) = item.data_type() {
                    return within(idents, i + 1, inner);
                }
                return Err(not_a_struct(ident, &idents[i + 1], field.data_type()));
            }
            other => return Err(not_a_struct(ident, &idents[i + 1], other)),
        }
    }
    Ok(())
}

fn not_a_struct(column: &Ident, field: &Ident, found: &DataType) -> Problem {
    let message = format!("'{}' has no fields: its type is {found}", column.value);
    Problem::at(place_of(field), message, format!("write '{}' alone", column.value))
}

/// Names of a query's columns; none when a `*` hides them.
fn names_of(query: &Query) -> Option<Vec<String>> {
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    let name = |item: &SelectItem| match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.clone()),
        SelectItem::UnnamedExpr(Expr::Identifier(ident)) => Some(ident.value.clone()),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(idents)) => idents.last().map(|ident| ident.value.clone()),
        _ => None,
    };
    select.projection.iter().map(name).collect()
}

/// As it is looked up: parts joined by dots, quotes gone.
pub(super) fn table_name(name: &ObjectName) -> String {
    let parts = name.0.iter().map(|part| part.as_ident().map_or_else(|| part.to_string(), |ident| ident.value.clone()));
    parts.collect::<Vec<_>>().join(".")
}

pub(super) fn place_of_node(node: &impl Spanned) -> (u64, u64) {
    let start = node.span().start;
    (start.line, start.column)
}

fn place_of(ident: &Ident) -> (u64, u64) {
    (ident.span.start.line, ident.span.start.column)
}
