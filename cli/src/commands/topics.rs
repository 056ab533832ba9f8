//! `redpoll topics`: what topics there are and how much is in them, on Kafka or in a folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use redpoll_connectors::kafka;
use serde_json::{Value, json};

use crate::args::ListFormat;
use crate::exit::Usage;
use crate::output;
use crate::output::table::{self, Align, Table};
use crate::values::{self, grouped};

const EXAMPLES: &str = "\
Examples:
  redpoll topics kafka://broker:9092
  redpoll topics kafka://broker:9092/ztf --option security.protocol=SASL_SSL
  redpoll topics ./topics";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// kafka://host:port, with a topic to see that one only; or a folder that holds a folder for each topic
    pub location: String,
    /// A setting of the Kafka client, as in the OPTIONS of a table; may be given several times
    #[arg(long, env = "REDPOLL_OPTION", value_name = "NAME=VALUE", value_parser = values::setting, value_delimiter = '\n')]
    pub option: Vec<(String, String)>,
    /// Form of the list on stdout
    #[arg(long, env = "REDPOLL_FORMAT", value_enum, default_value = "table")]
    pub format: ListFormat,
}

pub async fn run(args: Args) -> Result<()> {
    let rows = match args.location.starts_with("kafka://") {
        true => on_kafka(&args.location, &args.option.iter().cloned().collect()).await?,
        false => in_folder(Path::new(&args.location))?,
    };
    match args.format {
        ListFormat::Json => output::line(json!(rows).to_string())?,
        ListFormat::Table if rows.is_empty() => output::line(format!("no topics at {}", args.location))?,
        ListFormat::Table => output::text(table_of(&rows).render(table::terminal_width()))?,
    }
    Ok(())
}

async fn on_kafka(location: &str, options: &BTreeMap<String, String>) -> Result<Vec<Value>> {
    let config = kafka::Config::parse(location, options).map_err(|error| Usage(error.to_string()))?;
    let topics = kafka::topics(&config).await?;
    let row = |topic: &kafka::Topic| {
        let partitions: Vec<Value> = topic
            .partitions
            .iter()
            .map(|part| json!({ "partition": part.partition, "earliest": part.earliest, "end": part.end }))
            .collect();
        let offsets: i64 = topic.partitions.iter().map(|part| part.end - part.earliest).sum();
        json!({ "topic": topic.name, "partitions": partitions, "offsets": offsets })
    };
    Ok(topics.iter().map(row).collect())
}

/// A folder of Avro files is a topic; `location` is one, or holds some.
fn in_folder(location: &Path) -> Result<Vec<Value>> {
    let unreadable = || format!("{}: no folder of topics", location.display());
    let mut folders = vec![location.to_path_buf()];
    for entry in fs::read_dir(location).with_context(unreadable)? {
        folders.push(entry.with_context(unreadable)?.path());
    }
    folders.sort();
    let mut rows = Vec::new();
    for folder in folders.iter().filter(|folder| folder.is_dir()) {
        let (mut files, mut bytes) = (0_u64, 0_u64);
        for entry in fs::read_dir(folder).with_context(unreadable)? {
            let entry = entry.with_context(unreadable)?;
            if entry.path().extension().is_some_and(|extension| extension == "avro") {
                files += 1;
                bytes += entry.metadata().with_context(unreadable)?.len();
            }
        }
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if files > 0 || folder != location {
            rows.push(json!({ "topic": name, "files": files, "bytes": bytes }));
        }
    }
    Ok(rows)
}

fn table_of(rows: &[Value]) -> Table {
    let of_kafka = rows.first().is_some_and(|row| row.get("offsets").is_some());
    let columns = if of_kafka { ["topic", "partitions", "offsets"] } else { ["topic", "files", "bytes"] };
    let align = |name| if name == "topic" { Align::Left } else { Align::Right };
    let mut table = Table::new(columns.map(|name| (name, align(name))));
    for row in rows {
        table.row(columns.map(|name| match &row[name] {
            Value::String(text) => text.clone(),
            Value::Array(partitions) => partitions.len().to_string(),
            number => number.as_u64().map(grouped).unwrap_or_default(),
        }));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_folder_of_avro_files_is_a_topic() {
        let folder = tempfile::tempdir().unwrap();
        for file in ["bright/1.avro", "bright/2.avro", "bright/notes.txt", "rising/1.avro"] {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"12345").unwrap();
        }
        let rows = in_folder(folder.path()).unwrap();
        assert_eq!(
            rows,
            [
                json!({ "topic": "bright", "files": 2, "bytes": 10 }),
                json!({ "topic": "rising", "files": 1, "bytes": 5 })
            ]
        );
        assert!(table_of(&rows).render(None).contains("bright      2     10"));
    }

    #[test]
    fn partitions_of_a_topic_are_counted_in_the_table() {
        let rows = [json!({ "topic": "ztf", "partitions": [{ "partition": 0 }, { "partition": 1 }], "offsets": 1234 })];
        assert!(table_of(&rows).render(None).ends_with("ztf             2    1,234\n"));
    }
}
