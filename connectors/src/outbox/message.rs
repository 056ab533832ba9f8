//! A row as a message, and what of it is sent.

use arrow::array::{RecordBatch, new_null_array};
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow::json::WriterBuilder;
use arrow::json::writer::LineDelimited;
use redpoll_core::digest::bytes_hash;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use url::form_urlencoded;

use super::config::{Format, as_key};
use crate::kafka::Position;
use crate::widecolumn::RowKey;

/// A message that is larger is refused: receivers of notifications take less.
pub const MAX_BYTES: usize = 1 << 20;

/// A message as it waits to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// By what it is told from others.
    pub key: String,
    /// The row as a JSON object, without its nulls.
    pub row: String,
    /// Where its alert was read.
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    /// Number of the alert in its record.
    pub alert: u32,
}

/// A row that becomes no message, for a value of its own.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsendable {
    #[error("{0}")]
    NoKey(String),
    #[error("its message has {0} bytes, more than {MAX_BYTES}; select fewer columns")]
    Long(usize),
}

/// The rows of a batch as messages. `origin` says where a row was read.
pub(crate) fn messages<'a>(
    batch: &RecordBatch,
    key: &RowKey,
    origin: impl Fn(usize) -> Position<'a>,
) -> Result<Vec<Result<Message, Unsendable>>, ArrowError> {
    let keys = key.render(batch).map_err(|error| ArrowError::InvalidArgumentError(as_key(&error)))?;
    let rows = rows(batch)?;
    let message = |(i, (key, row)): (usize, (Result<bytes::Bytes, _>, &str))| {
        let key = key.map_err(|error| Unsendable::NoKey(as_key(&error)))?;
        if row.len() > MAX_BYTES {
            return Err(Unsendable::Long(row.len()));
        }
        let Position { topic, partition, offset, index } = origin(i);
        let (key, row) = (String::from_utf8_lossy(&key).into_owned(), row.to_owned());
        Ok(Message { key, row, topic: topic.to_owned(), partition, offset, alert: index })
    };
    Ok(keys.into_iter().zip(rows.lines()).enumerate().map(message).collect())
}

/// A JSON object on each line.
fn rows(batch: &RecordBatch) -> Result<String, ArrowError> {
    let mut writer = WriterBuilder::new().build::<_, LineDelimited>(Vec::new());
    writer.write(batch)?;
    writer.finish()?;
    String::from_utf8(writer.into_inner()).map_err(|error| ArrowError::JsonError(error.to_string()))
}

/// Columns whose values JSON does not know, each with the reason.
pub fn check_columns(schema: &Schema, format: Format) -> Vec<String> {
    let mut wrong = Vec::new();
    for field in schema.fields() {
        let of_one = Schema::new(vec![field.as_ref().clone().with_nullable(true)]);
        let null = RecordBatch::try_new(of_one.into(), vec![new_null_array(field.data_type(), 1)]);
        if let Err(error) = null.and_then(|null| rows(&null)) {
            wrong.push(format!(
                "column '{}' of type {} is nothing that JSON knows: {error}",
                field.name(),
                field.data_type()
            ));
        }
    }
    if format == Format::Text && schema.fields().len() != 1 {
        wrong.push("format 'text' sends one column; select that alone, with the key in it, or use 'json'".to_owned());
    }
    wrong
}

/// What tells a receiver that two requests are one message. The same whoever sends it and however often.
pub fn idempotency_key(job_uid: &str, table: &str, key: &str) -> u128 {
    bytes_hash(&[job_uid.as_bytes(), table.as_bytes(), key.as_bytes()].join(&0))
}

impl Message {
    /// The body of its request, and what it is.
    pub(super) fn body(&self, format: Format, fields: &[(String, String)]) -> (Vec<u8>, &'static str) {
        match format {
            Format::Json => (self.json(fields).into_bytes(), "application/json"),
            Format::Form => (self.form(fields).into_bytes(), "application/x-www-form-urlencoded"),
            Format::Text => {
                let text = self.columns().values().next().map(as_text).unwrap_or_default();
                (text.into_bytes(), "text/plain; charset=utf-8")
            }
        }
    }

    /// The row's own text stays as it is: numbers of 19 digits would not survive being read.
    fn json(&self, fields: &[(String, String)]) -> String {
        let mut text = self.row.strip_suffix('}').unwrap_or(&self.row).to_owned();
        for (name, value) in fields {
            if text.len() > 1 {
                text.push(',');
            }
            text += &format!("{}:{}", Value::from(name.as_str()), Value::from(value.as_str()));
        }
        match fields.is_empty() {
            true => self.row.clone(),
            false => text + "}",
        }
    }

    fn form(&self, fields: &[(String, String)]) -> String {
        let mut form = form_urlencoded::Serializer::new(String::new());
        for (name, value) in self.columns() {
            form.append_pair(&name, &as_text(&value));
        }
        form.extend_pairs(fields);
        form.finish()
    }

    fn columns(&self) -> Map<String, Value> {
        serde_json::from_str(&self.row).unwrap_or_default()
    }
}

/// A string as it is, everything else as JSON.
fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
