//! What a job relies on, on local disk; the round trip also on S3 when `AWS_ENDPOINT_URL` names one, in the bucket
//! `REDPOLL_TEST_BUCKET` (default `redpoll-test`).

mod growth;
mod handle;
mod inspecting;
mod reading;
mod writing;

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::SessionContext;
use tempfile::TempDir;
use url::Url;

use super::{AddFile, Commit, Committed, Error, Provider, Table, Writer, WriterOptions, location};

const APP: &str = "redpoll.5a1b.ztf.raw";

/// A folder for a table, and its URL.
fn folder() -> (TempDir, Url) {
    let dir = TempDir::new().unwrap();
    let url = location(dir.path().join("ztf raw").to_str().unwrap()).unwrap();
    (dir, url)
}

/// Alerts of one night each: (night, candid).
fn alerts(rows: &[(&str, i64)]) -> RecordBatch {
    let nights: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.0)));
    let candids: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.1)));
    RecordBatch::try_from_iter([("night", nights), ("candid", candids)]).unwrap()
}

fn by_night() -> Vec<String> {
    vec!["night".to_owned()]
}

fn epoch(version: i64, adds: Vec<AddFile>) -> Commit {
    Commit { app_id: APP.to_owned(), version, adds, record_empty: false }
}

async fn open_fence() -> Result<(), Error> {
    Ok(())
}

/// Writes the batches as one attempt.
async fn attempt(url: &Url, partition_by: &[String], prefix: &str, batches: &[RecordBatch]) -> Vec<AddFile> {
    let schema = batches[0].schema();
    let mut writer = Writer::new(url, &schema, partition_by, prefix, WriterOptions::default()).unwrap();
    for batch in batches {
        writer.write(batch).await.unwrap();
    }
    writer.close().await.unwrap()
}

/// A table that holds the batches, each in a commit of its own.
async fn table_of(url: &Url, partition_by: &[String], batches: &[RecordBatch]) -> Table {
    let table = Table::ensure(url, &batches[0].schema(), partition_by).await.unwrap();
    for (n, batch) in batches.iter().enumerate() {
        let adds = attempt(url, partition_by, &format!("job-{n}-0-1"), std::slice::from_ref(batch)).await;
        let committed = table.commit(epoch(n as i64, adds), open_fence).await.unwrap();
        assert!(matches!(committed, Committed::Now(_)));
    }
    table
}

async fn session(url: &Url) -> SessionContext {
    let ctx = SessionContext::new();
    ctx.register_table("t", Arc::new(Provider::open(url, None).await.unwrap())).unwrap();
    ctx
}

/// The answer to a query over the newest version as table `t`.
async fn rows(url: &Url, sql: &str) -> String {
    let batches = session(url).await.sql(sql).await.unwrap().collect().await.unwrap();
    pretty_format_batches(&batches).unwrap().to_string()
}

/// One number from the newest version.
async fn number(url: &Url, sql: &str) -> i64 {
    let batches = session(url).await.sql(sql).await.unwrap().collect().await.unwrap();
    let column: &Int64Array = batches[0].column(0).as_any().downcast_ref().unwrap();
    column.value(0)
}
