//! How a value becomes the bytes of a cell, and back.
//!
//! | Arrow | bytes | read back as |
//! |---|---|---|
//! | `Int8` … `Int64`, `UInt8` … `UInt64` | big-endian two's complement of the same width | the same |
//! | `Float32`, `Float64` | big-endian IEEE 754 | the same |
//! | `Boolean` | one byte, `ff` true, `00` false | the same |
//! | `Date32`, `Timestamp` | big-endian count of days, or of the type's unit, since 1970-01-01 | the same |
//! | strings, binaries | as they are | `Utf8`, `Binary` |
//! | lists, structs, maps, decimals, others | JSON text | `Utf8` |
//!
//! Numbers, booleans and strings are what HBase's own `Bytes` class writes. A null is no cell. JSON knows no NaN: inside
//! a list it becomes null.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, PrimitiveArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::*;
use arrow::json::writer::{EncoderOptions, make_encoder};
use bytes::Bytes;

use super::Error;

/// The encoded values of a column; they share one buffer.
#[derive(Debug)]
pub struct Values {
    bytes: Bytes,
    // Where each row's value ends; a null ends where it begins.
    ends: Vec<usize>,
    array: ArrayRef,
}

impl Values {
    /// The cell of a row; `None` for a null.
    pub fn get(&self, row: usize) -> Option<Bytes> {
        let start = row.checked_sub(1).map_or(0, |above| self.ends[above]);
        self.array.is_valid(row).then(|| self.bytes.slice(start..self.ends[row]))
    }
}

/// The type that a column of this type has when it is read back.
pub fn stored_type(column: &str, data_type: &DataType) -> Result<DataType, Error> {
    use DataType::*;
    Ok(match data_type {
        Null => {
            let reason = "has no values to store; cast it, or leave it out of the SELECT".into();
            return Err(Error::Type { column: column.into(), data_type: data_type.to_string(), reason });
        }
        Boolean | Date32 | Timestamp(_, _) | Float32 | Float64 => data_type.clone(),
        integer if integer.is_integer() => integer.clone(),
        Binary | LargeBinary | BinaryView | FixedSizeBinary(_) => Binary,
        _ => Utf8,
    })
}

/// Encodes a column.
pub fn encode(array: &ArrayRef) -> Result<Values, Error> {
    let rows = 0..array.len();
    let mut bytes = Vec::with_capacity(array.len() * 8);
    let mut ends = Vec::with_capacity(array.len());
    macro_rules! each {
        ($value:expr) => {
            for row in rows {
                if array.is_valid(row) {
                    bytes.extend_from_slice(($value)(row).as_ref());
                }
                ends.push(bytes.len());
            }
        };
    }
    macro_rules! primitive {
        ($type:ty) => {{
            let values = array.as_primitive::<$type>();
            each!(|row| values.value(row).to_be_bytes())
        }};
    }
    match array.data_type() {
        DataType::Int8 => primitive!(Int8Type),
        DataType::Int16 => primitive!(Int16Type),
        DataType::Int32 => primitive!(Int32Type),
        DataType::Int64 => primitive!(Int64Type),
        DataType::UInt8 => primitive!(UInt8Type),
        DataType::UInt16 => primitive!(UInt16Type),
        DataType::UInt32 => primitive!(UInt32Type),
        DataType::UInt64 => primitive!(UInt64Type),
        DataType::Float32 => primitive!(Float32Type),
        DataType::Float64 => primitive!(Float64Type),
        DataType::Boolean => each!(|row| [if array.as_boolean().value(row) { 0xff_u8 } else { 0 }]),
        DataType::Utf8 => each!(|row| array.as_string::<i32>().value(row)),
        DataType::Utf8View => each!(|row| array.as_string_view().value(row)),
        DataType::Binary => each!(|row| array.as_binary::<i32>().value(row)),
        DataType::BinaryView => each!(|row| array.as_binary_view().value(row)),
        DataType::Date32 => return encode(&cast(array, &DataType::Int32)?),
        DataType::Timestamp(_, _) => return encode(&cast(array, &DataType::Int64)?),
        DataType::LargeUtf8 => return encode(&cast(array, &DataType::Utf8)?),
        DataType::LargeBinary | DataType::FixedSizeBinary(_) => return encode(&cast(array, &DataType::Binary)?),
        _ => {
            let (field, options) =
                (Arc::new(Field::new("", array.data_type().clone(), true)), EncoderOptions::default());
            let mut encoder = make_encoder(&field, array.as_ref(), &options)?;
            for row in rows {
                if array.is_valid(row) {
                    encoder.encode(row, &mut bytes);
                }
                ends.push(bytes.len());
            }
        }
    }
    Ok(Values { bytes: bytes.into(), ends, array: array.clone() })
}

/// A cell whose bytes are not of its column's type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{len} bytes are no {data_type}")]
pub struct Malformed {
    pub row: usize,
    pub len: usize,
    pub data_type: DataType,
}

/// Decodes a column of a [`stored_type`]; `None` is null.
pub fn decode(data_type: &DataType, cells: &[Option<Bytes>]) -> Result<ArrayRef, Malformed> {
    match data_type {
        DataType::Int8 => integers::<Int8Type, 1>(data_type, cells, i8::from_be_bytes),
        DataType::Int16 => integers::<Int16Type, 2>(data_type, cells, i16::from_be_bytes),
        DataType::Int32 | DataType::Date32 => integers::<Int32Type, 4>(data_type, cells, i32::from_be_bytes),
        DataType::Int64 | DataType::Timestamp(_, _) => integers::<Int64Type, 8>(data_type, cells, i64::from_be_bytes),
        DataType::UInt8 => integers::<UInt8Type, 1>(data_type, cells, u8::from_be_bytes),
        DataType::UInt16 => integers::<UInt16Type, 2>(data_type, cells, u16::from_be_bytes),
        DataType::UInt32 => integers::<UInt32Type, 4>(data_type, cells, u32::from_be_bytes),
        DataType::UInt64 => integers::<UInt64Type, 8>(data_type, cells, u64::from_be_bytes),
        DataType::Float32 => integers::<Float32Type, 4>(data_type, cells, f32::from_be_bytes),
        DataType::Float64 => integers::<Float64Type, 8>(data_type, cells, f64::from_be_bytes),
        DataType::Boolean => {
            let values = each(data_type, cells, |bytes| <[u8; 1]>::try_from(bytes).ok().map(|[byte]| byte != 0))?;
            Ok(Arc::new(BooleanArray::from(values)))
        }
        DataType::Binary => Ok(Arc::new(cells.iter().map(|cell| cell.as_deref()).collect::<BinaryArray>())),
        _ => {
            let values = each(data_type, cells, |bytes| std::str::from_utf8(bytes).ok())?;
            Ok(Arc::new(StringArray::from(values)))
        }
    }
}

fn each<'a, V>(
    data_type: &DataType,
    cells: &'a [Option<Bytes>],
    value: impl Fn(&'a [u8]) -> Option<V>,
) -> Result<Vec<Option<V>>, Malformed> {
    let malformed = |row, len| Malformed { row, len, data_type: data_type.clone() };
    let decoded = cells.iter().enumerate().map(|(row, cell)| match cell {
        Some(bytes) => value(bytes).map(Some).ok_or_else(|| malformed(row, bytes.len())),
        None => Ok(None),
    });
    decoded.collect()
}

/// Numbers of a fixed width, and what is counted in them.
fn integers<T: ArrowPrimitiveType, const N: usize>(
    data_type: &DataType,
    cells: &[Option<Bytes>],
    number: impl Fn([u8; N]) -> T::Native,
) -> Result<ArrayRef, Malformed> {
    let values = each(data_type, cells, |bytes| bytes.try_into().ok().map(&number))?;
    let array: PrimitiveArray<T> = values.into_iter().collect();
    match array.data_type() == data_type {
        true => Ok(Arc::new(array)),
        false => cast(&array, data_type).map_err(|_| Malformed { row: 0, len: N, data_type: data_type.clone() }),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::*;

    use super::*;

    fn check(array: impl Array + 'static, expected: &[Option<&[u8]>]) {
        let array: ArrayRef = Arc::new(array);
        let values = encode(&array).unwrap();
        let cells: Vec<_> = (0..array.len()).map(|row| values.get(row)).collect();
        assert_eq!(cells.iter().map(|cell| cell.as_deref()).collect::<Vec<_>>(), expected);
        let stored = stored_type("x", array.data_type()).unwrap();
        let back = decode(&stored, &cells).unwrap();
        assert_eq!(back.data_type(), &stored);
        if stored == *array.data_type() {
            assert_eq!(&back, &array);
        }
    }

    #[test]
    fn numbers_are_big_endian_and_read_back() {
        check(
            Int64Array::from(vec![Some(-2), None, Some(258)]),
            &[Some(&[255, 255, 255, 255, 255, 255, 255, 254]), None, Some(&[0, 0, 0, 0, 0, 0, 1, 2])],
        );
        check(Int32Array::from(vec![258]), &[Some(&[0, 0, 1, 2])]);
        check(Int16Array::from(vec![-1]), &[Some(&[255, 255])]);
        check(UInt8Array::from(vec![200]), &[Some(&[200])]);
        check(Float64Array::from(vec![1.0]), &[Some(&[0x3f, 0xf0, 0, 0, 0, 0, 0, 0])]);
        check(Float32Array::from(vec![-2.0]), &[Some(&[0xc0, 0, 0, 0])]);
        check(BooleanArray::from(vec![Some(true), Some(false), None]), &[Some(&[255]), Some(&[0]), None]);
    }

    #[test]
    fn times_keep_their_type() {
        check(Date32Array::from(vec![258]), &[Some(&[0, 0, 1, 2])]);
        let times = TimestampMicrosecondArray::from(vec![Some(258), None]).with_timezone("UTC");
        check(times, &[Some(&[0, 0, 0, 0, 0, 0, 1, 2]), None]);
    }

    #[test]
    fn texts_and_binaries_stand_as_they_are() {
        check(StringArray::from(vec![Some("é"), Some(""), None]), &[Some("é".as_bytes()), Some(b""), None]);
        check(LargeStringArray::from(vec!["a"]), &[Some(b"a")]);
        check(StringViewArray::from(vec!["a"]), &[Some(b"a")]);
        check(BinaryArray::from(vec![Some(&[0_u8, 1][..]), None]), &[Some(&[0, 1]), None]);
        check(BinaryViewArray::from(vec![&[2_u8][..]]), &[Some(&[2])]);
    }

    #[test]
    fn nested_values_are_json() {
        let list = vec![Some(vec![Some(1.5), None, Some(f64::NAN)]), None];
        check(ListArray::from_iter_primitive::<Float64Type, _, _>(list), &[Some(b"[1.5,null,null]"), None]);
        let a: ArrayRef = Arc::new(Int32Array::from(vec![1]));
        check(StructArray::from(vec![(Arc::new(Field::new("a", DataType::Int32, true)), a)]), &[Some(br#"{"a":1}"#)]);
    }

    #[test]
    fn bytes_of_another_width_are_an_error_that_names_the_row() {
        let cells = [None, Some(Bytes::from_static(&[1, 2]))];
        let error = decode(&DataType::Int64, &cells).unwrap_err();
        assert_eq!((error.row, error.to_string()), (1, "2 bytes are no Int64".into()));
    }
}
