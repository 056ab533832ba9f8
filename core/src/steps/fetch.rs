//! `Fetch`: rows that describe splits become the records at those offsets, in batches of bounded bytes.

use std::sync::Arc;

use arrow::array::builder::BinaryViewBuilder;
use arrow::array::{
    Array, AsArray, BinaryViewArray, Int32Array, Int64Array, RecordBatch, StringArray, StringViewArray,
};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema, SchemaRef};
use bytes::Bytes;
use datafusion::catalog::memory::{DataSourceExec, MemorySourceConfig};
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use super::{EpochRun, Parts, Step, StepContext, failed, internal};
use crate::digest::ranges_hash;
use crate::ledger::SourceCounts;
use crate::protocol::{JobPaths, Split};
use crate::quarantine::{self, Reader};
use crate::runtime::SourceSpec;
use crate::source::{self, OffsetRange, Record};

type Records = BoxStream<'static, std::result::Result<Record, source::Error>>;

/// Reads the splits that its input describes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Fetch {
    pub source: SourceSpec,
    /// Bytes of payload in one batch, about: what is in flight is this times the steps.
    pub batch_bytes: usize,
    /// Whose quarantine it is that is read again.
    pub run: EpochRun,
}

impl Fetch {
    pub(super) fn from_parts(parts: &Parts) -> Result<Self> {
        serde_json::from_str(&parts.params).map_err(|error| internal(error.to_string()))
    }
}

impl Step for Fetch {
    fn name(&self) -> &'static str {
        "Fetch"
    }

    fn schema(&self) -> SchemaRef {
        record_schema()
    }

    fn describe(&self) -> String {
        format!("source={} url={}", self.source.name, self.source.url)
    }

    fn parts(&self) -> Result<Parts> {
        let params = serde_json::to_string(self).map_err(|error| internal(error.to_string()))?;
        Ok(Parts { params, ..Parts::default() })
    }

    fn run(&self, mut input: SendableRecordBatchStream, context: StepContext) -> Result<SendableRecordBatchStream> {
        let (fetch, batch_bytes) = (self.clone(), self.batch_bytes);
        let batches = async_stream::try_stream! {
            let run = context.run.clone();
            run.origin().spec = Some(fetch.source.clone());
            while let Some(rows) = input.try_next().await? {
                for split in splits_of(&rows)? {
                    run.take_place(context.runtime.as_ref(), split.ranges.iter().map(|range| range.bytes).sum()).await;
                    run.counts().begin_split(&split);
                    for range in split.ranges {
                        let index = run.counts().begin_range(&range);
                        if range.expired {
                            run.counts().end_range(index);
                            continue;
                        }
                        let mut pending = Pending::new(index);
                        let mut records = fetch.read(range, &context).await?;
                        while let Some(record) = records.try_next().await.map_err(failed)? {
                            run.counts().fetched(index, record.offset);
                            pending.push(record);
                            if pending.bytes >= batch_bytes {
                                yield pending.take()?;
                            }
                        }
                        run.counts().end_range(index);
                        if !pending.records.is_empty() {
                            yield pending.take()?;
                        }
                    }
                }
            }
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(record_schema(), batches.boxed())))
    }
}

impl Fetch {
    /// The records of a range, of the table of alerts or of the quarantine.
    async fn read(&self, range: OffsetRange, context: &StepContext) -> Result<Records> {
        if range.topic == quarantine::TOPIC {
            return self.read_quarantine(range, context);
        }
        let source = context.runtime.source(&self.source).await.map_err(failed)?;
        context.run.origin().read_from(&source, &range);
        Ok(source.read(range))
    }

    fn read_quarantine(&self, range: OffsetRange, context: &StepContext) -> Result<Records> {
        let (store, prefix) = context.runtime.objects(&self.run.warehouse).map_err(failed)?;
        let (paths, run) = (JobPaths::new(&prefix, &self.run.job), context.run.clone());
        run.origin().quarantine(&store, &paths);
        let records = async_stream::try_stream! {
            let mut reader = Reader::new(store, paths);
            for file in range.files {
                let (record, target) = reader.read(&file.name).await?;
                run.origin().replays(&record, &file.name, target);
                yield record;
            }
        };
        Ok(records.boxed())
    }
}

impl super::split_run::Counts {
    fn begin_split(&mut self, split: &Split) {
        self.split = Some(split.id);
        self.ranges = ranges_hash(&split.ranges);
    }

    fn begin_range(&mut self, range: &OffsetRange) -> usize {
        self.sources.push(SourceCounts {
            topic: range.topic.clone(),
            partition: range.partition,
            start: range.start,
            end: range.end,
            expired: if range.expired { vec![(range.start, range.end)] } else { Vec::new() },
            ..SourceCounts::default()
        });
        self.sources.len() - 1
    }

    fn end_range(&mut self, index: usize) {
        let counts = &mut self.sources[index];
        counts.absent = u64::try_from(counts.end - counts.start).unwrap_or(0).saturating_sub(counts.fetched);
    }
}

/// Records that wait to become a batch, all of one range.
struct Pending {
    range: usize,
    records: Vec<Record>,
    bytes: usize,
}

impl Pending {
    fn new(range: usize) -> Self {
        Self { range, records: Vec::new(), bytes: 0 }
    }

    fn push(&mut self, record: Record) {
        self.bytes += record.value.len() + record.key.as_ref().map_or(0, Bytes::len);
        self.records.push(record);
    }

    fn take(&mut self) -> Result<RecordBatch> {
        self.bytes = 0;
        let records = std::mem::take(&mut self.records);
        let mut keys = BinaryViewBuilder::new();
        let mut values = BinaryViewBuilder::new();
        for record in &records {
            match &record.key {
                Some(key) => append(&mut keys, key)?,
                None => keys.append_null(),
            }
            append(&mut values, &record.value)?;
        }
        let range = i32::try_from(self.range).map_err(|_| internal("more ranges than an i32 counts"))?;
        let batch = RecordBatch::try_new(
            record_schema(),
            vec![
                Arc::new(StringViewArray::from_iter_values(records.iter().map(|r| r.topic.as_ref()))),
                Arc::new(Int32Array::from_iter_values(records.iter().map(|r| r.partition))),
                Arc::new(Int64Array::from_iter_values(records.iter().map(|r| r.offset))),
                Arc::new(Int64Array::from_iter(records.iter().map(|r| r.timestamp))),
                Arc::new(Int32Array::from_iter_values(records.iter().map(|_| range))),
                Arc::new(keys.finish()),
                Arc::new(values.finish()),
            ],
        )?;
        Ok(batch)
    }
}

/// Takes the payload by reference: 100 kB of cutouts are not copied on their way to the decoder.
fn append(views: &mut BinaryViewBuilder, bytes: &Bytes) -> Result<()> {
    let length = u32::try_from(bytes.len()).map_err(|_| failed("a record of 4 GiB or more"))?;
    let block = views.append_block(Buffer::from(bytes.clone()));
    Ok(views.try_append_view(block, 0, length)?)
}

fn record_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("topic", DataType::Utf8View, false),
        Field::new("partition", DataType::Int32, false),
        Field::new("offset", DataType::Int64, false),
        Field::new("timestamp", DataType::Int64, true),
        Field::new("range", DataType::Int32, false),
        Field::new("key", DataType::BinaryView, true),
        Field::new("value", DataType::BinaryView, false),
    ]))
}

/// The records of a batch, and for each the index of its range in the counts of the run.
pub(super) fn records_of(batch: &RecordBatch) -> (Vec<Record>, Vec<usize>) {
    let topics = batch.column(0).as_string_view();
    let partitions = batch.column(1).as_primitive::<Int32Type>();
    let offsets = batch.column(2).as_primitive::<Int64Type>();
    let timestamps = batch.column(3).as_primitive::<Int64Type>();
    let ranges = batch.column(4).as_primitive::<Int32Type>();
    let (keys, values) = (batch.column(5).as_binary_view(), batch.column(6).as_binary_view());
    let mut topic: Arc<str> = Arc::from("");
    let mut records = Vec::with_capacity(batch.num_rows());
    for row in 0..batch.num_rows() {
        if topic.as_ref() != topics.value(row) {
            topic = Arc::from(topics.value(row));
        }
        records.push(Record {
            topic: topic.clone(),
            partition: partitions.value(row),
            offset: offsets.value(row),
            timestamp: timestamps.is_valid(row).then(|| timestamps.value(row)),
            key: keys.is_valid(row).then(|| shared(keys, row)),
            value: shared(values, row),
        });
    }
    (records, ranges.values().iter().map(|range| *range as usize).collect())
}

/// A piece of a batch's memory, kept alive by whoever reads it.
struct Shared(Buffer);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// The bytes at `row`, without a copy where the array refers to a buffer (more than 12 bytes).
fn shared(array: &BinaryViewArray, row: usize) -> Bytes {
    let bytes = array.value(row);
    let view = arrow::array::ByteView::from(array.views()[row]);
    match view.length <= 12 {
        true => Bytes::copy_from_slice(bytes),
        false => {
            let buffer = array.data_buffers()[view.buffer_index as usize].clone();
            Bytes::from_owner(Shared(buffer.slice_with_length(view.offset as usize, view.length as usize)))
        }
    }
}

/// The leaf of an epoch's plan: one partition with one row for each split.
pub fn split_table(splits: &[Split]) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = Arc::new(Schema::new(vec![Field::new("split", DataType::Utf8, false)]));
    let partitions: Vec<Vec<RecordBatch>> = splits
        .iter()
        .map(|split| {
            let json = serde_json::to_string(split).map_err(|error| internal(error.to_string()))?;
            let column = Arc::new(StringArray::from(vec![json]));
            Ok(vec![RecordBatch::try_new(schema.clone(), vec![column])?])
        })
        .collect::<Result<_>>()?;
    Ok(DataSourceExec::from_data_source(MemorySourceConfig::try_new(&partitions, schema, None)?))
}

fn splits_of(rows: &RecordBatch) -> Result<Vec<Split>> {
    let column = rows.column(0).as_string_opt::<i32>().ok_or_else(|| internal("a split row is text"))?;
    column
        .iter()
        .flatten()
        .map(|json| serde_json::from_str(json).map_err(|error| internal(error.to_string())))
        .collect()
}
