//! Avro object containers: a header with the writer schema, then blocks of records.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::schema::{self, Record};
use super::walk::find;
use super::wire::{Reader, put_bytes, put_long};
use super::{Error, Result};

const MAGIC: &[u8] = b"Obj\x01";
const SYNC_BYTES: usize = 16;

/// What all alerts written under one schema share.
#[derive(Debug, Clone)]
pub struct Writer {
    pub schema: Arc<Record>,
    /// The schema's JSON text, as the file has it.
    pub json: Bytes,
    /// Magic, metadata and sync marker.
    pub header: Vec<u8>,
}

impl Writer {
    /// A writer of our own, with the null codec. The marker is fixed, so that equal alerts are equal bytes.
    pub fn new(json: &str) -> Result<Self> {
        let mut header = MAGIC.to_vec();
        put_long(2, &mut header);
        for (key, value) in [("avro.schema", json), ("avro.codec", "null")] {
            put_bytes(key.as_bytes(), &mut header);
            put_bytes(value.as_bytes(), &mut header);
        }
        put_long(0, &mut header);
        header.extend_from_slice(b"redpoll-simulate");
        Ok(Self { schema: schema::parse(json)?, json: Bytes::copy_from_slice(json.as_bytes()), header })
    }

    /// A container that holds one datum.
    pub fn contain(&self, datum: &[u8]) -> Vec<u8> {
        let sync = &self.header[self.header.len() - SYNC_BYTES..];
        let mut out = Vec::with_capacity(self.header.len() + datum.len() + SYNC_BYTES + 12);
        out.extend_from_slice(&self.header);
        put_long(1, &mut out);
        put_bytes(datum, &mut out);
        out.extend_from_slice(sync);
        out
    }
}

/// Reads containers, parsing each distinct schema once.
#[derive(Default)]
pub struct Containers {
    schemas: HashMap<String, (Bytes, Arc<Record>)>,
}

impl Containers {
    /// The writer and the datums of a container.
    pub fn read(&mut self, bytes: &[u8]) -> Result<(Writer, Vec<Vec<u8>>)> {
        let mut reader = Reader::new(bytes);
        let writer = self.header(&mut reader, bytes)?;
        let mut datums = Vec::new();
        while !reader.is_at_end() {
            let n_records = reader.length()?;
            let mut block = reader.bytes()?;
            reader.take(SYNC_BYTES)?;
            for _ in 0..n_records {
                let (_, n_bytes) = find(&writer.schema, block, &[])?;
                let (datum, rest) = block.split_at(n_bytes);
                datums.push(datum.to_vec());
                block = rest;
            }
        }
        Ok((writer, datums))
    }

    fn header(&mut self, reader: &mut Reader, bytes: &[u8]) -> Result<Writer> {
        if reader.take(MAGIC.len()).ok() != Some(MAGIC) {
            return Err(Error::NotAContainer);
        }
        let mut json = None;
        loop {
            let count = reader.long()?;
            if count == 0 {
                break;
            }
            if count < 0 {
                reader.long()?;
            }
            for _ in 0..count.unsigned_abs() {
                let (key, value) = (reader.bytes()?, String::from_utf8_lossy(reader.bytes()?));
                match key {
                    b"avro.schema" => json = Some(value),
                    b"avro.codec" if value != "null" => return Err(Error::Codec(value.into_owned())),
                    _ => {}
                }
            }
        }
        reader.take(SYNC_BYTES)?;
        let json = json.ok_or(Error::NotAContainer)?.into_owned();
        if !self.schemas.contains_key(&json) {
            let parsed = (Bytes::copy_from_slice(json.as_bytes()), schema::parse(&json)?);
            self.schemas.insert(json.clone(), parsed);
        }
        let (json, schema) = self.schemas[&json].clone();
        Ok(Writer { schema, json, header: bytes[..reader.at()].to_vec() })
    }
}
