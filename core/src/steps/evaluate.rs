//! Evaluates expressions so that a value on which one errs costs its own row: a division by zero, a text that is no
//! number.
//!
//! A batch that errs is halved until rows that err stand alone. A row errs if it does so alone: what an engine evaluates
//! of a batch beyond what its rows need, such as the right side of an `AND` whose left side is false, is no row's fault.
//! So which rows err does not depend on how they were batched, and a re-run finds the same.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, new_null_array};
use arrow::compute::concat;
use arrow::error::ArrowError;
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_expr::PhysicalExpr;

use super::mask::places;

/// Rows on which an expression errs, each with the reason.
pub(super) type Erred = BTreeMap<usize, String>;

/// What an expression came to.
pub(super) struct Computed {
    /// One for each row, null where the expression errs.
    pub values: ArrayRef,
    pub erred: Erred,
}

/// Evaluates `expr` on each row. Fails on what is no row's fault: an error that is not of a value, and one that comes
/// without any row. Without an error the batch is evaluated once; each row that errs costs about 2·log2(rows) more.
pub(super) fn evaluate(expr: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> Result<Computed> {
    let error = match whole(expr, batch) {
        Ok(values) => return Ok(Computed { values, erred: Erred::new() }),
        Err(error) => error,
    };
    whole(expr, &batch.slice(0, 0))?;
    let mut search = Search { expr, parts: Vec::new(), erred: Erred::new() };
    search.halve(batch, 0, error)?;
    search.end(batch)
}

impl Computed {
    /// The rows that err as rows of the batch that they were selected from, with what erred in front of the reason.
    pub fn erred_in(&self, selection: &BooleanArray, what: impl Display) -> Erred {
        if self.erred.is_empty() {
            return Erred::new();
        }
        let places = places(selection);
        self.erred.iter().map(|(row, reason)| (places[*row], format!("{what}: {reason}"))).collect()
    }
}

fn whole(expr: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> Result<ArrayRef> {
    expr.evaluate(batch)?.into_array(batch.num_rows())
}

struct Search<'a> {
    expr: &'a Arc<dyn PhysicalExpr>,
    /// Values of the parts that did not err, in order; none of a row that did.
    parts: Vec<Option<ArrayRef>>,
    erred: Erred,
}

impl Search<'_> {
    /// Looks into a part that erred, which begins at row `first` of the whole.
    fn halve(&mut self, part: &RecordBatch, first: usize, error: DataFusionError) -> Result<()> {
        if !is_of_value(&error) {
            return Err(error);
        }
        let n = part.num_rows();
        if n == 1 {
            self.parts.push(None);
            self.erred.insert(first, reason(&error));
            return Ok(());
        }
        for (at, len) in [(0, n / 2), (n / 2, n - n / 2)] {
            let half = part.slice(at, len);
            match whole(self.expr, &half) {
                Ok(values) => self.parts.push(Some(values)),
                Err(error) => self.halve(&half, first + at, error)?,
            }
        }
        Ok(())
    }

    fn end(self, batch: &RecordBatch) -> Result<Computed> {
        let of_type = self.parts.iter().flatten().next().map(|values| values.data_type().clone());
        let of_type = of_type.map_or_else(|| self.expr.data_type(&batch.schema()), Ok)?;
        let missing = new_null_array(&of_type, 1);
        let parts: Vec<&dyn Array> =
            self.parts.iter().map(|values| values.as_ref().unwrap_or(&missing).as_ref()).collect();
        Ok(Computed { values: concat(&parts)?, erred: self.erred })
    }
}

/// Whether an error may be one of the values of a row.
fn is_of_value(error: &DataFusionError) -> bool {
    match error.find_root() {
        DataFusionError::Execution(_) => true,
        DataFusionError::ArrowError(error, _) => matches!(
            error.as_ref(),
            ArrowError::DivideByZero
                | ArrowError::ArithmeticOverflow(_)
                | ArrowError::CastError(_)
                | ArrowError::ParseError(_)
                | ArrowError::ComputeError(_)
                | ArrowError::InvalidArgumentError(_)
                | ArrowError::OffsetOverflowError(_)
        ),
        _ => false,
    }
}

/// As people are told it.
fn reason(error: &DataFusionError) -> String {
    match error.find_root() {
        DataFusionError::Execution(text) => text.clone(),
        DataFusionError::ArrowError(error, _) => error.to_string(),
        other => other.strip_backtrace(),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};
    use datafusion::logical_expr::{ColumnarValue, Expr, Volatility, create_udf};
    use datafusion::prelude::{SessionContext, cast, col, lit};

    use super::*;

    fn batch() -> RecordBatch {
        let numbers: ArrayRef =
            Arc::new(Int64Array::from(vec![Some(4), Some(0), None, Some(-3), Some(0), Some(5), Some(7)]));
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["1", "2", "x", "4", "", "6", "7"]));
        RecordBatch::try_from_iter_with_nullable([("n", numbers, true), ("text", texts, true)]).unwrap()
    }

    fn physical(expr: Expr, batch: &RecordBatch) -> Arc<dyn PhysicalExpr> {
        let schema = datafusion::common::DFSchema::try_from(batch.schema().as_ref().clone()).unwrap();
        SessionContext::new().create_physical_expr(expr, &schema).unwrap()
    }

    fn check(expr: Expr) -> Result<Computed> {
        evaluate(&physical(expr, &batch()), &batch())
    }

    fn rows(computed: &Computed) -> Vec<usize> {
        computed.erred.keys().copied().collect()
    }

    #[test]
    fn a_row_that_errs_is_found_and_costs_no_other() {
        let computed = check(lit(100i64) / col("n")).unwrap();
        assert_eq!(rows(&computed), [1, 4]);
        assert_eq!(computed.erred[&1], "Divide by zero error");
        let values: Vec<_> = computed.values.as_primitive::<Int64Type>().iter().collect();
        assert_eq!(values, [Some(25), None, None, Some(-33), None, Some(20), Some(14)]);

        let computed = check(cast(col("text"), DataType::Int64)).unwrap();
        assert_eq!(rows(&computed), [2, 4]);
        assert!(computed.erred[&2].contains("'x'"), "{}", computed.erred[&2]);
        assert!(check(col("n") + lit(1i64)).unwrap().erred.is_empty());
    }

    #[test]
    fn what_a_row_does_not_need_it_does_not_err_on_however_it_is_batched() {
        // Alone, a row with a zero never comes to the division; in a batch it does.
        let guarded = col("n").not_eq(lit(0i64)).and((lit(100i64) / col("n")).gt(lit(15i64)));
        let computed = check(guarded.clone()).unwrap();
        assert!(computed.erred.is_empty(), "{:?}", computed.erred);
        let unguarded = (lit(100i64) / col("n")).gt(lit(15i64));
        let whole = check(unguarded.clone()).unwrap();
        for (expr, whole) in [(guarded, computed), (unguarded, whole)] {
            for cut in 1..batch().num_rows() {
                let parts = [batch().slice(0, cut), batch().slice(cut, batch().num_rows() - cut)];
                let parts = parts.map(|part| evaluate(&physical(expr.clone(), &part), &part).unwrap());
                let values = concat(&[parts[0].values.as_ref(), parts[1].values.as_ref()]).unwrap();
                assert_eq!(&values, &whole.values, "cut at {cut}");
                let erred = parts[0].erred.keys().copied().chain(parts[1].erred.keys().map(|row| row + cut));
                assert_eq!(erred.collect::<Vec<_>>(), rows(&whole), "cut at {cut}");
            }
        }
    }

    #[test]
    fn what_is_no_rows_fault_fails_the_attempt() {
        // Without a row it errs too.
        let error = check((lit(1i64) / lit(0i64)).gt(col("n"))).err().map(|error| error.to_string());
        assert!(error.is_some_and(|error| error.contains("Divide by zero")));
        let with = |error: fn() -> DataFusionError| {
            let fails = move |args: &[ColumnarValue]| match &args[0] {
                ColumnarValue::Array(values) if values.is_empty() => {
                    Ok(ColumnarValue::Array(Arc::new(BooleanArray::from(Vec::<bool>::new()))))
                }
                _ => Err(error()),
            };
            let function =
                create_udf("fails", vec![DataType::Int64], DataType::Boolean, Volatility::Immutable, Arc::new(fails));
            check(function.call(vec![col("n")]))
        };
        for error in [
            || DataFusionError::ResourcesExhausted("no memory".into()),
            || DataFusionError::IoError(std::io::Error::other("no disk")),
            || DataFusionError::Internal("a bug".into()),
            || DataFusionError::NotImplemented("later".into()),
        ] {
            assert!(with(error).is_err(), "{}", error());
        }
        let all = with(|| DataFusionError::Execution("a bad value".into()).context("in a function")).unwrap();
        assert_eq!((all.erred.len(), all.erred[&0].as_str()), (7, "a bad value"));
        assert_eq!(all.values.null_count(), 7);
    }

    #[test]
    fn a_batch_without_rows_gives_none() {
        let empty = RecordBatch::new_empty(Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)])));
        let computed = evaluate(&physical(lit(1i64) / col("n"), &empty), &empty).unwrap();
        assert!(computed.values.is_empty() && computed.erred.is_empty());
    }
}
