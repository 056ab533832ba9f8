//! Topics and folders of Avro: their options, and whether broker and registry would take the rows.

use std::collections::BTreeMap;

use datafusion::arrow::datatypes::SchemaRef;
use redpoll_connectors::kafka;
use redpoll_connectors::sinks::{SchemaId, TopicFormat, check_schema, check_topic_options, kafka_topic, topic_schema};
use redpoll_core::sink::SinkSpec;

use super::source::broker_options;
use super::unknown;
use crate::pipeline::{At, Finding};

/// What an option of a topic means nothing for.
const NOT_OF_FOLDERS: [&str; 3] = ["key", "partition", "delivery"];

pub(super) fn options(spec: &SinkSpec) -> Vec<Finding> {
    let is_kafka = spec.url.starts_with("kafka://");
    let mut findings = match is_kafka {
        true => {
            let ours = |option: &&String| TopicFormat::OPTIONS.contains(&option.as_str());
            let others: BTreeMap<_, _> = spec.options.iter().filter(|(option, _)| !ours(option)).collect();
            broker_options(&spec.url, &others, &TopicFormat::OPTIONS, "a topic")
        }
        false => unknown(spec.options.keys(), &TopicFormat::OPTIONS, "a folder"),
    };
    let wrong = check_topic_options(spec).into_iter();
    findings.extend(wrong.map(|(option, error)| match spec.options.contains_key(option) {
        true => Finding::problem(At::Value(option.to_owned()), error.reason),
        false => Finding::problem(At::Declaration, error.reason),
    }));
    findings.extend(without_effect(spec, is_kafka));
    findings
}

/// Options that are known, and mean nothing beside the others. A variable may have chosen those.
fn without_effect(spec: &SinkSpec, is_kafka: bool) -> Vec<Finding> {
    let format = TopicFormat::of(spec);
    let is = |wanted: fn(&TopicFormat) -> bool| format.as_ref().is_ok_and(wanted);
    let mut found: Vec<(&str, &str)> = Vec::new();
    if !is_kafka {
        found.extend(NOT_OF_FOLDERS.map(|option| (option, "in a folder of Avro files")));
    }
    if is_kafka && is(|format| *format != TopicFormat::Ocf) {
        found.push(("codec", "in a format without containers"));
    }
    if is(|format| !matches!(format, TopicFormat::Confluent(_))) {
        found.extend(["schema_id", "registry"].map(|option| (option, "in formats other than 'confluent'")));
    }
    if is(|format| matches!(format, TopicFormat::Confluent(SchemaId::Known(_)))) {
        found.push(("registry", "beside 'schema_id'"));
    }
    let mut findings: Vec<Finding> = found
        .into_iter()
        .filter(|(option, _)| spec.options.contains_key(*option))
        .map(|(option, place)| {
            Finding::warning(At::Option(option.to_owned()), format!("option '{option}' means nothing {place}"))
        })
        .collect();
    if is_kafka && spec.options.contains_key("key") && is(|format| *format == TopicFormat::Fink) {
        let text = "in format 'fink' the key is the schema; leave out the option 'key', or use 'confluent' or 'ocf'";
        findings.push(Finding::problem(At::Option("key".to_owned()), text));
    }
    findings
}

pub(super) async fn rows(spec: &SinkSpec, rows: &[SchemaRef]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut schemas = Vec::new();
    for (insert, rows) in rows.iter().enumerate() {
        match topic_schema(spec, rows) {
            Ok(schema) => schemas.push((insert, schema)),
            Err(error) => findings.push(Finding::problem(At::Insert(insert), error.reason)),
        }
    }
    if !spec.url.starts_with("kafka://") || !findings.is_empty() {
        return findings;
    }
    findings.extend(broker(spec).await);
    match TopicFormat::of(spec) {
        Ok(TopicFormat::Confluent(SchemaId::Known(id))) => {
            let others = schemas.iter().filter(|(_, schema)| *schema != schemas[0].1);
            findings.extend(others.map(|(insert, _)| {
                let text = format!("its columns are not those of the INSERT before, and schema_id {id} is one schema");
                Finding::problem(At::Insert(*insert), format!("{text}; give 'registry' instead, or another topic"))
            }));
        }
        Ok(TopicFormat::Confluent(SchemaId::Registry(url))) => {
            for (insert, rows) in rows.iter().enumerate() {
                if let Err(error) = check_schema(spec, &url, rows).await {
                    findings.push(Finding::problem(At::Insert(insert), error));
                }
            }
        }
        Ok(TopicFormat::Fink | TopicFormat::Ocf) | Err(_) => {}
    }
    findings
}

/// Whether the broker answers and has the topic.
async fn broker(spec: &SinkSpec) -> Option<Finding> {
    let (config, topic) = match kafka_topic(spec) {
        Ok(topic) => topic,
        Err(error) => return Some(Finding::problem(At::Declaration, error.reason)),
    };
    match kafka::prepare(&config, std::slice::from_ref(&topic), 0).await {
        Ok(missing) if missing.is_empty() => None,
        Ok(_) => {
            let text = format!("the broker has no topic '{topic}'; create it before the job starts");
            Some(Finding::problem(At::Table, text))
        }
        Err(error) => Some(Finding::problem(At::Table, error)),
    }
}
