//! A `SELECT` as rows see it: one table, then filters, projections and `unnest`, and nothing that needs other rows.

use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, LogicalPlan};

/// A `SELECT` over one table or view.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    /// The table or view it reads.
    pub base: String,
    /// From the inside out. At least one.
    pub levels: Vec<Level>,
}

/// A filter and a projection over the columns of the level before (or of the base).
#[derive(Debug, Clone)]
pub(super) struct Level {
    pub conjuncts: Vec<Expr>,
    pub columns: Vec<(String, Expr)>,
    /// Positions of columns that are lists to take apart.
    pub unnest: Vec<usize>,
}

/// What a stream cannot do, and what to do instead.
#[derive(Debug)]
pub(super) struct NotRowWise {
    pub what: &'static str,
    pub remedy: &'static str,
}

pub(super) const JOIN: NotRowWise = NotRowWise {
    what: "a join",
    remedy: "a pipeline reads one table of alerts; join in the archive with `redpoll sql`",
};

/// Takes an analysed plan apart.
pub(super) fn flatten(plan: &LogicalPlan) -> Result<Rows, NotRowWise> {
    match plan {
        LogicalPlan::TableScan(scan) => {
            let columns =
                scan.projected_schema.fields().iter().map(|field| (field.name().clone(), named(field.name())));
            let level = Level { conjuncts: Vec::new(), columns: columns.collect(), unnest: Vec::new() };
            Ok(Rows { base: scan.table_name.to_string(), levels: vec![level] })
        }
        LogicalPlan::SubqueryAlias(alias) => flatten(&alias.input),
        LogicalPlan::Filter(filter) => {
            let mut rows = flatten(&filter.input)?;
            let conjuncts = split_conjunction(&filter.predicate).into_iter().map(|expr| unqualified(expr.clone()));
            rows.levels.push(rows.identity());
            if let Some(level) = rows.levels.last_mut() {
                level.conjuncts = conjuncts.collect();
            }
            rows.merge();
            Ok(rows)
        }
        LogicalPlan::Projection(projection) => {
            let mut rows = flatten(&projection.input)?;
            let columns = projection.expr.iter().map(|expr| (expr.schema_name().to_string(), expr));
            let columns = columns
                .zip(projection.schema.fields())
                .map(|((_, expr), field)| (field.name().clone(), unqualified(expr.clone().unalias_nested().data)));
            rows.levels.push(Level { conjuncts: Vec::new(), columns: columns.collect(), unnest: Vec::new() });
            rows.merge();
            Ok(rows)
        }
        LogicalPlan::Unnest(unnest) => {
            let mut rows = flatten(&unnest.input)?;
            if !unnest.struct_type_columns.is_empty() {
                return Err(NotRowWise { what: "unnest of a struct", remedy: "name the fields: column.field" });
            }
            let mut level = rows.identity();
            level.unnest = unnest.list_type_columns.iter().map(|(i, _)| *i).collect();
            for ((name, _), field) in level.columns.iter_mut().zip(unnest.schema.fields()) {
                name.clone_from(field.name());
            }
            rows.levels.push(level);
            Ok(rows)
        }
        other => Err(refuse(other)),
    }
}

impl Rows {
    /// The columns of the last level, as they are.
    fn identity(&self) -> Level {
        let columns = self.levels.last().map(|level| &level.columns[..]).unwrap_or_default();
        let columns = columns.iter().map(|(name, _)| (name.clone(), named(name))).collect();
        Level { conjuncts: Vec::new(), columns, unnest: Vec::new() }
    }

    /// Makes one level of the last two, unless a list is taken apart between them.
    fn merge(&mut self) {
        if self.levels.len() < 2 || self.levels[self.levels.len() - 2].unnest.is_empty().eq(&false) {
            return;
        }
        let (Some(mut top), Some(mut below)) = (self.levels.pop(), self.levels.pop()) else { return };
        for expr in top.conjuncts.iter_mut().chain(top.columns.iter_mut().map(|(_, expr)| expr)) {
            *expr = replace(expr.clone(), &below.columns);
        }
        below.conjuncts.append(&mut top.conjuncts);
        self.levels.push(Level { conjuncts: below.conjuncts, columns: top.columns, unnest: top.unnest });
    }
}

/// Puts the expressions that define columns in the place of the columns.
pub(super) fn replace(expr: Expr, definitions: &[(String, Expr)]) -> Expr {
    let replaced = expr.clone().transform_up(|expr| {
        Ok(match &expr {
            Expr::Column(column) => match definitions.iter().find(|(name, _)| *name == column.name) {
                Some((_, definition)) => Transformed::yes(definition.clone()),
                None => Transformed::no(expr),
            },
            _ => Transformed::no(expr),
        })
    });
    replaced.map(|transformed| transformed.data).unwrap_or(expr)
}

pub(super) fn named(name: &str) -> Expr {
    Expr::Column(Column::new_unqualified(name))
}

/// There is one table, so a qualifier says nothing more.
fn unqualified(expr: Expr) -> Expr {
    let plain = expr.clone().transform_up(|expr| {
        Ok(match expr {
            Expr::Column(column) => Transformed::yes(named(&column.name)),
            other => Transformed::no(other),
        })
    });
    plain.map(|transformed| transformed.data).unwrap_or(expr)
}

fn refuse(plan: &LogicalPlan) -> NotRowWise {
    const SCHEDULED: &str =
        "on a stream it would answer for each epoch alone; ask it of the archive with `redpoll sql`";
    let (what, remedy) = match plan {
        LogicalPlan::Aggregate(_) => ("an aggregate", SCHEDULED),
        LogicalPlan::Window(_) => ("a window function", SCHEDULED),
        LogicalPlan::Distinct(_) => (
            "DISTINCT",
            "write to a STORE, which keeps one row for each row key, or ask the archive with `redpoll sql`",
        ),
        LogicalPlan::Limit(_) => ("LIMIT", SCHEDULED),
        LogicalPlan::Sort(_) => {
            ("ORDER BY", "a stream has no last row; order when you read the archive with `redpoll sql`")
        }
        LogicalPlan::Join(_) => return JOIN,
        LogicalPlan::Union(_) => ("UNION", "write one INSERT for each part: several INSERTs are still one pass"),
        LogicalPlan::EmptyRelation(_) | LogicalPlan::Values(_) => {
            ("a SELECT without a table", "read the alerts: FROM …")
        }
        _ => ("this clause", SCHEDULED),
    };
    NotRowWise { what, remedy }
}
