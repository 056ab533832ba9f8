//! The Arrow schema that a pipeline wants its alerts in.
//!
//! It is declared as Avro, or inferred from records that carry their schema. Survey versions differ in which fields may
//! be null and which exist at all, so every field is nullable at every level and a field that a writer lacks is null.
//! Types: int, long, float, double, boolean as they are; string and enum as `Utf8`; bytes as `BinaryView`; fixed as
//! `FixedSizeBinary`; timestamps in their own unit, in UTC unless local.

use std::cell::Cell;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema as ArrowSchema, SchemaRef, TimeUnit};
use redpoll_core::source::Record;

use super::framing::{self, Format};
use super::schema::{self, Id, Logical, Schema, Type};

/// Deeper nesting than this is refused: it would be a recursive type, which Arrow does not have.
const MAX_DEPTH: usize = 32;
/// More columns than this are refused, nested ones counted: a few records that hold each other twice make billions.
const MAX_COLUMNS: usize = 20_000;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Schema(#[from] schema::Error),
    #[error("{path}: the types {left} and {right} have no common type; declare the schema in a file")]
    NoCommonType { path: String, left: DataType, right: DataType },
    #[error("the schema is not a record but {0}")]
    NotARecord(DataType),
    #[error("the schema nests more than {MAX_DEPTH} deep, so it is probably recursive, which a table cannot be")]
    TooDeep,
    #[error("the schema has more than {MAX_COLUMNS} columns, nested ones counted")]
    TooWide,
    #[error("there is no field '{0}' in the alerts")]
    NoField(String),
    #[error("a sample of the alerts cannot be read: {0}")]
    Sample(#[from] framing::Error),
    #[error("there is no alert to infer a schema from")]
    NoSample,
}

/// What columns alerts are decoded to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReaderSchema {
    fields: Fields,
}

impl ReaderSchema {
    /// From the text of an Avro schema file.
    pub fn from_avsc(json: &str) -> Result<ReaderSchema, Error> {
        let schema = Schema::parse(json)?;
        match arrow_type(&schema, schema.root, 0, &Cell::new(0))? {
            DataType::Struct(fields) => Ok(ReaderSchema { fields }),
            other => Err(Error::NotARecord(other)),
        }
    }

    /// From the writer schemas of some records: all their fields, in order of first appearance, in their widest types.
    pub fn from_records(format: &Format, samples: &[Record]) -> Result<ReaderSchema, Error> {
        let mut seen: Vec<Arc<str>> = Vec::new();
        let mut merged: Option<ReaderSchema> = None;
        for record in samples {
            let text = format.writer_schema(record)?;
            if seen.contains(&text) {
                continue;
            }
            let schema = ReaderSchema::from_avsc(&text)?;
            seen.push(text);
            merged = Some(match merged {
                Some(before) => before.merge(&schema)?,
                None => schema,
            });
        }
        merged.ok_or(Error::NoSample)
    }

    /// The fields of both, those of `self` first, in types that both can be read as.
    pub fn merge(&self, other: &ReaderSchema) -> Result<ReaderSchema, Error> {
        Ok(ReaderSchema { fields: merge_fields("", &self.fields, &other.fields)? })
    }

    pub fn arrow(&self) -> SchemaRef {
        Arc::new(ArrowSchema::new(self.fields.clone()))
    }

    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// Only the fields at these dotted paths (`candid`, `candidate.magpsf`, `prv_candidates.jd`: lists of structs are
    /// passed through), in the order of this schema. A path to a struct means all of it.
    pub fn project<P: AsRef<str>>(&self, paths: &[P]) -> Result<ReaderSchema, Error> {
        let paths: Vec<(&str, &str)> = paths.iter().map(|path| (path.as_ref(), path.as_ref())).collect();
        Ok(ReaderSchema { fields: project_fields(&self.fields, &paths)? })
    }
}

impl From<&ArrowSchema> for ReaderSchema {
    fn from(schema: &ArrowSchema) -> Self {
        ReaderSchema { fields: schema.fields.clone() }
    }
}

fn arrow_type(schema: &Schema, id: Id, depth: usize, n_columns: &Cell<usize>) -> Result<DataType, Error> {
    if depth > MAX_DEPTH {
        return Err(Error::TooDeep);
    }
    n_columns.set(n_columns.get() + 1);
    if n_columns.get() > MAX_COLUMNS {
        return Err(Error::TooWide);
    }
    let inner = |id| arrow_type(schema, id, depth + 1, n_columns);
    Ok(match schema.get(id) {
        Type::Null => DataType::Null,
        Type::Boolean => DataType::Boolean,
        Type::Int(None) => DataType::Int32,
        Type::Long(None) => DataType::Int64,
        Type::Int(Some(logical)) | Type::Long(Some(logical)) => logical_type(*logical),
        Type::Float => DataType::Float32,
        Type::Double => DataType::Float64,
        Type::Bytes => DataType::BinaryView,
        Type::String | Type::Enum(_) => DataType::Utf8,
        Type::Fixed(size) => DataType::FixedSizeBinary(*size as i32),
        Type::Array(items) => DataType::List(Arc::new(Field::new("item", inner(*items)?, true))),
        Type::Map(values) => map_of(inner(*values)?),
        Type::Union(branches) => branches
            .iter()
            .try_fold(DataType::Null, |merged, branch| merge_types("union", &merged, &inner(*branch)?))?,
        Type::Record(fields) => {
            let field = |field: &schema::Field| Ok(Field::new(&field.name, inner(field.id)?, true));
            DataType::Struct(fields.iter().map(field).collect::<Result<_, Error>>()?)
        }
    })
}

fn logical_type(logical: Logical) -> DataType {
    match logical {
        Logical::Date => DataType::Date32,
        Logical::TimeMillis => DataType::Time32(TimeUnit::Millisecond),
        Logical::TimeMicros => DataType::Time64(TimeUnit::Microsecond),
        Logical::Timestamp { per_second, utc } => {
            let unit = match per_second {
                1_000 => TimeUnit::Millisecond,
                1_000_000 => TimeUnit::Microsecond,
                _ => TimeUnit::Nanosecond,
            };
            DataType::Timestamp(unit, utc.then(|| "UTC".into()))
        }
    }
}

fn map_of(value: DataType) -> DataType {
    let pair = vec![Field::new("key", DataType::Utf8, false), Field::new("value", value, true)];
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(pair.into()), false)), false)
}

fn merge_fields(path: &str, left: &Fields, right: &Fields) -> Result<Fields, Error> {
    let mut merged: Vec<FieldRef> = left.iter().cloned().collect();
    for field in right {
        match merged.iter_mut().find(|known| known.name() == field.name()) {
            None => merged.push(field.clone()),
            Some(known) if known.data_type() == field.data_type() => {}
            Some(known) => {
                let path = if path.is_empty() { field.name().clone() } else { format!("{path}.{}", field.name()) };
                let data_type = merge_types(&path, known.data_type(), field.data_type())?;
                *known = Arc::new(known.as_ref().clone().with_data_type(data_type));
            }
        }
    }
    Ok(merged.into())
}

fn merge_types(path: &str, left: &DataType, right: &DataType) -> Result<DataType, Error> {
    use DataType::{Float32, Float64, Int32, Int64, List, Map, Null, Struct, Timestamp};
    Ok(match (left, right) {
        (left, right) if left == right => left.clone(),
        (Null, other) | (other, Null) => other.clone(),
        (Int32, Int64) | (Int64, Int32) => Int64,
        // A float holds neither all ints nor all longs.
        (Int32 | Int64 | Float32 | Float64, Int32 | Int64 | Float32 | Float64) => Float64,
        (Int64, Timestamp(..)) => right.clone(),
        (Timestamp(..), Int64) => left.clone(),
        (Timestamp(a, zone), Timestamp(b, other)) if zone == other => Timestamp((*a).max(*b), zone.clone()),
        (Struct(left), Struct(right)) => Struct(merge_fields(path, left, right)?),
        (List(left), List(right)) => {
            let item = merge_types(path, left.data_type(), right.data_type())?;
            List(Arc::new(left.as_ref().clone().with_data_type(item)))
        }
        (Map(left, _), Map(right, _)) => match (left.data_type(), right.data_type()) {
            (Struct(left), Struct(right)) => map_of(merge_types(path, left[1].data_type(), right[1].data_type())?),
            _ => return Err(no_common_type(path, left.data_type(), right.data_type())),
        },
        _ => return Err(no_common_type(path, left, right)),
    })
}

fn no_common_type(path: &str, left: &DataType, right: &DataType) -> Error {
    Error::NoCommonType { path: path.to_owned(), left: left.clone(), right: right.clone() }
}

/// `paths` are pairs of what is left of a path below these fields, and the whole path.
fn project_fields(fields: &Fields, paths: &[(&str, &str)]) -> Result<Fields, Error> {
    let known = |name: &str| fields.iter().any(|field| field.name() == name);
    let head = |path: &str| path.split('.').next().map(str::to_owned).unwrap_or_default();
    if let Some((_, whole)) = paths.iter().find(|(path, _)| !known(&head(path))) {
        return Err(Error::NoField((*whole).to_owned()));
    }
    let mut kept: Vec<FieldRef> = Vec::new();
    for field in fields {
        let below: Vec<_> = paths.iter().filter(|(path, _)| head(path) == *field.name()).collect();
        if below.is_empty() {
            continue;
        }
        let rest: Option<Vec<_>> =
            below.iter().map(|(path, whole)| path.split_once('.').map(|(_, rest)| (rest, *whole))).collect();
        kept.push(match rest {
            None => field.clone(),
            Some(rest) => Arc::new(field.as_ref().clone().with_data_type(project_type(field.data_type(), &rest)?)),
        });
    }
    Ok(kept.into())
}

fn project_type(data_type: &DataType, paths: &[(&str, &str)]) -> Result<DataType, Error> {
    match data_type {
        DataType::Struct(fields) => Ok(DataType::Struct(project_fields(fields, paths)?)),
        DataType::List(item) => {
            let projected = project_type(item.data_type(), paths)?;
            Ok(DataType::List(Arc::new(item.as_ref().clone().with_data_type(projected))))
        }
        _ => Err(Error::NoField(paths.first().map_or("", |(_, whole)| whole).to_owned())),
    }
}
