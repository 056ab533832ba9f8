//! Rows as Avro: records of a Kafka topic, or a folder with one container file per split.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type, Int64Type, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use dashmap::DashMap;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload, path::Path};
use redpoll_core::ids::{Epoch, SplitId};
use redpoll_core::objects::Stores;
use redpoll_core::protocol::SinkReceipt;
use redpoll_core::sink::{Attempt, Error, OpenSink, Refused, Rows, SinkSpec};

use super::lanes::{Delivery, Lanes};
use super::sift::{OfValue, Sifted, sift};
use super::{Taken, is_refused};
use crate::avro::{Codec, Encoder, EncoderError, Payloads, Registry, RegistryError, Timestamps};
use crate::kafka::{Config, Outgoing, Position, Topics, n_partitions, partition_of};

/// Columns that a plan adds to a sink's rows: not part of the rows, but of how they are written.
pub const KEY_COLUMN: &str = "_key";
pub const PARTITION_COLUMN: &str = "_to_partition";
pub const TIMESTAMP_COLUMN: &str = "_timestamp";

impl OfValue for EncoderError {
    fn is_of_value(&self) -> bool {
        matches!(self, EncoderError::Null { .. } | EncoderError::Cast { .. })
    }
}

/// How an alert becomes the value of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicFormat {
    /// Schemaless; the key is the schema as JSON text, as fink-client reads it.
    Fink,
    /// A zero byte and a schema's id before the datum.
    Confluent(SchemaId),
    /// An object container of one alert.
    Ocf,
}

/// Where the id of a topic's schema is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SchemaId {
    /// It is registered, and this is its number.
    Known(u32),
    /// The registry at this URL gives it, under the subject `TOPIC-value`.
    Registry(String),
}

impl TopicFormat {
    /// Options of a topic that are not the broker's.
    pub const OPTIONS: [&str; 8] = ["format", "delivery", "key", "partition", "name", "codec", "schema_id", "registry"];

    pub fn of(sink: &SinkSpec) -> Result<Self, Error> {
        let option = |name: &str| sink.options.get(name).map(String::as_str);
        match option("format").unwrap_or("fink") {
            "fink" => Ok(Self::Fink),
            "ocf" | "ztf" => Ok(Self::Ocf),
            "confluent" => match (option("schema_id").map(str::parse), option("registry")) {
                (Some(Ok(id)), _) => Ok(Self::Confluent(SchemaId::Known(id))),
                (None, Some(url)) if url.contains("://") => Ok(Self::Confluent(SchemaId::Registry(url.to_owned()))),
                _ => Err(Error::new(
                    &sink.name,
                    "format 'confluent' without the id of a schema; give 'registry', its URL, or 'schema_id', a number",
                )),
            },
            other => Err(Error::new(&sink.name, format!("format '{other}' is none of fink, confluent, ocf"))),
        }
    }
}

/// The columns that are written, without those that only steer the writing.
pub(super) fn payload(schema: &Schema) -> (SchemaRef, Vec<usize>) {
    let steering = [KEY_COLUMN, PARTITION_COLUMN, TIMESTAMP_COLUMN];
    let columns: Vec<usize> =
        (0..schema.fields().len()).filter(|i| !steering.contains(&schema.field(*i).name().as_str())).collect();
    let fields: Vec<_> = columns.iter().map(|i| schema.fields()[*i].clone()).collect();
    (Arc::new(Schema::new(fields)), columns)
}

pub(super) fn encoder(sink: &OpenSink) -> Result<(Encoder, Vec<usize>), Error> {
    let (schema, columns) = payload(&sink.schema);
    let name = sink.spec.options.get("name").map_or("alert", String::as_str);
    let key = (schema, name.to_owned());
    if let Some(known) = ENCODERS.get(&key) {
        return Ok((known.clone(), columns));
    }
    let encoder = Encoder::new(key.0.clone(), name, Timestamps::Text);
    let encoder = encoder.map_err(|error| Error::new(&sink.spec.name, error))?;
    if ENCODERS.len() >= MAX_ENCODERS {
        ENCODERS.clear();
    }
    ENCODERS.insert(key, encoder.clone());
    Ok((encoder, columns))
}

/// Encoders by rows and name: the topics of a job have few kinds of rows, and each attempt opens all of them.
static ENCODERS: LazyLock<DashMap<(SchemaRef, String), Encoder>> = LazyLock::new(DashMap::new);
/// Kinds of rows that are kept; beyond it all are made anew.
const MAX_ENCODERS: usize = 256;

fn codec(sink: &SinkSpec) -> Result<Codec, Error> {
    match sink.options.get("codec").map_or("null", String::as_str) {
        "null" => Ok(Codec::Null),
        "deflate" => Ok(Codec::Deflate),
        "snappy" => Ok(Codec::Snappy),
        other => Err(Error::new(&sink.name, format!("codec '{other}' is none of null, deflate, snappy"))),
    }
}

pub(super) struct KafkaSink {
    name: String,
    topic: String,
    cluster: usize,
    encoder: Encoder,
    columns: Vec<usize>,
    format: TopicFormat,
    codec: Codec,
    /// Topic partitions, if the pipeline says to which of them a record goes, by a key or by number.
    n_partitions: Option<i32>,
    max_bytes: usize,
    taken: Taken,
}

impl KafkaSink {
    pub async fn open(sink: &OpenSink, lanes: &mut Lanes) -> Result<Self, Error> {
        let name = sink.spec.name.clone();
        let (config, topic) = kafka_topic(&sink.spec)?;
        let cluster = lanes.open(&name, &config, Delivery::of(&sink.spec)?).await?;
        let (encoder, columns) = encoder(sink)?;
        let (mut format, codec) = (TopicFormat::of(&sink.spec)?, codec(&sink.spec)?);
        if let TopicFormat::Confluent(SchemaId::Registry(url)) = &format {
            let id = registered(url, &topic, &encoder).await.map_err(|error| Error::new(&name, error))?;
            format = TopicFormat::Confluent(SchemaId::Known(id));
        }
        let options = &sink.spec.options;
        let by_key = options.contains_key("key") && format != TopicFormat::Fink;
        let n_partitions = match by_key || options.contains_key("partition") {
            true => Some(n_partitions(&config, &topic).await.map_err(|error| Error::new(&name, error))?),
            false => None,
        };
        let max_bytes = usize::try_from(config.message_max_bytes).unwrap_or(usize::MAX);
        let taken = Taken::default();
        Ok(Self { name, topic, cluster, encoder, columns, format, codec, n_partitions, max_bytes, taken })
    }

    pub async fn write(&mut self, rows: &Rows, lanes: &Lanes) -> Result<Vec<Refused>, Error> {
        let failed = |error: &dyn std::fmt::Display| Error::new(&self.name, error.to_string());
        if matches!(self.format, TopicFormat::Confluent(SchemaId::Registry(_))) {
            return Err(failed(&"its schema is not registered"));
        }
        let batch = rows.batch.project(&self.columns).map_err(|error| failed(&error))?;
        let Sifted { converted, mut refused } =
            sift(&batch, |batch| self.encode(batch)).map_err(|error| failed(&error))?;
        let outgoing: Vec<usize> = (0..batch.num_rows()).filter(|row| !is_refused(&refused, *row)).collect();
        refused.extend(self.send(rows, &outgoing, &converted, lanes).await?);
        refused.sort_by_key(|refused| refused.row);
        self.taken.add(rows, &refused);
        Ok(refused)
    }

    fn encode(&self, batch: &RecordBatch) -> Result<Payloads, EncoderError> {
        match self.format {
            TopicFormat::Fink | TopicFormat::Confluent(SchemaId::Registry(_)) => self.encoder.datums(batch),
            TopicFormat::Confluent(SchemaId::Known(id)) => self.encoder.confluent(batch, id),
            TopicFormat::Ocf => self.encoder.containers(batch, self.codec),
        }
    }

    /// Sends these rows, but for those that no broker would take: they come back.
    async fn send(
        &self,
        rows: &Rows,
        outgoing: &[usize],
        values: &Payloads,
        lanes: &Lanes,
    ) -> Result<Vec<Refused>, Error> {
        let failed = |error: arrow::error::ArrowError| Error::new(&self.name, error);
        let schema = (self.format == TopicFormat::Fink).then(|| self.encoder.schema_json());
        let (keys, partitions) = (keys(&rows.batch).map_err(failed)?, partitions(&rows.batch).map_err(failed)?);
        let origin = Origin::of(&rows.meta).ok_or_else(|| Error::new(&self.name, "rows without their origin"))?;
        let mut refused = Vec::new();
        for (row, value) in outgoing.iter().copied().zip(values.iter()) {
            let key = keys.as_ref().filter(|keys| keys.is_valid(row)).map(|keys| keys.value(row).as_bytes());
            let given = partitions.as_ref().filter(|to| to.is_valid(row)).map(|to| to.value(row));
            let key = schema.as_deref().or(key);
            if let Some(reason) = self.refuses(given, key, &value) {
                refused.push(Refused { row, reason });
                continue;
            }
            let by_key = || match self.format {
                TopicFormat::Fink => None,
                _ => Some(partition_of(key?, self.n_partitions?)),
            };
            let (partition, source) = (given.or_else(by_key), Some(origin.at(row)));
            let record = Outgoing { topic: &self.topic, partition, key, value: &value, source };
            lanes.send(self.cluster, record).await?;
        }
        Ok(refused)
    }

    fn refuses(&self, partition: Option<i32>, key: Option<&[u8]>, value: &[u8]) -> Option<String> {
        let bytes = value.len() + key.map_or(0, <[u8]>::len);
        if bytes > self.max_bytes {
            return Some(format!("its record has {bytes} bytes, more than message.max.bytes, {}", self.max_bytes));
        }
        let (partition, n) = (partition?, self.n_partitions?);
        (!(0..n).contains(&partition)).then(|| format!("topic {} has no partition {partition}", self.topic))
    }

    pub fn taken(&self) -> Taken {
        self.taken
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn cluster(&self) -> usize {
        self.cluster
    }
}

/// What options of a topic have values that nothing understands.
pub fn check_topic_options(sink: &SinkSpec) -> Vec<(&'static str, Error)> {
    let found = [
        ("format", TopicFormat::of(sink).map(drop)),
        ("delivery", Delivery::of(sink).map(drop)),
        ("codec", codec(sink).map(drop)),
    ];
    found.into_iter().filter_map(|(option, checked)| Some((option, checked.err()?))).collect()
}

/// The Avro schema that rows of a topic are written with.
pub fn topic_schema(sink: &SinkSpec, schema: &SchemaRef) -> Result<String, Error> {
    let (encoder, _) = encoder(&OpenSink { spec: sink.clone(), schema: schema.clone() })?;
    Ok(String::from_utf8_lossy(&encoder.schema_json()).into_owned())
}

/// Registers the schema that rows of a topic will be written with.
pub async fn register_schema(sink: &SinkSpec, url: &str, schema: &SchemaRef) -> Result<(), RegistryError> {
    let refused = refused(sink, url);
    let open = OpenSink { spec: sink.clone(), schema: schema.clone() };
    let (encoder, _) = encoder(&open).map_err(&refused)?;
    let (_, topic) = kafka_topic(sink).map_err(&refused)?;
    registered(url, &topic, &encoder).await.map(drop)
}

/// Whether [`register_schema`] would go well. Nothing is registered.
pub async fn check_schema(sink: &SinkSpec, url: &str, schema: &SchemaRef) -> Result<(), RegistryError> {
    let refused = refused(sink, url);
    let schema = topic_schema(sink, schema).map_err(&refused)?;
    let (_, topic) = kafka_topic(sink).map_err(&refused)?;
    Registry::open(url)?.check(&subject(&topic), &schema).await
}

fn refused(sink: &SinkSpec, url: &str) -> impl Fn(Error) -> RegistryError {
    let (location, subject) = (url.to_owned(), sink.name.clone());
    move |error| RegistryError::Incompatible {
        location: location.clone(),
        subject: subject.clone(),
        reason: error.reason,
    }
}

fn subject(topic: &str) -> String {
    format!("{topic}-value")
}

/// The number that a registry gives a topic's schema. It never changes, so a process asks once.
async fn registered(url: &str, topic: &str, encoder: &Encoder) -> Result<u32, RegistryError> {
    static KNOWN: LazyLock<DashMap<(String, String, Bytes), u32>> = LazyLock::new(DashMap::new);
    let key = (url.to_owned(), topic.to_owned(), encoder.schema_json());
    if let Some(id) = KNOWN.get(&key) {
        return Ok(*id);
    }
    let id = Registry::open(url)?.register(&subject(topic), &String::from_utf8_lossy(&key.2)).await?;
    KNOWN.insert(key, id);
    Ok(id)
}

/// The cluster and topic of a sink.
pub fn kafka_topic(sink: &SinkSpec) -> Result<(Config, String), Error> {
    let mut options = sink.options.clone();
    options.retain(|option, _| !TopicFormat::OPTIONS.contains(&option.as_str()));
    let config = Config::parse(&sink.url, &options).map_err(|error| Error::new(&sink.name, error))?;
    match &config.topic {
        Topics::Names(topics) if topics.len() == 1 => {
            let topic = topics[0].clone();
            Ok((config, topic))
        }
        _ => Err(Error::new(&sink.name, "a sink writes one topic: kafka://HOST:PORT/TOPIC")),
    }
}

fn keys(batch: &RecordBatch) -> Result<Option<arrow::array::StringArray>, arrow::error::ArrowError> {
    let Some(column) = batch.column_by_name(KEY_COLUMN) else { return Ok(None) };
    Ok(Some(cast(column, &DataType::Utf8)?.as_string::<i32>().clone()))
}

fn partitions(batch: &RecordBatch) -> Result<Option<arrow::array::Int32Array>, arrow::error::ArrowError> {
    let Some(column) = batch.column_by_name(PARTITION_COLUMN) else { return Ok(None) };
    Ok(Some(cast(column, &DataType::Int32)?.as_primitive::<Int32Type>().clone()))
}

/// Where each row was read.
struct Origin<'a> {
    topics: &'a arrow::array::StringArray,
    partitions: &'a arrow::array::Int32Array,
    offsets: &'a arrow::array::Int64Array,
    rows: &'a arrow::array::Int32Array,
}

impl<'a> Origin<'a> {
    fn of(meta: &'a RecordBatch) -> Option<Self> {
        Some(Self {
            topics: meta.column_by_name("_topic")?.as_string_opt()?,
            partitions: meta.column_by_name("_partition")?.as_primitive_opt::<Int32Type>()?,
            offsets: meta.column_by_name("_offset")?.as_primitive_opt::<Int64Type>()?,
            rows: meta.column_by_name("_row")?.as_primitive_opt::<Int32Type>()?,
        })
    }

    fn at(&self, row: usize) -> Position<'_> {
        Position {
            topic: self.topics.value(row),
            partition: self.partitions.value(row),
            offset: self.offsets.value(row),
            index: self.rows.value(row).unsigned_abs(),
        }
    }
}

/// A folder of Avro containers, one for each split that has rows. A file has the name of its split, not of the attempt:
/// a re-run puts the same rows in the same place.
pub(super) struct FolderSink {
    name: String,
    store: Arc<dyn ObjectStore>,
    path: Path,
    encoder: Encoder,
    columns: Vec<usize>,
    codec: Codec,
    alerts: Vec<Payloads>,
    taken: Taken,
}

/// What the names of a job's files begin with.
fn files_of(job: &str, job_uid: &str) -> String {
    format!("{job}-{job_uid}-")
}

/// The epoch, split and place in the plan that wrote a file; none of a file of others.
pub(super) fn author_of(file: &str, job: &str, job_uid: &str) -> Option<(Epoch, SplitId, usize)> {
    let numbers = file.strip_prefix(&files_of(job, job_uid))?.strip_suffix(".avro")?;
    let mut numbers = numbers.split('-');
    let (epoch, split, place) = (numbers.next()?, numbers.next()?, numbers.next()?);
    let author = (Epoch(epoch.parse().ok()?), SplitId(split.parse().ok()?), place.parse().ok()?);
    numbers.next().is_none().then_some(author)
}

/// Whether a file has the name that some job gives.
pub(super) fn has_author(file: &str) -> bool {
    let mut parts = file.trim_end_matches(".avro").rsplitn(5, '-');
    let mut digits = |n: Option<usize>| {
        let part = parts.next().unwrap_or_default();
        n.is_none_or(|n| part.len() == n) && !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    digits(None) && digits(Some(6)) && digits(Some(12)) && digits(Some(12)) && parts.next().is_some()
}

impl FolderSink {
    pub fn open(attempt: &Attempt, place: usize, sink: &OpenSink, stores: &Stores) -> Result<Self, Error> {
        let name = sink.spec.name.clone();
        let location = stores.locate(&sink.spec.url).map_err(|error| Error::new(&name, error))?;
        let Attempt { job, job_uid, epoch, split, .. } = attempt;
        let file = format!("{}{:012}-{:06}-{place}.avro", files_of(job, job_uid), epoch.0, split.0);
        let path = location.path.clone().join(file);
        let (encoder, columns) = encoder(sink)?;
        let codec = codec(&sink.spec)?;
        let (alerts, taken) = (Vec::new(), Taken::default());
        Ok(Self { name, store: location.store.clone(), path, encoder, columns, codec, alerts, taken })
    }

    /// Keeps the rows: a split is bounded by its bytes.
    pub fn write(&mut self, rows: &Rows) -> Result<Vec<Refused>, Error> {
        let batch = rows.batch.project(&self.columns).map_err(|error| Error::new(&self.name, error))?;
        let sifted = sift(&batch, |batch| self.encoder.datums(batch)).map_err(|error| Error::new(&self.name, error))?;
        self.alerts.push(sifted.converted);
        self.taken.add(rows, &sifted.refused);
        Ok(sifted.refused)
    }

    pub async fn finish(self) -> Result<SinkReceipt, Error> {
        if self.taken.rows > 0 {
            let failed = |error: &dyn std::fmt::Display| Error::new(&self.name, error.to_string());
            let file = self.encoder.container_of(&self.alerts, self.codec).map_err(|error| failed(&error))?;
            self.store.put(&self.path, PutPayload::from(file)).await.map_err(|error| failed(&error))?;
        }
        Ok(self.taken.receipt())
    }
}
