//! Names of a query, looked up in its text: every unknown one is told at once, with its place and the nearest name.
//!
//! The planner has the last word on what a query means. This knows less than the planner, so what it cannot tell (the
//! columns of a table function, say) it takes for right, and its problems count only where the planner refuses.

mod from;
mod scope;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use datafusion::arrow::datatypes::{DataType, Fields, SchemaRef};
use datafusion::sql::sqlparser::ast::{
    AccessExpr, Distinct, ExcludeSelectItem, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments,
    GroupByExpr, Ident, ObjectName, OrderByKind, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr,
    Spanned, Subscript, Value, Visit, Visitor, WildcardAdditionalOptions,
};

use super::problem::{Problem, nearest};
use scope::{Column, Columns, Relation, Scope};

/// The tables and views that a statement may read, with their columns.
pub(super) type Tables = BTreeMap<String, SchemaRef>;

pub(super) struct Names<'a> {
    tables: &'a Tables,
    /// Tables and views that are declared with problems of their own: what their columns are is not known.
    broken: &'a BTreeSet<String>,
    functions: &'a BTreeSet<String>,
    /// The queries that `WITH` names, the innermost last.
    with: Vec<(String, Columns)>,
    pub problems: Vec<Problem>,
    /// Whether the statement reads one of the broken, so that it cannot be planned.
    pub reads_broken: bool,
}

impl<'a> Names<'a> {
    pub fn new(tables: &'a Tables, broken: &'a BTreeSet<String>, functions: &'a BTreeSet<String>) -> Self {
        Self { tables, broken, functions, with: Vec::new(), problems: Vec::new(), reads_broken: false }
    }

    /// Checks a query.
    pub fn query(&mut self, query: &Query) {
        self.subquery(query, None);
    }

    /// Checks an expression over the columns of one table.
    pub fn over(&mut self, expr: &Expr, fields: &Fields) {
        self.expression(expr, &Scope::of(Columns::of(fields)));
    }

    /// Checks a query among the names of those around it, and tells its columns.
    fn subquery(&mut self, query: &Query, outer: Option<&Scope>) -> Columns {
        let (n_with, n_problems) = (self.with.len(), self.problems.len());
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            let name = cte.alias.name.value.clone();
            let recursive = query.with.as_ref().is_some_and(|with| with.recursive);
            if recursive {
                self.with.push((name.clone(), Columns::Unknown));
            }
            let columns = self.subquery(&cte.query, outer).renamed(Some(&cte.alias));
            self.with.truncate(self.with.len() - usize::from(recursive));
            self.with.push((name, columns));
        }
        let order = match query.order_by.as_ref().map(|order| &order.kind) {
            Some(OrderByKind::Expressions(order)) => order.iter().map(|order| &order.expr).collect(),
            Some(OrderByKind::All(_)) | None => Vec::new(),
        };
        let columns = self.set(&query.body, outer, &order);
        self.with.truncate(n_with);
        // Whoever reads it is not told again.
        if self.problems.len() == n_problems { columns } else { Columns::Unknown }
    }

    fn set(&mut self, body: &SetExpr, outer: Option<&Scope>, order: &[&Expr]) -> Columns {
        let columns = match body {
            SetExpr::Select(select) => return self.select(select, outer, order),
            SetExpr::Query(inner) => self.subquery(inner, outer),
            SetExpr::SetOperation { left, right, .. } => {
                let columns = self.set(left, outer, &[]);
                self.set(right, outer, &[]);
                columns
            }
            SetExpr::Values(values) => {
                let scope = Scope { relations: Vec::new(), outer };
                values.rows.iter().flat_map(|row| &row.content).for_each(|expr| self.expression(expr, &scope));
                let n_columns = values.rows.first().map_or(0, |row| row.content.len());
                let column = |n| Column { name: format!("column{n}"), data_type: None };
                Columns::Known((1..=n_columns).map(column).collect())
            }
            // What is not a question is told when the statement is planned.
            _ => Columns::Unknown,
        };
        let scope = Scope::of(columns);
        order.iter().for_each(|expr| self.expression(expr, &scope));
        scope.all()
    }

    fn select(&mut self, select: &Select, outer: Option<&Scope>, order: &[&Expr]) -> Columns {
        let mut scope = Scope { relations: Vec::new(), outer };
        for from in &select.from {
            self.from(from, &mut scope);
        }
        let columns = self.projection(&select.projection, &scope);
        let grouped = match &select.group_by {
            GroupByExpr::Expressions(exprs, _) => exprs.iter().collect(),
            GroupByExpr::All(_) => Vec::new(),
        };
        let distinct = match &select.distinct {
            Some(Distinct::On(exprs)) => exprs.iter().collect(),
            _ => Vec::new(),
        };
        select.selection.iter().for_each(|expr| self.expression(expr, &scope));
        self.all_of(&select.named_window, &scope);
        // These see the names that the SELECT gives, too.
        let given = Relation { qualifiers: Vec::new(), columns: columns.clone() };
        let named = Scope { relations: vec![given], outer: Some(&scope) };
        let late = grouped.into_iter().chain(distinct).chain(&select.having).chain(&select.qualify);
        late.chain(order.iter().copied()).for_each(|expr| self.expression(expr, &named));
        columns
    }

    fn projection(&mut self, items: &[SelectItem], scope: &Scope) -> Columns {
        let (mut columns, mut unnamed, mut unknown) = (Vec::new(), false, false);
        for item in items {
            let (all, options) = match item {
                SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
                    self.expression(expr, scope);
                    let alias = match item {
                        SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.clone()),
                        _ => name_of(expr),
                    };
                    match alias {
                        Some(name) => columns.push(Column { name, data_type: type_of(expr, scope) }),
                        None => unnamed = true,
                    }
                    continue;
                }
                SelectItem::ExprWithAliases { expr, aliases } => {
                    self.expression(expr, scope);
                    columns.extend(aliases.iter().map(|alias| Column { name: alias.value.clone(), data_type: None }));
                    continue;
                }
                SelectItem::Wildcard(options) => (scope.all(), options),
                SelectItem::QualifiedWildcard(kind, options) => (self.qualified_wildcard(kind, scope), options),
            };
            self.excluded(options, &all);
            unnamed |= matches!(all, Columns::Unnamed(_));
            unknown |= matches!(all, Columns::Unknown) || options.opt_rename.is_some();
            let left_out: Vec<String> = excluded(options).into_iter().map(|ident| ident.value.clone()).collect();
            columns.extend(all.known().iter().filter(|column| !left_out.contains(&column.name)).cloned());
        }
        match (unknown, unnamed) {
            (true, _) => Columns::Unknown,
            (false, true) => Columns::Unnamed(columns),
            (false, false) => Columns::Known(columns),
        }
    }

    fn qualified_wildcard(&mut self, kind: &SelectItemQualifiedWildcardKind, scope: &Scope) -> Columns {
        let SelectItemQualifiedWildcardKind::ObjectName(name) = kind else { return Columns::Unknown };
        let written = table_name(name);
        if let Some(relation) = scope.qualified(&written) {
            return relation.columns.clone();
        }
        let known = scope.relations.iter().flat_map(|relation| &relation.qualifiers).map(String::as_str);
        let (message, near) = (format!("there is no table '{written}' in FROM"), nearest(&written, known));
        self.problems.push(Problem::at(place_of_node(name), message, near));
        Columns::Unknown
    }

    /// Columns that `EXCLUDE` names must be there.
    fn excluded(&mut self, options: &WildcardAdditionalOptions, all: &Columns) {
        let scope = Scope::of(all.clone());
        for ident in excluded(options) {
            self.problems.extend(scope.look_up(std::slice::from_ref(ident)).err());
        }
    }

    fn expression(&mut self, expr: &Expr, scope: &Scope) {
        self.all_of(expr, scope);
    }

    /// Every expression of a node of the syntax.
    fn all_of<N: Visit>(&mut self, node: &N, scope: &Scope) {
        let mut walk = Walk { names: self, scope, lambdas: Vec::new(), n_queries: 0, seen: BTreeSet::new() };
        let _: ControlFlow<()> = node.visit(&mut walk);
    }

    fn function(&mut self, function: &Function) {
        let name = function.name.to_string();
        if !self.functions.contains(&name.to_lowercase()) && !self.functions.contains(&name) {
            let near = nearest(&name, self.functions.iter().map(String::as_str));
            let message = format!("there is no function or science module '{name}'");
            self.problems.push(Problem::at(place_of_node(&function.name), message, near));
        }
    }
}

/// Goes through expressions; a query inside one sees the names around it.
struct Walk<'w, 'n, 's> {
    names: &'w mut Names<'n>,
    scope: &'w Scope<'s>,
    /// Parameters of the lambdas that it is inside of.
    lambdas: Vec<Column>,
    /// Queries that it is inside of, which are checked on their own.
    n_queries: usize,
    /// Places of names that were looked up as a part of a path.
    seen: BTreeSet<(u64, u64)>,
}

impl Walk<'_, '_, '_> {
    fn look_up(&mut self, idents: &[Ident]) {
        let columns = Columns::Known(self.lambdas.clone());
        let parameters =
            Scope { relations: vec![Relation { qualifiers: Vec::new(), columns }], outer: Some(self.scope) };
        self.names.problems.extend(parameters.look_up(idents).err());
    }
}

impl Visitor for Walk<'_, '_, '_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if self.n_queries == 0 {
            self.names.subquery(query, Some(self.scope));
        }
        self.n_queries += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.n_queries -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if self.n_queries > 0 {
            return ControlFlow::Continue(());
        }
        match expr {
            Expr::Lambda(lambda) => {
                let parameters = lambda.params.iter().map(|parameter| parameter.name.value.clone());
                self.lambdas.extend(parameters.map(|name| Column { name, data_type: None }));
            }
            Expr::Identifier(ident) if !self.seen.contains(&place_of(ident)) => {
                self.look_up(std::slice::from_ref(ident));
            }
            Expr::CompoundIdentifier(idents) => self.look_up(idents),
            Expr::CompoundFieldAccess { .. } => {
                if let Some(path) = leading_path(expr) {
                    self.seen.extend(path.iter().map(place_of));
                    self.look_up(&path);
                }
            }
            Expr::Function(function) => self.names.function(function),
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let (0, Expr::Lambda(lambda)) = (self.n_queries, expr) {
            self.lambdas.truncate(self.lambdas.len() - lambda.params.iter().count());
        }
        ControlFlow::Continue(())
    }
}

/// `a.b` of `a.b[1].c`, and `a.b` of `a['b'][1]`.
fn leading_path(expr: &Expr) -> Option<Vec<Ident>> {
    let Expr::CompoundFieldAccess { root, access_chain } = expr else { return None };
    let mut path = match root.as_ref() {
        Expr::Identifier(root) => vec![root.clone()],
        Expr::CompoundIdentifier(idents) => idents.clone(),
        _ => return None,
    };
    path.extend(access_chain.iter().map_while(field_of));
    Some(path)
}

fn field_of(access: &AccessExpr) -> Option<Ident> {
    let value = match access {
        AccessExpr::Dot(Expr::Identifier(ident)) => return Some(ident.clone()),
        AccessExpr::Dot(Expr::Value(value)) | AccessExpr::Subscript(Subscript::Index { index: Expr::Value(value) }) => {
            value
        }
        _ => return None,
    };
    match &value.value {
        Value::SingleQuotedString(name) => Some(Ident::with_quote_and_span('\'', value.span, name)),
        _ => None,
    }
}

/// The name that the planner gives a column without an alias, if it is one that can be written.
fn name_of(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(ident) => Some(ident.value.clone()),
        Expr::CompoundIdentifier(idents) => idents.last().map(|ident| ident.value.clone()),
        Expr::Cast { expr, .. } | Expr::Nested(expr) => name_of(expr),
        _ => None,
    }
}

/// Of a path, or of the elements of a list that is taken apart.
fn type_of(expr: &Expr, scope: &Scope) -> Option<DataType> {
    match expr {
        Expr::Identifier(ident) => scope.look_up(std::slice::from_ref(ident)).ok()?,
        Expr::CompoundIdentifier(idents) => scope.look_up(idents).ok()?,
        Expr::Nested(inner) => type_of(inner, scope),
        Expr::Function(function) if function.name.to_string().eq_ignore_ascii_case("unnest") => {
            let FunctionArguments::List(arguments) = &function.args else { return None };
            let [FunctionArg::Unnamed(FunctionArgExpr::Expr(list))] = arguments.args.as_slice() else { return None };
            match type_of(list, scope)? {
                DataType::List(item) | DataType::LargeList(item) => Some(item.data_type().clone()),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Columns that a `*` leaves out.
fn excluded(options: &WildcardAdditionalOptions) -> Vec<&Ident> {
    let excluded = match &options.opt_exclude {
        Some(ExcludeSelectItem::Single(name)) => std::slice::from_ref(name),
        Some(ExcludeSelectItem::Multiple(names)) => names.as_slice(),
        None => &[],
    };
    let except = options
        .opt_except
        .iter()
        .flat_map(|except| std::iter::once(&except.first_element).chain(&except.additional_elements));
    excluded.iter().filter_map(|name| name.0.last()?.as_ident()).chain(except).collect()
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
