//! Views are masks: one boolean column each, so that a row stays until the last sink that wants it.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, new_null_array};
use arrow::compute::{and, filter_record_batch, interleave, not};
use datafusion::error::Result;

use super::internal;

const PREFIX: &str = "_in_";

/// Name of the column that says which rows a view kept.
pub fn mask_column(view: &str) -> String {
    format!("{PREFIX}{view}")
}

/// The view whose rows a column tells.
pub(super) fn view_of(mask: &str) -> Option<&str> {
    mask.strip_prefix(PREFIX)
}

/// The rows that a view kept, all rows if `mask` is `None`. Never null.
pub(super) fn mask_of(batch: &RecordBatch, mask: Option<&str>) -> Result<BooleanArray> {
    match mask {
        None => Ok(BooleanArray::from(vec![true; batch.num_rows()])),
        Some(name) => {
            let column = batch.column_by_name(name).ok_or_else(|| internal(format!("no column {name}")))?;
            Ok(column.as_boolean_opt().ok_or_else(|| internal(format!("{name} is not a mask")))?.clone())
        }
    }
}

/// The rows for which none of these columns is true, if there are any columns.
pub(super) fn without(batch: &RecordBatch, columns: &[String]) -> Result<Option<BooleanArray>> {
    let mut clean = None;
    for name in columns {
        let failed = mask_of(batch, Some(name.as_str()))?;
        let not = not(&failed)?;
        clean = Some(match clean {
            None => not,
            Some(clean) => and(&clean, &not)?,
        });
    }
    Ok(clean)
}

/// The rows for which `selection` is true; the batch itself if that is all of them.
pub(super) fn select(batch: &RecordBatch, selection: &BooleanArray) -> Result<RecordBatch> {
    match selection.true_count() == batch.num_rows() {
        true => Ok(batch.clone()),
        false => Ok(filter_record_batch(batch, selection)?),
    }
}

/// The places of the rows that are selected.
pub(super) fn places(selection: &BooleanArray) -> Vec<usize> {
    (0..selection.len()).filter(|row| selection.value(*row)).collect()
}

/// Of `n` rows all but these.
pub(super) fn all_but(n: usize, rows: &BTreeMap<usize, String>) -> BooleanArray {
    (0..n).map(|row| Some(!rows.contains_key(&row))).collect()
}

/// Puts the values computed for the selected rows back in their places, null elsewhere.
pub(super) fn scatter(values: &ArrayRef, selection: &BooleanArray) -> Result<ArrayRef> {
    if selection.true_count() == selection.len() {
        return Ok(values.clone());
    }
    let missing = new_null_array(values.data_type(), 1);
    let mut next = 0;
    let places: Vec<(usize, usize)> = selection
        .iter()
        .map(|wanted| match wanted {
            Some(true) => {
                next += 1;
                (0, next - 1)
            }
            _ => (1, 0),
        })
        .collect();
    Ok(interleave(&[values.as_ref(), missing.as_ref()], &places)?)
}
