//! Records set aside, as Parquet beside the receipts: raw bytes, position, schema fingerprint, error.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use bytes::Bytes;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use datafusion::parquet::errors::ParquetError;

use crate::sink::Attempt;
use crate::steps::Quarantined;

pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("job", DataType::Utf8, false),
        Field::new("epoch", DataType::Int64, false),
        Field::new("topic", DataType::Utf8, false),
        Field::new("partition", DataType::Int32, false),
        Field::new("offset", DataType::Int64, false),
        Field::new("fingerprint", DataType::Utf8, true),
        Field::new("error", DataType::Utf8, false),
        Field::new("key", DataType::Binary, true),
        Field::new("value", DataType::Binary, false),
    ]))
}

/// One Parquet file.
pub(crate) fn encode(attempt: &Attempt, records: &[Quarantined]) -> Result<Bytes, ParquetError> {
    let all = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text; records.len()])) };
    let columns: Vec<ArrayRef> = vec![
        all(&attempt.job),
        Arc::new(Int64Array::from(vec![attempt.epoch.0 as i64; records.len()])),
        Arc::new(StringArray::from_iter_values(records.iter().map(|q| q.record.topic.as_ref()))),
        Arc::new(Int32Array::from_iter_values(records.iter().map(|q| q.record.partition))),
        Arc::new(Int64Array::from_iter_values(records.iter().map(|q| q.record.offset))),
        Arc::new(StringArray::from_iter(records.iter().map(|q| q.fingerprint.as_deref()))),
        Arc::new(StringArray::from_iter_values(records.iter().map(|q| q.error.as_str()))),
        Arc::new(BinaryArray::from_iter(records.iter().map(|q| q.record.key.as_deref()))),
        Arc::new(BinaryArray::from_iter_values(records.iter().map(|q| q.record.value.as_ref()))),
    ];
    let batch = RecordBatch::try_new(schema(), columns)?;
    let mut writer = ArrowWriter::try_new(Vec::new(), schema(), None)?;
    writer.write(&batch)?;
    Ok(writer.into_inner()?.into())
}

/// The records of one file.
pub fn decode(file: Bytes) -> Result<Vec<RecordBatch>, ParquetError> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)?.build()?;
    Ok(reader.collect::<Result<Vec<_>, ArrowError>>()?)
}
