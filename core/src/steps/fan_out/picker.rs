//! Which rows each output gets, found for all outputs of a view together.
//!
//! Outputs of one view share its rows, and what several conditions have in common is computed once a batch: a thousand
//! filters cost little more than their thousand comparisons. An output that picks no row of a batch costs no more than
//! its condition.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::and;
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::error::Result;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;

use super::Output;
use crate::steps::evaluate::{Computed, Erred, evaluate};
use crate::steps::mask::{mask_of, select, without};
use crate::steps::meta_fields;
use crate::steps::stages::{Applied, Selected};

type Expr = Arc<dyn PhysicalExpr>;

/// How the outputs of a plan pick their rows.
pub(in crate::steps) struct Picker {
    views: Vec<View>,
    /// Of each output: the place of its view, and its condition over that view's columns and what is common.
    outputs: Vec<(usize, Option<Expr>)>,
}

/// Rows that several outputs pick from.
struct View {
    mask: Option<String>,
    /// Columns that tell which rows lack something that the outputs need.
    failed: Vec<String>,
    /// What several conditions have in common, each over the columns and those before it.
    common: Vec<Expr>,
}

/// The rows of one batch, before outputs pick theirs.
pub(in crate::steps) struct Picked<'a> {
    picker: &'a Picker,
    outputs: &'a [Output],
    /// Where all rows came from.
    meta: RecordBatch,
    views: Vec<ViewRows>,
}

struct ViewRows {
    batch: RecordBatch,
    /// Of each row, the row of the batch that it came from.
    origin: Vec<u32>,
    /// The rows with what is common; none where that cannot be computed for every row: a condition may guard it.
    wide: Option<RecordBatch>,
}

impl Picker {
    /// For batches of this schema.
    pub fn new(outputs: &[Output], schema: &SchemaRef) -> Result<Self> {
        let mut views: Vec<View> = Vec::new();
        let mut places = Vec::with_capacity(outputs.len());
        for output in outputs {
            let failed: Vec<String> = output.withheld_by.iter().map(|withheld| withheld.column.clone()).collect();
            let known = views.iter().position(|view| view.mask == output.mask && view.failed == failed);
            places.push(known.unwrap_or_else(|| {
                views.push(View { mask: output.mask.clone(), failed, common: Vec::new() });
                views.len() - 1
            }));
        }
        let condition = |output: &Output| output.stages.first().and_then(|stage| stage.predicate.clone());
        let mut picker = Self { views, outputs: places.iter().map(|place| (*place, None)).collect() };
        for place in 0..picker.views.len() {
            let own = || (0..outputs.len()).filter(|output| places[*output] == place);
            let conditions: Vec<(usize, Expr)> =
                own().filter_map(|output| Some((output, condition(&outputs[output])?))).collect();
            let mut shared = Shared::new(conditions.iter().map(|(_, condition)| condition), schema)?;
            for (output, condition) in conditions {
                picker.outputs[output].1 = Some(shared.replaced(condition)?);
            }
            picker.views[place].common = std::mem::take(&mut shared.common);
        }
        Ok(picker)
    }

    pub fn pick<'a>(&'a self, outputs: &'a [Output], batch: &RecordBatch) -> Result<Picked<'a>> {
        let fields = meta_fields();
        let fields: Vec<usize> =
            fields.iter().map(|field| Ok(batch.schema().index_of(field.name())?)).collect::<Result<_>>()?;
        let views = self.views.iter().map(|view| view.rows(batch)).collect::<Result<_>>()?;
        Ok(Picked { picker: self, outputs, meta: batch.project(&fields)?, views })
    }
}

impl View {
    fn rows(&self, batch: &RecordBatch) -> Result<ViewRows> {
        let mut mask = mask_of(batch, self.mask.as_deref())?;
        if let Some(clean) = without(batch, &self.failed)? {
            mask = and(&mask, &clean)?;
        }
        let origin = (0..batch.num_rows() as u32).filter(|row| mask.value(*row as usize)).collect();
        let batch = select(batch, &mask)?;
        let wide = self.widened(&batch).ok();
        Ok(ViewRows { batch, origin, wide })
    }

    fn widened(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let (mut fields, mut columns) = (batch.schema().fields().to_vec(), batch.columns().to_vec());
        let mut wide = batch.clone();
        for (i, expr) in self.common.iter().enumerate() {
            let column: ArrayRef = expr.evaluate(&wide)?.into_array(batch.num_rows())?;
            fields.push(Arc::new(Field::new(common_name(i), column.data_type().clone(), true)));
            columns.push(column);
            let schema = Arc::new(Schema::new(fields.clone()));
            wide = RecordBatch::try_new_with_options(schema, columns.clone(), &options)?;
        }
        Ok(wide)
    }
}

impl Picked<'_> {
    /// What an output selects; nothing where it picks no row and errs on none. `hashes` are those of the batch.
    pub fn rows(&self, index: usize, hashes: &[u128]) -> Result<Option<Applied>> {
        let (place, condition) = &self.picker.outputs[index];
        let (view, stages) = (&self.views[*place], &self.outputs[index].stages);
        let mut rows = Selected::new(view.batch.clone(), view.origin.clone());
        for (i, stage) in stages.iter().enumerate() {
            let left = match (condition, &stage.predicate) {
                (Some(condition), Some(written)) if i == 0 => {
                    let rows = rows.that_meet(written, &view.computed(condition, written)?)?;
                    rows.map(|rows| stage.project(rows)).transpose()?
                }
                _ => stage.apply(rows)?,
            };
            let Some(left) = left else { return Ok(None) };
            rows = left;
        }
        if rows.is_nothing() { Ok(None) } else { rows.applied(&self.meta, hashes).map(Some) }
    }
}

impl ViewRows {
    /// A condition on the rows; `written` is the same before what is common was taken out of it.
    fn computed(&self, condition: &Expr, written: &Expr) -> Result<Computed> {
        let n = self.batch.num_rows();
        let shared = self.wide.as_ref().map(|wide| condition.evaluate(wide).and_then(|values| values.into_array(n)));
        match shared {
            Some(Ok(values)) => Ok(Computed { values, erred: Erred::new() }),
            // It errs on a row, or what is common does: which row that is, the condition alone tells.
            _ => evaluate(written, &self.batch),
        }
    }
}

/// What conditions have in common, as columns.
struct Shared {
    places: HashMap<Expr, Expr>,
    common: Vec<Expr>,
}

impl Shared {
    fn new<'a>(conditions: impl Iterator<Item = &'a Expr>, schema: &SchemaRef) -> Result<Self> {
        let (mut times, mut order) = (HashMap::new(), Vec::new());
        conditions.for_each(|condition| tally(condition, &mut times, &mut order));
        let mut shared = Self { places: HashMap::new(), common: Vec::new() };
        for expr in order.into_iter().filter(|expr| times[expr] > 1) {
            let i = shared.common.len();
            let within = shared.replaced(expr.clone())?;
            shared.common.push(within);
            shared.places.insert(expr, Arc::new(Column::new(&common_name(i), schema.fields().len() + i)));
        }
        Ok(shared)
    }

    /// The expression with columns in the place of what is common.
    fn replaced(&self, expr: Expr) -> Result<Expr> {
        if let Some(column) = self.places.get(&expr) {
            return Ok(column.clone());
        }
        let children = expr.children().into_iter().map(|child| self.replaced(child.clone()));
        let replaced = children.collect::<Result<Vec<_>>>()?;
        if replaced.is_empty() { Ok(expr) } else { expr.with_new_children(replaced) }
    }
}

/// Of the column that a common part becomes.
fn common_name(i: usize) -> String {
    format!("_common_{i}")
}

/// Counts how often each part of an expression occurs; `order` has inner parts before outer ones. Columns and constants
/// cost nothing.
fn tally(expr: &Expr, times: &mut HashMap<Expr, usize>, order: &mut Vec<Expr>) {
    let children = expr.children();
    if children.is_empty() {
        return;
    }
    if let Some(n) = times.get_mut(expr) {
        *n += 1;
        return;
    }
    children.into_iter().for_each(|child| tally(child, times, order));
    times.insert(expr.clone(), 1);
    order.push(expr.clone());
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::DataType;
    use datafusion::logical_expr::Operator;
    use datafusion::physical_expr::expressions::{BinaryExpr, binary, col, lit};

    use super::*;

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("x", DataType::Int64, true), Field::new("y", DataType::Int64, true)]))
    }

    fn batch(x: Vec<Option<i64>>, y: Vec<Option<i64>>) -> RecordBatch {
        let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(x)), Arc::new(Int64Array::from(y))];
        RecordBatch::try_new(schema(), columns).unwrap()
    }

    /// `100 / x`
    fn quotient() -> Expr {
        Arc::new(BinaryExpr::new(lit(100_i64), Operator::Divide, col("x", &schema()).unwrap()))
    }

    fn above(expr: Expr, value: i64) -> Expr {
        binary(expr, Operator::Gt, lit(value), &schema()).unwrap()
    }

    fn rows_of(conditions: &[Expr], batch: &RecordBatch) -> (usize, Vec<Vec<bool>>) {
        let mut shared = Shared::new(conditions.iter(), &schema()).unwrap();
        let replaced: Vec<Expr> =
            conditions.iter().map(|condition| shared.replaced(condition.clone()).unwrap()).collect();
        let common = std::mem::take(&mut shared.common);
        let n_common = common.len();
        let view = View { mask: None, failed: Vec::new(), common };
        let rows = view.rows(batch).unwrap();
        let keep = |(condition, written): (&Expr, &Expr)| {
            let computed = rows.computed(condition, written).unwrap();
            computed.values.as_boolean().iter().map(|keep| keep == Some(true)).collect()
        };
        (n_common, replaced.iter().zip(conditions).map(keep).collect())
    }

    #[test]
    fn what_conditions_have_in_common_is_computed_once_and_null_is_not_true() {
        let conditions = [above(quotient(), 10), above(quotient(), 40), above(col("y", &schema()).unwrap(), 1)];
        let (n_common, rows) = rows_of(&conditions, &batch(vec![Some(2), Some(5), None], vec![None, Some(2), Some(1)]));
        assert_eq!(n_common, 1);
        assert_eq!(rows, [[true, true, false], [true, false, false], [false, true, false]]);
    }

    #[test]
    fn what_a_condition_guards_may_fail_where_it_is_guarded() {
        let guarded = |value| {
            let not_null = binary(col("x", &schema()).unwrap(), Operator::NotEq, lit(0_i64), &schema()).unwrap();
            let otherwise = Some(lit(false));
            let branches = vec![(not_null, above(quotient(), value))];
            Arc::new(datafusion::physical_expr::expressions::CaseExpr::try_new(None, branches, otherwise).unwrap())
                as Expr
        };
        let (_, rows) = rows_of(&[guarded(10), guarded(40)], &batch(vec![Some(0), Some(2)], vec![None, None]));
        assert_eq!(rows, [[false, true], [false, true]]);
    }
}
