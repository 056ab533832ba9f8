//! Arguments into the declared types, and answers of parts into one column.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, new_empty_array, new_null_array};
use arrow::compute::{cast, concat};
use arrow::datatypes::{DataType, Field, Schema};

use super::pool::Answer;
use super::{Error, Evaluated, Usage};
use crate::manifest::Module;

/// The arguments in the declared types, which old versions of pyarrow know too (no views, no dictionaries).
pub fn cast_arguments(module: &Module, args: &RecordBatch) -> Result<RecordBatch, Error> {
    let (n_columns, n_inputs) = (args.num_columns(), module.inputs.len());
    if !module.n_arguments().contains(&n_columns) {
        return Err(Error::Arguments { module: module.name.clone(), n_columns, n_inputs });
    }
    let failed = |source| Error::Arrow { module: module.name.clone(), source };
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for (input, column) in module.inputs.iter().zip(args.columns()) {
        let data_type = input.sql_type.of_argument(column.data_type());
        columns.push(cast_to(column, &data_type).map_err(failed)?);
        fields.push(Field::new(&input.name, data_type, true));
    }
    let options = RecordBatchOptions::new().with_row_count(Some(args.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options).map_err(failed)
}

fn cast_to(column: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, arrow::error::ArrowError> {
    match column.data_type() == wanted {
        true => Ok(Arc::clone(column)),
        false => cast(column, wanted),
    }
}

/// Collects the answers of parts, in any order of parts.
pub struct Assembly<'a> {
    module: &'a Module,
    parts: Vec<(usize, ArrayRef)>,
    failures: Vec<(u32, String)>,
}

impl<'a> Assembly<'a> {
    pub fn new(module: &'a Module) -> Self {
        Self { module, parts: Vec::new(), failures: Vec::new() }
    }

    pub fn answered(&mut self, rows: Range<usize>, answer: Answer) {
        let start = rows.start as u32;
        self.failures.extend(answer.failures.into_iter().map(|(row, reason)| (start + row, reason)));
        self.parts.push((rows.start, answer.values));
    }

    pub fn failed(&mut self, rows: Range<usize>, reason: &str) {
        self.parts.push((rows.start, new_null_array(self.module.returns.data_type(), rows.len())));
        self.failures.extend(rows.map(|row| (row as u32, reason.to_string())));
    }

    pub fn finish(mut self, usage: Usage) -> Result<Evaluated, Error> {
        self.parts.sort_by_key(|(start, _)| *start);
        self.failures.sort();
        let parts: Vec<&dyn Array> = self.parts.iter().map(|(_, values)| values.as_ref()).collect();
        let values = match parts.as_slice() {
            [] => new_empty_array(self.module.returns.data_type()),
            [_] => Arc::clone(&self.parts[0].1),
            parts => concat(parts).map_err(|source| Error::Arrow { module: self.module.name.clone(), source })?,
        };
        Ok(Evaluated { values, failures: self.failures, usage })
    }
}

/// The values of an answer in the declared type: inner names may differ.
pub fn declared_values(module: &Module, values: &ArrayRef) -> Result<ArrayRef, Error> {
    let source = |source| Error::Arrow { module: module.name.clone(), source };
    cast_to(values, module.returns.data_type()).map_err(source)
}
