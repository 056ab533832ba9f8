//! Rows into the data files of a Delta table, with the columns that say where each row came from.

use std::sync::Arc;

use arrow::array::{ArrayRef, MapBuilder, StringBuilder, UInt32Array};
use arrow::compute::{cast, take};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use redpoll_core::fault;
use redpoll_core::ids::{Epoch, SplitId};
use redpoll_core::protocol::SinkReceipt;
use redpoll_core::sink::{Attempt, Error, OpenSink, Refused, Rows};
use redpoll_core::steps::{meta_fields, versions_field};

use super::Taken;
use super::sift::{OfValue, Sifted, sift};
use crate::delta::{self, Writer, WriterOptions};

impl OfValue for delta::Error {
    fn is_of_value(&self) -> bool {
        matches!(self, delta::Error::Cast { .. } | delta::Error::Partition { .. })
    }
}

/// Columns of [`meta_fields`] that the archive keeps: a row's number within its record is only for digests.
fn kept() -> impl Iterator<Item = (usize, Field)> {
    meta_fields().into_iter().enumerate().filter(|(_, field)| field.name() != "_row")
}

/// The columns of an archive table: those of its `INSERT`, then where each row came from and what computed it.
pub fn archive_schema(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| field.as_ref().clone());
    let fields = fields.chain(kept().map(|(_, field)| field)).chain([versions_field()]);
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The versions that compute the rows of an attempt, as one value of their column.
fn versions(attempt: &Attempt) -> Result<ArrayRef, ArrowError> {
    let mut builder = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    let own = [("redpoll", env!("CARGO_PKG_VERSION"))];
    let modules = attempt.modules.iter().map(|(name, lock)| (name.as_str(), lock.as_str()));
    for (name, version) in own.into_iter().chain(modules) {
        builder.keys().append_value(name);
        builder.values().append_value(version);
    }
    builder.append(true)?;
    cast(&builder.finish(), versions_field().data_type())
}

/// Whose data file it is, as its name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    pub job: String,
    pub job_uid: String,
    pub epoch: Epoch,
    pub split: SplitId,
    pub attempt: String,
}

impl Author {
    fn of(attempt: &Attempt) -> Self {
        let Attempt { job, job_uid, epoch, split, attempt, .. } = attempt.clone();
        Self { job, job_uid, epoch, split, attempt }
    }

    /// What the names of the files begin with; the writer adds their number.
    fn prefix(&self, place: usize) -> String {
        let Self { job, job_uid, epoch, split, attempt } = self;
        format!("{job}-{job_uid}-{epoch}-{split}-{attempt}-{place}")
    }

    /// The author of a data file by its name without folders; none of a file that no attempt of ours wrote.
    pub fn by_name(name: &str) -> Option<Self> {
        let name = name.strip_prefix("part-")?.strip_suffix(".parquet")?;
        // From the end, as a job's name may have dashes and digits of its own; attempts have one dash.
        let mut parts = name.rsplitn(8, '-');
        let (number, place) = (parts.next()?, parts.next()?);
        let (unique, task) = (parts.next()?, parts.next()?);
        let (split, epoch) = (parts.next()?, parts.next()?);
        let (uid, job) = (parts.next()?, parts.next()?);
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let id = |text: &str| text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let ours = [number, place, split, epoch].into_iter().all(digits) && id(unique) && id(uid);
        (ours && !task.is_empty() && !job.is_empty()).then_some(())?;
        Some(Self {
            job: job.to_owned(),
            job_uid: uid.to_owned(),
            epoch: Epoch(epoch.parse().ok()?),
            split: SplitId(split.parse().ok()?),
            attempt: format!("{task}-{unique}"),
        })
    }
}

pub(super) struct ArchiveSink {
    name: String,
    writer: Writer,
    schema: SchemaRef,
    /// Of one row: all are computed by the same.
    versions: ArrayRef,
    taken: Taken,
}

impl ArchiveSink {
    pub fn open(attempt: &Attempt, place: usize, sink: &OpenSink) -> Result<Self, Error> {
        let name = &sink.spec.name;
        let failed = |error: delta::Error| Error::new(name, error);
        let url = delta::location(&sink.spec.url).map_err(failed)?;
        let schema = archive_schema(&sink.schema);
        let prefix = Author::of(attempt).prefix(place);
        // Every task holds this for every archive table, beside its batches.
        let options =
            WriterOptions { row_group_bytes: 8 << 20, max_memory_bytes: 16 << 20, ..WriterOptions::default() };
        let writer = Writer::new(&url, &schema, &sink.spec.partition_by, &prefix, options).map_err(failed)?;
        let versions = versions(attempt).map_err(|error| Error::new(name, error))?;
        Ok(Self { name: name.clone(), writer, schema, versions, taken: Taken::default() })
    }

    pub async fn write(&mut self, rows: &Rows) -> Result<Vec<Refused>, Error> {
        let meta = kept().map(|(i, _)| rows.meta.column(i).clone());
        let first = UInt32Array::from(vec![0; rows.batch.num_rows()]);
        let versions = take(&self.versions, &first, None).map_err(|error| Error::new(&self.name, error))?;
        let columns = rows.batch.columns().iter().cloned().chain(meta).chain([versions]).collect();
        let batch =
            RecordBatch::try_new(self.schema.clone(), columns).map_err(|error| Error::new(&self.name, error))?;
        let failed = |error: delta::Error| Error::new(&self.name, error.reason());
        let Sifted { converted, refused } = sift(&batch, |batch| self.writer.convert(batch)).map_err(failed)?;
        self.writer.write(&converted).await.map_err(failed)?;
        self.taken.add(rows, &refused);
        Ok(refused)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_file_names_its_author_whatever_the_job_is_called() {
        for job in ["ztf", "ztf-1", "ztf-1-2", "a-0123456789ab-3"] {
            let author = Author {
                job: job.to_owned(),
                job_uid: "0123456789ab".to_owned(),
                epoch: Epoch(1),
                split: SplitId(2),
                attempt: "wBq_0_17-fedcba987654".to_owned(),
            };
            let name = format!("part-{}-00003.parquet", author.prefix(0));
            assert_eq!(Author::by_name(&name), Some(author), "{name}");
        }
    }

    #[test]
    fn files_of_others_have_no_author() {
        for name in [
            "part-00000-5c1f1c2e-7a0b-4f9d-a1c3-0f6c9d0b7a11-c000.snappy.parquet",
            "part-ztf-1-2-wBq_0_17-fedcba987654-0-00000.parquet",
            "part-ztf-0123456789ab-1-2-wBq_0_17-fedcba987654-0-00000.parquet.crc",
            "part-ztf-0123456789ab-x-2-wBq_0_17-fedcba987654-0-00000.parquet",
            "00000000000000000001.json",
        ] {
            assert_eq!(Author::by_name(name), None, "{name}");
        }
    }
}
