//! Records to a batch of alerts.
//!
//! For each writer schema seen, the decoder keeps a program that reads its bytes into the reader's columns. Bytes that
//! nobody asked for are passed over; binary values stay references into the records. A record decodes wholly or not at
//! all: when its last alert is bad, the rows of the first ones are taken back. Fields of a writer that the reader's
//! table does not have at all are told with the batch, so that the table can grow.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Fields, Schema as ArrowSchema, SchemaRef};
use arrow::error::ArrowError;
use bytes::Bytes;
use redpoll_core::protocol::Growth;
use redpoll_core::runtime::{Decoded, Failed};
use redpoll_core::source::Record;

use super::column::Column;
use super::container::{self, Blocks};
use super::cursor::{Cursor, allowed_values};
use super::framing::{self, CONFLUENT_HEADER, Format, NOT_CONFLUENT, fingerprint_of_id, fingerprint_of_text};
use super::program::{self, Record as Program, Required};
use super::read::read_record;
use super::reader::{self, ReaderSchema};
use super::registry;
use super::schema::Schema;
use super::skip::Skips;

/// Writer schemas kept at a time. A night has a handful; past this they are parsed anew.
const MAX_WRITERS: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Reader(#[from] reader::Error),
    #[error("the reader schema has a type that alerts are not decoded to: {0}")]
    Column(#[from] ArrowError),
}

#[derive(Debug)]
pub struct Decoder {
    format: Format,
    /// All columns of the table.
    table: ReaderSchema,
    required: Required,
    /// Those that are decoded.
    fields: Fields,
    schema: SchemaRef,
    columns: Vec<Column>,
    width: usize,
    rows: usize,
    /// The one used last is first.
    writers: Vec<Arc<Writer>>,
}

/// A writer schema and how to read it.
#[derive(Debug)]
struct Writer {
    text: Bytes,
    fingerprint: String,
    program: Result<(Skips, Program), String>,
    /// Its fields that the table does not have.
    beyond: Option<String>,
}

impl Decoder {
    /// A decoder to the reader's columns, or only those at the dotted paths of `projection` (see
    /// [`ReaderSchema::project`]; no paths at all still count rows).
    pub fn new(format: Format, reader: &ReaderSchema, projection: Option<&[String]>) -> Result<Decoder, Error> {
        let projected = projection.map(|paths| reader.project(paths)).transpose()?;
        let fields = projected.as_ref().unwrap_or(reader).fields().clone();
        let columns: Vec<_> = fields.iter().map(|field| Column::new(field.data_type())).collect::<Result<_, _>>()?;
        Ok(Decoder {
            format,
            table: reader.clone(),
            required: Required::new(reader.required()),
            schema: Arc::new(ArrowSchema::new(fields.clone())),
            fields,
            width: columns.iter().map(|column| column.width).sum(),
            columns,
            rows: 0,
            writers: Vec::new(),
        })
    }

    /// The schema of the batches.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// Loads the writer schemas of these records from the registry, if the format has one. To be called before
    /// [`decode`](Self::decode); an error means that the registry did not answer, not that a record is bad.
    pub async fn prepare(&self, records: &[Record]) -> Result<(), registry::Error> {
        self.format.prepare(records).await
    }

    /// Decodes some records to one batch. Binary columns refer to the records' bytes, and keep them in memory.
    pub fn decode(&mut self, records: &[Record]) -> Decoded {
        let (mut record_of_row, mut failed) = (Vec::with_capacity(records.len()), Vec::new());
        let mut growth = BTreeMap::new();
        for (index, record) in records.iter().enumerate() {
            let before = self.rows;
            match self.decode_record(record) {
                Ok(writer) => {
                    record_of_row.resize(self.rows, index as u32);
                    if let Some(fields) = &writer.beyond {
                        growth.entry(self.fingerprint(record, &writer)).or_insert_with(|| fields.clone());
                    }
                }
                Err(failure) => {
                    self.columns.iter_mut().for_each(|column| column.truncate(before));
                    self.rows = before;
                    failed.push(failure.of_record(index));
                }
            }
        }
        let growth = growth.into_iter().map(|(fingerprint, fields)| Growth { fingerprint, fields }).collect();
        match self.finish() {
            Ok(batch) => Decoded { batch, record_of_row, failed, growth },
            Err(error) => self.all_failed(records.len(), &error),
        }
    }

    fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        let options = RecordBatchOptions::new().with_row_count(Some(std::mem::take(&mut self.rows)));
        let arrays = self.columns.iter_mut().map(Column::finish).collect::<Result<Vec<ArrayRef>, _>>()?;
        RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)
    }

    /// Columns that do not fit together are a mistake of this module. It costs this batch, not the job.
    fn all_failed(&mut self, n_records: usize, error: &ArrowError) -> Decoded {
        self.columns.iter_mut().for_each(|column| column.truncate(0));
        self.rows = 0;
        let error = format!("the batch could not be put together: {error}");
        let failed = (0..n_records).map(|record| Failed { record, fingerprint: None, error: error.clone() });
        let batch = RecordBatch::new_empty(self.schema.clone());
        Decoded { batch, record_of_row: Vec::new(), failed: failed.collect(), growth: Vec::new() }
    }

    fn fingerprint(&self, record: &Record, writer: &Writer) -> String {
        let id = match self.format {
            Format::Confluent(_) => framing::confluent_id(&record.value),
            _ => None,
        };
        id.map_or_else(|| writer.fingerprint.clone(), fingerprint_of_id)
    }

    fn decode_record(&mut self, record: &Record) -> Result<Arc<Writer>, Failure> {
        let value = &record.value;
        if value.is_empty() {
            return Err(Failure::before_schema("it is empty"));
        }
        match self.format.clone() {
            Format::Container => self.decode_container(value),
            Format::Confluent(registry) => {
                let id = framing::confluent_id(value).ok_or_else(|| Failure::before_schema(NOT_CONFLUENT))?;
                let fingerprint = || Some(fingerprint_of_id(id));
                let unknown = || Failure {
                    fingerprint: fingerprint(),
                    ..Failure::before_schema(framing::unknown_id(&registry, id))
                };
                let text = registry.get(id).ok_or_else(unknown)?;
                let writer = self.writer(text.as_bytes());
                self.decode_single(value, CONFLUENT_HEADER, writer)
                    .map_err(|failure| Failure { fingerprint: fingerprint(), ..failure })
            }
            Format::Schemaless(text) => {
                let writer = self.writer(text.as_bytes());
                self.decode_single(value, 0, writer)
            }
            Format::Fink => {
                let no_key = || Failure::before_schema("it has no key, which should hold its schema as JSON text");
                let key = record.key.as_ref().filter(|key| !key.is_empty()).ok_or_else(no_key)?;
                let writer = self.writer(key);
                self.decode_single(value, 0, writer)
            }
        }
    }

    fn decode_container(&mut self, value: &Bytes) -> Result<Arc<Writer>, Failure> {
        let header = container::header(value).map_err(|error| Failure::before_schema(error.to_string()))?;
        let writer = self.writer(header.schema);
        let mut blocks = Blocks::new(value, &header);
        let mut values = allowed_values(0);
        while let Some(block) = blocks.next().map_err(|error| writer.failure(error))? {
            values += allowed_values(block.range.len()) - allowed_values(0);
            values = self.decode_alerts(&block.source, block.range, block.n_alerts, &writer, values)?;
        }
        Ok(writer)
    }

    fn decode_single(&mut self, value: &Bytes, start: usize, writer: Arc<Writer>) -> Result<Arc<Writer>, Failure> {
        let range = start..value.len();
        self.decode_alerts(value, range, 1, &writer, allowed_values(value.len()))?;
        Ok(writer)
    }

    /// Decodes so many alerts, which must fill the range of `source`. Gives the values still allowed.
    fn decode_alerts(
        &mut self,
        source: &Bytes,
        range: Range<usize>,
        n_alerts: usize,
        writer: &Writer,
        values: usize,
    ) -> Result<usize, Failure> {
        let (skips, program) = writer.program.as_ref().map_err(|reason| writer.unreadable(reason))?;
        let mut cursor = Cursor::new(source, range, values);
        for _ in 0..n_alerts {
            let read =
                cursor.spend(1, self.width).and_then(|()| read_record(program, skips, &mut self.columns, &mut cursor));
            read.map_err(|fault| writer.failure(fault))?;
            self.rows += 1;
        }
        match cursor.left() {
            0 => Ok(cursor.values),
            left => Err(writer.failure(format!("{left} bytes are left after the last field of the alert"))),
        }
    }

    fn writer(&mut self, text: &[u8]) -> Arc<Writer> {
        // Records of one schema come in runs, so nearly always the first one is it, told by comparing its text.
        match self.writers.iter().position(|writer| writer.text == text) {
            Some(0) => {}
            Some(position) => self.writers.swap(0, position),
            None => {
                self.writers.truncate(MAX_WRITERS - 1);
                let writer = Writer::new(text, &self.fields, &self.required, &self.table);
                self.writers.insert(0, Arc::new(writer));
            }
        }
        self.writers[0].clone()
    }
}

impl Writer {
    fn new(text: &[u8], fields: &Fields, required: &Required, table: &ReaderSchema) -> Writer {
        let schema = match std::str::from_utf8(text) {
            Err(_) => Err("its schema is not UTF-8".to_owned()),
            Ok(text) => Schema::parse(text).map_err(|error| error.to_string()),
        };
        let mut beyond = None;
        let program = schema.and_then(|schema| {
            let program = program::compile(&schema, fields, required)?;
            let written = ReaderSchema::of(&schema).ok();
            beyond = written.and_then(|written| table.beyond(&written)).and_then(|fields| fields.to_avsc().ok());
            Ok((Skips::new(&schema), program))
        });
        let fingerprint = fingerprint_of_text(text);
        Writer { text: Bytes::copy_from_slice(text), fingerprint, program, beyond }
    }

    /// The schema itself is the reason: it fails every record.
    fn unreadable(&self, reason: &str) -> Failure {
        Failure { of_schema: true, ..self.failure(reason) }
    }

    fn failure(&self, error: impl ToString) -> Failure {
        Failure { fingerprint: Some(self.fingerprint.clone()), error: error.to_string(), of_schema: false }
    }
}

struct Failure {
    fingerprint: Option<String>,
    error: String,
    /// It is no matter of this record's bytes.
    of_schema: bool,
}

impl Failure {
    fn before_schema(error: impl Into<String>) -> Failure {
        Failure { fingerprint: None, error: error.into(), of_schema: false }
    }

    fn of_record(self, record: usize) -> Failed {
        let error = match (&self.fingerprint, self.of_schema) {
            (Some(fingerprint), true) => format!("{} (schema {fingerprint})", self.error),
            _ => self.error,
        };
        Failed { record, fingerprint: self.fingerprint, error }
    }
}

/// The Rabin fingerprint of the Avro specification ("Schema Fingerprints"), of the text as it came.
pub(super) fn crc64_avro(text: &[u8]) -> u64 {
    const EMPTY: u64 = 0xc15d_213a_a4d7_a795;
    text.iter().fold(EMPTY, |fingerprint, byte| {
        let mut entry = (fingerprint ^ u64::from(*byte)) & 0xff;
        for _ in 0..8 {
            entry = (entry >> 1) ^ (EMPTY & (entry & 1).wrapping_neg());
        }
        (fingerprint >> 8) ^ entry
    })
}
