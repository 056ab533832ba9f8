//! Puts a call's values into the batches that its rows came from.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::not;
use arrow::datatypes::SchemaRef;
use datafusion::error::Result;

use super::gather::Rows;
use crate::steps::evaluate::Erred;
use crate::steps::mask::{all_but, places, scatter};
use crate::steps::notes::add_notes;

pub struct PutBack<'a> {
    pub module: &'a str,
    pub schema: &'a SchemaRef,
    pub sets_aside: bool,
    /// By row of the call.
    pub failures: BTreeMap<usize, String>,
}

impl PutBack<'_> {
    pub fn all(&self, rows: Vec<Rows>, values: &ArrayRef) -> Result<Vec<RecordBatch>> {
        let mut first = 0;
        let batches = rows.into_iter().map(|rows| {
            let n = rows.arguments.num_rows();
            let batch = self.one(rows, &values.slice(first, n), first);
            first += n;
            batch
        });
        batches.collect()
    }

    /// Of rows whose first is that row of the call.
    fn one(&self, rows: Rows, values: &ArrayRef, first: usize) -> Result<RecordBatch> {
        let Rows { batch, wanted, arguments, erred: mut aside } = rows;
        let mut columns = batch.columns().to_vec();
        let called = places(&wanted);
        let failures = self.failures.range(first..first + arguments.num_rows());
        let mut noted: Erred = failures.map(|(call, reason)| (called[call - first], reason.clone())).collect();
        if self.sets_aside {
            aside.extend(noted.clone());
        }
        noted.extend(aside.clone());
        add_notes(&batch, &mut columns, self.module, &noted)?;
        columns.push(scatter(values, &wanted)?);
        columns.push(Arc::new(not(&all_but(batch.num_rows(), &aside))?));
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }
}
