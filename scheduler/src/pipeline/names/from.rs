//! The tables of a `FROM`: each is looked up, and its columns are added to the names that may be used.

use datafusion::sql::sqlparser::ast::{
    Expr, Join, JoinConstraint, JoinOperator, ObjectName, TableAlias, TableFactor, TableWithJoins,
};

use super::scope::{Column, Columns, Relation, Scope};
use super::{Names, place_of_node, table_name, type_of};
use crate::pipeline::problem::{Problem, nearest};

impl Names<'_> {
    /// Adds a table and those that are joined to it. What comes later sees what came before.
    pub(super) fn from(&mut self, from: &TableWithJoins, scope: &mut Scope) {
        self.relation(&from.relation, scope);
        for Join { relation, join_operator, .. } in &from.joins {
            let n_before = scope.relations.len();
            self.relation(relation, scope);
            match constraint(join_operator) {
                Some(JoinConstraint::On(condition)) => self.expression(condition, scope),
                Some(JoinConstraint::Using(columns)) => {
                    columns.iter().for_each(|column| self.using(column, scope, n_before));
                }
                Some(JoinConstraint::Natural | JoinConstraint::None) | None => {}
            }
        }
    }

    /// A column that both sides must have.
    fn using(&mut self, column: &ObjectName, scope: &Scope, n_before: usize) {
        let Some(ident) = column.0.last().and_then(|part| part.as_ident()) else { return };
        let (left, right) = scope.relations.split_at(n_before);
        for side in [left, right] {
            let side = Scope { relations: side.to_vec(), outer: None };
            if let Err(problem) = side.look_up(std::slice::from_ref(ident)) {
                return self.problems.push(problem);
            }
        }
    }

    fn relation(&mut self, relation: &TableFactor, scope: &mut Scope) {
        let (qualifiers, columns, alias) = match relation {
            TableFactor::Table { name, alias, args: None, .. } => {
                let written = table_name(name);
                let last = written.rsplit('.').next().filter(|last| *last != written).map(str::to_owned);
                (last.into_iter().chain([written]).collect(), self.table(name), alias)
            }
            TableFactor::Derived { lateral, subquery, alias, .. } => {
                let columns = match lateral {
                    true => self.subquery(subquery, Some(&*scope)),
                    false => self.subquery(subquery, scope.outer),
                };
                (Vec::new(), columns, alias)
            }
            TableFactor::UNNEST { array_exprs, alias, .. } => {
                array_exprs.iter().for_each(|list| self.expression(list, scope));
                (Vec::new(), elements(array_exprs, alias.as_ref(), scope), alias)
            }
            TableFactor::NestedJoin { table_with_joins, alias: None } => return self.from(table_with_joins, scope),
            TableFactor::NestedJoin { table_with_joins, alias } => {
                let mut inner = Scope { relations: Vec::new(), outer: scope.outer };
                self.from(table_with_joins, &mut inner);
                (Vec::new(), inner.all(), alias)
            }
            // Functions and the like: what their columns are only the planner knows.
            _ => (Vec::new(), Columns::Unknown, &None),
        };
        let qualifiers = alias.as_ref().map_or(qualifiers, |alias| vec![alias.name.value.clone()]);
        scope.relations.push(Relation { qualifiers, columns: columns.renamed(alias.as_ref()) });
    }

    fn table(&mut self, name: &ObjectName) -> Columns {
        let written = table_name(name);
        if let Some((_, columns)) = self.with.iter().rev().find(|(with, _)| *with == written) {
            return columns.clone();
        }
        if self.broken.contains(&written) {
            self.reads_broken = true;
            return Columns::Unknown;
        }
        if let Some(schema) = self.tables.get(&written) {
            return Columns::of(schema.fields());
        }
        let known = self.tables.keys().chain(self.with.iter().map(|(name, _)| name)).map(String::as_str);
        let (message, near) = (format!("there is no table '{written}'"), nearest(&written, known));
        self.problems.push(Problem::at(place_of_node(name), message, near));
        Columns::Unknown
    }
}

/// The columns of `UNNEST(list, …) AS t (a, …)`; without names for them, only the planner knows.
fn elements(lists: &[Expr], alias: Option<&TableAlias>, scope: &Scope) -> Columns {
    if alias.is_none_or(|alias| alias.columns.is_empty()) {
        return Columns::Unknown;
    }
    let element = |list: &Expr| match type_of(list, scope)? {
        datafusion::arrow::datatypes::DataType::List(item) => Some(item.data_type().clone()),
        _ => None,
    };
    Columns::Known(lists.iter().map(|list| Column { name: String::new(), data_type: element(list) }).collect())
}

fn constraint(operator: &JoinOperator) -> Option<&JoinConstraint> {
    use JoinOperator::*;
    match operator {
        Join(on) | Inner(on) | Left(on) | LeftOuter(on) | Right(on) | RightOuter(on) | FullOuter(on)
        | CrossJoin(on) | Semi(on) | LeftSemi(on) | RightSemi(on) | Anti(on) | LeftAnti(on) | RightAnti(on)
        | StraightJoin(on) => Some(on),
        AsOf { constraint, .. } => Some(constraint),
        CrossApply | OuterApply | ArrayJoin | LeftArrayJoin | InnerArrayJoin => None,
    }
}
