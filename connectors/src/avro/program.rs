//! A writer's schema resolved against the reader's columns: what to read, what to skip, what to leave null.
//!
//! Resolution happens once per writer schema. It goes by field names alone: record names and namespaces carry version
//! numbers in survey schemas. A field that cannot be read as what the reader wants, or that the pipeline cannot do
//! without and the writer does not have, fails the program, which then fails every record of that writer with the field's
//! name; inside a union only the values of that branch fail.

use std::collections::{BTreeMap, BTreeSet};

use arrow::datatypes::{DataType, Fields, TimeUnit};

use super::column::key_and_value;
use super::schema::{Field, Id, Logical, Schema, Type, clip};

/// What to do with the bytes of one value.
#[derive(Debug)]
pub(super) struct Program {
    /// In a union of null and one other type: the byte of the branch that is null, 0 or 2.
    pub null: Option<u8>,
    pub kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    Null,
    Boolean,
    Int,
    Long,
    /// A long in ticks that are this many times coarser than the reader's.
    Ticks(i64),
    Float,
    Double,
    Bytes,
    Fixed(usize),
    Enum(Box<[String]>),
    Record(Box<Record>),
    Array(Box<Program>),
    Map(Box<Program>),
    Union(Box<[Program]>),
    /// Values of this type cannot be what the reader wants.
    Never(Box<str>),
}

#[derive(Debug)]
pub(super) struct Record {
    /// In the writer's order.
    pub steps: Vec<Step>,
    /// Columns of the reader that the writer does not have.
    pub missing: Vec<usize>,
}

#[derive(Debug)]
pub(super) struct Step {
    pub field: Box<str>,
    pub action: Action,
}

#[derive(Debug)]
pub(super) enum Action {
    /// Read into the column at this position.
    Read(usize, Program),
    Skip(Id),
}

/// Fields that a writer must have, as a tree of names.
#[derive(Debug, Default)]
pub(super) struct Required {
    itself: bool,
    fields: BTreeMap<String, Required>,
}

static NOTHING: Required = Required { itself: false, fields: BTreeMap::new() };

impl Required {
    /// From dotted paths.
    pub fn new(paths: &BTreeSet<String>) -> Required {
        let mut root = Required::default();
        for path in paths {
            let field = path.split('.').fold(&mut root, |at, name| at.fields.entry(name.to_owned()).or_default());
            field.itself = true;
        }
        root
    }

    fn field(&self, name: &str) -> &Required {
        self.fields.get(name).unwrap_or(&NOTHING)
    }
}

/// The program of a whole alert. Gives the reason if the writer's alerts cannot be what the reader wants.
pub(super) fn compile(writer: &Schema, reader: &Fields, required: &Required) -> Result<Record, String> {
    match writer.get(writer.root) {
        Type::Record(written) => resolve_record(writer, written, reader, required),
        _ => Err("the writer's schema is not a record".to_owned()),
    }
}

fn resolve(writer: &Schema, id: Id, reader: &DataType, required: &Required) -> Result<Program, String> {
    if let Type::Union(branches) = writer.get(id) {
        return resolve_union(writer, branches, reader, required);
    }
    Ok(Program { null: None, kind: resolve_kind(writer, id, reader, required)? })
}

fn resolve_union(writer: &Schema, branches: &[Id], reader: &DataType, required: &Required) -> Result<Program, String> {
    if let Some((null, value)) = writer.nullable(branches) {
        return Ok(Program { null: Some(null), kind: resolve_kind(writer, value, reader, required)? });
    }
    let mut reasons = Vec::new();
    let programs = branches.iter().map(|branch| {
        let kind = resolve_kind(writer, *branch, reader, required).unwrap_or_else(|reason| {
            reasons.push(reason.clone());
            Kind::Never(reason.into())
        });
        Program { null: None, kind }
    });
    let programs: Box<[_]> = programs.collect();
    match reasons.len() == branches.len() && !branches.is_empty() {
        true => Err(reasons.swap_remove(0)),
        false => Ok(Program { null: None, kind: Kind::Union(programs) }),
    }
}

fn resolve_kind(writer: &Schema, id: Id, reader: &DataType, required: &Required) -> Result<Kind, String> {
    use DataType::{BinaryView, Boolean, Date32, Float32, Float64, Int32, Int64, List, Map, Struct, Utf8};
    Ok(match (writer.get(id), reader) {
        (Type::Null, _) => Kind::Null,
        (Type::Boolean, Boolean) => Kind::Boolean,
        (Type::Int(_), Int32 | Int64 | Float32 | Float64 | Date32 | DataType::Time32(TimeUnit::Millisecond)) => {
            Kind::Int
        }
        (Type::Long(_), Int64 | Float32 | Float64 | DataType::Time64(TimeUnit::Microsecond)) => Kind::Long,
        (Type::Long(from), DataType::Timestamp(unit, _)) => {
            ticks(*from, per_second(*unit)).ok_or_else(|| mismatch(writer, id, reader))?
        }
        (Type::Float, Float32 | Float64) => Kind::Float,
        (Type::Double, Float64) => Kind::Double,
        (Type::Bytes | Type::String, Utf8 | BinaryView) => Kind::Bytes,
        (Type::Fixed(size), DataType::FixedSizeBinary(wanted)) if *size as i64 == i64::from(*wanted) => {
            Kind::Fixed(*size)
        }
        (Type::Enum(symbols), Utf8) => Kind::Enum(symbols.clone().into()),
        (Type::Record(written), Struct(wanted)) => {
            Kind::Record(Box::new(resolve_record(writer, written, wanted, required)?))
        }
        (Type::Array(items), List(item)) => Kind::Array(Box::new(resolve(writer, *items, item.data_type(), required)?)),
        (Type::Map(values), Map(entries, _)) => {
            let (_, value) = key_and_value(entries).map_err(|error| error.to_string())?;
            Kind::Map(Box::new(resolve(writer, *values, value.data_type(), &NOTHING)?))
        }
        _ => return Err(mismatch(writer, id, reader)),
    })
}

fn resolve_record(writer: &Schema, written: &[Field], wanted: &Fields, required: &Required) -> Result<Record, String> {
    let mut missing: Vec<_> = (0..wanted.len()).collect();
    let mut steps = Vec::with_capacity(written.len());
    for field in written {
        let action = match wanted.iter().position(|want| *want.name() == field.name) {
            None => Action::Skip(field.id),
            Some(position) => {
                missing.retain(|i| *i != position);
                let program = resolve(writer, field.id, wanted[position].data_type(), required.field(&field.name));
                Action::Read(position, program.map_err(|reason| inside(&field.name, &reason))?)
            }
        };
        steps.push(Step { field: field.name.as_str().into(), action });
    }
    match missing.iter().map(|position| &wanted[*position]).find(|field| required.field(field.name()).itself) {
        None => Ok(Record { steps, missing }),
        Some(field) => Err(format!(
            "field {}: the writer does not have it, the pipeline needs {}",
            field.name(),
            clip(&field.data_type().to_string())
        )),
    }
}

/// Timestamps may become finer, never coarser: that would lose what the writer wrote.
fn ticks(from: Option<Logical>, to: i64) -> Option<Kind> {
    match from {
        Some(Logical::Timestamp { per_second, .. }) if to == per_second => Some(Kind::Long),
        Some(Logical::Timestamp { per_second, .. }) if to > per_second => Some(Kind::Ticks(to / per_second)),
        Some(_) => None,
        None => Some(Kind::Long),
    }
}

fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

/// Prefixes a reason with the field it stands in, as a path from the root.
fn inside(field: &str, reason: &str) -> String {
    match reason.strip_prefix("field ") {
        Some(rest) => format!("field {field}.{rest}"),
        None => format!("field {field}: {reason}"),
    }
}

fn mismatch(writer: &Schema, id: Id, reader: &DataType) -> String {
    let written = match writer.get(id) {
        Type::Null => "null",
        Type::Boolean => "boolean",
        Type::Int(_) => "int",
        Type::Long(None) => "long",
        Type::Long(Some(_)) => "a long with a logical type",
        Type::Float => "float",
        Type::Double => "double",
        Type::Bytes => "bytes",
        Type::String => "string",
        Type::Fixed(_) => "fixed",
        Type::Enum(_) => "enum",
        Type::Array(_) => "array",
        Type::Map(_) => "map",
        Type::Union(_) => "union",
        Type::Record(_) => "record",
    };
    format!("the writer has {written}, the reader wants {}", clip(&reader.to_string()))
}
