//! What a pipeline cannot have by its text alone, each with its place and what to write instead.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, Query, Select, Spanned, TableFactor, Visit, Visitor};

use super::flatten::{JOIN, NotRowWise};
use super::names::place_of_node;
use super::problem::Problem;

const WITH: NotRowWise = NotRowWise { what: "WITH", remedy: "write a CREATE VIEW, or a subquery in FROM" };
const SUBQUERY: NotRowWise = NotRowWise {
    what: "a subquery in an expression",
    remedy: "a pipeline reads one table of alerts; ask it of the archive with `redpoll sql`",
};
const LATERAL: NotRowWise = NotRowWise {
    what: "a list in FROM",
    remedy: "take it apart in a SELECT: FROM (SELECT …, unnest(list) AS item FROM …)",
};

/// The parts of a query that have no place in a pipeline.
pub(super) fn refused(query: &Query) -> Vec<Problem> {
    let mut search = Search::default();
    let _: ControlFlow<()> = query.visit(&mut search);
    search.problems
}

#[derive(Default)]
struct Search {
    problems: Vec<Problem>,
    /// Subqueries of expressions that it is inside of: one problem is enough.
    depth: usize,
}

impl Search {
    fn refuse(&mut self, node: &impl Spanned, NotRowWise { what, remedy }: NotRowWise) {
        if self.depth == 0 {
            self.problems.push(Problem::at(place_of_node(node), format!("a pipeline cannot have {what}"), remedy));
        }
    }
}

impl Visitor for Search {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if let Some(with) = &query.with {
            self.refuse(with, WITH);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        let joined = select.from.iter().flat_map(|from| &from.joins).map(|join| &join.relation);
        for relation in select.from.iter().skip(1).map(|from| &from.relation).chain(joined) {
            let is_list = matches!(relation, TableFactor::UNNEST { .. });
            self.refuse(relation, if is_list { LATERAL } else { JOIN });
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if is_subquery(expr) {
            self.refuse(expr, SUBQUERY);
            self.depth += 1;
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        self.depth -= usize::from(is_subquery(expr));
        ControlFlow::Continue(())
    }
}

fn is_subquery(expr: &Expr) -> bool {
    matches!(expr, Expr::Subquery(_) | Expr::InSubquery { .. } | Expr::Exists { .. })
}
