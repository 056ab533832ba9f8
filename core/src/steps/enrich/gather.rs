//! Which rows a module is called for, and which go into one call.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::and;
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};
use datafusion::physical_expr_common::physical_expr::fmt_sql;
use futures::{Stream, TryStreamExt};

use super::{Enrich, IN_FLIGHT, Params};
use crate::ledger::ModuleCounts;
use crate::steps::evaluate::{Erred, evaluate};
use crate::steps::internal;
use crate::steps::mask::{all_but, mask_of, places, scatter, select};
use crate::steps::split_run::SplitRun;

/// Rows of one input batch.
#[derive(Debug)]
pub struct Rows {
    pub batch: RecordBatch,
    /// Those that the module is called for.
    pub wanted: BooleanArray,
    /// The module's arguments for them.
    pub arguments: RecordBatch,
    /// Rows that it is not called for, since an argument or its `where` errs.
    pub erred: Erred,
}

/// Gathers the rows of an input into calls.
pub struct Gathering {
    params: Params,
    /// Columns of the input that arguments and gate read, and those over them: no other is copied for a call.
    columns: Vec<usize>,
    inputs: Vec<Arc<dyn PhysicalExpr>>,
    gate: Option<Arc<dyn PhysicalExpr>>,
    /// Bytes of one call: as much is held by each call under way.
    call_bytes: usize,
}

impl Gathering {
    pub fn new(step: &Enrich, input: &SchemaRef) -> Result<Self> {
        let mut columns: Vec<usize> =
            step.exprs.iter().flat_map(collect_columns).map(|column| column.index()).collect();
        columns.sort_unstable();
        columns.dedup();
        let schema = input.project(&columns)?;
        let over = |expr: &Arc<dyn PhysicalExpr>| reassign_expr_columns(expr.clone(), &schema);
        let mut inputs = step.exprs.iter().map(over).collect::<Result<Vec<_>>>()?;
        let gate = if step.params.gated { inputs.pop() } else { None };
        let call_bytes = (step.params.batch_bytes / (IN_FLIGHT + 1)).max(1);
        Ok(Self { params: step.params.clone(), columns, inputs, gate, call_bytes })
    }

    /// Rows that go into one call each, in order, all rows of the input among them.
    pub fn calls(
        self,
        mut input: SendableRecordBatchStream,
        run: Arc<SplitRun>,
    ) -> impl Stream<Item = Result<Vec<Rows>>> + Send {
        async_stream::try_stream! {
            let (mut gathered, mut n_rows, mut bytes) = (Vec::new(), 0, 0);
            while let Some(batch) = input.try_next().await? {
                let batch_bytes = batch.get_array_memory_size();
                let all = batch.num_rows();
                let mut left = Some(self.rows(batch, &run)?);
                while let Some(rows) = left.take() {
                    let (now, later) = rows.split(self.params.batch_rows - n_rows);
                    n_rows += now.arguments.num_rows();
                    bytes += batch_bytes * now.batch.num_rows() / all.max(1);
                    gathered.push(now);
                    left = later;
                    if n_rows >= self.params.batch_rows || bytes >= self.call_bytes {
                        yield std::mem::take(&mut gathered);
                        (n_rows, bytes) = (0, 0);
                    }
                }
            }
            yield gathered;
        }
    }

    fn rows(&self, batch: RecordBatch, run: &SplitRun) -> Result<Rows> {
        let read = batch.project(&self.columns)?;
        let mut wanted = mask_of(&batch, self.params.mask.as_deref())?;
        let n_in = wanted.true_count();
        let mut erred = Erred::new();
        if let Some(gate) = &self.gate {
            let computed = evaluate(gate, &select(&read, &wanted)?)?;
            erred.extend(computed.erred_in(&wanted, format_args!("where {}", fmt_sql(gate.as_ref()))));
            let passes = scatter(&computed.values, &wanted)?;
            let passes = passes.as_boolean_opt().ok_or_else(|| internal("a module's where is a boolean"))?;
            let yes = BooleanArray::from_iter(passes.iter().map(|value| Some(value == Some(true))));
            wanted = and(&wanted, &yes)?;
        }
        let (rows, gated) = (n_in as u64, (n_in - wanted.true_count() - erred.len()) as u64);
        let (mut arguments, errs) = self.arguments(&select(&read, &wanted)?, &wanted)?;
        if !errs.is_empty() {
            let fine: BooleanArray = places(&wanted).iter().map(|row| Some(!errs.contains_key(row))).collect();
            arguments = select(&arguments, &fine)?;
            wanted = and(&wanted, &all_but(batch.num_rows(), &errs))?;
            erred.extend(errs);
        }
        let counts = ModuleCounts { rows, gated, erred: erred.len() as u64, ..ModuleCounts::default() };
        run.counts().modules.entry(self.params.version.module.clone()).or_default().add(&counts);
        Ok(Rows { batch, wanted, arguments, erred })
    }

    /// Of the rows that are wanted, and on which of the batch's rows one errs.
    fn arguments(&self, chosen: &RecordBatch, wanted: &BooleanArray) -> Result<(RecordBatch, Erred)> {
        let (mut fields, mut columns, mut errs) = (Vec::new(), Vec::<ArrayRef>::new(), Erred::new());
        for (name, expr) in self.params.inputs.iter().zip(&self.inputs) {
            let computed = evaluate(expr, chosen)?;
            let what = format_args!("argument {name}, {}", fmt_sql(expr.as_ref()));
            for (row, reason) in computed.erred_in(wanted, what) {
                errs.entry(row).or_insert(reason);
            }
            fields.push(Field::new(name, computed.values.data_type().clone(), true));
            columns.push(computed.values);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(chosen.num_rows()));
        Ok((RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?, errs))
    }
}

impl Rows {
    /// The first rows, so that at most `n` are wanted of them, and the others.
    fn split(self, n: usize) -> (Self, Option<Self>) {
        let n_wanted = self.arguments.num_rows();
        if n_wanted <= n {
            return (self, None);
        }
        let nth = self.wanted.values().set_indices().nth(n).unwrap_or(self.wanted.len());
        let erred = |from: usize, to: usize| -> Erred {
            self.erred.range(from..to).map(|(row, reason)| (row - from, reason.clone())).collect()
        };
        let rows = |from: usize, to: usize, first: usize, last: usize| Self {
            batch: self.batch.slice(from, to - from),
            wanted: self.wanted.slice(from, to - from),
            arguments: self.arguments.slice(first, last - first),
            erred: erred(from, to),
        };
        (rows(0, nth, 0, n), Some(rows(nth, self.wanted.len(), n, n_wanted)))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Int32Array;
    use arrow::datatypes::Int32Type;

    use super::*;

    #[test]
    fn a_batch_is_cut_where_a_call_is_full() {
        let batch = |values: Vec<i32>| {
            RecordBatch::try_from_iter([("x", Arc::new(Int32Array::from(values)) as ArrayRef)]).unwrap()
        };
        let wanted = BooleanArray::from(vec![false, true, true, false, true, false]);
        let erred = Erred::from([(3, "three".to_owned()), (5, "five".to_owned())]);
        let rows = Rows { batch: batch((0..6).collect()), wanted, arguments: batch(vec![1, 2, 4]), erred };
        let column = |batch: &RecordBatch| batch.column(0).as_primitive::<Int32Type>().values().to_vec();
        let (now, later) = rows.split(2);
        let later = later.unwrap();
        assert_eq!((column(&now.batch), column(&now.arguments)), (vec![0, 1, 2, 3], vec![1, 2]));
        assert_eq!((column(&later.batch), column(&later.arguments)), (vec![4, 5], vec![4]));
        assert_eq!((now.wanted.true_count(), later.wanted.true_count()), (2, 1));
        assert_eq!(now.erred, Erred::from([(3, "three".to_owned())]));
        assert_eq!(later.erred, Erred::from([(1, "five".to_owned())]));
        let (_, rest) = later.split(1);
        assert!(rest.is_none());
    }
}
