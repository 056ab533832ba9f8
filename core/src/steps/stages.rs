//! What the stages of an `INSERT` make of the rows that it picks: the rows for its sink.
//!
//! Where an expression errs on a row, the alert that the row came from is left out with all of its rows, and told: of
//! several that `unnest` made of it a sink has all or none.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{filter, take, take_record_batch};
use arrow::datatypes::{Field, Schema};
use datafusion::error::Result;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr_common::physical_expr::fmt_sql;

use super::evaluate::{Computed, Erred, evaluate};
use super::mask::select;
use super::{Stage, failed, internal};
use crate::sink::Rows;

/// What an output selects of a batch.
pub(super) struct Applied {
    pub rows: Rows,
    /// For each, the row of the batch that it came from.
    pub origin: Vec<u32>,
    /// Rows of the batch on which an expression errs.
    pub erred: Erred,
}

/// Rows on their way through the stages, each with the row of the chain's batch that it came from.
pub(super) struct Selected {
    pub batch: RecordBatch,
    pub origin: Vec<u32>,
    unnested: bool,
    /// Rows of the chain's batch on which an expression erred: none of theirs is left.
    erred: Erred,
}

impl Selected {
    /// Rows of the chain's batch before any stage, each with its place there.
    pub fn new(batch: RecordBatch, origin: Vec<u32>) -> Self {
        Self { batch, origin, unnested: false, erred: Erred::new() }
    }

    /// Whether nothing is left of them, not even rows that err.
    pub fn is_nothing(&self) -> bool {
        self.origin.is_empty() && self.erred.is_empty()
    }

    /// Those for which a predicate, which came to `computed`, is true; none where nothing is left, not even rows that err:
    /// then no column is copied.
    pub fn that_meet(mut self, predicate: &Arc<dyn PhysicalExpr>, computed: &Computed) -> Result<Option<Self>> {
        self.note(computed, format_args!("WHERE {}", fmt_sql(predicate.as_ref())));
        let passes = computed.values.as_boolean_opt().ok_or_else(|| internal("a predicate is a boolean"))?;
        let keep = passes.iter().enumerate().map(|(row, passes)| Some(passes == Some(true) && self.is_fine(row)));
        let keep: BooleanArray = keep.collect();
        self.origin = kept(&self.origin, &keep);
        if self.is_nothing() {
            return Ok(None);
        }
        self.batch = select(&self.batch, &keep)?;
        Ok(Some(self))
    }

    /// After the last stage. `meta` and `hashes` are those of the chain's batch.
    pub fn applied(self, meta: &RecordBatch, hashes: &[u128]) -> Result<Applied> {
        let meta = take_record_batch(meta, &UInt32Array::from(self.origin.clone()))?;
        let hashes = match self.unnested {
            false => self.origin.iter().map(|row| hashes[*row as usize]).collect(),
            true => numbered(&self.origin, hashes),
        };
        Ok(Applied { rows: Rows { batch: self.batch, meta, hashes }, origin: self.origin, erred: self.erred })
    }

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
    /// None where nothing meets the predicate and errs on none.
    pub(super) fn apply(&self, rows: Selected) -> Result<Option<Selected>> {
        match &self.predicate {
            None => self.project(rows).map(Some),
            Some(predicate) => {
                let computed = evaluate(predicate, &rows.batch)?;
                rows.that_meet(predicate, &computed)?.map(|rows| self.project(rows)).transpose()
            }
        }
    }

    /// Of rows that meet the predicate.
    pub(super) fn project(&self, mut rows: Selected) -> Result<Selected> {
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
            true => Ok(Selected { batch: self.batch(columns, rows.origin.len())?, ..rows }),
            false => self.explode(columns, rows),
        }
    }

    fn batch(&self, columns: Vec<ArrayRef>, n: usize) -> Result<RecordBatch> {
        let fields = self.columns.iter().zip(&columns);
        // What an expression says it returns and what it returns may differ in nullability.
        let fields: Vec<Field> =
            fields.map(|((field, _), column)| Field::new(field.name(), column.data_type().clone(), true)).collect();
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
        let batch = self.batch(out, n)?;
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
