//! An item of the quarantine, as commands show it.

use std::io::Write;

use anyhow::{Result, anyhow, bail};
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use redpoll_core::ids::{Epoch, SplitId};
use redpoll_core::quarantine::Item;
use serde_json::{Value, json};

use crate::exit::Usage;
use crate::output::paint;
use crate::values::{counted, grouped};

/// An item: a record that did not decode, or an alert that a module, a view or a sink could not take.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub job: String,
    pub item: Item,
    pub stage: String,
    /// The module, view or sink.
    pub by: Option<String>,
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub alert: Option<i32>,
    pub lacking: Option<Vec<String>>,
    pub fingerprint: Option<String>,
    pub error: String,
    pub status: String,
    pub replayed_in: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub value: Vec<u8>,
}

/// The rows of `redpoll.quarantine`.
pub fn records(batches: &[RecordBatch]) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    for batch in batches {
        let columns = Columns { batch };
        let [job, stage, topic, error, status] =
            ["job", "stage", "topic", "error", "status"].map(|name| columns.texts(name));
        let (job, stage, topic, error, status) = (job?, stage?, topic?, error?, status?);
        let (by, fingerprint) = (columns.texts("by")?, columns.texts("fingerprint")?);
        let [epoch, split, item, partition, offset, alert, replayed_in] =
            ["epoch", "split", "item", "partition", "offset", "alert", "replayed_in"].map(|name| columns.numbers(name));
        let (epoch, split, item) = (epoch?, split?, item?);
        let (partition, offset, alert, replayed_in) = (partition?, offset?, alert?, replayed_in?);
        let lacking = columns.column("lacking", &DataType::new_list(DataType::Utf8, true))?;
        let (key, value) = (columns.column("key", &DataType::Binary)?, columns.column("value", &DataType::Binary)?);
        let (keys, values) = (key.as_binary::<i32>(), value.as_binary::<i32>());
        for i in 0..batch.num_rows() {
            let lacking = lacking.as_list::<i32>();
            let names = lacking.is_valid(i).then(|| lacking.value(i));
            records.push(Record {
                job: job.value(i).to_owned(),
                item: Item {
                    epoch: Epoch(u64::try_from(epoch.value(i))?),
                    split: SplitId(u32::try_from(split.value(i))?),
                    row: u32::try_from(item.value(i))?,
                },
                stage: stage.value(i).to_owned(),
                by: by.is_valid(i).then(|| by.value(i).to_owned()),
                topic: topic.value(i).to_owned(),
                partition: i32::try_from(partition.value(i))?,
                offset: offset.value(i),
                alert: alert.is_valid(i).then(|| alert.value(i) as i32),
                lacking: names.map(|names| names.as_string::<i32>().iter().flatten().map(str::to_owned).collect()),
                fingerprint: fingerprint.is_valid(i).then(|| fingerprint.value(i).to_owned()),
                error: error.value(i).to_owned(),
                status: status.value(i).to_owned(),
                replayed_in: replayed_in.is_valid(i).then(|| replayed_in.value(i)),
                key: keys.is_valid(i).then(|| keys.value(i).to_vec()),
                value: values.value(i).to_vec(),
            });
        }
    }
    Ok(records)
}

/// The columns of a batch, of whatever type a scheduler sends them.
struct Columns<'a> {
    batch: &'a RecordBatch,
}

impl Columns<'_> {
    fn column(&self, name: &str, data_type: &DataType) -> Result<ArrayRef> {
        let column = self.batch.column_by_name(name);
        let column =
            column.ok_or_else(|| anyhow!("the quarantine has no column '{name}': it is of another version"))?;
        Ok(cast(column, data_type)?)
    }

    fn texts(&self, name: &str) -> Result<StringArray> {
        Ok(self.column(name, &DataType::Utf8)?.as_string::<i32>().clone())
    }

    fn numbers(&self, name: &str) -> Result<Int64Array> {
        Ok(self.column(name, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
    }
}

/// The items of the one record that is named: `topic[partition]@offset`, perhaps with `#alert`, or the end of a file's
/// name.
pub fn find<'a>(records: &'a [Record], name: &str) -> Result<Vec<&'a Record>> {
    let is_named = |record: &&Record| {
        record.record() == name || record.place() == name || (!name.is_empty() && record.topic.ends_with(name))
    };
    let found: Vec<&Record> = records.iter().filter(is_named).collect();
    let other = |first: &Record| found.iter().find(|record| record.record() != first.record()).copied();
    match found.first() {
        None => bail!("no record '{name}' was set aside; see: redpoll quarantine list"),
        Some(first) => match other(first) {
            None => Ok(found),
            Some(other) => {
                let (first, other) = (first.record(), other.record());
                Err(anyhow!(Usage(format!("'{name}' is more than one record, such as {first} and {other}"))))
            }
        },
    }
}

impl Record {
    /// Where its record was read.
    pub fn record(&self) -> String {
        format!("{}[{}]@{}", self.topic, self.partition, self.offset)
    }

    /// The same, and which alert of it, if it is one.
    pub fn place(&self) -> String {
        match self.alert {
            Some(alert) => format!("{}#{alert}", self.record()),
            None => self.record(),
        }
    }

    /// `decode`, or which module, view or sink.
    pub fn by(&self) -> String {
        match &self.by {
            Some(by) => format!("{} {by}", self.stage),
            None => self.stage.clone(),
        }
    }

    /// With the epoch that it is about.
    pub fn status(&self) -> String {
        match self.replayed_in {
            Some(epoch) => format!("{} in epoch {epoch}", self.status),
            None => self.status.clone(),
        }
    }

    pub fn json(&self) -> Value {
        json!({
            "job": self.job, "epoch": self.item.epoch, "split": self.item.split, "item": self.item.row,
            "topic": self.topic, "partition": self.partition, "offset": self.offset, "alert": self.alert,
            "stage": self.stage, "by": self.by, "lacking": self.lacking, "bytes": self.value.len(),
            "fingerprint": self.fingerprint, "error": self.error, "status": self.status,
            "replayed_in": self.replayed_in,
        })
    }

    /// What is known of it, without its bytes.
    pub fn describe(&self) -> String {
        let none = || "-".to_owned();
        let key = self.key.as_ref().map_or_else(none, |key| counted(key.len() as u64, "byte"));
        let lacking = self.lacking.as_ref().map_or_else(|| "every table".to_owned(), |names| names.join(", "));
        format!(
            "{}\n  job     {}, epoch {}, split {}, item {}\n  by      {}\n  error   {}\n  lacks   {lacking}\n  \
             status  {}\n  schema  {}\n  key     {key}\n  value   {}\n",
            paint::bold(self.place()),
            self.job,
            self.item.epoch,
            self.item.split,
            self.item.row,
            self.by(),
            self.error,
            self.status(),
            self.fingerprint.clone().unwrap_or_else(none),
            counted(self.value.len() as u64, "byte"),
        )
    }
}

/// The first bytes, sixteen a line, in hexadecimal and as text.
pub fn dump(bytes: &[u8]) -> String {
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
