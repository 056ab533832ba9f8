//! Filters deployed to running jobs: checked as pipelines are, and their yield told before they are activated.

use std::collections::BTreeMap;

use chrono::Utc;
use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, UInt64Type};
use redpoll_core::protocol::{Grown, Pipeline};
use redpoll_udfs::registry::{Filter, State};
use serde::{Deserialize, Serialize};

use super::modules::{Outcome, absent};
use super::{Error, Service};
use crate::pipeline::{Compiled, filters};

/// A filter that is to be deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilterRequest {
    pub name: String,
    pub filter: Filter,
    /// It is checked and not deployed.
    #[serde(default)]
    pub dry_run: bool,
    /// One of that name is replaced.
    #[serde(default)]
    pub replace: bool,
}

/// What a filter would have picked of a night of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Yield {
    /// Table that has the rows of the filter's view.
    pub table: String,
    pub night: Option<String>,
    /// Of the view, in that night.
    pub rows: u64,
    /// Of those, picked by the condition.
    pub picked: u64,
}

impl Service {
    /// Checks a filter against its job, then deploys it: the job takes it over between two epochs.
    pub async fn add_filter(&self, request: FilterRequest) -> Result<BTreeMap<String, Outcome>, Error> {
        let FilterRequest { name, filter, dry_run, replace } = request;
        let filter = Filter { added_at: Utc::now().timestamp_millis(), ..self.settled(filter).await? };
        self.check_filter(&name, &filter).await?;
        let change = |state: &mut State| {
            let known = state.filters.get(&name);
            if let Some(known) = known.filter(|known| !replace && !is_same(known, &filter)) {
                return Err(Error::Refused(format!(
                    "there is a filter '{name}' of job '{}', where {}; remove it first, or replace it",
                    known.job, known.condition
                )));
            }
            if !known.is_some_and(|known| is_same(known, &filter)) {
                state.filters.insert(name.clone(), filter.clone());
            }
            Ok(format!("filter {name} is deployed to job {}", filter.job))
        };
        self.deploy(change, dry_run).await
    }

    /// Takes a filter out of its job. Its topic stays, with what it has.
    pub async fn remove_filter(&self, name: &str) -> Result<BTreeMap<String, Outcome>, Error> {
        let change = |state: &mut State| match state.filters.remove(name) {
            Some(_) => Ok(format!("filter {name} is removed")),
            None => Err(absent("filter", name, state.filters.keys())),
        };
        self.deploy(change, false).await
    }

    /// What a filter would have picked of a past night of the archive, by default the last one. Nothing comes back where
    /// no archive table has all rows of its view, or where its condition is not one of SQL alone.
    pub async fn filter_yield(
        &self,
        name: &str,
        filter: &Filter,
        night: Option<&str>,
    ) -> Result<Option<Yield>, Error> {
        let filter = self.settled(filter.clone()).await?;
        let compiled = self.check_filter(name, &filter).await?;
        for table in compiled.archives_of(name) {
            if let Ok(found) = self.yield_in(&table, &filter, night).await {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The filter with what its author left out: the job, if there is one, and from the job's other topics the view, the
    /// place and the format.
    async fn settled(&self, mut filter: Filter) -> Result<Filter, Error> {
        if filter.job.is_empty() {
            filter.job = self.only_job().await?;
        }
        let is_placed = filter.location.contains('/');
        if is_placed && !filter.over.is_empty() {
            return Ok(filter);
        }
        let (pipeline, grown) = self.pipeline_of(&filter.job).await?;
        let current = self.look().await?;
        let compiled = self.check_grown(&pipeline, &grown, &current.registry).await?;
        if filter.over.is_empty() {
            compiled.base_of_topics().clone_into(&mut filter.over);
        }
        if !is_placed {
            let beside = compiled.topics().find_map(|topic| Some((topic, topic.url.rsplit_once('/')?.0)));
            let (topic, folder) = beside.ok_or_else(|| {
                Error::Refused(format!(
                    "job '{}' has no topic that '{}' could stand beside; give it as kafka://HOST:PORT/TOPIC or as a folder",
                    filter.job, filter.location
                ))
            })?;
            filter.location = format!("{folder}/{}", filter.location);
            if let (true, Some(format)) = (filter.options.is_empty(), topic.options.get("format")) {
                filter.options.insert("format".to_owned(), format.clone());
            }
        }
        Ok(filter)
    }

    async fn only_job(&self) -> Result<String, Error> {
        let jobs = self.statuses().await?;
        let going: Vec<&str> = jobs.iter().filter(|job| !job.is_over()).map(|job| job.name.as_str()).collect();
        let all: Vec<&str> = jobs.iter().map(|job| job.name.as_str()).collect();
        match (going.as_slice(), all.as_slice()) {
            ([one], _) | ([], [one]) => Ok((*one).to_owned()),
            (_, []) => Err(Error::Refused("there is no job to give a filter to; `redpoll run` begins one".to_owned())),
            _ => Err(Error::Refused(format!("say which job the filter belongs to: {}", all.join(", ")))),
        }
    }

    /// The job's plan with the filter, or what is wrong with that.
    async fn check_filter(&self, name: &str, filter: &Filter) -> Result<Compiled, Error> {
        let statements = filters::statements(name, filter)?;
        let (pipeline, grown) = self.pipeline_of(&filter.job).await?;
        let current = self.look().await?;
        let mut pipeline = current.pipeline(&filter.job, pipeline)?;
        pipeline.filters.insert(name.to_owned(), statements);
        let compiled = self.check_grown(&pipeline, &grown, &current.registry).await?;
        let taken = current.state.filters.get(name).filter(|other| other.job != filter.job);
        match taken {
            Some(other) => Err(Error::Refused(format!(
                "job '{}' has a filter '{name}'; give this one another name",
                other.job
            ))),
            None => Ok(compiled),
        }
    }

    /// What a job's log says of it.
    async fn pipeline_of(&self, job: &str) -> Result<(Pipeline, Grown), Error> {
        let fold = self.log(job).read().await.map_err(|error| Error::failed(job, error))?;
        let Some(spec) = fold.spec else { return Err(Error::NoJob(job.to_owned())) };
        Ok((spec.pipeline, spec.grown))
    }

    async fn yield_in(&self, table: &str, filter: &Filter, night: Option<&str>) -> Result<Yield, Error> {
        let night = match night {
            Some(night) => Some(night.to_owned()),
            None => self.last_night(table).await,
        };
        let within = night.as_ref().map(|night| format!(" WHERE CAST(night AS VARCHAR) = '{}'", night.replace('\'', "''")));
        let query = format!(
            "SELECT count(*) AS n, sum(CASE WHEN (\n{}\n) THEN 1 ELSE 0 END) AS picked FROM {table}{}",
            filter.condition,
            within.unwrap_or_default()
        );
        let batch = self.one_batch(&query).await?;
        let number = |column: usize| -> Option<u64> {
            let values = cast(batch.column(column), &DataType::UInt64).ok()?;
            Some(values.as_primitive::<UInt64Type>().iter().flatten().sum())
        };
        let (Some(rows), picked) = (number(0), number(1).unwrap_or(0)) else {
            return Err(Error::failed(table, "it does not count"));
        };
        Ok(Yield { table: table.to_owned(), night, rows, picked })
    }

    async fn last_night(&self, table: &str) -> Option<String> {
        let batch = self.one_batch(&format!("SELECT max(CAST(night AS VARCHAR)) AS night FROM {table}")).await.ok()?;
        let nights = cast(batch.column_by_name("night")?, &DataType::Utf8).ok()?;
        nights.as_string::<i32>().iter().flatten().next().map(str::to_owned)
    }

    async fn one_batch(&self, query: &str) -> Result<RecordBatch, Error> {
        let failed = |error: &dyn std::fmt::Display| Error::failed("yield", error);
        let mut batches = self.sql(query).await?.into_batches().map_err(|error| failed(&error))?;
        let batch = batches.next().ok_or_else(|| failed(&"no row came back"))?;
        batch.map_err(|error| failed(&error))
    }
}

/// But for when it was added.
fn is_same(one: &Filter, other: &Filter) -> bool {
    Filter { added_at: 0, ..one.clone() } == Filter { added_at: 0, ..other.clone() }
}
