//! Decoding and encoding against a second implementation (the apache-avro crate) and against hostile bytes.

mod growth;
mod hostile;
mod mutations;
mod reader;
mod registry;
mod round_trip;
mod samples;

use std::path::{Path, PathBuf};

use apache_avro::types::Value;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int32Type, Int64Type};
use bytes::Bytes;
use redpoll_core::source::Record;

use redpoll_core::runtime::Decoded;

use super::{Decoder, Format, ReaderSchema};

fn record(value: impl Into<Bytes>) -> Record {
    Record { topic: "alerts".into(), partition: 0, offset: 0, timestamp: None, key: None, value: value.into() }
}

fn fixture(name: &str) -> Record {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/ztf").join(name);
    record(std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

/// The reader schema of one of our pipelines.
fn pipeline(survey: &str) -> ReaderSchema {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../pipelines/{survey}/schemas/alert.avsc"));
    ReaderSchema::from_avsc(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn decode(format: Format, reader: &ReaderSchema, projection: Option<&[&str]>, records: &[Record]) -> Decoded {
    let projection: Option<Vec<_>> = projection.map(|paths| paths.iter().map(|path| (*path).to_owned()).collect());
    Decoder::new(format, reader, projection.as_deref()).unwrap().decode(records)
}

/// The real alerts that lie outside the repository: `REDPOLL_SAMPLES`, by default `../shared/data` beside it. None, said
/// aloud, if there are none.
fn sample_files() -> Option<Vec<PathBuf>> {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let root = std::env::var("REDPOLL_SAMPLES").map_or_else(|_| default(), PathBuf::from);
    let listed = ["ztf", "lsst"].into_iter().filter_map(|survey| std::fs::read_dir(root.join(survey)).ok());
    let files = listed.flatten().filter_map(Result::ok).map(|entry| entry.path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "avro")).collect();
    files.sort();
    if files.is_empty() {
        eprintln!("skipped: there are no real alerts below {}; set REDPOLL_SAMPLES", root.display());
        return None;
    }
    Some(files)
}

/// Panics, naming the field, unless the row holds the value. Fields that the value lacks must be null.
fn assert_same(path: &str, array: &dyn Array, row: usize, value: &Value) {
    let value = match value {
        Value::Union(_, inner) => inner,
        other => other,
    };
    if *value == Value::Null || array.is_null(row) {
        assert!(array.is_null(row) && *value == Value::Null, "{path}: {value:?} but null is {}", array.is_null(row));
        return;
    }
    match (value, array.data_type()) {
        (Value::Record(fields), DataType::Struct(columns)) => {
            let names: Vec<_> = columns.iter().map(|column| column.name().as_str()).collect();
            for (name, value) in fields {
                let position = names.iter().position(|known| known == name).unwrap_or_else(|| panic!("{path}.{name}"));
                assert_same(&format!("{path}.{name}"), array.as_struct().column(position), row, value);
            }
            for (name, column) in names.iter().zip(array.as_struct().columns()) {
                assert!(fields.iter().any(|(known, _)| known == name) || column.is_null(row), "{path}.{name} not null");
            }
        }
        (Value::Array(items), DataType::List(_)) => {
            let list = array.as_list::<i32>().value(row);
            assert_eq!(list.len(), items.len(), "{path}");
            items.iter().enumerate().for_each(|(i, item)| assert_same(&format!("{path}[{i}]"), &list, i, item));
        }
        (Value::Map(pairs), DataType::Map(..)) => {
            let entries = array.as_map().value(row);
            assert_eq!(entries.len(), pairs.len(), "{path}");
            for i in 0..entries.len() {
                let key = entries.column(0).as_string::<i32>().value(i);
                assert_same(&format!("{path}.{key}"), entries.column(1), i, &pairs[key]);
            }
        }
        (value, _) => assert!(same_scalar(array, row, value), "{path}: {value:?} against {:?}", array.slice(row, 1)),
    }
}

/// Floats are compared by their bits, so that NaN equals NaN and no digit is lost.
fn same_scalar(array: &dyn Array, row: usize, value: &Value) -> bool {
    match (value, array.data_type()) {
        (Value::Boolean(value), DataType::Boolean) => array.as_boolean().value(row) == *value,
        (Value::Int(value), DataType::Int32) => array.as_primitive::<Int32Type>().value(row) == *value,
        (Value::Int(value), DataType::Int64) => array.as_primitive::<Int64Type>().value(row) == i64::from(*value),
        (Value::Long(value), DataType::Int64) => array.as_primitive::<Int64Type>().value(row) == *value,
        (Value::Float(value), DataType::Float32) => {
            array.as_primitive::<Float32Type>().value(row).to_bits() == value.to_bits()
        }
        (Value::Double(value), DataType::Float64) => {
            array.as_primitive::<Float64Type>().value(row).to_bits() == value.to_bits()
        }
        (Value::String(value) | Value::Enum(_, value), DataType::Utf8) => array.as_string::<i32>().value(row) == value,
        (Value::Bytes(value), DataType::BinaryView) => array.as_binary_view().value(row) == value,
        (Value::Fixed(_, value), DataType::FixedSizeBinary(_)) => array.as_fixed_size_binary().value(row) == value,
        (
            Value::TimestampMillis(value)
            | Value::TimestampMicros(value)
            | Value::TimestampNanos(value)
            | Value::LocalTimestampMicros(value),
            DataType::Timestamp(..),
        ) => arrow::compute::cast(array, &DataType::Int64).unwrap().as_primitive::<Int64Type>().value(row) == *value,
        _ => false,
    }
}

fn assert_rows(batch: &RecordBatch, first: usize, values: &[Value]) {
    let rows = arrow::array::StructArray::from(batch.clone());
    for (i, value) in values.iter().enumerate() {
        assert_same(&format!("row {i}"), &rows, first + i, value);
    }
}
