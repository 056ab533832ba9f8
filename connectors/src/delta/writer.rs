//! Data files of one attempt: rows go to one open Parquet file per partition, closed at a target size.
//!
//! File names carry the (job, epoch, split, attempt) they belong to and a running number, so an orphan can be told
//! from a live file by its name, and two attempts never meet. Nothing is visible until a commit names the files.
//!
//! Memory is bounded: a row group in the making is written out when it reaches its size, and when all open files
//! together hold more than `max_memory_bytes`, the largest row group goes first, however small.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arrow::array::{Array, AsArray, RecordBatch, StringArray, UInt32Array};
use arrow::compute::{cast, take_record_batch};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use object_store::ObjectStore;
use object_store::path::Path;
use parquet::arrow::AsyncArrowWriter;
use parquet::basic::ZstdLevel;
use parquet::file::properties::WriterProperties;
use url::Url;

use super::stats::{NanColumns, TRUNCATE_BYTES, file_stats, mark_nan};
use super::upload::Upload;
use super::{AddFile, BoxError, Error, delta_schema, log_store, to_delta};

/// Bytes of a folder's name on local disks.
const MAX_FOLDER_NAME: usize = 255;
/// Name of the folder for rows whose partition value is null.
const NULL_PARTITION: &str = "__HIVE_DEFAULT_PARTITION__";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    #[default]
    Snappy,
    /// Levels 1 to 22; the nearest of them is taken.
    Zstd(i32),
}

#[derive(Debug, Clone)]
pub struct WriterOptions {
    /// A file is closed when it is about this large, bytes on disk.
    pub target_file_bytes: usize,
    /// A row group is closed when it is about this large, bytes encoded.
    pub row_group_bytes: usize,
    /// All row groups in the making together, bytes in memory. Uploads hold up to 24 MiB more per open file.
    pub max_memory_bytes: usize,
    pub compression: Compression,
}

impl Default for WriterOptions {
    fn default() -> Self {
        let compression = Compression::default();
        WriterOptions {
            target_file_bytes: 128 << 20,
            row_group_bytes: 32 << 20,
            max_memory_bytes: 64 << 20,
            compression,
        }
    }
}

/// Partition values in the table's order; `None` is null.
type Key = Vec<Option<String>>;

/// Writes the files of one attempt. End it with `close` or `abort`; of one that is dropped, as a cancelled attempt is,
/// uploads in progress are cancelled in the background.
pub struct Writer {
    store: Arc<dyn ObjectStore>,
    /// Rows as Delta has them, partition columns included.
    schema: SchemaRef,
    /// Positions in `schema` of the columns that go to the files, and of those that go to the log.
    file_columns: Vec<usize>,
    partition_columns: Vec<usize>,
    prefix: String,
    properties: WriterProperties,
    options: WriterOptions,
    open: BTreeMap<Key, DataFile>,
    n_files: usize,
    adds: Vec<AddFile>,
}

struct DataFile {
    path: Path,
    writer: AsyncArrowWriter<Upload>,
    nan: NanColumns,
}

impl Writer {
    /// Opens a writer for batches of `schema` (any Arrow types, see [`delta_schema`]). `prefix` names
    /// (job, epoch, split, attempt), and must not be used twice. No file is made before there are rows.
    pub fn new(
        url: &Url,
        schema: &Schema,
        partition_by: &[String],
        prefix: &str,
        options: WriterOptions,
    ) -> Result<Writer, Error> {
        let schema = delta_schema(schema)?;
        let partition_columns = partition_by.iter().map(|name| partition_column(&schema, name));
        let partition_columns = partition_columns.collect::<Result<Vec<_>, _>>()?;
        let file_columns = (0..schema.fields().len()).filter(|i| !partition_columns.contains(i)).collect();
        Ok(Writer {
            store: log_store(url)?.object_store(None),
            schema: Arc::new(schema),
            file_columns,
            partition_columns,
            prefix: encode(prefix),
            properties: properties(&options),
            options,
            open: BTreeMap::new(),
            n_files: 0,
            adds: Vec::new(),
        })
    }

    /// Rows as the table's files have them; an error may be one of a single value.
    pub fn convert(&self, batch: &RecordBatch) -> Result<RecordBatch, Error> {
        let batch = to_delta(batch, &self.schema)?;
        for column in &self.partition_columns {
            let name = self.schema.field(*column).name();
            let Some(values) = batch.column(*column).as_string_opt::<i32>() else { continue };
            let bytes = |value: &str| encode(name).len() + 1 + encode(value).len();
            if let Some(bytes) = values.iter().flatten().map(bytes).find(|bytes| *bytes > MAX_FOLDER_NAME) {
                return Err(Error::Partition { column: name.clone(), bytes, max: MAX_FOLDER_NAME });
            }
        }
        Ok(batch)
    }

    /// Adds rows. After an error, `abort` the writer.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let batch = to_delta(batch, &self.schema)?;
        for (key, rows) in self.divide(&batch)? {
            let rows = rows.project(&self.file_columns).map_err(|e| failed("rows", e))?;
            self.write_rows(key, &rows).await?;
        }
        while self.memory_bytes() > self.options.max_memory_bytes {
            let Some(file) = self.open.values_mut().max_by_key(|file| file.writer.memory_size()) else { break };
            if file.writer.in_progress_rows() == 0 {
                break;
            }
            file.writer.flush().await.map_err(|e| failed(&file.path, e))?;
        }
        Ok(())
    }

    /// Finishes all files and gives their add actions, in the order they were closed.
    pub async fn close(mut self) -> Result<Vec<AddFile>, Error> {
        while let Some((key, file)) = self.open.pop_first() {
            self.finish(key, file).await?;
        }
        Ok(self.adds)
    }

    /// Gives up: uploads in progress are cancelled. Files already closed stay as orphans, which nobody sees.
    pub async fn abort(self) {
        for file in self.open.into_values() {
            file.writer.into_inner().cancel().await;
        }
    }

    /// Bytes of all row groups in the making.
    pub fn memory_bytes(&self) -> usize {
        self.open.values().map(|file| file.writer.memory_size()).sum()
    }

    async fn write_rows(&mut self, key: Key, rows: &RecordBatch) -> Result<(), Error> {
        let mut file = match self.open.remove(&key) {
            Some(file) => file,
            None => self.create(&key, rows.schema())?,
        };
        mark_nan(rows, &mut file.nan);
        let written = file.writer.write(rows).await.map_err(|e| failed(&file.path, e));
        let bytes = file.writer.bytes_written() + file.writer.in_progress_size();
        if written.is_ok() && bytes >= self.options.target_file_bytes {
            return self.finish(key, file).await;
        }
        self.open.insert(key, file);
        written
    }

    fn create(&mut self, key: &Key, schema: SchemaRef) -> Result<DataFile, Error> {
        let mut path = String::new();
        for (column, value) in self.partition_columns.iter().zip(key) {
            let value = value.as_deref().map_or(NULL_PARTITION.to_owned(), encode);
            path.push_str(&format!("{}={value}/", encode(self.schema.field(*column).name())));
        }
        path.push_str(&format!("part-{}-{:05}.parquet", self.prefix, self.n_files));
        self.n_files += 1;
        let path = Path::parse(&path).map_err(|e| failed(&path, e))?;
        let upload = Upload::new(Arc::clone(&self.store), path.clone());
        let writer = AsyncArrowWriter::try_new(upload, schema, Some(self.properties.clone()));
        Ok(DataFile { writer: writer.map_err(|e| failed(&path, e))?, path, nan: NanColumns::new() })
    }

    async fn finish(&mut self, key: Key, mut file: DataFile) -> Result<(), Error> {
        let footer = file.writer.finish().await.map_err(|e| failed(&file.path, e))?;
        let names = self.partition_columns.iter().map(|column| self.schema.field(*column).name().clone());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.adds.push(AddFile {
            path: file.path.to_string(),
            partition_values: names.zip(key).collect(),
            size: file.writer.bytes_written() as i64,
            modification_time: now.as_millis() as i64,
            data_change: true,
            stats: Some(file_stats(&footer, &file.nan)),
            ..Default::default()
        });
        Ok(())
    }

    /// The batch cut by partition values.
    fn divide(&self, batch: &RecordBatch) -> Result<Vec<(Key, RecordBatch)>, Error> {
        let texts = self.partition_columns.iter().map(|column| {
            cast(batch.column(*column), &DataType::Utf8).map_err(|e| failed(self.schema.field(*column).name(), e))
        });
        let texts = texts.collect::<Result<Vec<_>, _>>()?;
        let texts: Vec<&StringArray> = texts.iter().map(|array| array.as_string()).collect();
        let mut rows: HashMap<Vec<Option<&str>>, Vec<u32>> = HashMap::new();
        for row in 0..batch.num_rows() {
            rows.entry(texts.iter().map(|text| value(text, row)).collect()).or_default().push(row as u32);
        }
        let owned = |key: Vec<Option<&str>>| key.into_iter().map(|value| value.map(str::to_owned)).collect();
        if rows.len() == 1 {
            return Ok(rows.into_keys().map(|key| (owned(key), batch.clone())).collect());
        }
        let parts = rows.into_iter().map(|(key, rows)| {
            let part = take_record_batch(batch, &UInt32Array::from(rows)).map_err(|e| failed("rows", e))?;
            Ok((owned(key), part))
        });
        parts.collect()
    }
}

/// A partition value; Delta takes the empty string as null.
fn value(text: &StringArray, row: usize) -> Option<&str> {
    (!text.is_null(row)).then(|| text.value(row)).filter(|value| !value.is_empty())
}

/// Types whose text form is the same for all readers of Delta tables.
fn partition_column(schema: &Schema, name: &str) -> Result<usize, Error> {
    use DataType::{Boolean, Date32, Int8, Int16, Int32, Int64, Utf8};
    let Ok(index) = schema.index_of(name) else {
        let reason = "the table is partitioned by it, but the query has no such column".to_owned();
        return Err(Error::Name { column: name.to_owned(), reason });
    };
    match schema.field(index).data_type() {
        Utf8 | Int8 | Int16 | Int32 | Int64 | Date32 | Boolean => Ok(index),
        other => Err(Error::Type {
            column: name.to_owned(),
            data_type: format!("{other} as a partition"),
            remedy: "partition by a string, an integer, a date or a boolean",
        }),
    }
}

fn properties(options: &WriterOptions) -> WriterProperties {
    let compression = match options.compression {
        Compression::Snappy => parquet::basic::Compression::SNAPPY,
        Compression::Zstd(level) => {
            parquet::basic::Compression::ZSTD(ZstdLevel::try_new(level.clamp(1, 22)).unwrap_or_default())
        }
    };
    WriterProperties::builder()
        .set_compression(compression)
        .set_max_row_group_bytes(Some(options.row_group_bytes))
        .set_statistics_truncate_length(Some(TRUNCATE_BYTES))
        .set_created_by(format!("redpoll {}", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Percent-encodes what could be taken for a part of a path.
fn encode(text: &str) -> String {
    let encoded = text.bytes().map(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    });
    encoded.collect()
}

fn failed(path: impl ToString, source: impl Into<BoxError>) -> Error {
    Error::Write { path: path.to_string(), source: source.into() }
}
