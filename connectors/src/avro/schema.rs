//! Avro schemas as they are written: parsed from JSON into one flat table of types.
//!
//! Named types are entries that others point to, so a type that is used ten times stands once and a recursive type is
//! a cycle of indexes. Names resolve as the specification says; a dotted name (`lsst.v11_0.diaSource`) is a namespace
//! and a name. Documentation, aliases, values of defaults and unknown attributes do not matter for reading bytes and are
//! dropped.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

/// Index of a type in its schema.
pub(super) type Id = usize;

/// More entries than this is an attack or a mistake: the widest survey schema has under a thousand.
const MAX_TYPES: usize = 65_536;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Type {
    Null,
    Boolean,
    Int(Option<Logical>),
    Long(Option<Logical>),
    Float,
    Double,
    Bytes,
    String,
    Fixed(usize),
    Enum(Vec<String>),
    Array(Id),
    Map(Id),
    Union(Vec<Id>),
    Record(Vec<Field>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    pub name: String,
    pub id: Id,
    /// A reader may do without it: it has a default.
    pub has_default: bool,
}

/// What an int or a long means. Other logical types are read as the type that carries them, as the specification says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Logical {
    Date,
    TimeMillis,
    TimeMicros,
    /// Ticks per second, and whether they are counted in UTC.
    Timestamp {
        per_second: i64,
        utc: bool,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the schema is not JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the schema names the type '{0}' but does not define it")]
    Unknown(String),
    #[error("the schema defines '{0}' twice")]
    Twice(String),
    #[error("'{attribute}' is missing or malformed in {place}")]
    Malformed { attribute: &'static str, place: String },
    #[error("the schema has more than {MAX_TYPES} types")]
    TooLarge,
    #[error("a union in {0} holds another union")]
    NestedUnion(String),
}

#[derive(Debug, Clone)]
pub(super) struct Schema {
    types: Vec<Type>,
    pub root: Id,
}

impl Schema {
    pub fn parse(json: &str) -> Result<Schema, Error> {
        let value = serde_json::from_str(json)?;
        let mut parser = Parser { types: Vec::new(), named: HashMap::new() };
        let root = parser.parse(&value, "")?;
        Ok(Schema { types: parser.types, root })
    }

    pub fn get(&self, id: Id) -> &Type {
        &self.types[id]
    }

    pub fn types(&self) -> &[Type] {
        &self.types
    }

    /// If the branches are null and one other type: the byte that null is written as, and the other type.
    pub fn nullable(&self, branches: &[Id]) -> Option<(u8, Id)> {
        let is_null = |id: Id| *self.get(id) == Type::Null;
        match *branches {
            [null, value] if is_null(null) && !is_null(value) => Some((0, value)),
            [value, null] if is_null(null) && !is_null(value) => Some((2, value)),
            _ => None,
        }
    }
}

struct Parser {
    types: Vec<Type>,
    named: HashMap<String, Id>,
}

impl Parser {
    fn parse(&mut self, value: &Value, namespace: &str) -> Result<Id, Error> {
        match value {
            Value::String(name) => self.by_name(name, namespace, None),
            Value::Array(branches) => self.union(branches, namespace),
            Value::Object(object) => self.object(object, namespace),
            other => Err(Error::Malformed { attribute: "type", place: clip(&other.to_string()) }),
        }
    }

    fn add(&mut self, kind: Type) -> Result<Id, Error> {
        if self.types.len() >= MAX_TYPES {
            return Err(Error::TooLarge);
        }
        self.types.push(kind);
        Ok(self.types.len() - 1)
    }

    fn by_name(&mut self, name: &str, namespace: &str, logical: Option<Logical>) -> Result<Id, Error> {
        let kind = match name {
            "null" => Type::Null,
            "boolean" => Type::Boolean,
            "int" => Type::Int(logical.filter(|l| matches!(l, Logical::Date | Logical::TimeMillis))),
            "long" => Type::Long(logical.filter(|l| !matches!(l, Logical::Date | Logical::TimeMillis))),
            "float" => Type::Float,
            "double" => Type::Double,
            "bytes" => Type::Bytes,
            "string" => Type::String,
            _ => {
                let found = self.named.get(&full_name(name, namespace)).or_else(|| self.named.get(name));
                return found.copied().ok_or_else(|| Error::Unknown(clip(name)));
            }
        };
        self.add(kind)
    }

    fn union(&mut self, branches: &[Value], namespace: &str) -> Result<Id, Error> {
        let ids = branches.iter().map(|branch| self.parse(branch, namespace)).collect::<Result<Vec<_>, _>>()?;
        if ids.iter().any(|id| matches!(self.types[*id], Type::Union(_))) {
            return Err(Error::NestedUnion(clip(namespace)));
        }
        self.add(Type::Union(ids))
    }

    fn object(&mut self, object: &Map<String, Value>, namespace: &str) -> Result<Id, Error> {
        let kind = match object.get("type") {
            Some(Value::String(kind)) => kind.as_str(),
            Some(nested) => return self.parse(nested, namespace),
            None => return Err(malformed("type", object)),
        };
        let inner = |attribute| object.get(attribute).ok_or_else(|| malformed(attribute, object));
        match kind {
            "array" => {
                let items = self.parse(inner("items")?, namespace)?;
                self.add(Type::Array(items))
            }
            "map" => {
                let values = self.parse(inner("values")?, namespace)?;
                self.add(Type::Map(values))
            }
            "record" | "error" | "enum" | "fixed" => self.named_type(kind, object, namespace),
            name => self.by_name(name, namespace, logical(object)),
        }
    }

    fn named_type(&mut self, kind: &str, object: &Map<String, Value>, outer: &str) -> Result<Id, Error> {
        let name = object.get("name").and_then(Value::as_str).ok_or_else(|| malformed("name", object))?;
        let namespace = object.get("namespace").and_then(Value::as_str).unwrap_or(outer);
        let full = full_name(name, namespace);
        // The place is taken before the fields are read, so that they may point back to it.
        let id = self.add(Type::Null)?;
        if self.named.insert(full.clone(), id).is_some() {
            return Err(Error::Twice(clip(&full)));
        }
        self.types[id] = match kind {
            "fixed" => {
                let size = object.get("size").and_then(Value::as_u64).and_then(|size| i32::try_from(size).ok());
                Type::Fixed(size.ok_or_else(|| malformed("size", object))? as usize)
            }
            "enum" => {
                let symbols = object.get("symbols").and_then(Value::as_array);
                let symbols = symbols.and_then(|all| all.iter().map(|s| s.as_str().map(str::to_owned)).collect());
                Type::Enum(symbols.ok_or_else(|| malformed("symbols", object))?)
            }
            _ => self.record(object, full.rsplit_once('.').map_or("", |(namespace, _)| namespace))?,
        };
        Ok(id)
    }

    fn record(&mut self, object: &Map<String, Value>, namespace: &str) -> Result<Type, Error> {
        let fields = object.get("fields").and_then(Value::as_array).ok_or_else(|| malformed("fields", object))?;
        let (mut read, mut names) = (Vec::with_capacity(fields.len()), HashSet::with_capacity(fields.len()));
        for field in fields {
            let field = field.as_object().ok_or_else(|| malformed("fields", object))?;
            let name = field.get("name").and_then(Value::as_str).ok_or_else(|| malformed("name", field))?;
            let kind = field.get("type").ok_or_else(|| malformed("type", field))?;
            if !names.insert(name) {
                return Err(Error::Twice(clip(name)));
            }
            let has_default = field.contains_key("default");
            read.push(Field { name: name.to_owned(), id: self.parse(kind, namespace)?, has_default });
        }
        Ok(Type::Record(read))
    }
}

fn full_name(name: &str, namespace: &str) -> String {
    match name.contains('.') || namespace.is_empty() {
        true => name.to_owned(),
        false => format!("{namespace}.{name}"),
    }
}

fn logical(object: &Map<String, Value>) -> Option<Logical> {
    let timestamp = |per_second, utc| Some(Logical::Timestamp { per_second, utc });
    match object.get("logicalType")?.as_str()? {
        "date" => Some(Logical::Date),
        "time-millis" => Some(Logical::TimeMillis),
        "time-micros" => Some(Logical::TimeMicros),
        "timestamp-millis" => timestamp(1_000, true),
        "timestamp-micros" => timestamp(1_000_000, true),
        "timestamp-nanos" => timestamp(1_000_000_000, true),
        "local-timestamp-millis" => timestamp(1_000, false),
        "local-timestamp-micros" => timestamp(1_000_000, false),
        "local-timestamp-nanos" => timestamp(1_000_000_000, false),
        _ => None,
    }
}

fn malformed(attribute: &'static str, object: &Map<String, Value>) -> Error {
    let name = object.get("name").and_then(Value::as_str).map(|name| format!("'{}'", clip(name)));
    Error::Malformed { attribute, place: name.unwrap_or_else(|| clip(&Value::Object(object.clone()).to_string())) }
}

/// Schemas come off the wire: an error must not carry a megabyte of one.
pub(super) fn clip(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, expected: &str) {
        let shown = match Schema::parse(json) {
            Ok(schema) => format!("{:?}", schema.get(schema.root)),
            Err(error) => error.to_string(),
        };
        assert!(shown.contains(expected), "{shown}");
    }

    #[test]
    fn a_dotted_name_is_found_by_its_full_and_by_its_short_name() {
        let json = |reference: &str| {
            format!(
                r#"{{"type":"record","name":"lsst.v9_0.alert","fields":[
                    {{"name":"a","type":{{"type":"record","name":"lsst.v9_0.diaSource","fields":[]}}}},
                    {{"name":"b","type":["null","{reference}"]}}]}}"#
            )
        };
        check(&json("lsst.v9_0.diaSource"), "name: \"b\"");
        check(&json("diaSource"), "name: \"b\"");
        check(&json("lsst.v9_1.diaSource"), "names the type 'lsst.v9_1.diaSource' but does not define it");
    }

    #[test]
    fn a_recursive_record_is_a_cycle_of_indexes() {
        check(r#"{"type":"record","name":"node","fields":[{"name":"next","type":["null","node"]}]}"#, "Record");
    }

    #[test]
    fn malformed_schemas_say_what_is_missing() {
        check("{", "not JSON");
        check(r#"{"name":"x"}"#, "'type' is missing");
        check(r#"{"type":"array"}"#, "'items' is missing");
        check(r#"{"type":"fixed","name":"f","size":-1}"#, "'size' is missing or malformed in 'f'");
        check(r#"["null",["null","int"]]"#, "holds another union");
        check(
            r#"{"type":"record","name":"r","fields":[{"name":"a","type":"int"},{"name":"a","type":"int"}]}"#,
            "twice",
        );
    }
}
