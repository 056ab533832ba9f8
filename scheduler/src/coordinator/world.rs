//! What a job's loop asks of the world beside its source and its objects: the time, queries, commits of archives.
//!
//! Everything that the loop waits for is behind this or behind the object store, so that a simulation can hold, reorder
//! and break all of it. Code of the coordinator therefore neither sleeps nor spawns by itself.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use chrono::Utc;
use datafusion::arrow::datatypes::SchemaRef;
use futures::future::BoxFuture;
use redpoll_connectors::avro::ReaderSchema;
use redpoll_connectors::delta::{self, Commit};
use redpoll_connectors::sinks::archive_schema;
use redpoll_core::protocol::{Grown, Growth, Split};
use redpoll_core::revision::Outline;
use redpoll_core::sink::SinkKind;
use redpoll_core::steps::EpochRun;

use super::growth::{self, Planner};
use crate::engine::Engine;
use crate::epoch_table;
use crate::pipeline::Compiled;

/// Asked right before each try at a commit: an error means that another scheduler reigns, or may reign.
pub type Fence<'a> = dyn Fn() -> BoxFuture<'a, Result<(), Refused>> + Send + Sync + 'a;
pub type Refused = Box<dyn std::error::Error + Send + Sync>;

#[async_trait]
pub trait World: Send + Sync {
    /// Milliseconds since 1970-01-01 UTC.
    fn now(&self) -> i64;

    async fn sleep(&self, duration: Duration);

    /// Runs one query over splits of an epoch and waits for its end. How it ended is a hint, receipts are the
    /// evidence: attempts may go on after an error, or after this call was dropped.
    async fn run(&self, run: EpochRun, group: Option<&str>, splits: &[Split]) -> Result<(), String>;

    /// Names of the archive tables, in the order of their commits.
    fn archives(&self) -> Vec<String>;

    /// See [`delta::Table::commit`]. The table's URL and its version that holds the commit come back.
    async fn commit(&self, archive: &str, commit: Commit, fence: &Fence<'_>) -> Result<(String, u64), delta::Error>;

    /// Plans what is run from now on with the fields that alerts were found to have. All that the alerts have beyond
    /// the pipeline's columns comes back with the plan's outline, `None` if `known` says it. An error is one of the
    /// moment.
    async fn grow(&self, _known: &Grown, _met: &[Growth]) -> Result<Option<(Grown, Outline)>, String> {
        Ok(None)
    }
}

/// The engine, the tables that are open and this machine's clock.
pub struct Cluster {
    pub engine: Engine,
    pub compiled: RwLock<Arc<Compiled>>,
    /// Open Delta tables, by name of the sink.
    pub tables: BTreeMap<String, delta::Table>,
    pub planner: RwLock<Arc<dyn Planner<Plan = Compiled>>>,
}

impl Cluster {
    /// Runs epochs by another plan from now on, and alerts that grow are planned for by another planner.
    pub fn adopt(&self, compiled: Compiled, planner: Arc<dyn Planner<Plan = Compiled>>) {
        *self.compiled.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(compiled);
        *self.planner.write().unwrap_or_else(PoisonError::into_inner) = planner;
    }

    /// The plan of the epochs that run now.
    pub fn compiled(&self) -> Arc<Compiled> {
        self.compiled.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The open tables that a plan writes, each with its rows' columns.
    fn archived<'a>(&'a self, compiled: &'a Compiled) -> impl Iterator<Item = (&'a delta::Table, SchemaRef)> {
        let sinks = compiled.sinks.iter();
        sinks.filter_map(move |(sink, schema)| Some((self.tables.get(&sink.name)?, archive_schema(schema))))
    }
}

#[async_trait]
impl Planner for Cluster {
    type Plan = Compiled;

    async fn plan(&self, grown: &Grown) -> Result<Compiled, growth::Error> {
        let planner = self.planner.read().unwrap_or_else(PoisonError::into_inner).clone();
        let compiled = planner.plan(grown).await?;
        for (table, schema) in self.archived(&compiled) {
            table.check_growth(&schema).await.map_err(|error| match error {
                delta::Error::Delta { .. } => growth::Error::Moment(error.to_string()),
                error => growth::Error::Refused(error.to_string()),
            })?;
        }
        Ok(compiled)
    }
}

#[async_trait]
impl World for Cluster {
    fn now(&self) -> i64 {
        Utc::now().timestamp_millis()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    async fn run(&self, run: EpochRun, group: Option<&str>, splits: &[Split]) -> Result<(), String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let name = format!("{} epoch {}", run.job, run.epoch);
        let plan = self.compiled().plan(run, splits).map_err(|error| text(&error))?;
        let plan = epoch_table::logical(plan).map_err(|error| text(&error))?;
        let session = self.engine.session().map_err(|error| text(&error))?;
        let query = self.engine.submit(&name, group, &session, &plan).await.map_err(|error| text(&error))?;
        query.finished().await.map_err(|error| text(&error))
    }

    fn archives(&self) -> Vec<String> {
        let compiled = self.compiled();
        let sinks = compiled.sinks.iter().map(|(sink, _)| sink);
        let archives = sinks.filter(|sink| sink.kind == SinkKind::Delta && self.tables.contains_key(&sink.name));
        archives.map(|sink| sink.name.clone()).collect()
    }

    async fn commit(&self, archive: &str, commit: Commit, fence: &Fence<'_>) -> Result<(String, u64), delta::Error> {
        let table = self.tables.get(archive).ok_or_else(|| delta::Error::Missing { url: archive.to_owned() })?;
        let committed = table.commit(commit, fence).await?;
        Ok((table.url().to_string(), committed.version()))
    }

    async fn grow(&self, known: &Grown, met: &[Growth]) -> Result<Option<(Grown, Outline)>, String> {
        let reader = ReaderSchema::from(self.compiled().reader.as_ref());
        let Some((grown, compiled)) = growth::take(self, &reader, known, met).await? else { return Ok(None) };
        for (table, schema) in self.archived(&compiled) {
            table.grow_with_next_commit(&schema).await.map_err(|error| error.to_string())?;
        }
        let outline = compiled.outline();
        *self.compiled.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(compiled);
        Ok(Some((grown, outline)))
    }
}
