//! A writer schema with its names resolved.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::cell::Cell;
use super::{Error, Result};

/// The type of a value. Logical types are their base type: they encode alike.
#[derive(Debug, Clone)]
pub enum Type {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Enum,
    Fixed(usize),
    Array(Box<Type>),
    Map(Box<Type>),
    Union(Vec<Type>),
    Record(Arc<Record>),
}

#[derive(Debug)]
pub struct Record {
    pub fields: Vec<Field>,
}

#[derive(Debug)]
pub struct Field {
    pub name: String,
    pub ty: Type,
}

impl Field {
    /// Appends one value of this field.
    pub fn put(&self, cell: &Cell, out: &mut Vec<u8>) -> Result<()> {
        let fits = cell.put(&self.ty, out);
        fits.then_some(()).ok_or_else(|| Error::Misfit { field: self.name.clone(), value: format!("{cell:?}") })
    }
}

impl Record {
    pub fn field(&self, name: &str) -> Result<&Field> {
        self.fields.iter().find(|f| f.name == name).ok_or_else(|| Error::NoField(name.to_string()))
    }
}

/// The record that a schema's JSON text describes. A type that contains itself is refused: no alert has one.
pub fn parse(json: &str) -> Result<Arc<Record>> {
    match (Names::default()).read(&serde_json::from_str(json)?, "")? {
        Type::Record(record) => Ok(record),
        _ => Err(Error::NotARecord),
    }
}

/// Named types seen so far, by full name.
#[derive(Default)]
struct Names(HashMap<String, Type>);

impl Names {
    fn read(&mut self, json: &Value, namespace: &str) -> Result<Type> {
        match json {
            Value::String(name) => self.named(name, namespace),
            Value::Array(branches) => {
                Ok(Type::Union(branches.iter().map(|b| self.read(b, namespace)).collect::<Result<_>>()?))
            }
            Value::Object(object) => self.complex(object, namespace),
            other => Err(Error::UnknownType(other.to_string())),
        }
    }

    fn named(&self, name: &str, namespace: &str) -> Result<Type> {
        Ok(match name {
            "null" => Type::Null,
            "boolean" => Type::Boolean,
            "int" => Type::Int,
            "long" => Type::Long,
            "float" => Type::Float,
            "double" => Type::Double,
            "bytes" => Type::Bytes,
            "string" => Type::String,
            _ => {
                let full = full_name(name, namespace);
                let found = self.0.get(&full).or_else(|| self.0.get(name));
                found.cloned().ok_or(Error::UnknownType(full))?
            }
        })
    }

    fn complex(&mut self, object: &Map<String, Value>, namespace: &str) -> Result<Type> {
        let part = |key: &str| object.get(key).ok_or_else(|| Error::UnknownType(format!("without {key}")));
        let kind = match part("type")? {
            Value::String(kind) => kind.as_str(),
            nested => return self.read(nested, namespace),
        };
        match kind {
            "array" => Ok(Type::Array(Box::new(self.read(part("items")?, namespace)?))),
            "map" => Ok(Type::Map(Box::new(self.read(part("values")?, namespace)?))),
            "record" | "enum" | "fixed" => {
                let name = part("name")?.as_str().unwrap_or_default();
                let space = object.get("namespace").and_then(Value::as_str).unwrap_or(namespace);
                let full = full_name(name, space);
                let ty = match kind {
                    "record" => self.record(object, full.rsplit_once('.').map_or("", |(space, _)| space))?,
                    "enum" => Type::Enum,
                    _ => Type::Fixed(part("size")?.as_u64().unwrap_or_default() as usize),
                };
                self.0.insert(full, ty.clone());
                Ok(ty)
            }
            primitive => self.named(primitive, namespace),
        }
    }

    fn record(&mut self, object: &Map<String, Value>, namespace: &str) -> Result<Type> {
        let fields = object.get("fields").and_then(Value::as_array).ok_or(Error::NotARecord)?;
        let read = |field: &Value| {
            let name = field["name"].as_str().unwrap_or_default().to_string();
            Ok(Field { ty: self.read(&field["type"], namespace)?, name })
        };
        Ok(Type::Record(Arc::new(Record { fields: fields.iter().map(read).collect::<Result<_>>()? })))
    }
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_string() } else { format!("{namespace}.{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, expected: &str) {
        assert_eq!(format!("{:?}", parse(json).unwrap().fields[1].ty), expected);
    }

    #[test]
    fn a_name_is_found_in_the_namespace_of_its_record_and_by_its_full_name() {
        let with = |used: &str| {
            format!(
                r#"{{"type":"record","name":"a.b.top","fields":[
                {{"name":"x","type":{{"type":"fixed","name":"f","size":3}}}},{{"name":"y","type":["null","{used}"]}}]}}"#
            )
        };
        check(&with("f"), "Union([Null, Fixed(3)])");
        check(&with("a.b.f"), "Union([Null, Fixed(3)])");
        assert!(matches!(parse(&with("g")), Err(Error::UnknownType(name)) if name == "a.b.g"));
    }

    #[test]
    fn a_logical_type_is_its_base_type() {
        check(
            r#"{"type":"record","name":"t","fields":[{"name":"x","type":"int"},
            {"name":"y","type":["null",{"type":"long","logicalType":"timestamp-micros"}]}]}"#,
            "Union([Null, Long])",
        );
    }
}
