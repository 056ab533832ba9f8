//! Puts a call's values into the batches that its rows came from.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, MapBuilder, RecordBatch, StringBuilder};
use arrow::datatypes::SchemaRef;
use datafusion::error::Result;

use super::gather::Rows;
use crate::steps::mask::scatter;
use crate::steps::notes_field;

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
            let batch = self.one(&rows, &values.slice(first, n), first);
            first += n;
            batch
        });
        batches.collect()
    }

    /// Of rows whose first is that row of the call.
    fn one(&self, Rows { batch, wanted, arguments }: &Rows, values: &ArrayRef, first: usize) -> Result<RecordBatch> {
        let mut columns = batch.columns().to_vec();
        if self.failures.range(first..first + arguments.num_rows()).next().is_some() {
            let notes = batch.schema().index_of(notes_field().name())?;
            columns[notes] = self.note(&columns[notes], wanted, first)?;
        }
        columns.push(scatter(values, wanted)?);
        if self.sets_aside {
            let mut calls = first..;
            let failed = wanted.values().iter().map(|wanted| match wanted {
                true => calls.next().is_some_and(|call| self.failures.contains_key(&call)),
                false => false,
            });
            columns.push(Arc::new(failed.map(Some).collect::<BooleanArray>()));
        }
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }

    /// Adds the reasons of the failed rows to the notes.
    fn note(&self, notes: &ArrayRef, wanted: &BooleanArray, first: usize) -> Result<ArrayRef> {
        let old = notes.as_map();
        let mut builder = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
        let mut called = first;
        for row in 0..old.len() {
            let reason = match wanted.value(row) {
                true => {
                    called += 1;
                    self.failures.get(&(called - 1))
                }
                false => None,
            };
            if old.is_valid(row) {
                let entries = old.value(row);
                let (keys, values) = (entries.column(0).as_string::<i32>(), entries.column(1).as_string::<i32>());
                for i in 0..entries.len() {
                    builder.keys().append_value(keys.value(i));
                    builder.values().append_value(values.value(i));
                }
            }
            let noted = old.is_valid(row)
                && old.value(row).column(0).as_string::<i32>().iter().any(|key| key == Some(self.module));
            if let Some(reason) = reason.filter(|_| !noted) {
                builder.keys().append_value(self.module);
                builder.values().append_value(reason);
            }
            builder.append(old.is_valid(row) || reason.is_some())?;
        }
        let built = builder.finish();
        Ok(arrow::compute::cast(&built, notes_field().data_type())?)
    }
}
