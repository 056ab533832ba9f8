//! As much of Avro as a simulator needs: read a writer schema, find a field's bytes in a datum, write values.
//!
//! A replayed alert must keep every byte that was not asked to change, so it is never decoded into values and encoded
//! again: `walk` finds where a field lies and `edit` splices new bytes in. Made alerts are written by `columns`, one
//! closure per field, looked up by name once. Both meet in `cell`, the one place that encodes a value.

pub mod schema;

pub mod wire;

pub mod cell;

pub mod walk;

pub mod edit;

pub mod columns;

pub mod container;

/// What is wrong with a schema, a datum, or a value for it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the writer schema is not json: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the writer schema does not define the type {0}")]
    UnknownType(String),
    #[error("the writer schema is not a record")]
    NotARecord,
    #[error("the datum ends inside a value")]
    Truncated,
    #[error("a value is malformed at byte {at} of the datum")]
    Malformed { at: usize },
    #[error("not an avro object container")]
    NotAContainer,
    #[error("the avro codec {0} is not supported, only null: write the file again without compression")]
    Codec(String),
    #[error("the writer schema has no field {0}")]
    NoField(String),
    #[error("the field {field} cannot hold {value}")]
    Misfit { field: String, value: String },
}

pub type Result<T, E = Error> = std::result::Result<T, E>;
