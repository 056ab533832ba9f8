//! Arrow types as Delta has them, and what a table must grow to take new columns.
//!
//! Delta knows signed integers, floats, decimals, strings, bytes, dates, UTC timestamps in microseconds, structs,
//! lists and maps. Other Arrow types are mapped to the narrowest of these that holds every value; a value that does
//! not fit (an unsigned 64-bit above 2^63) is an error at write, never a wrap-around. Everything is nullable, so that
//! a schema can grow: files written before a column existed give null for it.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::CastOptions;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatchOptions;
use datafusion::common::nested_struct::cast_column;
use datafusion::error::DataFusionError;
use url::Url;

use super::Error;

/// Characters that Parquet readers of Delta tables refuse in column names.
const RESERVED: &[char] = &[' ', ',', ';', '{', '}', '(', ')', '\n', '\t', '='];

/// The schema that a Delta table gets for rows of `schema`: same names and order, types mapped, all nullable.
pub fn delta_schema(schema: &Schema) -> Result<Schema, Error> {
    Ok(Schema::new(delta_fields("", schema.fields())?))
}

/// Every column that a Delta table cannot have.
pub(super) fn unfit(schema: &Schema) -> Vec<Error> {
    let alone = schema.fields().iter().filter_map(|field| delta_fields("", &vec![field.clone()].into()).err());
    let found: Vec<Error> = alone.collect();
    match found.is_empty() {
        true => delta_schema(schema).err().into_iter().collect(),
        false => found,
    }
}

/// The same rows in the types of `schema`, which is the [`delta_schema`] of the batch's own; columns go by position.
pub fn to_delta(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, Error> {
    let strict = CastOptions { safe: false, ..Default::default() };
    let columns = batch.columns().iter().zip(schema.fields()).map(|(array, field)| {
        if array.data_type() == field.data_type() {
            return Ok(Arc::clone(array));
        }
        cast_column(array, field.data_type(), &strict).map_err(|source| cast_error(field, source))
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(|source| {
        let data_type = DataType::Struct(schema.fields().clone()).to_string();
        Error::Cast { column: "*".to_owned(), data_type, source: Box::new(source.into()) }
    })
}

fn cast_error(field: &FieldRef, source: DataFusionError) -> Error {
    Error::Cast { column: field.name().clone(), data_type: field.data_type().to_string(), source: Box::new(source) }
}

fn delta_fields(parent: &str, fields: &Fields) -> Result<Fields, Error> {
    let mut seen = HashSet::new();
    let mut mapped = Vec::with_capacity(fields.len());
    for field in fields {
        let column = child(parent, field.name());
        if field.name().is_empty() || field.name().contains(RESERVED) {
            let reason = format!("a delta column name is not empty and has none of {RESERVED:?}");
            return Err(Error::Name { column, reason });
        }
        if !seen.insert(field.name().to_lowercase()) {
            return Err(Error::Name {
                column,
                reason: "delta takes names that differ by case alone as one".to_owned(),
            });
        }
        mapped.push(Field::new(field.name(), delta_type(&column, field.data_type())?, true));
    }
    Ok(mapped.into())
}

fn delta_type(column: &str, data_type: &DataType) -> Result<DataType, Error> {
    use DataType::*;
    let refuse = |remedy| Err(Error::Type { column: column.to_owned(), data_type: data_type.to_string(), remedy });
    Ok(match data_type {
        Boolean | Int8 | Int16 | Int32 | Int64 | Float32 | Float64 | Utf8 | Binary | Date32 => data_type.clone(),
        UInt8 => Int16,
        UInt16 => Int32,
        UInt32 | UInt64 => Int64,
        Float16 => Float32,
        LargeUtf8 | Utf8View => Utf8,
        LargeBinary | BinaryView | FixedSizeBinary(_) => Binary,
        Date64 => Date32,
        // Surveys write UTC; Delta's own type without a zone would shut out readers older than protocol 3.
        Timestamp(_, _) => Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        Decimal32(p, s) | Decimal64(p, s) | Decimal128(p, s) | Decimal256(p, s) if *p <= 38 && *s >= 0 => {
            Decimal128(*p, *s)
        }
        Dictionary(_, value) => delta_type(column, value)?,
        RunEndEncoded(_, value) => delta_type(column, value.data_type())?,
        Struct(fields) if fields.is_empty() => return refuse("give the struct a field or drop it"),
        Struct(fields) => Struct(delta_fields(column, fields)?),
        List(item) | LargeList(item) | ListView(item) | LargeListView(item) | FixedSizeList(item, _) => {
            let element = delta_type(&child(column, "element"), item.data_type())?;
            List(Arc::new(Field::new("element", element, true)))
        }
        Map(entries, _) => delta_map(column, entries)?,
        Null => return refuse("give it a type with CAST"),
        _ => return refuse("cast it to a string, a number or a timestamp"),
    })
}

fn delta_map(column: &str, entries: &FieldRef) -> Result<DataType, Error> {
    let DataType::Struct(pair) = entries.data_type() else {
        let data_type = entries.data_type().to_string();
        return Err(Error::Type { column: column.to_owned(), data_type, remedy: "a map has keys and values" });
    };
    let key = Field::new("key", delta_type(&child(column, "key"), pair[0].data_type())?, false);
    let value = Field::new("value", delta_type(&child(column, "value"), pair[1].data_type())?, true);
    let entries = Field::new("key_value", DataType::Struct(vec![key, value].into()), false);
    Ok(DataType::Map(Arc::new(entries), false))
}

/// The top-level fields of `new` that `table` lacks, or lacks a part of. A changed type is an error.
pub(super) fn growth(url: &Url, table: &Schema, new: &Schema) -> Result<Vec<Field>, Error> {
    let mut compared = Compared { url, clashes: Vec::new() };
    let grown: Vec<Field> = new
        .fields()
        .iter()
        .filter(|field| compared.field_grows("", table.fields(), field))
        .map(|field| field.as_ref().clone())
        .collect();
    match compared.clashes.into_iter().next() {
        Some(clash) => Err(clash),
        None => Ok(grown),
    }
}

/// Every column of `new` that cannot stand in `table`.
pub(super) fn clashes(url: &Url, table: &Schema, new: &Schema) -> Vec<Error> {
    let mut compared = Compared { url, clashes: Vec::new() };
    for field in new.fields() {
        compared.field_grows("", table.fields(), field);
    }
    compared.clashes
}

/// A table's columns beside those of rows to come.
struct Compared<'a> {
    url: &'a Url,
    clashes: Vec<Error>,
}

impl Compared<'_> {
    /// Whether `table` lacks `new`, or a field inside of it.
    fn field_grows(&mut self, parent: &str, table: &Fields, new: &Field) -> bool {
        let column = child(parent, new.name());
        if let Some(field) = table.iter().find(|field| field.name() == new.name()) {
            return self.type_grows(&column, field.data_type(), new.data_type());
        }
        let same = table.iter().find(|field| field.name().eq_ignore_ascii_case(new.name()));
        if let Some(field) = same {
            let url = self.url;
            let reason = format!("{url} has '{}', and delta takes the two as one", child(parent, field.name()));
            self.clashes.push(Error::Name { column, reason });
        }
        same.is_none()
    }

    fn type_grows(&mut self, column: &str, table: &DataType, new: &DataType) -> bool {
        match (table, new) {
            (DataType::Struct(table), DataType::Struct(new)) => {
                new.iter().fold(false, |grows, field| self.field_grows(column, table, field) | grows)
            }
            (DataType::List(table), DataType::List(new)) => {
                self.type_grows(&child(column, "element"), table.data_type(), new.data_type())
            }
            (table, new) if table.equals_datatype(new) => false,
            (table, new) => {
                self.clashes.push(Error::SchemaChange {
                    url: self.url.to_string(),
                    column: column.to_owned(),
                    table_type: table.to_string(),
                    new_type: new.to_string(),
                });
                false
            }
        }
    }
}

fn child(parent: &str, name: &str) -> String {
    match parent {
        "" => name.to_owned(),
        parent => format!("{parent}.{name}"),
    }
}
