//! `Decode`: records become alerts, one row each, followed by the columns that say where each came from.
//!
//! A record that does not decode is reported to the run for the quarantine; the others go on. Of a record that comes from
//! the quarantine only those alerts go on that a sink lacks. Alerts that have fields which the plan does not know end the
//! rows: nothing more is passed on, the rest of the split is only looked through for further such fields, and the split
//! runs again once the plan has them.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int32Array, Int64Array, RecordBatch, StringArray, new_null_array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use super::fetch::records_of;
use super::split_run::SplitRun;
use super::{Parts, Step, StepContext, failed, internal, meta_fields};
use crate::ids::Epoch;
use crate::quarantine::{SetAside, Why};
use crate::runtime::{Decoded, SourceSpec};
use crate::source::Record;

/// Decodes records of the framing that the source's options name.
#[derive(Debug, Clone)]
pub struct Decode {
    source: SourceSpec,
    /// Every field that the table declares.
    reader: SchemaRef,
    /// Those that the plan uses; nested fields may be missing too.
    alerts: SchemaRef,
    epoch: Epoch,
    schema: SchemaRef,
}

#[derive(Serialize, Deserialize)]
struct Params {
    source: SourceSpec,
    epoch: Epoch,
}

impl Decode {
    pub fn new(source: SourceSpec, reader: SchemaRef, alerts: SchemaRef, epoch: Epoch) -> Self {
        let fields = alerts.fields().iter().map(|field| field.as_ref().clone()).chain(meta_fields());
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        Self { source, reader, alerts, epoch, schema }
    }

    pub(super) fn from_parts(parts: &Parts) -> Result<Self> {
        let params: Params = serde_json::from_str(&parts.params).map_err(|error| internal(error.to_string()))?;
        match &parts.schemas[..] {
            [reader, alerts] => Ok(Self::new(params.source, reader.clone(), alerts.clone(), params.epoch)),
            _ => Err(internal("Decode has two schemas")),
        }
    }
}

impl Step for Decode {
    fn name(&self) -> &'static str {
        "Decode"
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn describe(&self) -> String {
        let names: Vec<_> = self.alerts.fields().iter().map(|field| field.name().as_str()).collect();
        let format = self.source.options.get("format").map_or("ztf", String::as_str);
        format!("format={format} columns=[{}]", names.join(", "))
    }

    fn parts(&self) -> Result<Parts> {
        let params = Params { source: self.source.clone(), epoch: self.epoch };
        let params = serde_json::to_string(&params).map_err(|error| internal(error.to_string()))?;
        Ok(Parts { params, exprs: Vec::new(), schemas: vec![self.reader.clone(), self.alerts.clone()] })
    }

    fn run(&self, mut input: SendableRecordBatchStream, context: StepContext) -> Result<SendableRecordBatchStream> {
        let mut decoder = context.runtime.decoder(&self.source, &self.reader, &self.alerts).map_err(failed)?;
        let (schema, epoch) = (self.schema.clone(), self.epoch);
        let batches = async_stream::try_stream! {
            while let Some(batch) = input.try_next().await? {
                let (records, ranges) = records_of(&batch);
                drop(batch);
                let decoded = decoder.decode(&records).await.map_err(failed)?;
                let alerts = wanted(&context.run, &records, decoded)?;
                report(&context.run, &records, &ranges, &alerts.decoded);
                if !context.run.has_growth() && alerts.decoded.batch.num_rows() > 0 {
                    yield with_meta(&schema, &records, alerts, epoch)?;
                }
            }
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), batches.boxed())))
    }
}

/// Alerts, each with its number in its record.
struct Numbered {
    decoded: Decoded,
    rows: Vec<i32>,
}

fn report(run: &SplitRun, records: &[Record], ranges: &[usize], decoded: &Decoded) {
    let (mut counts, origin) = (run.counts(), run.origin());
    counts.growth.extend(decoded.growth.iter().map(|growth| (growth.fingerprint.clone(), growth.fields.clone())));
    for range in ranges {
        counts.sources[*range].records += 1;
    }
    for row in &decoded.record_of_row {
        counts.sources[ranges[*row as usize]].decoded += 1;
    }
    for failed in &decoded.failed {
        let source = &mut counts.sources[ranges[failed.record]];
        source.records -= 1;
        source.quarantined += 1;
        let (record, fingerprint) = (records[failed.record].clone(), failed.fingerprint.clone());
        let why = Why::decode(&failed.error);
        let target = origin.target(&record.topic, record.partition, record.offset);
        let whys = target.map_or_else(|| vec![why.clone()], |target| target.narrow(&why));
        let items =
            whys.into_iter().map(|why| SetAside { record: record.clone(), fingerprint: fingerprint.clone(), why });
        counts.set_aside.extend(items);
    }
}

/// Of records of the quarantine, the alerts that are wanted. Each keeps its number in its record.
fn wanted(run: &SplitRun, records: &[Record], decoded: Decoded) -> Result<Numbered> {
    let rows = rows_in_record(&decoded.record_of_row);
    let origin = run.origin();
    let wants = |(record, row): (&u32, &i32)| {
        let record = &records[*record as usize];
        let target = origin.target(&record.topic, record.partition, record.offset);
        target.is_none_or(|target| target.wants_alert(*row))
    };
    let keep: Vec<bool> = decoded.record_of_row.iter().zip(&rows).map(wants).collect();
    if keep.iter().all(|keep| *keep) {
        return Ok(Numbered { decoded, rows });
    }
    let batch = filter_record_batch(&decoded.batch, &BooleanArray::from(keep.clone()))?;
    let record_of_row = kept(decoded.record_of_row, &keep);
    let rows = kept(rows, &keep);
    Ok(Numbered { decoded: Decoded { batch, record_of_row, ..decoded }, rows })
}

fn kept<T>(values: Vec<T>, keep: &[bool]) -> Vec<T> {
    values.into_iter().zip(keep).filter(|(_, keep)| **keep).map(|(value, _)| value).collect()
}

fn with_meta(schema: &SchemaRef, records: &[Record], alerts: Numbered, epoch: Epoch) -> Result<RecordBatch> {
    let Numbered { decoded, rows } = alerts;
    let of_row = || decoded.record_of_row.iter().map(|record| &records[*record as usize]);
    let n = decoded.batch.num_rows();
    let epoch = i64::try_from(epoch.0).map_err(|_| internal("more epochs than an i64 counts"))?;
    let meta: [ArrayRef; 6] = [
        Arc::new(StringArray::from_iter_values(of_row().map(|record| record.topic.as_ref()))),
        Arc::new(Int32Array::from_iter_values(of_row().map(|record| record.partition))),
        Arc::new(Int64Array::from_iter_values(of_row().map(|record| record.offset))),
        Arc::new(Int32Array::from(rows)),
        Arc::new(Int64Array::from(vec![epoch; n])),
        new_null_array(super::notes_field().data_type(), n),
    ];
    let columns = decoded.batch.columns().iter().cloned().chain(meta).collect();
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}

/// Numbers the alerts of each record from 0.
fn rows_in_record(record_of_row: &[u32]) -> Vec<i32> {
    let mut rows: Vec<i32> = Vec::with_capacity(record_of_row.len());
    for (i, record) in record_of_row.iter().enumerate() {
        let next = match i.checked_sub(1) {
            Some(before) if record_of_row[before] == *record => rows[before] + 1,
            _ => 0,
        };
        rows.push(next);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_of_one_record_are_numbered_from_zero() {
        assert_eq!(rows_in_record(&[0, 0, 0, 2, 3, 3]), [0, 1, 2, 0, 0, 1]);
    }
}
