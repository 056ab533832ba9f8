//! Archive tables in Delta Lake: written by many attempts, made visible by one commit, read at a pinned version.
//!
//! An attempt on an executor writes Parquet files with a [`Writer`] and hands back their `add` actions. Nobody sees
//! those files until [`Table::commit`] on the scheduler names them in the table's log, together with the number of
//! the epoch under the application id of (job, table): that number is what makes a repeated commit a no-op.
//! A [`Provider`] reads a table in SQL: the snapshot's files are resolved and pruned where the query is planned, and
//! what travels to the executors is DataFusion's own Parquet scan.
//!
//! Snapshots, log entries, checkpoints and schema changes are the `deltalake` crate's. The files, their statistics
//! and the scan are ours: its scan cannot cross processes, and its writer names files at random.

mod commit;
mod handle;
mod inspect;
mod orphans;
mod rows;
mod scan;
mod schema;
mod snapshots;
mod stats;
mod table;
mod upload;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use datafusion::error::DataFusionError;
use deltalake::logstore::LogStoreRef;
use deltalake::{DeltaTableBuilder, DeltaTableError};
use redpoll_core::objects::{Durable, Patience};
use url::Url;

pub use commit::{Commit, Committed, TransactionLog, commit_once};
pub use deltalake::kernel::Add as AddFile;
pub use inspect::{Clash, inspect};
pub use orphans::folder;
pub use rows::rows;
pub use scan::{Descriptor, Provider};
pub use schema::{delta_schema, to_delta};
pub use snapshots::newest;
pub use table::Table;
pub use writer::{Compression, Writer, WriterOptions};

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{location}: not a folder or URL of a delta table; use a path or s3://bucket/folder")]
    Location { location: String },
    #[error("{url}: there is no delta table; create it with CREATE EXTERNAL TABLE … STORED AS DELTA")]
    Missing { url: String },
    /// Delta has no such type.
    #[error("column '{column}' has type {data_type}, which delta cannot store; {remedy}")]
    Type { column: String, data_type: String, remedy: &'static str },
    /// The name cannot stand in a Delta table, or differs from another by case alone.
    #[error("column '{column}': {reason}; rename it with AS")]
    Name { column: String, reason: String },
    #[error(
        "{url}: column '{column}' is {table_type} in the table, {new_type} in the query; cast it, or rename it with AS"
    )]
    SchemaChange { url: String, column: String, table_type: String, new_type: String },
    /// Rows cannot be told apart by a column that the table is partitioned by.
    #[error("the table is PARTITIONED BY '{column}', but {reason}")]
    NoPartition { column: String, reason: String },
    /// Two queries for one new table.
    #[error("column '{column}' is {before} in an INSERT before, {new_type} in this one; cast it, or rename it with AS")]
    Disagree { column: String, before: String, new_type: String },
    #[error(
        "{url}: partitioned by {table:?}, not by {asked:?}; write PARTITIONED BY as the table has it, or to another table"
    )]
    Partitioning { url: String, table: Vec<String>, asked: Vec<String> },
    /// The table uses a feature of Delta that is not handled here.
    #[error("{url}: {feature}; {remedy}")]
    Unsupported { url: String, feature: String, remedy: &'static str },
    #[error("column '{column}' cannot be written as {data_type}")]
    Cast { column: String, data_type: String, source: Box<DataFusionError> },
    /// Each value is a folder, and folders have short names.
    #[error(
        "partition column '{column}' has a value of {bytes} bytes, and a folder is named by {max} at most; partition by \
         something shorter"
    )]
    Partition { column: String, bytes: usize, max: usize },
    #[error("{path}: cannot write the data file")]
    Write { path: String, source: BoxError },
    /// Another scheduler reigns, or the fence could not be asked.
    #[error("{url}: epoch {version} of '{app_id}' was not committed: the fence refused")]
    Fenced { url: String, app_id: String, version: i64, source: BoxError },
    #[error("{url}: another writer was first with the next entry of the table's log")]
    Raced { url: String },
    #[error("{url}: epoch {version} of '{app_id}' lost {attempts} races to other writers; let one job write a table")]
    Contended { url: String, app_id: String, version: i64, attempts: u32 },
    #[error("{url}: cannot {action}: {source}")]
    Delta { url: String, action: &'static str, source: Box<DeltaTableError> },
    #[error("{url}: cannot plan the scan: {source}")]
    Plan { url: String, source: Box<DataFusionError> },
}

/// The URL of a table folder: a URL as it is, a path made absolute. Nothing is created.
pub fn location(text: &str) -> Result<Url, Error> {
    let invalid = || Error::Location { location: text.to_owned() };
    let mut url = match Url::parse(text) {
        Ok(url) if url.scheme().len() > 1 => url,
        _ => {
            let path = std::path::absolute(Path::new(text)).map_err(|_| invalid())?;
            Url::from_directory_path(path).map_err(|()| invalid())?
        }
    };
    if url.cannot_be_a_base() {
        return Err(invalid());
    }
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url)
}

/// The application id under which a job commits its epochs to a table, `sink` being the table's name in the pipeline.
pub fn app_id(job_uid: &str, sink: &str) -> String {
    format!("redpoll.{job_uid}.{sink}")
}

/// The log and the files of the table at `url`; clients are pooled by the `deltalake` crate.
///
/// Keys, region and endpoint of S3 come from the `AWS_*` variables; plain HTTP is allowed when the endpoint says so.
/// Retries are those of all object stores of this process.
fn log_store(url: &Url) -> Result<LogStoreRef, Error> {
    let fail = failed(url, "open its store");
    let mut builder = DeltaTableBuilder::from_url(url.clone()).map_err(&fail)?;
    if url.scheme() == "file" {
        builder = builder.with_storage_backend(Arc::new(Durable::default()), url.clone());
    }
    if url.scheme().starts_with("s3") {
        builder = builder.with_storage_options(storage_options(Patience::of_process()));
    }
    builder.build_storage().map_err(&fail)
}

/// Settings by the names of the `deltalake` crate.
fn storage_options(patience: Patience) -> HashMap<String, String> {
    let span = |duration: Duration| format!("{}ms", duration.as_millis());
    let (first, longest) = Patience::PAUSES;
    let mut options = HashMap::from([
        ("max_retries".to_owned(), patience.retries.to_string()),
        ("retry_timeout".to_owned(), span(patience.retry_time)),
        ("backoff_config.init_backoff".to_owned(), span(first)),
        ("backoff_config.max_backoff".to_owned(), span(longest)),
        ("timeout".to_owned(), span(patience.timeout)),
    ]);
    if std::env::var("AWS_ENDPOINT_URL").is_ok_and(|endpoint| endpoint.starts_with("http://")) {
        options.insert("AWS_ALLOW_HTTP".to_owned(), "true".to_owned());
    }
    options
}

/// Puts the table and what was tried around an error of the `deltalake` crate.
fn failed(url: &Url, action: &'static str) -> impl Fn(DeltaTableError) -> Error {
    let url = url.to_string();
    move |source| Error::Delta { url: url.clone(), action, source: Box::new(source) }
}
