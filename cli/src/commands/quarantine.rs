//! `redpoll quarantine`: what was set aside, and why; and how it is sent again.

mod export;
mod record;
mod replay;

use std::path::PathBuf;

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use clap::Subcommand;
use serde_json::{Value, json};

use crate::args::{ListFormat, Place};
use crate::client::Client;
use crate::output::table::{self, Align, Table};
use crate::output::{self, paint};
use crate::values::{counted, grouped};
use crate::warehouse::Warehouse;

pub use record::{Record, records};
use record::{dump, find};

const EXAMPLES: &str = "\
Examples:
  redpoll quarantine list
  redpoll quarantine list --job ztf-night --format json
  redpoll quarantine show 'ztf_20260102[3]@81234'
  redpoll quarantine show 17.avro --save 17.avro
  redpoll quarantine export --to ./set-aside
  redpoll quarantine replay 17.avro --job ztf-night
  redpoll quarantine replay --all --job ztf --scheduler http://host:50050";

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
    /// List the records and alerts that were set aside
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArgs),
    /// Show one record: its place, the errors, its first bytes
    #[command(after_help = SHOW_EXAMPLES)]
    Show(ShowArgs),
    /// Write the bytes of records to files, with an index
    Export(export::Args),
    /// Send records again through the pipeline as it is now
    ///
    /// In the job if it runs, else in one that begins for just that. A table that has an alert already does not get it
    /// twice.
    Replay(replay::Args),
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
    /// Which record, as the list names it: topic[partition]@offset, or the end of a file's name
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

pub async fn run(args: Args) -> Result<()> {
    match args.command {
        Command::List(args) => list(args).await,
        Command::Show(args) => show(args).await,
        Command::Export(args) => export::run(args).await,
        Command::Replay(args) => replay::run(args).await,
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
        ("by", Align::Left),
        ("bytes", Align::Right),
        ("status", Align::Left),
        ("error", Align::Left),
    ]);
    for record in records {
        let bytes = grouped(record.value.len() as u64);
        let (job, epoch) = (record.job.clone(), record.item.epoch.to_string());
        table.row([job, epoch, record.place(), record.by(), bytes, record.status(), record.error.clone()]);
    }
    let left = records.iter().filter(|record| record.status == "set aside").count() as u64;
    let note = format!(
        "{}, {} not sent again; look at one with: redpoll quarantine show RECORD",
        counted(records.len() as u64, "item"),
        grouped(left)
    );
    format!("{}{}\n", table.render(width), paint::dim(note))
}

async fn show(args: ShowArgs) -> Result<()> {
    let records = read(&args.of).await?;
    let items = find(&records, &args.record)?;
    let Some(record) = items.first() else { return Ok(()) };
    if let Some(file) = &args.save {
        std::fs::write(file, &record.value).with_context(|| format!("{}: cannot be written", file.display()))?;
    }
    match args.format {
        ListFormat::Json => {
            let of: Vec<Value> = items.iter().map(|item| item.json()).collect();
            let answer = json!({
                "record": record.record(), "fingerprint": record.fingerprint, "items": of,
                "key": record.key.as_ref().map(|key| BASE64_STANDARD.encode(key)),
                "value": BASE64_STANDARD.encode(&record.value),
            });
            output::line(answer.to_string())?;
        }
        ListFormat::Table => {
            let items: Vec<String> = items.iter().map(|item| item.describe()).collect();
            output::text(format!("{}\n{}", items.join("\n"), dump(&record.value)))?;
        }
    }
    Ok(())
}

/// The items of the records that are named.
fn select<'a>(records: &'a [Record], names: &[String]) -> Result<Vec<&'a Record>> {
    let mut chosen: Vec<&Record> = Vec::new();
    for name in names {
        for record in find(records, name)? {
            if !chosen.iter().any(|have| (&have.job, have.item) == (&record.job, record.item)) {
                chosen.push(record);
            }
        }
    }
    Ok(chosen)
}

async fn read(of: &Of) -> Result<Vec<Record>> {
    let mut all = Vec::new();
    if let Some(url) = &of.place.scheduler {
        let (_, batches) = Client::new(url.clone())?.sql("SELECT * FROM redpoll.quarantine").await?.collect().await?;
        all = records(&batches)?;
        all.retain(|record| of.job.as_ref().is_none_or(|job| *job == record.job));
        all.sort_by(|a, b| (&a.job, a.item).cmp(&(&b.job, b.item)));
        return Ok(all);
    }
    let warehouse = Warehouse::existing(&of.place.warehouse)?;
    for job in warehouse.select(of.job.as_deref()).await? {
        all.extend(records(&warehouse.quarantine(&job).await?)?);
    }
    Ok(all)
}

#[cfg(test)]
pub mod tests {
    use bytes::Bytes;
    use redpoll_core::ids::{Epoch, SplitId};
    use redpoll_core::quarantine::{Item, SetAside, Why, encode};
    use redpoll_core::sink::Attempt;

    use super::*;

    pub fn record(error: &str) -> Record {
        Record {
            job: "ztf-night".into(),
            item: Item { epoch: Epoch(0), split: SplitId(0), row: 0 },
            stage: "decode".into(),
            by: None,
            topic: "17.avro".into(),
            partition: 0,
            offset: 17,
            alert: None,
            lacking: None,
            fingerprint: None,
            error: error.into(),
            status: "set aside".into(),
            replayed_in: None,
            key: None,
            value: b"Obj\x01 and no more".to_vec(),
        }
    }

    fn refused() -> Record {
        let (by, lacking) = (Some("ztf.objects".into()), Some(vec!["ztf.objects".into()]));
        let item = Item { epoch: Epoch(2), split: SplitId(1), row: 4 };
        let (status, replayed_in) = ("replayed".into(), Some(5));
        Record { item, stage: "sink".into(), by, lacking, alert: Some(1), status, replayed_in, ..record("no key") }
    }

    /// A quarantine file of one record.
    pub fn file(error: &str) -> Bytes {
        let attempt = Attempt {
            job: "ztf-night".into(),
            job_uid: "5a1b".into(),
            epoch: Epoch(0),
            split: SplitId(0),
            ranges: 0,
            attempt: "a".into(),
            clock: 0,
            modules: Default::default(),
        };
        let Record { topic, partition, offset, value, .. } = record(error);
        let record = redpoll_core::source::Record {
            topic: topic.into(),
            partition,
            offset,
            timestamp: None,
            key: None,
            value: value.into(),
        };
        encode(&attempt, &[SetAside { record, fingerprint: None, why: Why::decode(error) }]).unwrap()
    }

    #[test]
    fn the_list_gives_place_stage_size_status_and_error() {
        let text = table_of(&[record("it ends early"), refused()], None);
        let lines: Vec<String> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert!(lines.contains(&"ztf-night 0 17.avro[0]@17 decode 16 set aside it ends early".to_owned()), "{text}");
        let again = "ztf-night 2 17.avro[0]@17#1 sink ztf.objects 16 replayed in epoch 5 no key";
        assert!(lines.contains(&again.to_owned()), "{text}");
        assert!(text.contains("2 items, 1 not sent again"), "{text}");
        assert_eq!(table_of(&[], None), "nothing was set aside: every record decoded\n");
    }

    #[test]
    fn a_record_is_found_by_its_place_or_file_with_all_of_its_items() {
        let item = Item { row: 1, ..record("torn").item };
        let other = Record { item, topic: "18.avro".into(), offset: 18, ..record("torn") };
        let records = [record("it ends early"), refused(), other];
        assert_eq!(find(&records, "17.avro[0]@17").unwrap().len(), 2);
        assert_eq!(find(&records, "17.avro").unwrap(), find(&records, "17.avro[0]@17").unwrap());
        assert_eq!(find(&records, "17.avro[0]@17#1").unwrap(), [&records[1]]);
        assert!(find(&records, ".avro").unwrap_err().to_string().contains("more than one record"));
        assert!(find(&records, "19.avro").unwrap_err().to_string().contains("quarantine list"));
        let names = ["17.avro".to_owned(), "17.avro[0]@17#1".to_owned(), "18.avro".to_owned()];
        assert_eq!(select(&records, &names).unwrap().len(), 3);
        let text = records[1].describe();
        assert!(text.contains("lacks   ztf.objects") && text.contains("status  replayed in epoch 5"), "{text}");
        let text = dump(&records[0].value);
        assert!(text.contains("000000  4f 62 6a 01 20") && text.contains("Obj· and no more"), "{text}");
    }
}
