//! The world that a pipeline is checked against: folders, the warehouse, brokers, tables that are there.

use std::path::Path;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Fields, SchemaRef};
use futures::TryStreamExt;
use redpoll_connectors::avro::{Encoder, Timestamps};
use redpoll_connectors::sinks::{TopicFormat, archive_schema, kafka_topic, open_table};
use redpoll_connectors::{delta, kafka, sources, widecolumn};
use redpoll_core::protocol::Pipeline;
use redpoll_core::runtime::SourceSpec;
use redpoll_core::sink::{SinkKind, SinkSpec};

use super::Service;
use crate::pipeline::{Surroundings, TableKind};

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
            TableKind::Delta => Ok(format!("{}/{location}", self.inner.warehouse.url.as_str().trim_end_matches('/'))),
            TableKind::Alerts | TableKind::Topic => {
                Ok(Path::new(&pipeline.working_folder).join(location).to_string_lossy().into_owned())
            }
        }
    }

    async fn alerts(&self, spec: &SourceSpec, _: &Pipeline) -> Result<SchemaRef, String> {
        let source = sources::open(spec, &self.inner.stores).await.map_err(|error| error.to_string())?;
        sources::format(spec).map_err(|error| error.to_string())?;
        if spec.url.starts_with("kafka://") {
            // A topic that is not there is found now, not at night.
            source.begin(Default::default()).await.map_err(|error| error.to_string())?;
        }
        self.bucket(&spec.url).await?;
        sources::schema(spec, source.as_ref()).await.map_err(|error| error.to_string())
    }

    async fn sink(&self, spec: &SinkSpec, schema: &SchemaRef) -> Result<(), String> {
        self.bucket(&spec.url).await?;
        match spec.kind {
            SinkKind::Delta => self.check_archive(spec, schema).await,
            SinkKind::Store => {
                let store = self.inner.config.store.as_deref();
                open_table(spec, schema, store).map(|_| ()).map_err(|error| error.reason)
            }
            SinkKind::Topic => check_topic(spec, schema).await,
        }
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

    async fn check_archive(&self, spec: &SinkSpec, schema: &SchemaRef) -> Result<(), String> {
        if let Some(option) = spec.options.keys().next() {
            return Err(format!("there is no option '{option}' of a DELTA table"));
        }
        let text = |error: delta::Error| error.to_string();
        let wanted = delta::delta_schema(&archive_schema(schema)).map_err(text)?;
        if let Some(missing) = spec.partition_by.iter().find(|name| wanted.field_with_name(name).is_err()) {
            return Err(format!(
                "it is PARTITIONED BY ({missing}), but the SELECT has no column '{missing}'; add one with AS {missing}"
            ));
        }
        let url = delta::location(&spec.url).map_err(text)?;
        // A table that cannot be opened is made when the job starts.
        let Ok(table) = delta::Table::open(&url).await else { return Ok(()) };
        table.check_partitioning(&spec.partition_by).await.map_err(text)?;
        let have = table.schema().await.map_err(text)?;
        clash("", have.fields(), wanted.fields())
    }
}

/// Whether a column of the same name has another type.
fn clash(prefix: &str, have: &Fields, wanted: &Fields) -> Result<(), String> {
    for field in wanted {
        let Some((_, old)) = have.find(field.name()) else { continue };
        let path = format!("{prefix}{}", field.name());
        same_type(&path, old.data_type(), field.data_type())?;
    }
    Ok(())
}

fn same_type(path: &str, have: &DataType, wanted: &DataType) -> Result<(), String> {
    match (have, wanted) {
        (DataType::Struct(have), DataType::Struct(wanted)) => clash(&format!("{path}."), have, wanted),
        (DataType::List(have), DataType::List(wanted)) => same_type(path, have.data_type(), wanted.data_type()),
        (DataType::Map(_, _), DataType::Map(_, _)) => Ok(()),
        (have, wanted) if have == wanted => Ok(()),
        (have, wanted) => Err(format!(
            "column '{path}' is {have} in the table and {wanted} in the SELECT; CAST it, or give it another name"
        )),
    }
}

async fn check_topic(spec: &SinkSpec, schema: &SchemaRef) -> Result<(), String> {
    let format = TopicFormat::of(spec).map_err(|error| error.reason)?;
    if format == TopicFormat::Fink && spec.options.contains_key("key") {
        return Err("in format 'fink' the key is the schema; leave out the option 'key', or use 'confluent' or 'ocf'"
            .to_owned());
    }
    Encoder::new(schema.clone(), "alert", Timestamps::Text).map_err(|error| error.to_string())?;
    if !spec.url.starts_with("kafka://") {
        let known = TopicFormat::OPTIONS;
        return match spec.options.keys().find(|option| !known.contains(&option.as_str())) {
            Some(option) => Err(format!("there is no option '{option}' of a folder; there is: {}", known.join(", "))),
            None => Ok(()),
        };
    }
    let (config, topic) = kafka_topic(spec).map_err(|error| error.reason)?;
    let missing = kafka::prepare(&config, std::slice::from_ref(&topic), 0).await.map_err(|error| error.to_string())?;
    match missing.is_empty() {
        true => Ok(()),
        false => Err(format!("the broker has no topic '{topic}'; create it before the job starts")),
    }
}
