//! What the stages of an `INSERT` make of a batch: the rows for its sink.
//!
//! Where an expression errs on a row, the alert that the row came from is left out with all of its rows, and told: of
//! several that `unnest` made of it a sink has all or none.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{and, filter, take, take_record_batch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::error::Result;
use datafusion::physical_expr_common::physical_expr::fmt_sql;

use super::evaluate::{Computed, Erred, evaluate};
use super::mask::{mask_of, select, without};
use super::{Output, Stage, failed, internal, meta_fields};
use crate::sink::Rows;

/// What an output selects of a batch.
pub(super) struct Applied {
    pub rows: Rows,
    /// For each, the row of the batch that it came from.
    pub origin: Vec<u32>,
    /// Rows of the batch on which an expression errs.
    pub erred: Erred,
}

impl Output {
    pub(super) fn apply(&self, batch: &RecordBatch, hashes: &[u128]) -> Result<Applied> {
        let mut mask = mask_of(batch, self.mask.as_deref())?;
        let failed: Vec<String> = self.withheld_by.iter().map(|withheld| withheld.column.clone()).collect();
        if let Some(clean) = without(batch, &failed)? {
            mask = and(&mask, &clean)?;
        }
        let chosen: Vec<u32> = (0..batch.num_rows() as u32).filter(|row| mask.value(*row as usize)).collect();
        let erred = Erred::new();
        let mut rows = Selected { batch: select(batch, &mask)?, origin: chosen, unnested: false, erred };
        for stage in &self.stages {
            rows = stage.apply(rows)?;
        }
        let origin = UInt32Array::from(rows.origin.clone());
        let fields: Vec<usize> =
            meta_fields().iter().map(|field| Ok(batch.schema().index_of(field.name())?)).collect::<Result<_>>()?;
        let meta = take_record_batch(&batch.project(&fields)?, &origin)?;
        let hashes = match rows.unnested {
            false => rows.origin.iter().map(|row| hashes[*row as usize]).collect(),
            true => numbered(&rows.origin, hashes),
        };
        let Selected { batch, origin, erred, .. } = rows;
        Ok(Applied { rows: Rows { batch, meta, hashes }, origin, erred })
    }
}

/// Rows on their way through the stages, each with the row of the chain's batch that it came from.
struct Selected {
    batch: RecordBatch,
    origin: Vec<u32>,
    unnested: bool,
    /// Rows of the chain's batch on which an expression erred: none of theirs is left.
    erred: Erred,
}

impl Selected {
    /// Notes the rows on which an expression errs. The first reason of an alert stays.
    fn note(&mut self, computed: &Computed, what: impl std::fmt::Display) {
        for (row, reason) in &computed.erred {
            let reason = || format!("{what}: {reason}");
            self.erred.entry(self.origin[*row] as usize).or_insert_with(reason);
        }
    }

    fn is_fine(&self, row: usize) -> bool {
        !self.erred.contains_key(&(self.origin[row] as usize))
    }
}

impl Stage {
    fn apply(&self, mut rows: Selected) -> Result<Selected> {
        if let Some(predicate) = &self.predicate {
            let computed = evaluate(predicate, &rows.batch)?;
            rows.note(&computed, format_args!("WHERE {}", fmt_sql(predicate.as_ref())));
            let passes = computed.values.as_boolean_opt().ok_or_else(|| internal("a predicate is a boolean"))?;
            let keep = passes.iter().enumerate().map(|(row, passes)| Some(passes == Some(true) && rows.is_fine(row)));
            let keep: BooleanArray = keep.collect();
            rows.batch = select(&rows.batch, &keep)?;
            rows.origin = kept(&rows.origin, &keep);
        }
        let mut columns = Vec::with_capacity(self.columns.len());
        let before = rows.erred.len();
        for (field, expr) in &self.columns {
            let computed = evaluate(expr, &rows.batch)?;
            rows.note(&computed, format_args!("column {}, {}", field.name(), fmt_sql(expr.as_ref())));
            columns.push(computed.values);
        }
        if rows.erred.len() > before {
            let fine: BooleanArray = (0..rows.origin.len()).map(|row| Some(rows.is_fine(row))).collect();
            columns = columns.iter().map(|column| Ok(filter(column, &fine)?)).collect::<Result<_>>()?;
            rows.origin = kept(&rows.origin, &fine);
        }
        match self.unnest.is_empty() {
            true => Ok(Selected { batch: self.batch(columns, rows.origin.len(), self.computed())?, ..rows }),
            false => self.explode(columns, rows),
        }
    }

    fn batch(&self, columns: Vec<ArrayRef>, n: usize, schema: SchemaRef) -> Result<RecordBatch> {
        let fields = schema.fields().iter().zip(&columns);
        // What an expression says it returns and what it returns may differ in nullability.
        let fields: Vec<Field> =
            fields.map(|(field, column)| Field::new(field.name(), column.data_type().clone(), true)).collect();
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(n));
        Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?)
    }

    /// One row for each element; as many as the longest list of the row, the shorter ones filled with null.
    fn explode(&self, columns: Vec<ArrayRef>, rows: Selected) -> Result<Selected> {
        let origin = &rows.origin;
        let lists: Vec<_> = self
            .unnest
            .iter()
            .map(|i| columns[*i].as_list_opt::<i32>().ok_or_else(|| failed("unnest takes lists")))
            .collect::<Result<_>>()?;
        let length = |row: usize| {
            let of = |list: &&arrow::array::ListArray| if list.is_valid(row) { list.value_length(row) } else { 0 };
            lists.iter().map(of).max().unwrap_or(0)
        };
        let places: Vec<(u32, i32)> =
            (0..origin.len()).flat_map(|row| (0..length(row)).map(move |i| (row as u32, i))).collect();
        let taken = UInt32Array::from_iter_values(places.iter().map(|(row, _)| *row));
        let mut out = Vec::with_capacity(columns.len());
        for (i, column) in columns.iter().enumerate() {
            match self.unnest.iter().position(|unnested| *unnested == i) {
                None => out.push(take(column, &taken, None)?),
                Some(k) => {
                    let list = lists[k];
                    let element = places.iter().map(|(row, i)| {
                        let row = *row as usize;
                        let within = list.is_valid(row) && *i < list.value_length(row);
                        within.then(|| (list.value_offsets()[row] + i) as u32)
                    });
                    out.push(take(list.values(), &UInt32Array::from_iter(element), None)?);
                }
            }
        }
        let n = places.len();
        let batch = self.batch(out, n, Arc::new(Schema::new(self.output_fields())))?;
        let origin = places.iter().map(|(row, _)| origin[*row as usize]).collect();
        Ok(Selected { batch, origin, unnested: true, erred: rows.erred })
    }
}

fn kept(origin: &[u32], keep: &BooleanArray) -> Vec<u32> {
    origin.iter().zip(keep.values()).filter(|(_, keep)| *keep).map(|(row, _)| *row).collect()
}

/// Rows that came from one alert get different hashes, by their order.
fn numbered(origin: &[u32], hashes: &[u128]) -> Vec<u128> {
    let (mut last, mut n) = (None, 0u32);
    let number = |row: &u32| {
        n = if last == Some(*row) { n + 1 } else { 0 };
        last = Some(*row);
        xxhash_rust::xxh3::xxh3_128_with_seed(&hashes[*row as usize].to_le_bytes(), u64::from(n))
    };
    origin.iter().map(number).collect()
}
