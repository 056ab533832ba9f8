//! Columns that grow: fields that writers have beyond a reader schema, and the reader schema with them.
//!
//! What grows is only what every table can take: a name that Avro allows and that differs from its neighbours by more
//! than case, a type that says something. Columns that are there never change.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use redpoll_core::protocol::Grown;

use super::{Error, MAX_COLUMNS, ReaderSchema, Terms};
use crate::avro::encoder::{self, Error as EncoderError};

impl ReaderSchema {
    /// These columns, then what a job's alerts turned out to have beyond them.
    pub fn with(&self, grown: &Grown) -> Result<ReaderSchema, Error> {
        let mut schema = self.clone();
        for fields in &grown.fields {
            schema = schema.grow(&ReaderSchema::from_avsc(fields)?);
        }
        schema.terms.passed_over.extend(grown.passed_over.keys().cloned());
        schema.terms.closed |= grown.closed;
        Ok(schema)
    }

    /// These columns and the fields of `other` that are not among them. Types stay as they are.
    pub fn grow(&self, other: &ReaderSchema) -> ReaderSchema {
        let fields = match self.beyond(other) {
            Some(beyond) => grow(&self.fields, &beyond.fields),
            None => self.fields.clone(),
        };
        ReaderSchema { fields, terms: self.terms.clone() }
    }

    /// The fields of a writer that are not among these columns and that tables can take, nested ones in the records they
    /// stand in. `None` if there are none, or if the columns are not to grow.
    pub fn beyond(&self, writer: &ReaderSchema) -> Option<ReaderSchema> {
        if self.terms.closed {
            return None;
        }
        let fields: Fields = beyond("", &self.fields, &writer.fields, &self.terms.passed_over).into();
        let room = MAX_COLUMNS.saturating_sub(n_columns(&self.fields));
        (!fields.is_empty() && n_columns(&fields) <= room).then(|| ReaderSchema::of_fields(fields))
    }

    /// As [`beyond`](Self::beyond), each field by itself with its dotted path.
    pub fn beyond_one_by_one(&self, writer: &ReaderSchema) -> Vec<(String, ReaderSchema)> {
        let Some(all) = self.beyond(writer) else { return Vec::new() };
        let alone = |(path, field)| (path, ReaderSchema::of_fields(vec![field].into()));
        one_by_one("", &self.fields, &all.fields).into_iter().map(alone).collect()
    }

    fn of_fields(fields: Fields) -> ReaderSchema {
        ReaderSchema { fields, terms: Terms::default() }
    }

    /// Leaves the columns as they are, whatever fields the writers have.
    pub fn close(&mut self) {
        self.terms.closed = true;
    }

    /// As an Avro schema in JSON. Of the terms nothing is kept.
    pub fn to_avsc(&self) -> Result<String, EncoderError> {
        encoder::avsc("alert", &self.fields)
    }
}

fn grow(fields: &Fields, beyond: &Fields) -> Fields {
    let mut grown: Vec<FieldRef> = fields.iter().cloned().collect();
    for field in beyond {
        match grown.iter_mut().find(|known| known.name() == field.name()) {
            None => grown.push(field.clone()),
            Some(known) => {
                let data_type = grow_type(known.data_type(), field.data_type());
                *known = Arc::new(known.as_ref().clone().with_data_type(data_type));
            }
        }
    }
    grown.into()
}

fn grow_type(known: &DataType, beyond: &DataType) -> DataType {
    match (known, beyond) {
        (DataType::Struct(known), DataType::Struct(beyond)) => DataType::Struct(grow(known, beyond)),
        (DataType::List(known), DataType::List(beyond)) => {
            let item = grow_type(known.data_type(), beyond.data_type());
            DataType::List(Arc::new(known.as_ref().clone().with_data_type(item)))
        }
        (known, _) => known.clone(),
    }
}

fn beyond(path: &str, known: &Fields, written: &Fields, passed_over: &BTreeSet<String>) -> Vec<FieldRef> {
    let mut found: Vec<FieldRef> = Vec::new();
    for field in written {
        let path = child(path, field.name());
        if passed_over.contains(&path) {
            continue;
        }
        let data_type = match known.iter().find(|known| known.name() == field.name()) {
            Some(known) => beyond_type(&path, known.data_type(), field.data_type(), passed_over),
            None if is_free(field.name(), known) && is_free(field.name(), &found) => storable(field.data_type()),
            None => None,
        };
        found.extend(data_type.map(|data_type| Arc::new(Field::new(field.name(), data_type, true))));
    }
    found
}

fn beyond_type(path: &str, known: &DataType, written: &DataType, passed_over: &BTreeSet<String>) -> Option<DataType> {
    match (known, written) {
        (DataType::Struct(known), DataType::Struct(written)) => {
            let fields = beyond(path, known, written, passed_over);
            (!fields.is_empty()).then(|| DataType::Struct(fields.into()))
        }
        (DataType::List(known), DataType::List(written)) => {
            let item = beyond_type(path, known.data_type(), written.data_type(), passed_over)?;
            Some(DataType::List(Arc::new(Field::new("item", item, true))))
        }
        _ => None,
    }
}

fn one_by_one(path: &str, known: &Fields, beyond: &Fields) -> Vec<(String, FieldRef)> {
    let mut found = Vec::new();
    for field in beyond {
        let path = child(path, field.name());
        let inner = match known.iter().find(|known| known.name() == field.name()) {
            None => vec![(path, field.data_type().clone())],
            Some(known) => one_by_one_type(&path, known.data_type(), field.data_type()),
        };
        found.extend(inner.into_iter().map(|(path, of)| (path, Arc::new(Field::new(field.name(), of, true)))));
    }
    found
}

fn one_by_one_type(path: &str, known: &DataType, beyond: &DataType) -> Vec<(String, DataType)> {
    match (known, beyond) {
        (DataType::Struct(known), DataType::Struct(beyond)) => {
            let wrap = |(path, field)| (path, DataType::Struct(vec![field].into()));
            one_by_one(path, known, beyond).into_iter().map(wrap).collect()
        }
        (DataType::List(known), DataType::List(beyond)) => {
            let wrap = |(path, of)| (path, DataType::List(Arc::new(Field::new("item", of, true))));
            one_by_one_type(path, known.data_type(), beyond.data_type()).into_iter().map(wrap).collect()
        }
        _ => Vec::new(),
    }
}

/// Whether a new column may have this name beside those.
fn is_free(name: &str, others: &[FieldRef]) -> bool {
    let begins = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    begins
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !others.iter().any(|other| other.name().eq_ignore_ascii_case(name))
}

/// The part of a type that a table can have: not what is only ever null, nor a record without fields.
fn storable(data_type: &DataType) -> Option<DataType> {
    match data_type {
        DataType::Null => None,
        DataType::Struct(fields) => {
            let fields = beyond("", &Fields::empty(), fields, &BTreeSet::new());
            (!fields.is_empty()).then(|| DataType::Struct(fields.into()))
        }
        DataType::List(item) => {
            let inner = storable(item.data_type())?;
            Some(DataType::List(Arc::new(item.as_ref().clone().with_data_type(inner))))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) => storable(pair.get(1)?.data_type()).map(super::map_of),
            _ => None,
        },
        other => Some(other.clone()),
    }
}

fn n_columns(fields: &Fields) -> usize {
    let nested = |data_type: &DataType| match data_type {
        DataType::Struct(fields) => n_columns(fields),
        DataType::List(item) | DataType::Map(item, _) => match item.data_type() {
            DataType::Struct(fields) => n_columns(fields),
            _ => 1,
        },
        _ => 1,
    };
    fields.iter().map(|field| 1 + nested(field.data_type())).sum()
}

fn child(path: &str, name: &str) -> String {
    match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    }
}
