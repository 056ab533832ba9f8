//! `redpoll_notes`: what went wrong with an alert on its way, by whom.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, MapBuilder, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field};
use datafusion::error::Result;

use super::internal;

/// What went wrong with a row on its way: a module's name, or `view` and that of a view → reason.
pub fn notes_field() -> Field {
    let entries = Field::new(
        "entries",
        DataType::Struct(
            vec![Field::new("keys", DataType::Utf8, false), Field::new("values", DataType::Utf8, true)].into(),
        ),
        false,
    );
    Field::new("redpoll_notes", DataType::Map(std::sync::Arc::new(entries), false), true)
}

/// Adds reasons to the notes of rows, in `columns` of a batch. What `by` noted in a row already stays as it is.
pub(super) fn add_notes(
    batch: &RecordBatch,
    columns: &mut [ArrayRef],
    by: &str,
    reasons: &BTreeMap<usize, String>,
) -> Result<()> {
    if reasons.is_empty() {
        return Ok(());
    }
    let place = batch.schema().index_of(notes_field().name())?;
    let old = columns[place].as_map();
    let mut builder = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for row in 0..old.len() {
        let noted = entries(old, row);
        for (key, value) in &noted {
            builder.keys().append_value(key);
            builder.values().append_value(value);
        }
        let reason = reasons.get(&row);
        if let Some(reason) = reason.filter(|_| noted.iter().all(|(key, _)| key != by)) {
            builder.keys().append_value(by);
            builder.values().append_value(reason);
        }
        builder.append(old.is_valid(row) || reason.is_some())?;
    }
    columns[place] = arrow::compute::cast(&builder.finish(), notes_field().data_type())?;
    Ok(())
}

/// What `by` noted in a row.
pub(super) fn note_of(batch: &RecordBatch, row: usize, by: &str) -> Result<Option<String>> {
    let notes = batch.column_by_name(notes_field().name()).ok_or_else(|| internal("no notes"))?;
    Ok(entries(notes.as_map(), row).into_iter().find(|(key, _)| key == by).map(|(_, reason)| reason))
}

fn entries(notes: &arrow::array::MapArray, row: usize) -> Vec<(String, String)> {
    if notes.is_null(row) {
        return Vec::new();
    }
    let entries = notes.value(row);
    let (keys, values) = (entries.column(0).as_string::<i32>(), entries.column(1).as_string::<i32>());
    (0..entries.len()).map(|i| (keys.value(i).to_owned(), values.value(i).to_owned())).collect()
}
