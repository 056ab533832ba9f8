//! Makes an index: all rows of a catalogue sorted by their cells, within bounded memory, what does not fit on disk.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::common::Column;
use datafusion::common::hash_utils::{RandomState, create_hashes};
use datafusion::error::{DataFusionError, Result as Planned};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarUDF, Volatility, cast, create_udf};
use datafusion::prelude::{DataFrame, ParquetReadOptions, SessionConfig, SessionContext};
use futures::TryStreamExt;
use object_store::buffered::BufWriter;
use object_store::{ObjectStoreExt, PutPayload};
use parquet::arrow::AsyncArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;
use redpoll_core::objects::{Location, Stores};
use url::Position;
use xxhash_rust::xxh3::xxh3_64;

use super::cells::cell;
use super::index::{FORMAT, MANIFEST, Manifest, Part};
use super::source::{Kind, Source, locate, plain};
use super::{CELL, Error};

/// Rows that are read at once around a position: small, so that a few positions cost little, and large enough that a
/// whole sky of them is few reads.
const GROUP_ROWS: usize = 16_384;
/// Rows of a file, whose footer is kept in memory: about 1,000 row groups.
const PART_ROWS: u64 = 16 << 20;
/// Orders rows of one cell, so that each build of an index gives the same.
const TIE: &str = "_tie";
/// Of a row whose position is not on the sky: such rows come first, and are left out.
const NOWHERE: i64 = -1;

/// What a build may take.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of rows in memory.
    pub memory: usize,
    /// Folder for rows beyond that.
    pub spill: PathBuf,
}

/// An index that was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    pub rows: u64,
    /// Rows that have no position: null, NaN or a declination beyond the poles.
    pub left_out: u64,
    pub files: usize,
    pub bytes: u64,
}

/// Builds the index of a catalogue in a folder. The list of its files comes last, so that what breaks off is no index.
pub async fn build(source: &Source, stores: &Arc<Stores>, to: &Location, limits: &Limits) -> Result<Built, Error> {
    let url = &source.catalog.spec.url;
    let wrong = |error| Error::Sort { url: url.clone(), source: Box::new(error) };
    let rows = sorted(source, stores, limits).await.map_err(wrong)?;
    let manifest = Writer::new(source, to).write(rows).await?;
    let bytes = serde_json::to_vec_pretty(&manifest)
        .map_err(|error| Error::Index { url: to.url.to_string(), reason: error.to_string() })?;
    let put = to.store.put(&to.path.clone().join(MANIFEST), PutPayload::from(bytes)).await;
    put.map_err(|source| Error::Objects { url: to.url.to_string(), source })?;
    let bytes = manifest.parts.iter().map(|part| part.bytes).sum();
    Ok(Built { rows: manifest.rows, left_out: manifest.left_out, files: manifest.parts.len(), bytes })
}

async fn sorted(source: &Source, stores: &Arc<Stores>, limits: &Limits) -> Planned<SendableRecordBatchStream> {
    let runtime = RuntimeEnvBuilder::new()
        .with_object_store_registry(stores.clone())
        .with_memory_pool(Arc::new(FairSpillPool::new(limits.memory)))
        .with_temp_file_path(&limits.spill)
        .build_arc()?;
    let mut config = SessionConfig::new();
    config.options_mut().execution.parquet.schema_force_view_types = false;
    let context = SessionContext::new_with_config_rt(config, runtime);
    let table = table(source, &context, stores).await?;
    let names = source.indexed();
    let column = |name: &str| Expr::Column(Column::new_unqualified(name));
    let types: Vec<DataType> = table.schema().fields().iter().map(|field| plain(field.data_type())).collect();
    let type_of = |name: &str| table.schema().index_of_column_by_name(None, name).map(|i| types[i].clone());
    let plain = |name: &String| match type_of(name) {
        Some(data_type) => cast(column(name), data_type),
        None => column(name),
    };
    let angle = |name: &str| cast(column(name), DataType::Float64);
    let tie = tie_of(names.iter().filter_map(|name| type_of(name)).collect());
    let cell = cell_of().call(vec![angle(&source.ra), angle(&source.dec)]).alias(CELL);
    let tie = tie.call(names.iter().map(plain).collect()).alias(TIE);
    let columns = names.iter().map(|name| plain(name).alias(name));
    let exprs: Vec<Expr> = [cell].into_iter().chain(columns).chain([tie]).collect();
    let order = vec![column(CELL).sort(true, false), column(TIE).sort(true, false)];
    table.select(exprs)?.sort(order)?.execute_stream().await
}

async fn table(source: &Source, context: &SessionContext, stores: &Arc<Stores>) -> Planned<DataFrame> {
    let external = |error: Error| DataFusionError::External(Box::new(error));
    let url = &source.catalog.spec.url;
    match &source.kind {
        Kind::Delta(version) => {
            let wrong = |error| external(Error::Delta { url: url.clone(), source: Box::new(error) });
            let at = crate::delta::location(locate(url, stores).map_err(external)?.url.as_str()).map_err(wrong)?;
            let provider = crate::delta::Provider::open(&at, Some(*version)).await.map_err(wrong)?;
            context.read_table(Arc::new(provider))
        }
        Kind::Files(paths) => {
            let at = locate(url, stores).map_err(external)?;
            let root = at.url[..Position::BeforePath].to_owned();
            let urls: Vec<String> = paths.iter().map(|path| format!("{root}/{path}")).collect();
            context.read_parquet(urls, ParquetReadOptions::default()).await
        }
        Kind::Index(manifest) => {
            let at = locate(url, stores).map_err(external)?;
            let root = at.url.as_str().trim_end_matches('/');
            let urls: Vec<String> = manifest.parts.iter().map(|part| format!("{root}/{}", part.file)).collect();
            context.read_parquet(urls, ParquetReadOptions::default()).await
        }
    }
}

fn cell_of() -> ScalarUDF {
    let cells = |args: &[ColumnarValue]| -> Planned<ColumnarValue> {
        let angles = ColumnarValue::values_to_arrays(args)?;
        let (ra, dec) = (angles[0].as_primitive::<Float64Type>(), angles[1].as_primitive::<Float64Type>());
        let cells = ra.iter().zip(dec).map(|(ra, dec)| cell(ra?, dec?)).map(|cell| cell.unwrap_or(NOWHERE));
        Ok(ColumnarValue::Array(Arc::new(Int64Array::from_iter_values(cells))))
    };
    let angles = vec![DataType::Float64; 2];
    create_udf("healpix_cell", angles, DataType::Int64, Volatility::Immutable, Arc::new(cells))
}

fn tie_of(types: Vec<DataType>) -> ScalarUDF {
    let ties = |args: &[ColumnarValue]| -> Planned<ColumnarValue> {
        let columns: Vec<ArrayRef> = ColumnarValue::values_to_arrays(args)?;
        let mut hashes = vec![0; columns.first().map_or(0, |column| column.len())];
        create_hashes(&columns, &RandomState::with_seed(0), &mut hashes)?;
        let ties = hashes.into_iter().map(|hash| hash as i64);
        Ok(ColumnarValue::Array(Arc::new(Int64Array::from_iter_values(ties))))
    };
    create_udf("hash_of_row", types, DataType::Int64, Volatility::Immutable, Arc::new(ties))
}

/// Writes sorted rows as the files of an index.
struct Writer<'a> {
    to: &'a Location,
    properties: WriterProperties,
    /// Of names of files: of another catalogue, an index in the same place has files of other names.
    prefix: String,
    open: Option<(AsyncArrowWriter<BufWriter>, Part)>,
    manifest: Manifest,
}

impl<'a> Writer<'a> {
    fn new(source: &Source, to: &'a Location) -> Self {
        let columns = source.indexed();
        let of = source.catalog.lock.clone();
        let prefix = format!("part-{:08x}", xxh3_64(format!("{of} {columns:?}").as_bytes()) >> 32);
        let (ra, dec) = (source.ra.clone(), source.dec.clone());
        let parts = Vec::new();
        let manifest = Manifest { format: FORMAT, of, ra, dec, columns, rows: 0, left_out: 0, parts };
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            // A cell is seldom that of another row.
            .set_column_dictionary_enabled(ColumnPath::from(CELL), false)
            .set_column_dictionary_enabled(ColumnPath::from(source.ra.as_str()), false)
            .set_column_dictionary_enabled(ColumnPath::from(source.dec.as_str()), false)
            .set_created_by(format!("redpoll {}", env!("CARGO_PKG_VERSION")))
            .build();
        Self { to, properties, prefix, open: None, manifest }
    }

    async fn write(mut self, mut rows: SendableRecordBatchStream) -> Result<Manifest, Error> {
        let url = self.to.url.to_string();
        let wrong = |error| Error::Sort { url: url.clone(), source: Box::new(error) };
        while let Some(batch) = rows.try_next().await.map_err(wrong)? {
            let batch = self.on_the_sky(&batch)?;
            self.add(&batch).await?;
        }
        if self.manifest.rows == 0 {
            // A file without rows, so that the columns are known.
            self.append(&without_tie(&RecordBatch::new_empty(rows.schema()))?).await?;
        }
        self.close().await?;
        Ok(self.manifest)
    }

    /// The rows that have a cell, without their ties.
    fn on_the_sky(&mut self, batch: &RecordBatch) -> Result<RecordBatch, Error> {
        let cells = cells(batch)?;
        let nowhere = cells.values().partition_point(|cell| *cell == NOWHERE);
        self.manifest.left_out += nowhere as u64;
        without_tie(&batch.slice(nowhere, batch.num_rows() - nowhere))
    }

    async fn add(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.append(batch).await?;
        let cells = cells(batch)?;
        if let Some((_, part)) = &mut self.open {
            if part.rows == 0 {
                part.first = cells.value(0);
            }
            part.last = cells.value(cells.len() - 1);
            part.rows += batch.num_rows() as u64;
            self.manifest.rows += batch.num_rows() as u64;
            if part.rows >= PART_ROWS {
                self.close().await?;
            }
        }
        Ok(())
    }

    async fn append(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        let n_parts = self.manifest.parts.len();
        let file = format!("{}-{n_parts:05}.parquet", self.prefix);
        let wrong = |source| Error::Parquet { url: format!("{}/{file}", self.to.url), source };
        let (writer, _) = match &mut self.open {
            Some(open) => open,
            open => {
                let object = BufWriter::new(self.to.store.clone(), self.to.path.clone().join(file.as_str()));
                let properties = Some(self.properties.clone());
                let writer = AsyncArrowWriter::try_new(object, batch.schema(), properties).map_err(wrong)?;
                let part = Part { file: file.clone(), bytes: 0, rows: 0, first: 0, last: NOWHERE };
                open.insert((writer, part))
            }
        };
        writer.write(batch).await.map_err(wrong)
    }

    async fn close(&mut self) -> Result<(), Error> {
        let Some((mut writer, mut part)) = self.open.take() else { return Ok(()) };
        let url = format!("{}/{}", self.to.url, part.file);
        writer.finish().await.map_err(|source| Error::Parquet { url, source })?;
        part.bytes = writer.bytes_written() as u64;
        self.manifest.parts.push(part);
        Ok(())
    }
}

fn cells(batch: &RecordBatch) -> Result<Int64Array, Error> {
    Ok(batch.column(batch.schema().index_of(CELL)?).as_primitive::<Int64Type>().clone())
}

fn without_tie(batch: &RecordBatch) -> Result<RecordBatch, Error> {
    let tie = batch.schema().index_of(TIE)?;
    let kept: Vec<usize> = (0..batch.num_columns()).filter(|column| *column != tie).collect();
    Ok(batch.project(&kept)?)
}
