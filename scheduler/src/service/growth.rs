//! A running job's pipeline compiled anew, for alerts that have more fields than its columns.

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use redpoll_connectors::avro::{ReaderSchema, RegistryError};
use redpoll_connectors::sinks::{SchemaId, TopicFormat, open_table, register_schema};
use redpoll_core::protocol::{Grown, Pipeline};
use redpoll_core::runtime::SourceSpec;
use redpoll_core::sink::{SinkKind, SinkSpec};

use redpoll_udfs::registry::Registry;

use super::Service;
use crate::coordinator::growth::{Error, Planner};
use crate::pipeline::{At, Compiled, Finding, Problems, Surroundings, TableKind, compile};

/// The world that a pipeline is checked against, but for the columns of its alerts.
pub(super) struct Outgrown<'a> {
    pub service: &'a Service,
    /// The columns as the job knows them; asked of the source if it is new.
    pub columns: Option<&'a SchemaRef>,
    pub grown: &'a Grown,
}

#[async_trait]
impl Surroundings for Outgrown<'_> {
    fn locate(&self, kind: TableKind, location: &str, pipeline: &Pipeline) -> Result<String, String> {
        self.service.locate(kind, location, pipeline)
    }

    async fn alerts(&self, spec: &SourceSpec, pipeline: &Pipeline) -> Result<SchemaRef, Vec<Finding>> {
        let columns = match self.columns {
            Some(columns) => columns.clone(),
            None => self.service.alerts(spec, pipeline).await?,
        };
        let grown = ReaderSchema::from(columns.as_ref()).with(self.grown);
        grown.map(|grown| grown.arrow()).map_err(|error| vec![Finding::problem(At::Declaration, error)])
    }

    async fn sink(&self, spec: &SinkSpec, rows: &[SchemaRef]) -> Vec<Finding> {
        self.service.sink(spec, rows).await
    }
}

impl Service {
    /// As [`Service::check`], for a job whose alerts have grown.
    pub(super) async fn check_grown(
        &self,
        pipeline: &Pipeline,
        grown: &Grown,
        registry: &Registry,
    ) -> Result<Compiled, Problems> {
        let world = Outgrown { service: self, columns: None, grown };
        compile(pipeline, &self.inner.functions, registry, &world).await
    }
}

/// Plans a job anew from what it was begun with.
pub(super) struct JobPlanner {
    service: Service,
    pipeline: Pipeline,
    /// The modules as they were: alerts that grow bring no other versions.
    registry: Registry,
    /// Columns of the alerts before they grew.
    columns: SchemaRef,
    /// Sinks that are ready, each with its rows.
    sinks: Vec<(SinkSpec, SchemaRef)>,
}

impl JobPlanner {
    pub fn new(service: &Service, pipeline: &Pipeline, registry: &Registry, begun: &Compiled) -> Self {
        let (service, pipeline, registry) = (service.clone(), pipeline.clone(), registry.clone());
        Self { service, pipeline, registry, columns: begun.reader.clone(), sinks: begun.sinks.clone() }
    }

    /// For the same alerts, another pipeline and other modules; `begun` is what runs now.
    pub fn for_swap(&self, pipeline: Pipeline, registry: Registry, begun: &Compiled) -> Self {
        let (service, columns, sinks) = (self.service.clone(), self.columns.clone(), begun.sinks.clone());
        Self { service, pipeline, registry, columns, sinks }
    }

    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }
}

#[async_trait]
impl Planner for JobPlanner {
    type Plan = Compiled;

    async fn plan(&self, grown: &Grown) -> Result<Compiled, Error> {
        let inner = &self.service.inner;
        let world = Outgrown { service: &self.service, columns: Some(&self.columns), grown };
        let compiled = compile(&self.pipeline, &inner.functions, &self.registry, &world).await;
        let compiled = compiled.map_err(Error::Problems)?;
        for (sink, schema) in &compiled.sinks {
            if !self.sinks.iter().any(|(begun, same)| begun.name == sink.name && same == schema) {
                self.prepare(sink, schema).await?;
            }
        }
        Ok(compiled)
    }
}

impl JobPlanner {
    /// Makes ready what a sink needs for rows of other columns than it began with.
    async fn prepare(&self, sink: &SinkSpec, schema: &SchemaRef) -> Result<(), Error> {
        let refused = |error: &dyn std::fmt::Display| Error::Refused(format!("table '{}': {error}", sink.name));
        match sink.kind {
            // The engine's tables are asked where they are open.
            SinkKind::Delta => Ok(()),
            SinkKind::Store => {
                let store = self.service.inner.config.store.as_deref();
                let table = open_table(sink, schema, store).map_err(|error| refused(&error.reason))?;
                table.create().await.map_err(|error| Error::Unsure(format!("table '{}': {error}", sink.name)))
            }
            SinkKind::Topic => match TopicFormat::of(sink).map_err(|error| refused(&error.reason))? {
                TopicFormat::Confluent(SchemaId::Known(id)) => Err(refused(&format!(
                    "its alerts are written with schema_id {id}, which does not have the field; give 'registry' instead"
                ))),
                TopicFormat::Confluent(SchemaId::Registry(url)) => {
                    register_schema(sink, &url, schema).await.map_err(|error| match error {
                        RegistryError::Incompatible { .. } => refused(&error),
                        error => Error::Moment(format!("table '{}': {error}", sink.name)),
                    })
                }
                TopicFormat::Fink | TopicFormat::Ocf => Ok(()),
            },
        }
    }
}
