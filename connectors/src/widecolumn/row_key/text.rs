//! How a value stands in a row key.

use std::fmt::{Debug, Display, Write};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::scalar::ScalarValue;

use crate::widecolumn::Error;

/// Appends the text of one row, which is not null.
pub(super) type Writer<'a> = Box<dyn Fn(usize, &mut String) + 'a>;

/// Whether values of this type have a text.
pub(super) fn check(path: &str, data_type: &DataType) -> Result<(), Error> {
    match data_type {
        _ if data_type.is_numeric() || data_type.is_temporal() => Ok(()),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Boolean => Ok(()),
        other => Err(Error::Type {
            column: path.into(),
            data_type: other.to_string(),
            reason: "cannot stand in a row key; select a string or a number".into(),
        }),
    }
}

pub(super) fn writer<'a>(path: &str, array: &'a ArrayRef) -> Result<Writer<'a>, Error> {
    check(path, array.data_type())?;
    Ok(match array.data_type() {
        DataType::Utf8 => {
            let array = array.as_string::<i32>();
            Box::new(move |row, out| out.push_str(array.value(row)))
        }
        DataType::Utf8View => {
            let array = array.as_string_view();
            Box::new(move |row, out| out.push_str(array.value(row)))
        }
        DataType::Float64 => {
            let array = array.as_primitive::<Float64Type>();
            Box::new(move |row, out| float(array.value(row), out))
        }
        DataType::Float32 => {
            let array = array.as_primitive::<Float32Type>();
            Box::new(move |row, out| float(array.value(row), out))
        }
        DataType::Int64 => {
            let array = array.as_primitive::<Int64Type>();
            Box::new(move |row, out| display(array.value(row), out))
        }
        _ => {
            let format = ArrayFormatter::try_new(array.as_ref(), &FormatOptions::new())?;
            Box::new(move |row, out| display(format.value(row), out))
        }
    })
}

/// The text of a constant, if it has exactly one: `0.0 = -0.0`, yet they print apart.
pub(super) fn of(path: &str, value: &ScalarValue) -> Option<String> {
    if value.is_null() || matches!(value, ScalarValue::Float64(Some(0.0)) | ScalarValue::Float32(Some(0.0))) {
        return None;
    }
    let array = value.to_array().ok()?;
    let mut text = String::new();
    writer(path, &array).ok()?(0, &mut text);
    Some(text)
}

fn display(value: impl Display, out: &mut String) {
    write!(out, "{value}").expect("writing to a string does not fail");
}

/// As Python prints it. Rust finds the same digits and turns to an exponent at the same places (below 1e-4 and from
/// 1e16), but leaves out the exponent's sign and leading zero, and writes NaN in capitals.
fn float(value: impl Debug, out: &mut String) {
    let text = format!("{value:?}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, exponent) = match exponent.strip_prefix('-') {
                Some(exponent) => ('-', exponent),
                None => ('+', exponent),
            };
            display(format_args!("{digits}e{sign}{exponent:0>2}"), out);
        }
        None if text == "NaN" => out.push_str("nan"),
        None => out.push_str(&text),
    }
}
