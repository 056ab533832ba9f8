//! Type names of manifests: `int`, `list<float>`, `map<string,double>`, `struct<rate: double, n: int>`, `decimal(10,2)`.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use serde::Deserialize;

use super::error::nearest;

const SCALARS: [(&str, DataType); 25] = [
    ("boolean", DataType::Boolean),
    ("bool", DataType::Boolean),
    ("tinyint", DataType::Int8),
    ("byte", DataType::Int8),
    ("smallint", DataType::Int16),
    ("short", DataType::Int16),
    ("int", DataType::Int32),
    ("integer", DataType::Int32),
    ("bigint", DataType::Int64),
    ("long", DataType::Int64),
    ("utinyint", DataType::UInt8),
    ("usmallint", DataType::UInt16),
    ("uint", DataType::UInt32),
    ("ubigint", DataType::UInt64),
    ("float", DataType::Float32),
    ("real", DataType::Float32),
    ("double", DataType::Float64),
    ("string", DataType::Utf8),
    ("varchar", DataType::Utf8),
    ("text", DataType::Utf8),
    ("binary", DataType::Binary),
    ("date", DataType::Date32),
    ("timestamp", DataType::Timestamp(TimeUnit::Microsecond, None)),
    ("null", DataType::Null),
    ("void", DataType::Null),
];

/// The type of an input that takes every argument as it comes.
const ANY: &str = "any";

/// No honest type nests deeper. The limit keeps others off the stack.
const MAX_NESTING: usize = 32;

/// A type as a manifest writes it, and as Arrow has it. Everything is nullable.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct SqlType {
    text: String,
    data_type: DataType,
}

impl SqlType {
    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn data_type(&self) -> &DataType {
        &self.data_type
    }

    /// Takes arguments as they come. Its own data type says nothing.
    pub fn any() -> Self {
        Self { text: ANY.to_owned(), data_type: DataType::Null }
    }

    pub fn is_any(&self) -> bool {
        self.text == ANY
    }

    /// The type in which an argument reaches Python: this one, or of any the argument's own, without the encodings that
    /// old versions of pyarrow do not know.
    pub fn of_argument(&self, given: &DataType) -> DataType {
        if self.is_any() { plain(given) } else { self.data_type.clone() }
    }
}

/// A type without views, dictionaries, large offsets and fixed sizes, at any depth; it holds the same values.
fn plain(given: &DataType) -> DataType {
    use DataType::*;
    let inner = |field: &Arc<Field>| Arc::new(field.as_ref().clone().with_data_type(plain(field.data_type())));
    match given {
        Utf8View | LargeUtf8 => Utf8,
        BinaryView | LargeBinary | FixedSizeBinary(_) => Binary,
        Dictionary(_, value) => plain(value),
        RunEndEncoded(_, values) => plain(values.data_type()),
        List(item) | LargeList(item) | ListView(item) | LargeListView(item) | FixedSizeList(item, _) => {
            List(inner(item))
        }
        Struct(fields) => Struct(fields.iter().map(inner).collect()),
        Map(entries, sorted) => Map(inner(entries), *sorted),
        other => other.clone(),
    }
}

impl TryFrom<String> for SqlType {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == ANY {
            return Ok(Self::any());
        }
        if nesting(&text) > MAX_NESTING {
            return Err(format!("the type nests more than {MAX_NESTING} deep"));
        }
        let data_type = parse(&text)?;
        Ok(Self { text, data_type })
    }
}

impl fmt::Display for SqlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// How many brackets are open at a time, at most.
fn nesting(text: &str) -> usize {
    let open = text.chars().scan(0_usize, |open, char| {
        match char {
            '<' => *open += 1,
            '>' => *open = open.saturating_sub(1),
            _ => {}
        }
        Some(*open)
    });
    open.max().unwrap_or(0)
}

fn parse(text: &str) -> Result<DataType, String> {
    let text = text.trim();
    if let Some((name, digits)) = text.split_once('(').filter(|(name, _)| !name.contains('<')) {
        return decimal(name, digits)
            .ok_or_else(|| format!("type `{text}` is not of the form `decimal(10,2)`: {DIGITS}"));
    }
    let Some((name, rest)) = text.split_once('<') else { return scalar(text) };
    let Some(inner) = rest.strip_suffix('>') else { return Err(format!("type `{text}` has an unclosed `<`")) };
    let parameters = parameters(inner).ok_or_else(|| format!("the brackets of type `{text}` do not match"))?;
    match (name.trim().to_lowercase().as_str(), parameters.as_slice()) {
        ("list" | "array", [item]) => Ok(DataType::new_list(parse(item)?, true)),
        ("map", [key, value]) => map(parse(key)?, parse(value)?),
        ("struct", fields) => {
            Ok(DataType::Struct(fields.iter().map(|field| struct_field(field)).collect::<Result<_, _>>()?))
        }
        _ => Err(format!("unknown type `{text}`: use list<T>, map<K,V> or struct<name: T>")),
    }
}

const DIGITS: &str = "1 to 38 digits, of which no more come after the point";

/// Digits in all, and after the point.
fn decimal(name: &str, digits: &str) -> Option<DataType> {
    if !["decimal", "numeric"].contains(&name.trim().to_lowercase().as_str()) {
        return None;
    }
    let digits = digits.strip_suffix(')')?;
    let (all, after) = digits.split_once(',').unwrap_or((digits, "0"));
    let (all, after) = (all.trim().parse::<u8>().ok()?, after.trim().parse::<u8>().ok()?);
    let good = (1..=38).contains(&all) && after <= all;
    good.then(|| DataType::Decimal128(all, after.cast_signed()))
}

fn scalar(text: &str) -> Result<DataType, String> {
    let name = text.to_lowercase();
    if name == "decimal" {
        return Ok(DataType::Decimal128(10, 0));
    }
    if let Some((_, data_type)) = SCALARS.iter().find(|(known, _)| *known == name) {
        return Ok(data_type.clone());
    }
    let known = SCALARS.iter().map(|(known, _)| *known);
    Err(match nearest(&name, known.clone()) {
        Some(near) => format!("unknown type `{text}`: did you mean `{near}`?"),
        None => format!("unknown type `{text}`: use {}", known.collect::<Vec<_>>().join(", ")),
    })
}

// The inner names are those that pyarrow gives a map, so that what comes back needs no cast.
fn map(key: DataType, value: DataType) -> Result<DataType, String> {
    let entries = Fields::from(vec![Field::new("key", key, false), Field::new("value", value, true)]);
    Ok(DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false))
}

fn struct_field(text: &str) -> Result<Field, String> {
    let head = text.split('<').next().unwrap_or_default();
    let parts = if head.contains(':') { text.split_once(':') } else { text.trim().split_once(' ') };
    match parts {
        Some((name, data_type)) => Ok(Field::new(name.trim(), parse(data_type)?, true)),
        None => Err(format!("field `{}` needs a name and a type, as in `rate: double`", text.trim())),
    }
}

/// Splits at the commas outside brackets; `None` when the brackets do not match.
fn parameters(inner: &str) -> Option<Vec<&str>> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_usize, 0);
    for (at, char) in inner.char_indices() {
        match char {
            '<' | '(' => depth += 1,
            '>' | ')' => depth = depth.checked_sub(1)?,
            ',' if depth == 0 => {
                parts.push(&inner[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&inner[start..]);
    (depth == 0).then_some(parts)
}
