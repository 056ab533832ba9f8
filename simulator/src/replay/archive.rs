//! Alerts of a Parquet archive, written under the survey's schema again.
//!
//! An archive keeps an alert's names but not its bytes, and what wrote it may have widened a float or turned integers
//! into floats. Each field takes the type that the schema gives it; one that the archive lacks is null.

use std::fs::File;
use std::path::Path;

use arrow::array::{Array, ArrayRef, AsArray, StructArray};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int32Type, Int64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;

use crate::Error;
use crate::avro::cell::Cell;
use crate::avro::container::Writer;
use crate::avro::schema::{Record, Type};
use crate::avro::wire::put_long;
use crate::avro::{self, Result};
use crate::made::{LSST_SCHEMA, ZTF_SCHEMA};

/// Rows decoded at a time: an LSST alert takes 110 kB.
const BATCH_ROWS: usize = 64;

/// The rows of a file, each as a container.
pub(super) fn read(path: &Path) -> crate::Result<impl Iterator<Item = crate::Result<Vec<u8>>> + Send + use<>> {
    let name = path.display().to_string();
    let unreadable = {
        let name = name.clone();
        move |cause: ParquetError| Error::Archive { name: name.clone(), cause: cause.into() }
    };
    let file = File::open(path).map_err(Error::at(path))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(&unreadable)?;
    let has = |column| builder.schema().column_with_name(column).is_some();
    let json = match () {
        () if has("candidate") => ZTF_SCHEMA,
        () if has("diaSource") => LSST_SCHEMA,
        () => return Err(Error::UnknownSurvey { name }),
    };
    let writer = Writer::new(json).map_err(Error::Made)?;
    let batches = builder.with_batch_size(BATCH_ROWS).build().map_err(&unreadable)?;
    Ok(batches.flat_map(move |batch| {
        let rows = batch.map_err(|cause| unreadable(cause.into())).map(StructArray::from);
        let contained = |rows: StructArray| -> Vec<crate::Result<Vec<u8>>> {
            let row = |row| datum(&writer.schema, &rows, row).map(|datum| writer.contain(&datum));
            (0..rows.len()).map(|at| row(at).map_err(|cause| Error::Replayed { name: name.clone(), cause })).collect()
        };
        rows.map_or_else(|error| vec![Err(error)], contained)
    }))
}

fn datum(record: &Record, rows: &StructArray, row: usize) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    put_record(record, rows, row, &mut out)?;
    Ok(out)
}

fn put_record(record: &Record, rows: &StructArray, row: usize, out: &mut Vec<u8>) -> Result<()> {
    for field in &record.fields {
        let done = match rows.column_by_name(&field.name) {
            Some(values) => put(&field.ty, values, row, out)?,
            None => Cell::Null.put(&field.ty, out),
        };
        if !done {
            let value =
                rows.column_by_name(&field.name).map_or("a missing value".into(), |v| v.data_type().to_string());
            return Err(avro::Error::Misfit { field: field.name.clone(), value });
        }
    }
    Ok(())
}

/// Appends one value; false if the type cannot hold it.
fn put(ty: &Type, values: &ArrayRef, row: usize, out: &mut Vec<u8>) -> Result<bool> {
    if values.is_null(row) || *values.data_type() == DataType::Null {
        return Ok(Cell::Null.put(ty, out));
    }
    match (ty, values.data_type()) {
        (Type::Union(branches), _) => {
            let Some(branch) = branches.iter().position(|branch| !matches!(branch, Type::Null)) else {
                return Ok(false);
            };
            put_long(branch as i64, out);
            return put(&branches[branch], values, row, out);
        }
        (Type::Record(record), DataType::Struct(_)) => put_record(record, values.as_struct(), row, out)?,
        (Type::Array(item), DataType::List(_)) => {
            let items = values.as_list::<i32>().value(row);
            if !items.is_empty() {
                put_long(items.len() as i64, out);
            }
            for at in 0..items.len() {
                if !put(item, &items, at, out)? {
                    return Ok(false);
                }
            }
            put_long(0, out);
        }
        _ => return Ok(scalar(values, row).is_some_and(|cell| as_number_of(ty, cell).put(ty, out))),
    }
    Ok(true)
}

fn scalar(values: &ArrayRef, row: usize) -> Option<Cell<'_>> {
    Some(match values.data_type() {
        DataType::Boolean => Cell::Boolean(values.as_boolean().value(row)),
        DataType::Int32 => Cell::Int(values.as_primitive::<Int32Type>().value(row).into()),
        DataType::Int64 => Cell::Int(values.as_primitive::<Int64Type>().value(row)),
        DataType::Float32 => Cell::Real(values.as_primitive::<Float32Type>().value(row).into()),
        DataType::Float64 => Cell::Real(values.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => Cell::text(values.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => Cell::text(values.as_string::<i64>().value(row)),
        DataType::Binary => Cell::Bytes(values.as_binary::<i32>().value(row)),
        DataType::LargeBinary => Cell::Bytes(values.as_binary::<i64>().value(row)),
        _ => return None,
    })
}

/// An id that went through a float is rounded as the archive has it.
fn as_number_of<'a>(ty: &Type, cell: Cell<'a>) -> Cell<'a> {
    match (ty, cell) {
        (Type::Int | Type::Long, Cell::Real(value)) => Cell::Int(value as i64),
        (Type::Float | Type::Double, Cell::Int(value)) => Cell::Real(value as f64),
        (_, cell) => cell,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int64Array, ListArray, StringArray};
    use arrow::datatypes::Field;

    use super::*;
    use crate::avro::schema;

    fn rows() -> StructArray {
        let column =
            |name: &str, values: ArrayRef| (Arc::new(Field::new(name, values.data_type().clone(), true)), values);
        StructArray::from(vec![
            column("id", Arc::new(Float64Array::from(vec![Some(3.0), None])) as ArrayRef),
            column("flux", Arc::new(Int64Array::from(vec![None, Some(2)]))),
            column(
                "history",
                Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>([Some(vec![Some(1.0)]), Some(vec![])])),
            ),
            column("extra", Arc::new(StringArray::from(vec!["a", "b"]))),
        ])
    }

    fn check(id: &str, row: usize, expected: Result<&[u8], &str>) {
        let record = schema::parse(&format!(
            r#"{{"type":"record","name":"t","fields":[{{"name":"id","type":{id}}},
            {{"name":"flux","type":["float","null"]}},{{"name":"history","type":{{"type":"array","items":"int"}}}},
            {{"name":"missing","type":["null","string"]}}]}}"#
        ));
        let found = datum(&record.unwrap(), &rows(), row).map_err(|e| e.to_string());
        assert_eq!(found.as_deref().map_err(String::as_str), expected);
    }

    #[test]
    fn a_value_takes_the_type_of_the_schema_and_a_missing_one_is_null() {
        check(r#"["null","long"]"#, 0, Ok(&[2, 6, 2, 2, 2, 0, 0]));
        check(r#"["null","long"]"#, 1, Ok(&[0, 0, 0, 0, 0, 0x40, 0, 0]));
    }

    #[test]
    fn a_null_that_the_schema_does_not_allow_is_named() {
        check(r#""long""#, 1, Err("the field id cannot hold Float64"));
    }
}
