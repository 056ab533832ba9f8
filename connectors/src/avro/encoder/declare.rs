//! The Avro schema of an Arrow schema.

use std::collections::HashSet;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use serde_json::{Value, json};

use super::{Error, Timestamps};
use crate::avro::column::key_and_value;

/// The record of these fields, called `name`.
pub(super) fn record(name: &str, fields: &Fields, timestamps: Timestamps) -> Result<Value, Error> {
    let mut seen = HashSet::new();
    let mut declared = Vec::with_capacity(fields.len());
    for field in fields {
        let path = format!("{name}.{}", field.name());
        check_name(&path, field.name())?;
        if !seen.insert(field.name()) {
            return Err(Error::Twice { path });
        }
        let kind = nullable(&path, field, timestamps)?;
        declared.push(match kind.is_array() {
            true => json!({"name": field.name(), "type": kind, "default": null}),
            false => json!({"name": field.name(), "type": kind}),
        });
    }
    name.split('.').try_for_each(|part| check_name(name, part))?;
    let (namespace, short) = name.rsplit_once('.').unwrap_or(("", name));
    Ok(match namespace {
        "" => json!({"type": "record", "name": short, "fields": declared}),
        _ => json!({"type": "record", "name": short, "namespace": namespace, "fields": declared}),
    })
}

fn nullable(path: &str, field: &Field, timestamps: Timestamps) -> Result<Value, Error> {
    let kind = data_type(path, field.data_type(), timestamps)?;
    Ok(match field.is_nullable() && *field.data_type() != DataType::Null {
        true => json!(["null", kind]),
        false => kind,
    })
}

fn data_type(path: &str, of: &DataType, timestamps: Timestamps) -> Result<Value, Error> {
    let unsupported = || Error::Type { path: path.to_owned(), data_type: of.clone() };
    Ok(match of {
        DataType::Null => json!("null"),
        DataType::Boolean => json!("boolean"),
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 => json!("int"),
        DataType::Int64 | DataType::UInt32 | DataType::UInt64 => json!("long"),
        DataType::Float16 | DataType::Float32 => json!("float"),
        DataType::Float64 => json!("double"),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => json!("string"),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => json!("bytes"),
        DataType::FixedSizeBinary(size) => {
            let (namespace, name) = path.rsplit_once('.').unwrap_or(("", path));
            json!({"type": "fixed", "name": name, "namespace": namespace, "size": size})
        }
        DataType::Date32 => json!({"type": "int", "logicalType": "date"}),
        DataType::Time32(TimeUnit::Millisecond) => json!({"type": "int", "logicalType": "time-millis"}),
        DataType::Time64(TimeUnit::Microsecond) => json!({"type": "long", "logicalType": "time-micros"}),
        DataType::Timestamp(..) if timestamps == Timestamps::Text => json!("string"),
        DataType::Timestamp(unit, zone) => {
            let local = if zone.is_none() { "local-" } else { "" };
            let unit = match unit {
                TimeUnit::Second | TimeUnit::Millisecond => "millis",
                TimeUnit::Microsecond => "micros",
                TimeUnit::Nanosecond => "nanos",
            };
            json!({"type": "long", "logicalType": format!("{local}timestamp-{unit}")})
        }
        DataType::Dictionary(_, values) => data_type(path, values, timestamps)?,
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            json!({"type": "array", "items": nullable(path, item, timestamps)?})
        }
        DataType::Map(entries, _) => {
            let (key, value) = key_and_value(entries).map_err(|_| unsupported())?;
            match key.data_type() {
                DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {}
                _ => return Err(unsupported()),
            }
            json!({"type": "map", "values": nullable(path, value, timestamps)?})
        }
        DataType::Struct(fields) => record(path, fields, timestamps)?,
        _ => return Err(unsupported()),
    })
}

fn check_name(path: &str, name: &str) -> Result<(), Error> {
    let mut chars = name.chars();
    let starts = chars.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_');
    match starts && chars.all(|c| c.is_ascii_alphanumeric() || c == '_') {
        true => Ok(()),
        false => Err(Error::Name { path: path.to_owned(), name: name.to_owned() }),
    }
}
