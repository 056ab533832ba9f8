//! The Arrow schema that a pipeline wants its alerts in.
//!
//! It is declared as Avro, or inferred from records that carry their schema. Survey versions differ in which fields may
//! be null and which exist at all, so every field is nullable at every level and a field that a writer lacks is null.
//! Types: int, long, float, double, boolean as they are; string and enum as `Utf8`; bytes as `BinaryView`; fixed as
//! `FixedSizeBinary`; timestamps in their own unit, in UTC unless local.
//!
//! What the columns are is not all: a table also has terms, such as which fields a writer must have. They travel with
//! the columns, in the metadata of the Arrow schema.

mod growth;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema as ArrowSchema, SchemaRef, TimeUnit};
use redpoll_core::source::Record;
use serde::{Deserialize, Serialize};

use super::framing::{self, Format};
use super::schema::{self, Id, Logical, Schema, Type};

/// Deeper nesting than this is refused: it would be a recursive type, which Arrow does not have.
const MAX_DEPTH: usize = 32;
/// More columns than this are refused, nested ones counted: a few records that hold each other twice make billions.
const MAX_COLUMNS: usize = 20_000;
/// Where the terms stand in the metadata of an Arrow schema, as JSON.
const TERMS: &str = "redpoll.terms";

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
    terms: Terms,
}

/// What a table says of its writers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Terms {
    /// Dotted paths of the fields that are declared without null and without a default.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    not_null: BTreeSet<String>,
    /// Those of them that the pipeline computes with: alerts of a writer that lacks one cannot be read.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    required: BTreeSet<String>,
    /// Dotted paths of fields that no column is made for when a writer has them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    passed_over: BTreeSet<String>,
    /// No column is made for any further field.
    #[serde(default)]
    closed: bool,
}

impl ReaderSchema {
    /// From the text of an Avro schema file.
    pub fn from_avsc(json: &str) -> Result<ReaderSchema, Error> {
        Self::of(&Schema::parse(json)?)
    }

    pub(super) fn of(schema: &Schema) -> Result<ReaderSchema, Error> {
        let fields = match arrow_type(schema, schema.root, 0, &Cell::new(0))? {
            DataType::Struct(fields) => fields,
            other => return Err(Error::NotARecord(other)),
        };
        let mut not_null = BTreeSet::new();
        find_not_null(schema, schema.root, "", &mut not_null);
        Ok(ReaderSchema { fields, terms: Terms { not_null, ..Terms::default() } })
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
        let not_null = self.terms.not_null.intersection(&other.terms.not_null).cloned().collect();
        let terms = Terms { not_null, ..self.terms.clone() };
        Ok(ReaderSchema { fields: merge_fields("", &self.fields, &other.fields)?, terms })
    }

    /// The columns, with the terms in the metadata.
    pub fn arrow(&self) -> SchemaRef {
        let terms = serde_json::to_string(&self.terms).unwrap_or_default();
        let metadata = [(TERMS.to_owned(), terms)].into_iter().filter(|_| self.terms != Terms::default());
        Arc::new(ArrowSchema::new_with_metadata(self.fields.clone(), metadata.collect()))
    }

    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// Only the fields at these dotted paths (`candid`, `candidate.magpsf`, `prv_candidates.jd`: lists of structs are
    /// passed through), in the order of this schema. A path to a struct means all of it.
    pub fn project<P: AsRef<str>>(&self, paths: &[P]) -> Result<ReaderSchema, Error> {
        let paths: Vec<(&str, &str)> = paths.iter().map(|path| (path.as_ref(), path.as_ref())).collect();
        Ok(ReaderSchema { fields: project_fields(&self.fields, &paths)?, terms: self.terms.clone() })
    }

    /// Makes the alerts of a writer unreadable that lacks a field at one of these dotted paths, or one above it. Only
    /// what is declared without null is asked for: a field that may be null may be absent.
    pub fn require<P: AsRef<str>>(&mut self, paths: &[P]) {
        let needed = |declared: &&String| {
            let mut below = paths.iter().filter_map(|path| path.as_ref().strip_prefix(declared.as_str()));
            below.any(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.terms.required = self.terms.not_null.iter().filter(needed).cloned().collect();
    }

    /// Dotted paths of the fields that a writer must have.
    pub fn required(&self) -> &BTreeSet<String> {
        &self.terms.required
    }
}

impl From<&ArrowSchema> for ReaderSchema {
    fn from(schema: &ArrowSchema) -> Self {
        let terms = schema.metadata.get(TERMS).and_then(|json| serde_json::from_str(json).ok());
        ReaderSchema { fields: schema.fields.clone(), terms: terms.unwrap_or_default() }
    }
}

/// The schema was found to be of bounded depth and width before.
fn find_not_null(schema: &Schema, id: Id, path: &str, found: &mut BTreeSet<String>) {
    match schema.get(id) {
        Type::Record(fields) => {
            for field in fields {
                let path = if path.is_empty() { field.name.clone() } else { format!("{path}.{}", field.name) };
                find_not_null(schema, field.id, &path, found);
                if !field.has_default && !may_be_null(schema, field.id) {
                    found.insert(path);
                }
            }
        }
        Type::Array(items) => find_not_null(schema, *items, path, found),
        Type::Union(branches) => {
            if let Some((_, value)) = schema.nullable(branches) {
                find_not_null(schema, value, path, found);
            }
        }
        _ => {}
    }
}

fn may_be_null(schema: &Schema, id: Id) -> bool {
    match schema.get(id) {
        Type::Null => true,
        Type::Union(branches) => branches.iter().any(|branch| *schema.get(*branch) == Type::Null),
        _ => false,
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
