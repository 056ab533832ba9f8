//! Spellings that DataFusion's planner does not take, rewritten in the parsed statement.
//!
//! | written | planned as |
//! |---|---|
//! | `prv_candidates[1].magpsf` | `prv_candidates[1]['magpsf']` |
//! | `x -> x.magpsf < 17` | `x -> x['magpsf'] < 17`: a lambda's parameter is no column, its fields are not found by dots |
//! | `Mag -> Mag < 17` | `"Mag" -> Mag < 17`: DataFusion lower-cases a parameter where it is declared, not where it is used |
//! | `FROM unnest(list) AS t(x)` | the table of a list, which only some dialects parse as such |
//! | `SELECT candidate.jd` | `SELECT candidate.jd AS jd`, unless another column is named so or `*` brings more |
//! | `filter(…)` and other names of Spark | the same function under DataFusion's name |
//!
//! Spans of identifiers stay, so that errors keep their line and column.

use std::ops::ControlFlow;

use datafusion::config::Dialect;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    AccessExpr, Expr, FunctionArg, FunctionArgExpr, Ident, ObjectNamePart, OneOrManyWithParens, Query, SelectItem,
    SetExpr, TableFactor, Value, VisitMut, VisitorMut,
};

/// The dialect that parses lambdas and double-quoted identifiers, for `datafusion.sql_parser.dialect`.
pub const DIALECT: Dialect = Dialect::DuckDB;

/// Names that Spark's users know and neither DataFusion nor its Spark functions have.
const SPARK_NAMES: [(&str, &str); 4] =
    [("create_map", "map"), ("explode", "unnest"), ("filter", "array_filter"), ("transform", "array_transform")];

/// Rewrites a statement before it is planned.
pub fn rewrite(statement: &mut Statement) {
    match statement {
        Statement::Statement(statement) => {
            let _: ControlFlow<()> = VisitMut::visit(statement.as_mut(), &mut Spellings::default());
        }
        Statement::Explain(explain) => rewrite(&mut explain.statement),
        Statement::CopyTo(_) | Statement::CreateExternalTable(_) | Statement::Reset(_) => {}
    }
}

/// Rewrites an expression that stands alone.
pub fn rewrite_expression(expr: &mut Expr) {
    let _: ControlFlow<()> = VisitMut::visit(expr, &mut Spellings::default());
}

#[derive(Default)]
struct Spellings {
    /// Parameters of the lambdas that the visitor is inside of.
    parameters: Vec<String>,
}

impl Spellings {
    fn is_parameter(&self, name: &Ident) -> bool {
        self.parameters.contains(&name.value)
    }
}

impl VisitorMut for Spellings {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Lambda(lambda) => {
                let parameters = match &mut lambda.params {
                    OneOrManyWithParens::One(parameter) => std::slice::from_mut(parameter),
                    OneOrManyWithParens::Many(parameters) => parameters.as_mut_slice(),
                };
                for parameter in parameters {
                    parameter.name.quote_style = Some('"');
                    self.parameters.push(parameter.name.value.clone());
                }
            }
            Expr::Function(function) => {
                if let [ObjectNamePart::Identifier(name)] = function.name.0.as_mut_slice()
                    && let Some((_, ours)) =
                        SPARK_NAMES.iter().find(|(spark, _)| name.value.eq_ignore_ascii_case(spark))
                {
                    name.value = (*ours).into();
                }
            }
            Expr::CompoundIdentifier(names) if self.is_parameter(&names[0]) => {
                let root = Box::new(Expr::Identifier(names.remove(0)));
                let access_chain = names.drain(..).map(|name| AccessExpr::Dot(text(name))).collect();
                *expr = Expr::CompoundFieldAccess { root, access_chain };
            }
            Expr::CompoundFieldAccess { root, access_chain } => {
                // Leading dots after a column's name are part of that name and left to the planner.
                let leads = match root.as_ref() {
                    Expr::Identifier(name) => !self.is_parameter(name),
                    _ => false,
                };
                let is_dot = |access: &AccessExpr| matches!(access, AccessExpr::Dot(Expr::Identifier(_)));
                let n_kept = if leads { access_chain.iter().take_while(|access| is_dot(access)).count() } else { 0 };
                for access in &mut access_chain[n_kept..] {
                    if let AccessExpr::Dot(Expr::Identifier(name)) = access {
                        *access = AccessExpr::Dot(text(name.clone()));
                    }
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Lambda(lambda) = expr {
            self.parameters.truncate(self.parameters.len() - lambda.params.iter().count());
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        if let SetExpr::Select(select) = query.body.as_mut() {
            name_fields(&mut select.projection);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, table: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, alias, args: Some(args), .. } = table
            && name.to_string().eq_ignore_ascii_case("unnest")
        {
            let array_exprs = args.args.drain(..).filter_map(|arg| match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(list)) => Some(list),
                _ => None,
            });
            *table = TableFactor::UNNEST {
                array_exprs: array_exprs.collect(),
                alias: alias.take(),
                with_offset: false,
                with_offset_alias: None,
                with_ordinality: false,
            };
        }
        ControlFlow::Continue(())
    }
}

/// A column that is a path has the name of its last part, which the planner would make `table.candidate[jd]`.
fn name_fields(projection: &mut [SelectItem]) {
    let name = |item: &SelectItem| match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(alias.clone()),
        SelectItem::UnnamedExpr(Expr::Identifier(name)) => Some(name.clone()),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(names)) => names.last().cloned(),
        _ => None,
    };
    let wild = |item: &SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
    if projection.iter().any(wild) {
        return;
    }
    let names: Vec<Option<Ident>> = projection.iter().map(name).collect();
    for (i, item) in projection.iter_mut().enumerate() {
        let SelectItem::UnnamedExpr(expr @ Expr::CompoundIdentifier(_)) = item else { continue };
        let Some(alias) = &names[i] else { continue };
        let n_same = names.iter().flatten().filter(|other| other.value == alias.value).count();
        if n_same == 1 {
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias: alias.clone() };
        }
    }
}

fn text(name: Ident) -> Expr {
    Expr::Value(Value::SingleQuotedString(name.value).with_span(name.span))
}
