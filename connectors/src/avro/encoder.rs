//! Batches to Avro, one alert a row.
//!
//! The Avro schema follows from the Arrow schema: the same fields in the same order, nullable ones as a union of null
//! and their type with null as default, each struct a record named after its path (`alert.candidate`), so that names
//! never clash. Readers such as fastavro need nothing but the schema's text and the bytes.

mod declare;
mod write;

use std::io::Write as _;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Fields, SchemaRef};
use arrow::error::ArrowError;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::DeflateEncoder;

use super::container::checksum;
use super::decoder::crc64_avro;
use write::{Writer, put_bytes, put_long};

/// Alerts of one container are cut into blocks of about this size, before packing.
const BLOCK_BYTES: usize = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("column '{path}' has type {data_type}, which Avro cannot say; cast it")]
    Type { path: String, data_type: DataType },
    #[error("column '{path}': '{name}' is not an Avro name (letters, digits, '_'); rename it with AS")]
    Name { path: String, name: String },
    #[error("two columns are called '{path}'; rename one with AS")]
    Twice { path: String },
    #[error("column '{path}' is declared without nulls but has one in row {row}")]
    Null { path: String, row: usize },
    #[error("the batch has column '{found}' where the encoder was made for '{expected}'")]
    Batch { expected: String, found: String },
    #[error("column '{path}': {source}")]
    Cast { path: String, source: ArrowError },
    #[error("packing a block failed: {0}")]
    Pack(String),
}

/// How timestamps are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Timestamps {
    /// As a long with Avro's logical type.
    #[default]
    Logical,
    /// As text in UTC, `2020-01-01 03:04:05.5`, the way Fink's topics have them.
    Text,
}

/// How the blocks of a container are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Codec {
    #[default]
    Null,
    Deflate,
    Snappy,
}

/// Encodes batches of one Arrow schema.
#[derive(Debug, Clone)]
pub struct Encoder {
    schema: SchemaRef,
    timestamps: Timestamps,
    json: Bytes,
}

/// Encoded alerts, one per row, in one allocation.
#[derive(Debug, Clone, Default)]
pub struct Payloads {
    data: Bytes,
    ends: Vec<usize>,
}

impl Payloads {
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The payload of a row, sharing memory with the others.
    pub fn get(&self, row: usize) -> Option<Bytes> {
        let end = *self.ends.get(row)?;
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        Some(self.data.slice(start..end))
    }

    pub fn iter(&self) -> impl Iterator<Item = Bytes> + '_ {
        (0..self.len()).filter_map(|row| self.get(row))
    }
}

/// The Avro schema of these fields as JSON text, on one line.
pub(super) fn avsc(name: &str, fields: &Fields) -> Result<String, Error> {
    Ok(declare::record(name, fields, Timestamps::Logical)?.to_string())
}

impl Encoder {
    /// `name` is the name of the alert's record; it may have a namespace (`ztf.alert`).
    pub fn new(schema: SchemaRef, name: &str, timestamps: Timestamps) -> Result<Encoder, Error> {
        let json = declare::record(name, &schema.fields, timestamps)?;
        Ok(Encoder { schema, timestamps, json: format!("{json:#}").into() })
    }

    /// The Avro schema as JSON text: the key of records in Fink's framing, one allocation for all of them.
    pub fn schema_json(&self) -> Bytes {
        self.json.clone()
    }

    /// Alerts alone. With [`schema_json`](Self::schema_json) as key this is Fink's framing.
    pub fn datums(&self, batch: &RecordBatch) -> Result<Payloads, Error> {
        self.prefixed(batch, &[])
    }

    /// Alerts in Confluent's framing, for a schema that the registry knows by this id.
    pub fn confluent(&self, batch: &RecordBatch, id: u32) -> Result<Payloads, Error> {
        let [a, b, c, d] = id.to_be_bytes();
        self.prefixed(batch, &[0, a, b, c, d])
    }

    /// One object container per alert, as ZTF sends them.
    pub fn containers(&self, batch: &RecordBatch, codec: Codec) -> Result<Payloads, Error> {
        let header = self.header(codec);
        let mut data = Vec::new();
        let mut ends = Vec::with_capacity(batch.num_rows());
        for alert in self.datums(batch)?.iter() {
            data.extend_from_slice(&header);
            self.put_block(&mut data, 1, &alert, codec)?;
            ends.push(data.len());
        }
        Ok(Payloads { data: data.into(), ends })
    }

    /// One object container with all alerts of these batches. Equal batches give equal bytes.
    pub fn container(&self, batches: &[RecordBatch], codec: Codec) -> Result<Bytes, Error> {
        let alerts = batches.iter().map(|batch| self.datums(batch)).collect::<Result<Vec<_>, _>>()?;
        self.container_of(&alerts, codec)
    }

    /// As [`container`](Self::container), of what [`datums`](Self::datums) gave.
    pub fn container_of(&self, alerts: &[Payloads], codec: Codec) -> Result<Bytes, Error> {
        let mut data = self.header(codec);
        for alerts in alerts {
            let (mut start, mut first) = (0, 0);
            for (row, end) in alerts.ends.iter().enumerate() {
                if end - start >= BLOCK_BYTES || row + 1 == alerts.len() {
                    self.put_block(&mut data, row + 1 - first, &alerts.data[start..*end], codec)?;
                    (start, first) = (*end, row + 1);
                }
            }
        }
        Ok(data.into())
    }

    fn prefixed(&self, batch: &RecordBatch, prefix: &[u8]) -> Result<Payloads, Error> {
        let writers = self.writers(batch)?;
        let mut data = Vec::new();
        let mut ends = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            data.extend_from_slice(prefix);
            for writer in &writers {
                writer.write(row, &mut data)?;
            }
            ends.push(data.len());
            if row == 0 {
                // Alerts are alike in size: the first one tells what the others will need.
                data.reserve(data.len() * (batch.num_rows() - 1));
            }
        }
        Ok(Payloads { data: data.into(), ends })
    }

    fn writers(&self, batch: &RecordBatch) -> Result<Vec<Writer>, Error> {
        let batch_schema = batch.schema();
        let (expected, found) = (self.schema.fields(), batch_schema.fields());
        let same = |(a, b): (&Arc<_>, &Arc<_>)| arrow_field_matches(a, b);
        if expected.len() != found.len() || !expected.iter().zip(found).all(same) {
            let odd = (0..expected.len().max(found.len())).find(|i| match (expected.get(*i), found.get(*i)) {
                (Some(a), Some(b)) => !arrow_field_matches(a, b),
                _ => true,
            });
            let shown = |fields: &arrow::datatypes::Fields| match odd.and_then(|i| fields.get(i)) {
                Some(field) => format!("{} {}", field.name(), field.data_type()),
                None => "none".to_owned(),
            };
            return Err(Error::Batch { expected: shown(expected), found: shown(found) });
        }
        let columns = expected.iter().zip(batch.columns());
        columns.map(|(field, array)| Writer::new(field.name(), field, array, self.timestamps)).collect()
    }

    fn header(&self, codec: Codec) -> Vec<u8> {
        let mut header = b"Obj\x01".to_vec();
        put_long(&mut header, 2);
        put_bytes(&mut header, b"avro.codec");
        put_bytes(&mut header, codec.name().as_bytes());
        put_bytes(&mut header, b"avro.schema");
        put_bytes(&mut header, &self.json);
        put_long(&mut header, 0);
        header.extend_from_slice(&self.marker());
        header
    }

    /// Any bytes unlikely to be in the data will do; these make equal batches give equal containers.
    fn marker(&self) -> [u8; 16] {
        let low = crc64_avro(&self.json);
        let high = crc64_avro(&low.to_le_bytes());
        (u128::from(high) << 64 | u128::from(low)).to_le_bytes()
    }

    fn put_block(&self, out: &mut Vec<u8>, n_alerts: usize, alerts: &[u8], codec: Codec) -> Result<(), Error> {
        put_long(out, n_alerts as i64);
        match codec {
            Codec::Null => put_bytes(out, alerts),
            Codec::Deflate => {
                let mut packer = DeflateEncoder::new(Vec::new(), Compression::default());
                packer.write_all(alerts).map_err(|error| Error::Pack(error.to_string()))?;
                put_bytes(out, &packer.finish().map_err(|error| Error::Pack(error.to_string()))?);
            }
            Codec::Snappy => {
                let packed = snap::raw::Encoder::new().compress_vec(alerts);
                let mut packed = packed.map_err(|error| Error::Pack(error.to_string()))?;
                packed.extend_from_slice(&checksum(alerts).to_be_bytes());
                put_bytes(out, &packed);
            }
        }
        out.extend_from_slice(&self.marker());
        Ok(())
    }
}

impl Codec {
    fn name(self) -> &'static str {
        match self {
            Codec::Null => "null",
            Codec::Deflate => "deflate",
            Codec::Snappy => "snappy",
        }
    }
}

fn arrow_field_matches(a: &arrow::datatypes::Field, b: &arrow::datatypes::Field) -> bool {
    a.name() == b.name() && a.data_type().equals_datatype(b.data_type())
}
