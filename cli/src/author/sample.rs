//! Alerts to try a module on: files, a night of the archive, or simulated ones.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::datasource::MemTable;
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use futures::TryStreamExt;
use redpoll_connectors::avro::{Decoder, ReaderSchema};
use redpoll_connectors::sources;
use redpoll_core::objects::Stores;
use redpoll_core::runtime::SourceSpec;
use redpoll_core::source::{Offsets, Record, Start};
use redpoll_scheduler::pipeline::session;
use redpoll_simulator::{Config, Origin, Sink, Survey};
use redpoll_udfs::functions;

use crate::client::Client;
use crate::exit::Usage;
use crate::shipped;

/// The table that questions to a sample name.
const TABLE: &str = "alerts";
/// Records decoded at a time.
const RECORDS: usize = 256;
/// Bytes of a source that are looked for alerts.
const MAX_BYTES: u64 = 4 << 30;
/// MJD of the first exposure that is simulated.
const START_MJD: f64 = 61_041.1;

/// Alerts with their columns.
pub struct Sample {
    pub schema: SchemaRef,
    /// What they are, for people.
    pub origin: String,
    context: SessionContext,
}

impl Sample {
    /// At most `count` alerts of a file, a folder or a tarball.
    pub async fn read(path: &Path, survey: &str, count: usize) -> Result<Self> {
        if !path.exists() {
            return Err(Usage(format!("--alerts {}: there is no such file or folder", path.display())).into());
        }
        let batch = match is_parquet(path) {
            true => parquet(path, count).await?,
            false => avro(path, survey, count).await?,
        };
        if batch.num_rows() == 0 {
            bail!("{}: there are no alerts in it", path.display());
        }
        Self::of(batch, path.display().to_string())
    }

    /// As many simulated alerts of a survey.
    pub async fn simulated(survey: &str, count: usize) -> Result<Self> {
        let known = match survey {
            "ztf" => Survey::Ztf,
            "lsst" => Survey::Lsst,
            other => {
                return Err(Usage(format!("alerts of {other} cannot be simulated: name some with --alerts")).into());
            }
        };
        // One file: a folder's are each brought to disk on their own.
        let file = std::env::temp_dir().join(format!("redpoll-alerts-{}.tar", std::process::id()));
        let config = Config {
            origin: Origin::Made { survey: known, start_mjd: START_MJD },
            count: count as u64,
            sinks: vec![Sink::Tarball(file.clone())],
            ..Config::default()
        };
        let made = tokio::task::spawn_blocking(move || redpoll_simulator::run(&config, |_, _| {})).await;
        let read = match made.context("the simulation ended early")? {
            Ok(_) => avro(&file, survey, count).await,
            Err(error) => Err(error.into()),
        };
        // What is left in a folder for temporary files does no harm.
        _ = std::fs::remove_file(&file);
        Self::of(read?, "simulated".to_owned())
    }

    /// At most `count` alerts of one night of a table of the archive, brought here so that the cluster may end.
    pub async fn night(client: &Client, table: &str, night: i64, count: usize) -> Result<Self> {
        let asked = client.sql(&format!("SELECT * FROM {table} LIMIT 0")).await;
        let rows =
            asked.with_context(|| format!("the table {table}, which --night is taken from; --table names another"))?;
        let schema = rows.schema();
        if schema.field_with_name("night").is_err() {
            bail!("table {table} has no column `night`: name another with --table, or give --alerts");
        }
        let origin = format!("night {night} of {table}");
        let stamps = |field: &&Arc<Field>| !holds_bytes(field.data_type());
        let columns = schema.fields().iter().filter(stamps).map(|field| format!("\"{}\"", field.name()));
        let columns = columns.collect::<Vec<_>>().join(", ");
        let query = format!("SELECT {columns} FROM {table} WHERE night = {night} LIMIT {count}");
        let (schema, batches) = client.sql(&query).await?.collect().await?;
        let batch = concat_batches(&schema, &batches)?;
        if batch.num_rows() == 0 {
            bail!("there are no alerts of {origin}");
        }
        Self::of(batch, origin)
    }

    fn of(batch: RecordBatch, origin: String) -> Result<Self> {
        let (schema, context) = (batch.schema(), session::context(&functions::all()));
        context.register_table(TABLE, Arc::new(MemTable::try_new(schema.clone(), vec![vec![batch]])?))?;
        Ok(Self { schema, origin, context })
    }

    /// These expressions over the alerts, one row for each.
    pub async fn select(&self, columns: &str) -> Result<RecordBatch> {
        let mut statements = session::parse(&format!("SELECT {columns} FROM {TABLE}"))?;
        let statement = statements.pop().context("a question has one statement")?;
        let plan = self.context.state().statement_to_plan(statement).await?;
        let frame = self.context.execute_logical_plan(plan).await?;
        let schema = Arc::new(frame.schema().as_arrow().clone());
        Ok(concat_batches(&schema, &frame.collect().await?)?)
    }

    /// The column that names an alert: the first whole number of 64 bits, which surveys put before all others.
    pub fn id(&self) -> Option<&str> {
        let of = |wanted: &[DataType]| self.schema.fields().iter().find(|field| wanted.contains(field.data_type()));
        let id = of(&[DataType::Int64]).or_else(|| of(&[DataType::Utf8, DataType::LargeUtf8, DataType::Utf8View]));
        id.map(|field| field.name().as_str())
    }
}

/// Cut-outs are most of an alert's bytes, and no expression over columns needs them.
fn holds_bytes(data_type: &DataType) -> bool {
    match data_type {
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => true,
        DataType::Struct(fields) => fields.iter().any(|field| holds_bytes(field.data_type())),
        _ => false,
    }
}

fn is_parquet(path: &Path) -> bool {
    let has_ending = |path: &Path| path.extension().is_some_and(|ending| ending == "parquet");
    let inside = || std::fs::read_dir(path).into_iter().flatten().flatten().any(|entry| has_ending(&entry.path()));
    has_ending(path) || (path.is_dir() && (path.join("_delta_log").exists() || inside()))
}

async fn parquet(path: &Path, count: usize) -> Result<RecordBatch> {
    let context = SessionContext::new_with_config(session::configure(Default::default()));
    let read = context.read_parquet(path.to_string_lossy().as_ref(), ParquetReadOptions::default()).await;
    let frame = read.with_context(|| path.display().to_string())?.limit(0, Some(count))?;
    let schema = Arc::new(frame.schema().as_arrow().clone());
    Ok(concat_batches(&schema, &frame.collect().await?)?)
}

/// Alerts of Avro files, without their cut-outs.
async fn avro(path: &Path, survey: &str, count: usize) -> Result<RecordBatch> {
    let absolute = std::path::absolute(path)?.display().to_string();
    let schema = shipped::find(&format!("pipelines/{survey}/schemas/alert.avsc"));
    let schema = schema.map(|path| ("schema".to_owned(), path.display().to_string()));
    let options = [("format".to_owned(), "ocf".to_owned())].into_iter().chain(schema).collect();
    let spec = SourceSpec { name: TABLE.to_owned(), url: absolute, options };
    let source = sources::open(&spec, &Stores::new(std::env::vars())).await?;
    let reader = ReaderSchema::from(sources::schema(&spec, source.as_ref()).await?.as_ref());
    let arrow = reader.arrow();
    let columns = sources::leaves(&arrow).into_iter().filter(|(_, kind)| !matches!(kind, DataType::Binary));
    let columns: Vec<String> = columns.map(|(path, _)| path).collect();
    let mut decoder = Decoder::new(sources::format(&spec)?, &reader, Some(&columns))?;
    let (mut batches, mut n) = (Vec::new(), 0);
    'ranges: for range in source.available(&Offsets::new(), Start::Earliest, MAX_BYTES).await? {
        let mut records = source.read(range).try_ready_chunks(RECORDS);
        while let Some(records) = records.try_next().await.map_err(|error| error.1)? {
            let batch = decoded(&mut decoder, &records)?;
            n += batch.num_rows();
            batches.push(batch);
            if n >= count {
                break 'ranges;
            }
        }
    }
    let all = concat_batches(&decoder.schema(), &batches)?;
    Ok(all.slice(0, count.min(all.num_rows())))
}

fn decoded(decoder: &mut Decoder, records: &[Record]) -> Result<RecordBatch> {
    let decoded = decoder.decode(records);
    match decoded.failed.first() {
        Some(failed) => bail!("{}: it is no alert: {}", records[failed.record].topic, failed.error),
        None => Ok(decoded.batch),
    }
}

/// Names of alerts for messages.
pub fn names(column: &ArrayRef) -> Result<Vec<String>> {
    let texts = arrow::compute::cast(column, &DataType::Utf8)?;
    let texts = arrow::array::AsArray::as_string::<i32>(&texts);
    Ok((0..texts.len()).map(|i| if texts.is_valid(i) { texts.value(i).to_owned() } else { "?".to_owned() }).collect())
}
