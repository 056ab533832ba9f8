//! `redpoll quarantine`: the records that did not decode, and why.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use arrow::array::{AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use clap::Subcommand;
use serde_json::{Value, json};

use crate::args::{ListFormat, Place};
use crate::client::Client;
use crate::exit::Usage;
use crate::output::table::{self, Align, Table};
use crate::output::{self, paint};
use crate::values::{counted, grouped};
use crate::warehouse::Warehouse;

const EXAMPLES: &str = "\
Examples:
  redpoll quarantine list
  redpoll quarantine list --job ztf-night --format json
  redpoll quarantine show 'ztf_20260102[3]@81234'
  redpoll quarantine show 17.avro --save 17.avro";

const LIST_EXAMPLES: &str = "\
Examples:
  redpoll quarantine list
  redpoll quarantine list --job ztf-night --format json | jq -r '.[].error'
  redpoll sql \"SELECT topic, error FROM redpoll.quarantine\"";

const SHOW_EXAMPLES: &str = "\
Examples:
  redpoll quarantine show 'ztf_20260102[3]@81234'
  redpoll quarantine show 17.avro --save 17.avro
  redpoll quarantine show 17.avro --format json | jq -r .value | base64 -d";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the records that were set aside
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArgs),
    /// Show one record: its place, the error, its first bytes
    #[command(after_help = SHOW_EXAMPLES)]
    Show(ShowArgs),
}

#[derive(Debug, clap::Args)]
pub struct ListArgs {
    #[command(flatten)]
    pub of: Of,
    /// Form of the list on stdout
    #[arg(long, env = "REDPOLL_FORMAT", value_enum, default_value = "table")]
    pub format: ListFormat,
}

#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// Which record: topic[partition]@offset as in the list, or the end of a file's name
    pub record: String,
    #[command(flatten)]
    pub of: Of,
    /// Write the record's bytes to this file
    #[arg(long, env = "REDPOLL_SAVE", value_name = "FILE")]
    pub save: Option<PathBuf>,
    /// Form of the answer on stdout
    #[arg(long, env = "REDPOLL_FORMAT", value_enum, default_value = "table")]
    pub format: ListFormat,
}

#[derive(Debug, clap::Args)]
pub struct Of {
    /// Only this job's
    #[arg(long, env = "REDPOLL_JOB", value_name = "NAME")]
    pub job: Option<String>,
    #[command(flatten)]
    pub place: Place,
}

/// A record that did not decode.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub job: String,
    pub epoch: i64,
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub fingerprint: Option<String>,
    pub error: String,
    pub key: Option<Vec<u8>>,
    pub value: Vec<u8>,
}

pub async fn run(args: Args) -> Result<()> {
    match args.command {
        Command::List(args) => list(args).await,
        Command::Show(args) => show(args).await,
    }
}

async fn list(args: ListArgs) -> Result<()> {
    let records = read(&args.of).await?;
    match args.format {
        ListFormat::Json => {
            let rows: Vec<Value> = records.iter().map(Record::json).collect();
            output::line(serde_json::to_string(&rows)?)?;
        }
        ListFormat::Table => output::text(table_of(&records, table::terminal_width()))?,
    }
    Ok(())
}

fn table_of(records: &[Record], width: Option<usize>) -> String {
    if records.is_empty() {
        return "nothing was set aside: every record decoded\n".to_owned();
    }
    let mut table = Table::new([
        ("job", Align::Left),
        ("epoch", Align::Right),
        ("record", Align::Left),
        ("bytes", Align::Right),
        ("error", Align::Left),
    ]);
    for record in records {
        let bytes = grouped(record.value.len() as u64);
        table.row([record.job.clone(), record.epoch.to_string(), record.place(), bytes, record.error.clone()]);
    }
    let note = format!("{}; look at one with: redpoll quarantine show RECORD", counted(records.len() as u64, "record"));
    format!("{}{}\n", table.render(width), paint::dim(note))
}

async fn show(args: ShowArgs) -> Result<()> {
    let records = read(&args.of).await?;
    let record = find(&records, &args.record)?;
    if let Some(file) = &args.save {
        std::fs::write(file, &record.value).with_context(|| format!("{}: cannot be written", file.display()))?;
    }
    match args.format {
        ListFormat::Json => {
            let mut row = record.json();
            row["key"] = record.key.as_ref().map(|key| BASE64_STANDARD.encode(key)).into();
            row["value"] = BASE64_STANDARD.encode(&record.value).into();
            output::line(row.to_string())?;
        }
        ListFormat::Table => output::text(record.describe())?,
    }
    Ok(())
}

fn find<'a>(records: &'a [Record], name: &str) -> Result<&'a Record> {
    let found: Vec<&Record> =
        records.iter().filter(|record| record.place() == name || record.topic.ends_with(name)).collect();
    match found.as_slice() {
        [record] => Ok(record),
        [] => bail!("no record '{name}' was set aside; see: redpoll quarantine list"),
        [first, second, ..] => {
            let several = found.len();
            Err(anyhow!(Usage(format!(
                "'{name}' is {several} records, such as {} and {}",
                first.place(),
                second.place()
            ))))
        }
    }
}

async fn read(of: &Of) -> Result<Vec<Record>> {
    let mut all = Vec::new();
    if let Some(url) = &of.place.scheduler {
        let (_, batches) = Client::new(url.clone())?.sql("SELECT * FROM redpoll.quarantine").await?.collect().await?;
        all = records(&batches)?;
        all.retain(|record| of.job.as_ref().is_none_or(|job| *job == record.job));
        return Ok(all);
    }
    let warehouse = Warehouse::existing(&of.place.warehouse)?;
    for job in warehouse.select(of.job.as_deref()).await? {
        all.extend(records(&warehouse.quarantine(&job).await?)?);
    }
    Ok(all)
}

/// The rows of quarantine files.
pub fn records(batches: &[RecordBatch]) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    for batch in batches {
        let column = |name: &str, data_type: &DataType| {
            let column =
                batch.column_by_name(name).ok_or_else(|| anyhow!("a quarantine file has no column '{name}'"))?;
            Ok::<_, anyhow::Error>(cast(column, data_type)?)
        };
        let text = |name| column(name, &DataType::Utf8);
        let (job, topic, fingerprint, error) = (text("job")?, text("topic")?, text("fingerprint")?, text("error")?);
        let (epoch, offset) = (column("epoch", &DataType::Int64)?, column("offset", &DataType::Int64)?);
        let partition = column("partition", &DataType::Int32)?;
        let (key, value) = (column("key", &DataType::Binary)?, column("value", &DataType::Binary)?);
        let texts = [&job, &topic, &error].map(|column| column.as_string::<i32>());
        let fingerprints = fingerprint.as_string::<i32>();
        let keys = key.as_binary::<i32>();
        for i in 0..batch.num_rows() {
            let [job, topic, error] = texts.map(|column| column.value(i).to_owned());
            records.push(Record {
                job,
                topic,
                error,
                epoch: epoch.as_primitive::<Int64Type>().value(i),
                partition: partition.as_primitive::<Int32Type>().value(i),
                offset: offset.as_primitive::<Int64Type>().value(i),
                fingerprint: fingerprints.iter().nth(i).flatten().map(str::to_owned),
                key: keys.iter().nth(i).flatten().map(<[u8]>::to_vec),
                value: value.as_binary::<i32>().value(i).to_vec(),
            });
        }
    }
    Ok(records)
}

impl Record {
    fn place(&self) -> String {
        format!("{}[{}]@{}", self.topic, self.partition, self.offset)
    }

    fn json(&self) -> Value {
        json!({
            "job": self.job, "epoch": self.epoch, "topic": self.topic, "partition": self.partition,
            "offset": self.offset, "bytes": self.value.len(), "fingerprint": self.fingerprint, "error": self.error,
        })
    }

    fn describe(&self) -> String {
        let none = || "-".to_owned();
        let key = self.key.as_ref().map_or_else(none, |key| counted(key.len() as u64, "byte"));
        format!(
            "{}\n  job     {}, epoch {}\n  error   {}\n  schema  {}\n  key     {key}\n  value   {}\n\n{}",
            paint::bold(self.place()),
            self.job,
            self.epoch,
            self.error,
            self.fingerprint.clone().unwrap_or_else(none),
            counted(self.value.len() as u64, "byte"),
            dump(&self.value),
        )
    }
}

/// The first bytes, sixteen a line, in hexadecimal and as text.
fn dump(bytes: &[u8]) -> String {
    const SHOWN: usize = 256;
    let mut out = Vec::new();
    for (i, line) in bytes[..bytes.len().min(SHOWN)].chunks(16).enumerate() {
        let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        let text: String =
            line.iter().map(|byte| if (0x20..0x7f).contains(byte) { *byte as char } else { '·' }).collect();
        // Writing to memory does not fail.
        let _ = writeln!(out, "  {:06x}  {:<47}  {text}", i * 16, hex.join(" "));
    }
    if bytes.len() > SHOWN {
        let _ = writeln!(out, "  … {} bytes more; --save FILE keeps them all", grouped((bytes.len() - SHOWN) as u64));
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
pub mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, BinaryArray, Int32Array, Int64Array, StringArray};
    use bytes::Bytes;
    use parquet::arrow::ArrowWriter;
    use redpoll_core::quarantine::schema;

    use super::*;

    fn batch(error: &str) -> RecordBatch {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec!["ztf-night"])),
            Arc::new(Int64Array::from(vec![0])),
            Arc::new(StringArray::from(vec!["17.avro"])),
            Arc::new(Int32Array::from(vec![0])),
            Arc::new(Int64Array::from(vec![17])),
            Arc::new(StringArray::from(vec![None::<&str>])),
            Arc::new(StringArray::from(vec![error])),
            Arc::new(BinaryArray::from(vec![None])),
            Arc::new(BinaryArray::from(vec![&b"Obj\x01 and no more"[..]])),
        ];
        RecordBatch::try_new(schema(), columns).unwrap()
    }

    /// A quarantine file of one record.
    pub fn file(error: &str) -> Bytes {
        let mut writer = ArrowWriter::try_new(Vec::new(), schema(), None).unwrap();
        writer.write(&batch(error)).unwrap();
        writer.into_inner().unwrap().into()
    }

    #[test]
    fn the_list_gives_place_size_and_error() {
        let records = records(&[batch("it ends early")]).unwrap();
        let text = table_of(&records, None);
        assert!(text.contains("ztf-night      0  17.avro[0]@17     16  it ends early"), "{text}");
        assert_eq!(table_of(&[], None), "nothing was set aside: every record decoded\n");
    }

    #[test]
    fn a_record_is_found_by_its_place_or_file() {
        let records = records(&[batch("it ends early")]).unwrap();
        assert_eq!(find(&records, "17.avro[0]@17").unwrap(), find(&records, "17.avro").unwrap());
        assert!(find(&records, "18.avro").unwrap_err().to_string().contains("quarantine list"));
        let text = records[0].describe();
        assert!(text.contains("000000  4f 62 6a 01 20"), "{text}");
        assert!(text.contains("Obj· and no more"), "{text}");
    }
}
