//! Tables of alerts: the connector follows from the URL, the framing from the option `format`.

use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::{DataType, Fields, SchemaRef};
use futures::TryStreamExt;
use redpoll_core::objects::Stores;
use redpoll_core::runtime::SourceSpec;
use redpoll_core::source::{Error, Offsets, Record, Source, Start};

use crate::avro::{Format, ReaderSchema};
use crate::{folder, kafka};

/// Options of a table of alerts that are not the broker's.
pub const OPTIONS: [&str; 5] = ["format", "schema", "registry", "new_fields", ID_OPTION];
/// The column that names an alert, where findings of an audit name it. It changes nothing that is written.
pub const ID_OPTION: &str = "id";
/// Records that are looked at when no schema is declared.
const SAMPLES: usize = 16;

/// Opens the source of a table.
pub async fn open(spec: &SourceSpec, stores: &Stores) -> Result<Arc<dyn Source>, Error> {
    let others: std::collections::BTreeMap<_, _> =
        spec.options.iter().filter(|(name, _)| !OPTIONS.contains(&name.as_str())).collect();
    if spec.url.starts_with("kafka://") {
        let options = others.into_iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let option = |error: kafka::Error| Error::Read { location: spec.url.clone(), reason: error.to_string() };
        return Ok(Arc::new(kafka::Source::new(kafka::Config::parse(&spec.url, &options).map_err(option)?)?));
    }
    if let Some((name, _)) = others.first_key_value() {
        return Err(Error::Option {
            option: (*name).clone(),
            location: spec.url.clone(),
            reason: format!("files have the options {}", OPTIONS.join(", ")),
        });
    }
    let wrong =
        |error: redpoll_core::objects::Error| Error::Read { location: spec.url.clone(), reason: error.to_string() };
    let location = stores.locate(&spec.url).map_err(wrong)?;
    folder::open(&spec.url, location.store, location.path).await
}

/// The framing of a table's records.
pub fn format(spec: &SourceSpec) -> Result<Format, Error> {
    let option = |name: &str| spec.options.get(name).map(String::as_str);
    let format = option("format").unwrap_or("ztf");
    Format::open(format, option("schema"), option("registry")).map_err(|error| Error::Option {
        option: "format".into(),
        location: spec.name.clone(),
        reason: error.to_string(),
    })
}

/// The columns of a table: those of its schema file, else those that its first records were written with. Fields that
/// only later writers have are added as they are met, unless the table says `'new_fields' 'ignore'`.
pub async fn schema(spec: &SourceSpec, source: &dyn Source) -> Result<SchemaRef, Error> {
    let mut schema = declared(spec, source).await?;
    match spec.options.get("new_fields").map_or("add", String::as_str) {
        "add" => {}
        "ignore" => schema.close(),
        other => {
            let (option, location) = ("new_fields".to_owned(), spec.name.clone());
            return Err(Error::Option { option, location, reason: format!("'{other}' is neither add nor ignore") });
        }
    }
    Ok(schema.arrow())
}

async fn declared(spec: &SourceSpec, source: &dyn Source) -> Result<ReaderSchema, Error> {
    let wrong = |reason: String| Error::Option { option: "schema".into(), location: spec.name.clone(), reason };
    if let Some(path) = spec.options.get("schema") {
        let text = std::fs::read_to_string(Path::new(path)).map_err(|error| wrong(format!("{path}: {error}")))?;
        return ReaderSchema::from_avsc(&text).map_err(|error| wrong(format!("{path}: {error}")));
    }
    let samples = samples(source).await?;
    let format = format(spec)?;
    format.prepare(&samples).await.map_err(|error| wrong(error.to_string()))?;
    let readable: Vec<Record> = samples.into_iter().filter(|record| format.writer_schema(record).is_ok()).collect();
    ReaderSchema::from_records(&format, &readable).map_err(|error| {
        wrong(format!("{error} (first records of {}); declare one with OPTIONS ('schema' 'FILE.avsc')", spec.url))
    })
}

async fn samples(source: &dyn Source) -> Result<Vec<Record>, Error> {
    let mut samples = Vec::new();
    for range in source.available(&Offsets::new(), Start::Earliest, 64 << 20).await? {
        let end = range.end.min(range.start + 4);
        let mut records = source.read(range.slice(range.start, end));
        while let Some(record) = records.try_next().await? {
            samples.push(record);
        }
        if samples.len() >= SAMPLES {
            break;
        }
    }
    Ok(samples)
}

/// The dotted paths of a schema's leaves, lists and structs passed through.
pub fn paths(schema: &SchemaRef) -> Vec<String> {
    leaves(schema).into_iter().map(|(path, _)| path).collect()
}

/// The same, each with its type.
pub fn leaves(schema: &SchemaRef) -> Vec<(String, &DataType)> {
    let mut leaves = Vec::new();
    collect(schema.fields(), "", &mut leaves);
    leaves
}

fn collect<'a>(fields: &'a Fields, prefix: &str, leaves: &mut Vec<(String, &'a DataType)>) {
    for field in fields {
        let path = format!("{prefix}{}", field.name());
        match inner(field.data_type()) {
            Some(fields) => collect(fields, &format!("{path}."), leaves),
            None => leaves.push((path, field.data_type())),
        }
    }
}

fn inner(data_type: &DataType) -> Option<&Fields> {
    match data_type {
        DataType::Struct(fields) => Some(fields),
        DataType::List(item) => inner(item.data_type()),
        _ => None,
    }
}
