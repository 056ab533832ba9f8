//! Rows into the data files of a Delta table, with the columns that say where each row came from.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use redpoll_core::fault;
use redpoll_core::protocol::SinkReceipt;
use redpoll_core::sink::{Attempt, Error, OpenSink, Rows};
use redpoll_core::steps::meta_fields;

use super::Taken;
use crate::delta::{self, Writer, WriterOptions};

/// Columns of [`meta_fields`] that the archive keeps: a row's number within its record is only for digests.
fn kept() -> impl Iterator<Item = (usize, Field)> {
    meta_fields().into_iter().enumerate().filter(|(_, field)| field.name() != "_row")
}

/// The columns of an archive table: those of its `INSERT`, then where each row came from.
pub fn archive_schema(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| field.as_ref().clone());
    Arc::new(Schema::new(fields.chain(kept().map(|(_, field)| field)).collect::<Vec<_>>()))
}

pub(super) struct ArchiveSink {
    name: String,
    writer: Writer,
    schema: SchemaRef,
    taken: Taken,
}

impl ArchiveSink {
    pub fn open(attempt: &Attempt, place: usize, sink: &OpenSink) -> Result<Self, Error> {
        let name = &sink.spec.name;
        let failed = |error: delta::Error| Error::new(name, error);
        let url = delta::location(&sink.spec.url).map_err(failed)?;
        let schema = archive_schema(&sink.schema);
        let Attempt { job, epoch, split, attempt, .. } = attempt;
        let prefix = format!("{job}-{epoch}-{split}-{attempt}-{place}");
        // Every task holds this for every archive table, beside its batches.
        let options =
            WriterOptions { row_group_bytes: 8 << 20, max_memory_bytes: 16 << 20, ..WriterOptions::default() };
        let writer = Writer::new(&url, &schema, &sink.spec.partition_by, &prefix, options).map_err(failed)?;
        Ok(Self { name: name.clone(), writer, schema, taken: Taken::default() })
    }

    pub async fn write(&mut self, rows: &Rows) -> Result<(), Error> {
        let meta = kept().map(|(i, _)| rows.meta.column(i).clone());
        let columns = rows.batch.columns().iter().cloned().chain(meta).collect();
        let batch =
            RecordBatch::try_new(self.schema.clone(), columns).map_err(|error| Error::new(&self.name, error))?;
        self.writer.write(&batch).await.map_err(|error| Error::new(&self.name, error))?;
        self.taken.add(rows);
        Ok(())
    }

    pub async fn finish(self) -> Result<SinkReceipt, Error> {
        let failed = |error: &dyn std::fmt::Display| Error::new(&self.name, error.to_string());
        fault::at("before-delta-file");
        let adds = self.writer.close().await.map_err(|error| failed(&error))?;
        fault::at("after-delta-file");
        let written: i64 = adds.iter().filter_map(|add| n_records(add.stats.as_deref()?)).sum();
        if written != self.taken.rows as i64 {
            return Err(failed(&format!("{written} rows are in its files, {} were written", self.taken.rows)));
        }
        let files = adds.iter().map(serde_json::to_value).collect::<Result<_, _>>().map_err(|error| failed(&error))?;
        Ok(SinkReceipt { files, ..self.taken.receipt() })
    }
}

fn n_records(stats: &str) -> Option<i64> {
    serde_json::from_str::<serde_json::Value>(stats).ok()?.get("numRecords")?.as_i64()
}
