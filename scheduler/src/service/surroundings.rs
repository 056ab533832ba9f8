//! The world that a pipeline is checked against: folders, the warehouse, brokers, tables that are there.

mod archive;
mod catalog;
pub(super) mod outbox;
mod source;
mod store;
mod topic;

use std::path::Path;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use futures::TryStreamExt;
use redpoll_connectors::widecolumn;
use redpoll_core::catalog::CatalogSpec;
use redpoll_core::protocol::Pipeline;
use redpoll_core::runtime::SourceSpec;
use redpoll_core::sink::{SinkKind, SinkSpec};

pub(super) use catalog::listed;

use super::Service;
use crate::pipeline::{At, Finding, Listed, Surroundings, TableKind, nearest};

#[async_trait]
impl Surroundings for Service {
    fn locate(&self, kind: TableKind, location: &str, pipeline: &Pipeline) -> Result<String, String> {
        if location.is_empty() {
            return Err("its LOCATION is empty".to_owned());
        }
        match kind {
            TableKind::Store => match widecolumn::Location::parse(location) {
                Ok(location) => Ok(location.to_string()),
                Err(error) => Err(error.to_string()),
            },
            _ if location.contains("://") => Ok(location.to_owned()),
            TableKind::Outbox => {
                let folder = location.strip_prefix("file:").unwrap_or(location);
                Ok(Path::new(&pipeline.working_folder).join(folder).to_string_lossy().into_owned())
            }
            TableKind::Delta => Ok(format!("{}/{location}", self.inner.warehouse.url.as_str().trim_end_matches('/'))),
            TableKind::Alerts | TableKind::Topic | TableKind::Catalog => {
                Ok(Path::new(&pipeline.working_folder).join(location).to_string_lossy().into_owned())
            }
        }
    }

    async fn alerts(&self, spec: &SourceSpec, _: &Pipeline) -> Result<SchemaRef, Vec<Finding>> {
        source::columns(self, spec).await
    }

    async fn sink(&self, spec: &SinkSpec, rows: &[SchemaRef]) -> Vec<Finding> {
        let mut findings = match spec.kind {
            SinkKind::Delta => archive::options(spec),
            SinkKind::Store => store::options(spec),
            SinkKind::Topic => topic::options(spec),
            SinkKind::Outbox => outbox::options(spec),
        };
        // With options that nothing understands, and without rows, there is nothing to ask.
        if rows.is_empty() || findings.iter().any(|finding| !finding.is_warning) {
            return findings;
        }
        if let Err(error) = self.bucket(&spec.url).await {
            findings.push(Finding::problem(At::Table, error));
            return findings;
        }
        findings.extend(match spec.kind {
            SinkKind::Delta => archive::rows(spec, rows).await,
            SinkKind::Store => store::rows(spec, rows, self.inner.config.store.as_deref()).await,
            SinkKind::Topic => topic::rows(spec, rows).await,
            SinkKind::Outbox => outbox::rows(spec, rows),
        });
        findings
    }

    async fn catalog(&self, spec: &CatalogSpec) -> Result<Listed, Vec<Finding>> {
        listed(self, spec, None).await
    }
}

impl Service {
    /// Whether a location's bucket is there and may be listed.
    async fn bucket(&self, url: &str) -> Result<(), String> {
        let Some((bucket, _)) = url.strip_prefix("s3://").map(|rest| rest.split_once('/').unwrap_or((rest, ""))) else {
            return Ok(());
        };
        let location = self.inner.stores.locate(url).map_err(|error| error.to_string())?;
        match location.store.list(Some(&location.path)).try_next().await {
            Ok(_) => Ok(()),
            Err(object_store::Error::NotFound { .. }) => {
                Err(format!("there is no bucket '{bucket}'; create it, or check the AWS_* settings"))
            }
            Err(error) => Err(format!("bucket '{bucket}' cannot be read: {error}; check the AWS_* settings")),
        }
    }
}

/// Options that are none of `known`.
fn unknown<'a>(given: impl IntoIterator<Item = &'a String>, known: &[&str], of: &str) -> Vec<Finding> {
    let unknown = given.into_iter().filter(|option| !known.contains(&option.as_str()));
    let told = unknown.map(|option| {
        let near = nearest(option, known.iter().copied());
        let remedy = if near.is_empty() { "it has none" } else { near.as_str() };
        Finding::problem(At::Option(option.clone()), format!("there is no option '{option}' of {of}; {remedy}"))
    });
    told.collect()
}
