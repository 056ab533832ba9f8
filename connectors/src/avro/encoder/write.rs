//! Writes one row of a column after another, with no value in between.

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BinaryViewArray, BooleanArray, FixedSizeBinaryArray};
use arrow::array::{LargeBinaryArray, LargeStringArray, StringArray, StringViewArray, StructArray};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{ArrowNativeType, DataType, Field, Fields, Float32Type, Float64Type, Int32Type, Int64Type};
use arrow::datatypes::{TimeUnit, TimestampNanosecondType};
use arrow::error::ArrowError;
use chrono::DateTime;

use super::{Error, Timestamps};
use crate::avro::column::key_and_value;

/// A column and how its rows are written.
pub(super) struct Writer {
    path: String,
    /// Whether the schema has a union with null here.
    nullable: bool,
    nulls: Option<NullBuffer>,
    values: Values,
}

enum Values {
    Null,
    Bool(BooleanArray),
    Int(ScalarBuffer<i32>),
    Long(ScalarBuffer<i64>),
    Float(ScalarBuffer<f32>),
    Double(ScalarBuffer<f64>),
    Utf8(StringArray),
    LargeUtf8(LargeStringArray),
    Utf8View(StringViewArray),
    Binary(BinaryArray),
    LargeBinary(LargeBinaryArray),
    BinaryView(BinaryViewArray),
    Fixed(FixedSizeBinaryArray),
    Struct(Vec<Writer>),
    List(OffsetBuffer<i32>, Box<Writer>),
    LargeList(OffsetBuffer<i64>, Box<Writer>),
    Map(OffsetBuffer<i32>, Box<Writer>, Box<Writer>),
}

impl Writer {
    pub fn new(path: &str, field: &Field, array: &ArrayRef, timestamps: Timestamps) -> Result<Writer, Error> {
        let cast = |source| Error::Cast { path: path.to_owned(), source };
        let array = plain(array, timestamps).map_err(cast)?;
        Ok(Writer {
            path: path.to_owned(),
            nullable: field.is_nullable() && *field.data_type() != DataType::Null,
            nulls: array.nulls().cloned(),
            values: Values::new(path, &array, timestamps)?,
        })
    }

    pub fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), Error> {
        let is_null = self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
        match (self.nullable, is_null) {
            (true, true) => {
                out.push(0);
                return Ok(());
            }
            (true, false) => out.push(2),
            (false, true) => return Err(Error::Null { path: self.path.clone(), row }),
            (false, false) => {}
        }
        match &self.values {
            Values::Null => {}
            Values::Bool(values) => out.push(u8::from(values.value(row))),
            Values::Int(values) => put_long(out, i64::from(values[row])),
            Values::Long(values) => put_long(out, values[row]),
            Values::Float(values) => out.extend_from_slice(&values[row].to_le_bytes()),
            Values::Double(values) => out.extend_from_slice(&values[row].to_le_bytes()),
            Values::Utf8(values) => put_bytes(out, values.value(row).as_bytes()),
            Values::LargeUtf8(values) => put_bytes(out, values.value(row).as_bytes()),
            Values::Utf8View(values) => put_bytes(out, values.value(row).as_bytes()),
            Values::Binary(values) => put_bytes(out, values.value(row)),
            Values::LargeBinary(values) => put_bytes(out, values.value(row)),
            Values::BinaryView(values) => put_bytes(out, values.value(row)),
            Values::Fixed(values) => out.extend_from_slice(values.value(row)),
            Values::Struct(fields) => {
                for field in fields {
                    field.write(row, out)?;
                }
            }
            Values::List(offsets, items) => write_items(offsets, row, &[items], out)?,
            Values::LargeList(offsets, items) => write_items(offsets, row, &[items], out)?,
            Values::Map(offsets, keys, values) => write_items(offsets, row, &[keys, values], out)?,
        }
        Ok(())
    }
}

/// One block of items, or of pairs, and the empty block that ends them.
fn write_items<O: ArrowNativeType>(
    offsets: &OffsetBuffer<O>,
    row: usize,
    columns: &[&Writer],
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let (start, end) = (offsets[row].as_usize(), offsets[row + 1].as_usize());
    if end > start {
        put_long(out, (end - start) as i64);
        for item in start..end {
            for column in columns {
                column.write(item, out)?;
            }
        }
    }
    out.push(0);
    Ok(())
}

impl Values {
    /// `array` is one that [`plain`] gave.
    fn new(path: &str, array: &ArrayRef, timestamps: Timestamps) -> Result<Values, Error> {
        let child = |field: &Field, array: &ArrayRef| Writer::new(path, field, array, timestamps).map(Box::new);
        Ok(match array.data_type() {
            DataType::Null => Values::Null,
            DataType::Boolean => Values::Bool(array.as_boolean().clone()),
            DataType::Int32 => Values::Int(array.as_primitive::<Int32Type>().values().clone()),
            DataType::Int64 => Values::Long(array.as_primitive::<Int64Type>().values().clone()),
            DataType::Float32 => Values::Float(array.as_primitive::<Float32Type>().values().clone()),
            DataType::Float64 => Values::Double(array.as_primitive::<Float64Type>().values().clone()),
            DataType::Utf8 => Values::Utf8(array.as_string().clone()),
            DataType::LargeUtf8 => Values::LargeUtf8(array.as_string().clone()),
            DataType::Utf8View => Values::Utf8View(array.as_string_view().clone()),
            DataType::Binary => Values::Binary(array.as_binary().clone()),
            DataType::LargeBinary => Values::LargeBinary(array.as_binary().clone()),
            DataType::BinaryView => Values::BinaryView(array.as_binary_view().clone()),
            DataType::FixedSizeBinary(_) => Values::Fixed(array.as_fixed_size_binary().clone()),
            DataType::Struct(fields) => Values::Struct(struct_fields(path, fields, array.as_struct(), timestamps)?),
            DataType::List(item) => {
                let list = array.as_list::<i32>();
                Values::List(list.offsets().clone(), child(item, list.values())?)
            }
            DataType::LargeList(item) => {
                let list = array.as_list::<i64>();
                Values::LargeList(list.offsets().clone(), child(item, list.values())?)
            }
            DataType::Map(entries, _) => {
                let map = array.as_map();
                let wrong = |source| Error::Cast { path: path.to_owned(), source };
                let (key, value) = key_and_value(entries).map_err(wrong)?;
                let key = key.clone().with_nullable(false);
                Values::Map(map.offsets().clone(), child(&key, map.keys())?, child(value, map.values())?)
            }
            other => return Err(Error::Type { path: path.to_owned(), data_type: other.clone() }),
        })
    }
}

fn struct_fields(
    path: &str,
    fields: &Fields,
    array: &StructArray,
    timestamps: Timestamps,
) -> Result<Vec<Writer>, Error> {
    let columns = fields.iter().zip(array.columns());
    columns.map(|(field, column)| Writer::new(&format!("{path}.{}", field.name()), field, column, timestamps)).collect()
}

/// The column in one of the types that are written as they are. Most columns are returned without a copy.
fn plain(array: &ArrayRef, timestamps: Timestamps) -> Result<ArrayRef, ArrowError> {
    let to = match array.data_type() {
        DataType::Int8 | DataType::Int16 | DataType::UInt8 | DataType::UInt16 | DataType::Date32 => DataType::Int32,
        DataType::Time32(_) => DataType::Int32,
        DataType::UInt32 | DataType::UInt64 | DataType::Time64(_) => DataType::Int64,
        DataType::Float16 => DataType::Float32,
        DataType::Timestamp(..) if timestamps == Timestamps::Text => return timestamps_as_text(array),
        DataType::Timestamp(TimeUnit::Second, zone) => {
            let millis = DataType::Timestamp(TimeUnit::Millisecond, zone.clone());
            return plain(&strict_cast(array, &millis)?, timestamps);
        }
        DataType::Timestamp(..) => DataType::Int64,
        DataType::Dictionary(_, values) => return plain(&strict_cast(array, values)?, timestamps),
        DataType::FixedSizeList(item, _) => DataType::List(item.clone()),
        _ => return Ok(array.clone()),
    };
    strict_cast(array, &to)
}

/// A value that does not fit is an error: a null in its place would be another alert.
fn strict_cast(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    cast_with_options(array, to, &CastOptions { safe: false, ..CastOptions::default() })
}

/// As Spark casts timestamps: to microseconds at most, zeros at the end of the fraction left out.
fn timestamps_as_text(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let zone = match array.data_type() {
        DataType::Timestamp(_, zone) => zone.clone(),
        _ => None,
    };
    let nanos = strict_cast(array, &DataType::Timestamp(TimeUnit::Nanosecond, zone))?;
    let text = nanos.as_primitive::<TimestampNanosecondType>().iter().map(|nanos| nanos.map(text_of_nanos));
    Ok(std::sync::Arc::new(text.collect::<StringArray>()))
}

fn text_of_nanos(nanos: i64) -> String {
    let text = DateTime::from_timestamp_nanos(nanos).format("%Y-%m-%d %H:%M:%S%.6f").to_string();
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A zigzag number.
pub(super) fn put_long(out: &mut Vec<u8>, value: i64) {
    let mut rest = (value as u64) << 1 ^ (value >> 63) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// A length and the bytes.
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_long(out, bytes.len() as i64);
    out.extend_from_slice(bytes);
}
