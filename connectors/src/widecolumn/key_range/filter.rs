//! From a filter to the keys that can pass it.
//!
//! Conditions on `_row_key` are ranges themselves. Conditions on columns help when they fix the first columns of the
//! row key: `objectId = 'ZTF19a'` allows only keys that begin with `ZTF19a_`. Everything else allows all keys.

use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Like, Operator};
use datafusion::scalar::ScalarValue;

use super::{KeyRange, after, intersect, unite};
use crate::widecolumn::{Catalog, ROW_KEY};

/// What is known of a table's keys.
pub(crate) struct Keys<'a> {
    pub catalog: &'a Catalog,
}

impl Keys<'_> {
    /// The keys that can pass all filters: disjoint ranges in key order, none if nothing can pass.
    pub fn ranges(&self, filters: &[Expr]) -> Vec<KeyRange> {
        conjunction(filters.iter().cloned()).map_or_else(|| vec![KeyRange::all()], |filter| self.of(&filter))
    }

    /// Whether the ranges of this filter hold exactly the rows that pass it.
    pub fn is_exact(filter: &Expr) -> bool {
        split_conjunction(filter).into_iter().all(|filter| key_range(filter).is_some())
    }

    fn of(&self, filter: &Expr) -> Vec<KeyRange> {
        let conditions = split_conjunction(filter);
        let fixed = conditions.iter().filter_map(|condition| self.equality(condition)).collect();
        let (prefix, whole) = self.catalog.row_key.prefix(&fixed);
        let range = match whole {
            true => KeyRange::one(prefix.as_bytes()),
            false => KeyRange::prefix(prefix.as_bytes()),
        };
        conditions.iter().fold(unite(vec![range]), |ranges, condition| intersect(&ranges, &self.condition(condition)))
    }

    fn condition(&self, condition: &Expr) -> Vec<KeyRange> {
        match condition {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
                unite([self.of(left), self.of(right)].concat())
            }
            Expr::InList(InList { expr, list, negated: false }) => {
                let ranges = list.iter().flat_map(|value| self.of(&expr.as_ref().clone().eq(value.clone())));
                unite(ranges.collect())
            }
            _ => key_range(condition).map_or_else(|| vec![KeyRange::all()], |range| unite(vec![range])),
        }
    }

    /// The path of a column of the row key, and the value it must have.
    fn equality<'e>(&self, condition: &'e Expr) -> Option<(&str, &'e ScalarValue)> {
        let (column, Operator::Eq, value) = comparison(condition)? else { return None };
        let column = self.catalog.columns.iter().find(|known| known.name == column)?;
        // Another type may print the same number in another way.
        (value.data_type() == column.data_type || column.data_type.is_string() && value.data_type().is_string())
            .then_some((column.path.as_str(), value))
    }
}

/// The range of a condition on the row key alone.
fn key_range(condition: &Expr) -> Option<KeyRange> {
    match condition {
        Expr::BinaryExpr(_) => {
            let (ROW_KEY, op, value) = comparison(condition)? else { return None };
            let key = text(value)?.as_bytes();
            let (from, to) = (KeyRange { start: key.to_vec().into(), end: None }, KeyRange::all());
            Some(match op {
                Operator::Eq => KeyRange::one(key),
                Operator::GtEq => from,
                Operator::Gt => KeyRange { start: after(key), ..from },
                Operator::Lt => KeyRange { end: Some(key.to_vec().into()), ..to },
                Operator::LtEq => KeyRange { end: Some(after(key)), ..to },
                _ => return None,
            })
        }
        Expr::Between(Between { expr, negated: false, low, high }) if column(expr) == Some(ROW_KEY) => {
            let (low, high) = (text(literal(low)?)?, text(literal(high)?)?);
            Some(KeyRange { start: low.as_bytes().to_vec().into(), end: Some(after(high.as_bytes())) })
        }
        Expr::Like(Like { negated: false, expr, pattern, escape_char: None, case_insensitive: false })
            if column(expr) == Some(ROW_KEY) =>
        {
            let prefix = text(literal(pattern)?)?.strip_suffix('%')?;
            (!prefix.contains(['%', '_', '\\'])).then(|| KeyRange::prefix(prefix.as_bytes()))
        }
        _ => None,
    }
}

/// `column op value`, whichever side the column stands on.
fn comparison(condition: &Expr) -> Option<(&str, Operator, &ScalarValue)> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = condition else { return None };
    match (column(left), literal(right)) {
        (Some(column), Some(value)) => Some((column, *op, value)),
        _ => Some((column(right)?, op.swap()?, literal(left)?)),
    }
}

fn column(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Column(column) => Some(&column.name),
        _ => None,
    }
}

fn literal(expr: &Expr) -> Option<&ScalarValue> {
    match expr {
        Expr::Literal(value, _) => Some(value),
        _ => None,
    }
}

fn text(value: &ScalarValue) -> Option<&str> {
    value.try_as_str().flatten()
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::common::ToDFSchema;
    use datafusion::prelude::SessionContext;

    use super::*;
    use crate::widecolumn::{CatalogColumn, RowKey};

    fn ranges(filter: &str) -> String {
        let types = [("objectId", DataType::Utf8), ("jd", DataType::Float64), ("fid", DataType::Int32)];
        let catalog_column = |(name, data_type): &(&str, DataType)| CatalogColumn {
            name: name.to_string(),
            path: if *name == "jd" { "candidate.jd".into() } else { name.to_string() },
            family: "i".into(),
            data_type: data_type.clone(),
        };
        let catalog = Catalog {
            row_key: RowKey::parse("{objectId}_{candidate.jd}").unwrap(),
            columns: types.iter().map(catalog_column).collect(),
        };
        let mut fields = vec![Field::new(ROW_KEY, DataType::Utf8, false)];
        fields.extend(types.map(|(name, data_type)| Field::new(name, data_type, true)));
        let schema = Schema::new(fields).to_dfschema().unwrap();
        let context = SessionContext::new_with_config(
            datafusion::prelude::SessionConfig::new()
                .set_bool("datafusion.sql_parser.enable_ident_normalization", false),
        );
        let filter = context.parse_sql_expr(filter, &schema).unwrap();
        let ranges = Keys { catalog: &catalog }.ranges(std::slice::from_ref(&filter));
        let exact = if Keys::is_exact(&filter) { " exact" } else { "" };
        ranges.iter().map(KeyRange::to_string).collect::<Vec<_>>().join(" ") + exact
    }

    fn check(filter: &str, expected: &str) {
        assert_eq!(ranges(filter), expected, "{filter}");
    }

    #[test]
    fn conditions_on_the_row_key_are_ranges() {
        check("_row_key = 'a'", "[a, a\\x00) exact");
        check("'a' <= _row_key AND _row_key < 'c'", "[a, c) exact");
        check("_row_key > 'a' AND _row_key <= 'c'", "[a\\x00, c\\x00) exact");
        check("_row_key BETWEEN 'a' AND 'c'", "[a, c\\x00) exact");
        check("_row_key LIKE 'ZTF19%'", "[ZTF19, ZTF1:) exact");
    }

    #[test]
    fn conditions_that_are_no_range_allow_every_key() {
        check("_row_key LIKE '%a'", "[, end)");
        check("_row_key LIKE 'a_b%'", "[, end)");
        check("_row_key <> 'a'", "[, end)");
        check("fid = 1", "[, end)");
        check("jd = 2458850.0", "[, end)");
        check("objectId = 'a' OR fid = 1", "[, end)");
    }

    #[test]
    fn the_first_columns_of_the_key_fix_its_beginning() {
        check("objectId = 'ZTF19a'", "[ZTF19a_, ZTF19a`)");
        check("objectId = 'ZTF19a' AND fid = 1", "[ZTF19a_, ZTF19a`)");
        check("objectId = 'a' AND jd = 2458850.0", "[a_2458850.0, a_2458850.0\\x00)");
        check("objectId = 'a' AND _row_key >= 'a_2'", "[a_2, a`)");
        check("objectId = 'a' AND jd = 0.0", "[a_, a`)");
    }

    #[test]
    fn alternatives_are_several_ranges() {
        check("objectId IN ('b', 'a')", "[a_, a`) [b_, b`)");
        check("objectId = 'a' OR _row_key = 'b'", "[a_, a`) [b, b\\x00)");
    }

    #[test]
    fn what_cannot_be_true_allows_no_key() {
        check("objectId = 'a' AND _row_key < 'a'", "");
        check("_row_key > 'b' AND _row_key < 'a'", " exact");
    }
}
