//! The file of an attempt: one row for each item.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, Int32Array, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder,
};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use bytes::Bytes;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use datafusion::parquet::errors::ParquetError;

use super::{SetAside, Stage, Why};
use crate::sink::Attempt;
use crate::source::Record;

pub fn schema() -> SchemaRef {
    let sink = Field::new_list_field(DataType::Utf8, true);
    Arc::new(Schema::new(vec![
        Field::new("job", DataType::Utf8, false),
        Field::new("epoch", DataType::Int64, false),
        Field::new("stage", DataType::Utf8, false),
        // Module or sink.
        Field::new("by", DataType::Utf8, true),
        Field::new("topic", DataType::Utf8, false),
        Field::new("partition", DataType::Int32, false),
        Field::new("offset", DataType::Int64, false),
        // Null: every alert of the record.
        Field::new("alert", DataType::Int32, true),
        // Null: every sink. The second INSERT into a table is `table#2`.
        Field::new("lacking", DataType::List(Arc::new(sink)), true),
        Field::new("hash", DataType::Utf8, true),
        Field::new("timestamp", DataType::Int64, true),
        Field::new("fingerprint", DataType::Utf8, true),
        Field::new("error", DataType::Utf8, false),
        Field::new("key", DataType::Binary, true),
        Field::new("value", DataType::Binary, false),
    ]))
}

/// One Parquet file.
pub fn encode(attempt: &Attempt, items: &[SetAside]) -> Result<Bytes, ParquetError> {
    let texts = |of: &dyn Fn(&SetAside) -> Option<String>| -> ArrayRef {
        Arc::new(items.iter().map(of).collect::<StringArray>())
    };
    let mut lacking = ListBuilder::new(StringBuilder::new());
    for item in items {
        let names = item.why.lacking.as_ref().map(|names| names.iter().map(Some).collect::<Vec<_>>());
        lacking.append_option(names);
    }
    let columns: Vec<ArrayRef> = vec![
        texts(&|_| Some(attempt.job.clone())),
        Arc::new(Int64Array::from(vec![attempt.epoch.0 as i64; items.len()])),
        texts(&|item| Some(item.why.stage.to_string())),
        texts(&|item| item.why.by.clone()),
        texts(&|item| Some(item.record.topic.to_string())),
        Arc::new(Int32Array::from_iter_values(items.iter().map(|item| item.record.partition))),
        Arc::new(Int64Array::from_iter_values(items.iter().map(|item| item.record.offset))),
        Arc::new(Int32Array::from_iter(items.iter().map(|item| item.why.alert))),
        Arc::new(lacking.finish()),
        texts(&|item| item.why.hash.map(|hash| format!("{hash:032x}"))),
        Arc::new(Int64Array::from_iter(items.iter().map(|item| item.record.timestamp))),
        texts(&|item| item.fingerprint.clone()),
        texts(&|item| Some(item.why.error.clone())),
        Arc::new(BinaryArray::from_iter(items.iter().map(|item| item.record.key.as_deref()))),
        Arc::new(BinaryArray::from_iter_values(items.iter().map(|item| item.record.value.as_ref()))),
    ];
    let batch = RecordBatch::try_new(schema(), columns)?;
    let mut writer = ArrowWriter::try_new(Vec::new(), schema(), None)?;
    writer.write(&batch)?;
    Ok(writer.into_inner()?.into())
}

/// The rows of one file, in order.
pub fn decode(file: Bytes) -> Result<Vec<RecordBatch>, ParquetError> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)?.build()?;
    Ok(reader.collect::<Result<Vec<_>, ArrowError>>()?)
}

/// The rows of a batch. Fails on files of another version.
pub(super) fn entries(batch: &RecordBatch) -> Result<Vec<SetAside>, ParquetError> {
    let (found, known) = (batch.schema(), schema());
    if !found.fields().iter().map(|field| field.name()).eq(known.fields().iter().map(|field| field.name())) {
        return Err(ParquetError::General("it is a quarantine file of another version".to_owned()));
    }
    let text = |i: usize| batch.column(i).as_string::<i32>();
    let (partitions, alerts) =
        (batch.column(5).as_primitive::<Int32Type>(), batch.column(7).as_primitive::<Int32Type>());
    let (offsets, times) = (batch.column(6).as_primitive::<Int64Type>(), batch.column(10).as_primitive::<Int64Type>());
    let lacking = batch.column(8).as_list::<i32>();
    let (keys, values) = (batch.column(13).as_binary::<i32>(), batch.column(14).as_binary::<i32>());
    let some = |column: &StringArray, row: usize| column.is_valid(row).then(|| column.value(row).to_owned());
    let entry = |row: usize| {
        let names = lacking.is_valid(row).then(|| {
            let names = lacking.value(row);
            names.as_string::<i32>().iter().flatten().map(str::to_owned).collect()
        });
        let why = Why {
            stage: stage(text(2).value(row))?,
            by: some(text(3), row),
            error: text(12).value(row).to_owned(),
            alert: alerts.is_valid(row).then(|| alerts.value(row)),
            lacking: names,
            hash: some(text(9), row).and_then(|hash| u128::from_str_radix(&hash, 16).ok()),
        };
        let record = Record {
            topic: text(4).value(row).into(),
            partition: partitions.value(row),
            offset: offsets.value(row),
            timestamp: times.is_valid(row).then(|| times.value(row)),
            key: keys.is_valid(row).then(|| Bytes::copy_from_slice(keys.value(row))),
            value: Bytes::copy_from_slice(values.value(row)),
        };
        Ok(SetAside { record, fingerprint: some(text(11), row), why })
    };
    (0..batch.num_rows()).map(entry).collect()
}

/// Rows that sinks refused: the `INSERT` that lacks each, and its hash.
pub fn refused(batches: &[RecordBatch]) -> Result<Vec<(String, u128)>, ParquetError> {
    let mut rows = Vec::new();
    for batch in batches {
        for SetAside { why, .. } in entries(batch)?.into_iter().filter(|entry| entry.why.stage == Stage::Sink) {
            let inserts = why.lacking.unwrap_or_default();
            rows.extend(inserts.into_iter().zip(why.hash));
        }
    }
    Ok(rows)
}

fn stage(text: &str) -> Result<Stage, ParquetError> {
    let known = [Stage::Decode, Stage::Module, Stage::Sink];
    let found = known.into_iter().find(|stage| stage.as_str() == text);
    found.ok_or_else(|| ParquetError::General(format!("stage '{text}' is not known")))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::ids::{Epoch, SplitId};

    pub fn attempt(epoch: u64, split: u32) -> Attempt {
        let (job, job_uid, attempt) = ("ztf".to_owned(), "5a1b".to_owned(), "t-a".to_owned());
        Attempt { job, job_uid, epoch: Epoch(epoch), split: SplitId(split), attempt, clock: 0, ranges: 0, modules: Default::default() }
    }

    pub fn item(offset: i64, why: Why) -> SetAside {
        let value = Bytes::from(format!("record {offset}"));
        let record = Record { topic: "ztf".into(), partition: 3, offset, timestamp: Some(7), key: None, value };
        SetAside { record, fingerprint: Some("id:1100".into()), why }
    }

    pub fn refused(sink: &str, alert: i32) -> Why {
        let (by, lacking) = (Some(sink.to_owned()), Some(vec![sink.to_owned()]));
        Why { stage: Stage::Sink, by, error: "no key".into(), alert: Some(alert), lacking, hash: Some(u128::MAX - 1) }
    }

    #[test]
    fn what_was_set_aside_comes_back_as_it_was() {
        let items = [item(4, Why::decode("it ends early")), item(9, refused("ztf.objects", 2))];
        let batches = decode(encode(&attempt(3, 1), &items).unwrap()).unwrap();
        let back: Vec<_> = batches.iter().flat_map(|batch| entries(batch).unwrap()).collect();
        assert_eq!(back.len(), 2);
        for (item, back) in items.iter().zip(&back) {
            assert_eq!((&item.why, &item.fingerprint), (&back.why, &back.fingerprint));
            assert_eq!((item.record.offset, &item.record.value), (back.record.offset, &back.record.value));
            assert_eq!((item.record.timestamp, &item.record.key), (back.record.timestamp, &back.record.key));
        }
    }
}
