//! A value of a row as text: as a person reads it in a table, or as CSV keeps it.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use arrow::error::ArrowError;
use arrow::json::writer::{EncoderOptions, make_encoder};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use std::sync::Arc;

use crate::values::grouped;

/// One text for each row of a column, none for null: bytes only as their number, lists and structs as JSON.
pub fn shown(field: &FieldRef, column: &ArrayRef) -> Result<Vec<Option<String>>, ArrowError> {
    match column.data_type() {
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
            let bytes = cast(column, &DataType::LargeBinary)?;
            let bytes = bytes.as_binary::<i64>();
            Ok(bytes
                .iter()
                .map(|value| value.map(|value| format!("<{} bytes>", grouped(value.len() as u64))))
                .collect())
        }
        _ => plain(field, column),
    }
}

/// One text for each row of a column, none for null: bytes in hexadecimal, lists and structs as JSON.
pub fn plain(field: &FieldRef, column: &ArrayRef) -> Result<Vec<Option<String>>, ArrowError> {
    if column.data_type().is_nested() {
        return as_json(field, column);
    }
    let options = FormatOptions::new();
    let format = ArrayFormatter::try_new(column, &options)?;
    let text = |i| column.is_valid(i).then(|| format.value(i).try_to_string()).transpose();
    (0..column.len()).map(text).collect()
}

fn as_json(field: &FieldRef, column: &ArrayRef) -> Result<Vec<Option<String>>, ArrowError> {
    let (field, column) = for_json(field, column)?;
    let options = EncoderOptions::default().with_explicit_nulls(true);
    let mut encoder = make_encoder(&field, &column, &options)?;
    let mut texts = Vec::with_capacity(column.len());
    for i in 0..column.len() {
        if encoder.is_null(i) {
            texts.push(None);
            continue;
        }
        let mut text = Vec::new();
        encoder.encode(i, &mut text);
        texts.push(Some(String::from_utf8_lossy(&text).into_owned()));
    }
    Ok(texts)
}

/// The same column with every map keyed by text, as JSON's objects are.
pub fn for_json(field: &FieldRef, column: &ArrayRef) -> Result<(FieldRef, ArrayRef), ArrowError> {
    let data_type = json_type(field.data_type());
    match data_type == *field.data_type() {
        true => Ok((field.clone(), column.clone())),
        false => Ok((with_type(field, data_type.clone()), cast(column, &data_type)?)),
    }
}

fn json_type(data_type: &DataType) -> DataType {
    let inner = |field: &FieldRef| with_type(field, json_type(field.data_type()));
    match data_type {
        DataType::List(field) => DataType::List(inner(field)),
        DataType::LargeList(field) => DataType::LargeList(inner(field)),
        DataType::FixedSizeList(field, n) => DataType::FixedSizeList(inner(field), *n),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(inner).collect()),
        DataType::Map(entries, sorted) => {
            let DataType::Struct(fields) = entries.data_type() else { return data_type.clone() };
            let key = with_type(&fields[0], DataType::Utf8);
            let fields = Fields::from(vec![key, inner(&fields[1])]);
            DataType::Map(with_type(entries, DataType::Struct(fields)), *sorted)
        }
        other => other.clone(),
    }
}

fn with_type(field: &FieldRef, data_type: DataType) -> FieldRef {
    match *field.data_type() == data_type {
        true => field.clone(),
        false => Arc::new(Field::clone(field).with_data_type(data_type)),
    }
}
