//! A process in memory: records, sinks that keep rows as text, and a module that doubles.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, ListBuilder, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::util::display::array_value_to_string;
use async_trait::async_trait;
use bytes::Bytes;
use datafusion::physical_plan::ExecutionPlan;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::super::{Step, StepExec};
use crate::catalog::{Catalog, Cone};
use crate::digest::Digest;
use crate::ledger::ModuleCounts;
use crate::protocol::SinkReceipt;
use crate::runtime::{Decode, Decoded, Evaluated, Marker, Runtime, SourceSpec, Version};
use crate::sink::{self, Attempt, OpenSink, Refused, Rows, SinkSet};
use crate::source::{self, OffsetRange, Offsets, Record, Source, Start};

/// Rows as text, by sink.
type Written = Arc<Mutex<BTreeMap<String, Vec<String>>>>;

#[derive(Debug)]
pub struct Desk {
    records: Vec<Bytes>,
    written: Written,
    objects: Arc<InMemory>,
}

/// `n`, `text` and `parts` of a record `n|text|part:part`.
pub fn alerts() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("n", DataType::Int64, true),
        Field::new("text", DataType::Utf8, true),
        Field::new_list("parts", Field::new_list_field(DataType::Int64, true), true),
    ]))
}

impl Desk {
    pub fn new(records: &[&str]) -> Self {
        let records = records.iter().map(|record| Bytes::from(record.to_string())).collect();
        Self { records, written: Written::default(), objects: Arc::default() }
    }

    pub fn node(self: &Arc<Self>, step: Arc<dyn Step>, input: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        Arc::new(StepExec::new(step, input, Some(self.clone())))
    }

    pub fn written(&self, sink: &str) -> Vec<String> {
        self.written.lock().unwrap().get(sink).cloned().unwrap_or_default()
    }

    pub fn forget(&self) {
        self.written.lock().unwrap().clear();
    }

    pub async fn object(&self, path: &Path) -> Bytes {
        self.objects.get(path).await.unwrap().bytes().await.unwrap()
    }
}

#[async_trait]
impl Runtime for Desk {
    fn executor(&self) -> &str {
        "one"
    }

    async fn source(&self, _: &SourceSpec) -> Result<Arc<dyn Source>, source::Error> {
        Ok(Arc::new(Records(self.records.clone())))
    }

    fn decoder(&self, _: &SourceSpec, _: &SchemaRef, _: &SchemaRef) -> Result<Box<dyn Decode>, source::Error> {
        Ok(Box::new(Decoder))
    }

    async fn sinks(&self, _: &Attempt, sinks: &[OpenSink]) -> Result<Box<dyn SinkSet>, sink::Error> {
        let receipts = vec![SinkReceipt::default(); sinks.len()];
        let names = sinks.iter().map(|sink| sink.spec.name.clone()).collect();
        Ok(Box::new(Sinks { names, receipts, written: self.written.clone() }))
    }

    fn marker(&self, _: &OpenSink, _: Option<&str>) -> Result<Option<Box<dyn Marker>>, sink::Error> {
        Ok(None)
    }

    async fn evaluate(&self, _: &Version, _: i64, args: RecordBatch) -> Result<Evaluated, String> {
        let doubled: Int64Array = args.column(0).as_primitive::<Int64Type>().unary(|x| 2 * x);
        Ok(Evaluated { values: Arc::new(doubled), failures: Vec::new(), took: ModuleCounts::default() })
    }

    async fn crossmatch(
        &self,
        _: &Catalog,
        _: Cone,
        _: &DataType,
        _: &Float64Array,
        _: &Float64Array,
    ) -> Result<ArrayRef, String> {
        unreachable!("nothing is looked up")
    }

    fn objects(&self, _: &str) -> Result<(Arc<dyn ObjectStore>, Path), String> {
        let store: Arc<dyn ObjectStore> = self.objects.clone();
        Ok((store, Path::default()))
    }
}

#[derive(Debug)]
struct Records(Vec<Bytes>);

#[async_trait]
impl Source for Records {
    async fn available(&self, _: &Offsets, _: Start, _: u64) -> Result<Vec<OffsetRange>, source::Error> {
        Ok(Vec::new())
    }

    fn read(&self, range: OffsetRange) -> BoxStream<'static, Result<Record, source::Error>> {
        let record = |(offset, value): (i64, &Bytes)| {
            let (topic, value) = (range.topic.as_str().into(), value.clone());
            Record { topic, partition: range.partition, offset, timestamp: None, key: None, value }
        };
        let records = (0..).zip(&self.0).map(record).filter(|record| (range.start..range.end).contains(&record.offset));
        futures::stream::iter(records.map(Ok).collect::<Vec<_>>()).boxed()
    }
}

struct Decoder;

#[async_trait]
impl Decode for Decoder {
    async fn decode(&mut self, records: &[Record]) -> Result<Decoded, source::Error> {
        let text = |record: &Record| String::from_utf8(record.value.to_vec()).unwrap();
        let texts: Vec<Vec<String>> =
            records.iter().map(|record| text(record).split('|').map(str::to_owned).collect()).collect();
        let mut parts = ListBuilder::new(Int64Array::builder(0));
        for text in &texts {
            let numbers = text[2].split(':').filter(|part| !part.is_empty());
            parts.append_value(numbers.map(|part| Some(part.parse().unwrap())));
        }
        let columns: Vec<ArrayRef> = vec![
            Arc::new(texts.iter().map(|text| text[0].parse::<i64>().ok()).collect::<Int64Array>()),
            Arc::new(texts.iter().map(|text| Some(text[1].clone())).collect::<StringArray>()),
            Arc::new(parts.finish()),
        ];
        let batch = RecordBatch::try_new(alerts(), columns).unwrap();
        let record_of_row = (0..records.len() as u32).collect();
        Ok(Decoded { batch, record_of_row, failed: Vec::new(), growth: Vec::new() })
    }
}

struct Sinks {
    names: Vec<String>,
    receipts: Vec<SinkReceipt>,
    written: Written,
}

#[async_trait]
impl SinkSet for Sinks {
    async fn write(&mut self, index: usize, rows: &Rows) -> Result<Vec<Refused>, sink::Error> {
        let receipt = &mut self.receipts[index];
        receipt.rows += rows.hashes.len() as u64;
        receipt.written += Digest::of(rows.hashes.iter().copied());
        let row = |row| {
            let columns = rows.batch.columns().iter().map(|column| array_value_to_string(column, row).unwrap());
            columns.collect::<Vec<_>>().join(",")
        };
        let mut written = self.written.lock().unwrap();
        written.entry(self.names[index].clone()).or_default().extend((0..rows.batch.num_rows()).map(row));
        Ok(Vec::new())
    }

    async fn finish(self: Box<Self>) -> Result<Vec<SinkReceipt>, sink::Error> {
        Ok(self.receipts)
    }
}
