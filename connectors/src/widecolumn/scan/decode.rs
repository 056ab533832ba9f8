//! Rows of cells to a record batch.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray};
use arrow::datatypes::SchemaRef;
use bytes::Bytes;

use crate::widecolumn::backend::column_name;
use crate::widecolumn::{Batch, CatalogColumn, Error, ROW_KEY, Row, value};

/// `columns` as in the schema, `None` being the row key.
pub(super) fn batch(
    table: &str,
    columns: &[Option<CatalogColumn>],
    schema: &SchemaRef,
    batch: Batch,
) -> Result<RecordBatch, Error> {
    let error = |row: usize, column: String, reason: String| Error::Value {
        table: table.into(),
        key: batch.rows[row].key.escape_ascii().to_string(),
        column,
        reason,
    };
    let mut arrays: Vec<ArrayRef> = Vec::with_capacity(columns.len());
    let cells = cells(columns, &batch);
    for (column, cells) in columns.iter().zip(cells) {
        arrays.push(match column {
            None => keys(&batch.rows).map_err(|row| error(row, ROW_KEY.into(), "is no UTF-8 text".into()))?,
            Some(column) => value::decode(&column.data_type, &cells)
                .map_err(|malformed| error(malformed.row, column_name(&column.column()), malformed.to_string()))?,
        });
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.rows.len()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), arrays, &options)?)
}

/// The cells of each column, by row; none for the row key.
fn cells(columns: &[Option<CatalogColumn>], batch: &Batch) -> Vec<Vec<Option<Bytes>>> {
    let of = |column: &Option<CatalogColumn>| match column {
        Some(_) => vec![None; batch.rows.len()],
        None => Vec::new(),
    };
    let mut cells: Vec<_> = columns.iter().map(of).collect();
    let wanted = batch.columns.iter().map(|found| {
        let same = |c: &CatalogColumn| c.family == found.family && c.name == found.qualifier;
        columns.iter().position(|column| column.as_ref().is_some_and(same))
    });
    let wanted: Vec<_> = wanted.collect();
    for (row, cell) in batch.rows.iter().enumerate().flat_map(|(row, r)| r.cells.iter().map(move |cell| (row, cell))) {
        if let Some(Some(column)) = wanted.get(cell.column as usize) {
            cells[*column][row] = Some(cell.value.clone());
        }
    }
    cells
}

/// The keys as text, or the first row whose key is none.
fn keys(rows: &[Row]) -> Result<ArrayRef, usize> {
    let keys = rows.iter().enumerate().map(|(i, row)| std::str::from_utf8(&row.key).map_err(|_| i));
    Ok(Arc::new(StringArray::from_iter_values(keys.collect::<Result<Vec<_>, _>>()?)))
}
