//! How alerts sit in records: where the schema is, and where the bytes of an alert begin.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use redpoll_core::source::Record;

use super::container;
use super::decoder::crc64_avro;
use super::registry::{self, Registry};

/// Bytes before the alert in Confluent's framing: a zero and the schema's id, big endian.
pub(super) const CONFLUENT_HEADER: usize = 5;

/// The `format` option of a table.
#[derive(Debug, Clone)]
pub enum Format {
    /// `ztf` or `ocf`: a record is an Avro object container with its schema and any number of alerts.
    Container,
    /// `confluent`: a zero byte, the id of a schema in a registry, one alert.
    Confluent(Arc<Registry>),
    /// `avro`: one alert and nothing else, written with this schema (JSON text).
    Schemaless(Arc<str>),
    /// `fink`: one alert in the value, its schema as JSON text in the key.
    Fink,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("format '{0}' is none of ztf, ocf, confluent, avro, fink")]
    Unknown(String),
    #[error("format '{format}' needs the option '{option}': {what}")]
    Needs { format: &'static str, option: &'static str, what: &'static str },
    #[error("{path}: {reason}")]
    File { path: String, reason: std::io::Error },
    #[error(transparent)]
    Registry(#[from] registry::Error),
    #[error("{0}")]
    Record(String),
}

impl Format {
    /// The format that a table's options name. `schema_file` is the path of the schema all alerts of format `avro` are
    /// written with; `registry` is the URL of a schema registry, or a folder of `<id>.avsc` files, for `confluent`.
    pub fn open(format: &str, schema_file: Option<&str>, registry: Option<&str>) -> Result<Format, Error> {
        match format {
            "ztf" | "ocf" => Ok(Format::Container),
            "fink" => Ok(Format::Fink),
            "confluent" => {
                let what = "the URL of a schema registry, or a folder of <id>.avsc files";
                let location = registry.ok_or(Error::Needs { format: "confluent", option: "registry", what })?;
                Ok(Format::Confluent(Arc::new(Registry::open(location)?)))
            }
            "avro" => {
                let what = "the schema file that all alerts are written with";
                let path = schema_file.ok_or(Error::Needs { format: "avro", option: "schema", what })?;
                let text = std::fs::read_to_string(Path::new(path))
                    .map_err(|reason| Error::File { path: path.to_owned(), reason })?;
                Ok(Format::Schemaless(text.into()))
            }
            other => Err(Error::Unknown(other.to_owned())),
        }
    }

    /// Loads the writer schemas of these records from the registry, if the format has one. Errors are of the moment:
    /// the registry did not answer. A schema it does not have fails the records at decoding.
    pub async fn prepare(&self, records: &[Record]) -> Result<(), registry::Error> {
        let Format::Confluent(registry) = self else { return Ok(()) };
        let mut last = None;
        for id in records.iter().filter_map(|record| confluent_id(&record.value)) {
            if last.replace(id) != Some(id) {
                registry.load(id).await?;
            }
        }
        Ok(())
    }

    /// The schema that a record was written with, as JSON text.
    pub fn writer_schema(&self, record: &Record) -> Result<Arc<str>, Error> {
        match self {
            Format::Schemaless(text) => Ok(text.clone()),
            Format::Confluent(registry) => {
                let id = confluent_id(&record.value).ok_or_else(|| Error::Record(NOT_CONFLUENT.to_owned()))?;
                registry.get(id).ok_or_else(|| Error::Record(unknown_id(registry, id)))
            }
            Format::Container => {
                let header = container::header(&record.value).map_err(|error| Error::Record(error.to_string()))?;
                text(header.schema)
            }
            Format::Fink => text(record.key.as_ref().unwrap_or(&Bytes::new())),
        }
    }
}

impl Format {
    /// Names the schema that a record was written with, as records that do not decode name theirs.
    pub fn fingerprint(&self, record: &Record) -> Option<String> {
        match self {
            Format::Confluent(_) => confluent_id(&record.value).map(fingerprint_of_id),
            _ => self.writer_schema(record).ok().map(|text| fingerprint_of_text(text.as_bytes())),
        }
    }
}

pub(super) fn fingerprint_of_id(id: u32) -> String {
    format!("id:{id}")
}

pub(super) fn fingerprint_of_text(text: &[u8]) -> String {
    format!("crc64:{:016x}", crc64_avro(text))
}

pub(super) const NOT_CONFLUENT: &str = "it does not begin with a zero byte and the id of a schema; \
    set 'format' to the framing the topic has";

/// The id of the writer's schema, if the bytes are in Confluent's framing.
pub(super) fn confluent_id(value: &[u8]) -> Option<u32> {
    match value.first_chunk::<CONFLUENT_HEADER>()? {
        [0, id @ ..] => Some(u32::from_be_bytes(*id)),
        _ => None,
    }
}

pub(super) fn unknown_id(registry: &Registry, id: u32) -> String {
    format!("its schema, id {id}, is not in {}; register it and replay the record", registry.shown())
}

fn text(bytes: &[u8]) -> Result<Arc<str>, Error> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.into()),
        Err(_) => Err(Error::Record("its schema is not UTF-8".to_owned())),
    }
}
