//! What a user may set about a Kafka cluster and its topics, and how that becomes settings of librdkafka.
//!
//! A table names its topics by URL, `kafka://host:port[,host:port]/topic`, and everything else by options, which are
//! texts. Sizes are written `8MiB`, times `30s`. What librdkafka knows and this page does not is reached by the prefix
//! `kafka.`, for instance `'kafka.socket.keepalive.enable' 'true'`.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Error;
use units::{bytes, duration, number};

mod client;
mod units;

pub(crate) use units::span;

/// A Kafka cluster, the topics of a table there, and how they are read and written.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Brokers to ask first, `host:port`. From the URL.
    pub brokers: Vec<String>,
    /// The topics: a name, names with commas between (`ztf_1,ztf_2`), or a pattern that begins with `^`
    /// (`^ztf_2026.*`), which also finds topics that are created later. From the URL, or from this option if the URL
    /// names none.
    #[serde(default)]
    pub topic: Topics,
    /// How brokers are reached: `plaintext`, `ssl`, `sasl_plaintext` or `sasl_ssl`.
    #[serde(default, rename = "security.protocol")]
    pub security_protocol: SecurityProtocol,
    /// How to log in: `SCRAM-SHA-512`, `SCRAM-SHA-256` or `PLAIN`.
    #[serde(default = "default_mechanism", rename = "sasl.mechanism")]
    pub sasl_mechanism: String,
    /// Name to log in with.
    #[serde(default, rename = "sasl.username", skip_serializing_if = "Option::is_none")]
    pub sasl_username: Option<String>,
    /// Password to log in with. It becomes part of the job's log: prefer `sasl.password.file`.
    #[serde(default, rename = "sasl.password", skip_serializing_if = "Option::is_none")]
    pub sasl_password: Option<String>,
    /// File that holds the password, read by each process when it connects; a trailing line break is left out.
    #[serde(default, rename = "sasl.password.file", skip_serializing_if = "Option::is_none")]
    pub sasl_password_file: Option<String>,
    /// File or folder of the certificates (PEM) that the brokers' certificates are checked with.
    #[serde(default, rename = "ssl.ca.location", skip_serializing_if = "Option::is_none")]
    pub ssl_ca_location: Option<String>,
    /// File of the certificate (PEM) that this client shows to brokers which ask for one.
    #[serde(default, rename = "ssl.certificate.location", skip_serializing_if = "Option::is_none")]
    pub ssl_certificate_location: Option<String>,
    /// File of that certificate's private key (PEM).
    #[serde(default, rename = "ssl.key.location", skip_serializing_if = "Option::is_none")]
    pub ssl_key_location: Option<String>,
    /// File that holds the password of that key, if it has one.
    #[serde(default, rename = "ssl.key.password.file", skip_serializing_if = "Option::is_none")]
    pub ssl_key_password_file: Option<String>,
    /// Name of the consumer group that readers give to brokers which grant rights by it. Nothing joins that group and
    /// nothing is committed in it.
    #[serde(default = "default_group")]
    pub group: String,
    /// What a reader sees of transactions: `read_committed`, or `read_uncommitted` for looking into a topic.
    #[serde(default)]
    pub isolation: Isolation,
    /// How much is fetched ahead of each range that is being read.
    #[serde(default = "default_prefetch", rename = "prefetch.bytes", with = "bytes")]
    pub prefetch_bytes: u64,
    /// Size of a record for as long as none of the topic has been seen; later the mean of what was read.
    #[serde(default = "default_record", rename = "record.bytes", with = "bytes")]
    pub record_bytes: u64,
    /// How many consumers a process keeps ready per cluster while nothing is read.
    #[serde(default = "default_idle_consumers", rename = "idle.consumers", with = "number")]
    pub idle_consumers: u64,
    /// How long one question to a broker (metadata, offsets, marks) may take.
    #[serde(default = "default_request_timeout", rename = "request.timeout", with = "duration")]
    pub request_timeout: Duration,
    /// How long a range may bring nothing before it is read again from where it stands.
    #[serde(default = "default_stall_timeout", rename = "stall.timeout", with = "duration")]
    pub stall_timeout: Duration,
    /// How often a question or a range that brings nothing is tried again, with growing pauses.
    #[serde(default = "default_retries", with = "number")]
    pub retries: u64,
    /// Compression of what is written: `none`, `lz4`, `zstd`, `snappy` or `gzip`.
    #[serde(default)]
    pub compression: Compression,
    /// How long a record waits for others to be sent with.
    #[serde(default = "default_linger", with = "duration")]
    pub linger: Duration,
    /// How much is sent to a topic partition at once.
    #[serde(default = "default_batch", rename = "batch.bytes", with = "bytes")]
    pub batch_bytes: u64,
    /// How much may wait for acknowledgement, per producer, before a writer has to wait.
    #[serde(default = "default_buffer", rename = "buffer.bytes", with = "bytes")]
    pub buffer_bytes: u64,
    /// The largest record that is written. Brokers have a limit of their own (`max.message.bytes` of the topic).
    #[serde(default = "default_message_max", rename = "message.max.bytes", with = "bytes")]
    pub message_max_bytes: u64,
    /// How long a record may take to be acknowledged before its split fails.
    #[serde(default = "default_delivery_timeout", rename = "delivery.timeout", with = "duration")]
    pub delivery_timeout: Duration,
    /// When the brokers abort a transaction by themselves. Above the limit of an epoch, below the brokers'
    /// `transaction.max.timeout.ms` (15 min unless changed).
    #[serde(default = "default_transaction_timeout", rename = "transaction.timeout", with = "duration")]
    pub transaction_timeout: Duration,
    /// Settings of librdkafka by their own names: the options with the prefix `kafka.`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub client: BTreeMap<String, String>,
}

/// How brokers are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecurityProtocol {
    #[default]
    Plaintext,
    Ssl,
    SaslPlaintext,
    SaslSsl,
}

/// What a reader sees of transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    #[default]
    ReadCommitted,
    ReadUncommitted,
}

/// How records are compressed. `lz4` costs little even on what does not compress, such as cutouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    None,
    #[default]
    Lz4,
    Zstd,
    Snappy,
    Gzip,
}

/// Which topics a table is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Topics {
    Names(Vec<String>),
    /// A regular expression, beginning with `^`.
    Pattern(String),
}

fn default_mechanism() -> String {
    "SCRAM-SHA-512".into()
}
fn default_group() -> String {
    "redpoll".into()
}
fn default_prefetch() -> u64 {
    8 << 20
}
fn default_record() -> u64 {
    64 << 10
}
fn default_idle_consumers() -> u64 {
    16
}
fn default_request_timeout() -> Duration {
    Duration::from_secs(10)
}
fn default_stall_timeout() -> Duration {
    Duration::from_secs(20)
}
fn default_retries() -> u64 {
    5
}
fn default_linger() -> Duration {
    Duration::from_millis(5)
}
fn default_batch() -> u64 {
    1 << 20
}
fn default_buffer() -> u64 {
    16 << 20
}
fn default_message_max() -> u64 {
    16 << 20
}
fn default_delivery_timeout() -> Duration {
    Duration::from_secs(120)
}
fn default_transaction_timeout() -> Duration {
    Duration::from_secs(600)
}

impl Config {
    /// Reads `kafka://host:port[,host:port][/topic[,topic]]` and the options of a table.
    pub fn parse(url: &str, options: &BTreeMap<String, String>) -> Result<Self, Error> {
        let refuse =
            |option: &str, reason: String| Error::Option { option: option.into(), location: url.into(), reason };
        let rest =
            url.strip_prefix("kafka://").ok_or_else(|| refuse("location", "does not begin with kafka://".into()))?;
        let (brokers, topic) = rest.split_once('/').unwrap_or((rest, ""));
        let brokers: Vec<_> = brokers.split(',').map(str::trim).filter(|broker| !broker.is_empty()).collect();
        if brokers.is_empty() {
            return Err(refuse("location", "names no broker; write kafka://host:port/topic".into()));
        }
        let (client, options): (BTreeMap<_, _>, BTreeMap<_, _>) =
            options.iter().partition(|(name, _)| name.starts_with("kafka."));
        let mut fields = json!({ "brokers": brokers, "topic": topic });
        for (name, value) in options {
            if matches!(name.as_str(), "brokers" | "client") || (name == "topic" && !topic.is_empty()) {
                return Err(refuse(name, "is given by the location".into()));
            }
            // Each option on its own, so that the error names it.
            let alone = json!({ "brokers": [], name: value });
            serde_json::from_value::<Config>(alone).map_err(|error| refuse(name, error.to_string()))?;
            fields[name] = Value::String(value.clone());
        }
        fields["client"] =
            client.iter().map(|(name, value)| (name["kafka.".len()..].to_owned(), json!(value))).collect();
        let config: Config = serde_json::from_value(fields).map_err(|error| refuse("location", error.to_string()))?;
        config.check(url)?;
        Ok(config)
    }

    /// The names of all options but those that only begin with `kafka.`.
    pub fn options() -> Vec<String> {
        // serde names the fields that it knows where it meets one that it does not.
        let unknown = json!({ "brokers": [], "": "" });
        let told = serde_json::from_value::<Config>(unknown).err().map(|error| error.to_string()).unwrap_or_default();
        let names = told.split('`').skip(1).step_by(2).map(str::to_owned);
        names.filter(|name| !name.is_empty() && !matches!(name.as_str(), "brokers" | "client")).collect()
    }

    /// Whether a table's option is one of these, or a setting of librdkafka.
    pub fn has_option(name: &str) -> bool {
        name.starts_with("kafka.") || Self::options().iter().any(|option| option == name)
    }

    /// The same cluster and settings with other topics.
    pub fn with_topics(&self, topic: Topics) -> Self {
        Config { topic, ..self.clone() }
    }

    /// Brokers with commas between, for messages and as librdkafka wants them.
    pub(super) fn servers(&self) -> String {
        self.brokers.join(",")
    }

    /// Tells clusters and settings apart; two tables of equal key share their clients.
    pub(super) fn key(&self) -> String {
        let config = self.with_topics(Topics::default());
        serde_json::to_string(&config).expect("a config of texts and numbers is JSON")
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("brokers", &self.brokers).field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl Default for Topics {
    fn default() -> Self {
        Topics::Names(Vec::new())
    }
}

impl TryFrom<String> for Topics {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.starts_with('^') {
            Regex::new(&text).map_err(|error| format!("'{text}' is no pattern: {error}"))?;
            return Ok(Topics::Pattern(text));
        }
        let names: Vec<_> =
            text.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        match names.iter().find(|name| !name.chars().all(legal) || name.len() > 249) {
            Some(name) => Err(format!("'{name}' is no topic name; a pattern begins with '^'")),
            None => Ok(Topics::Names(names)),
        }
    }
}

impl From<Topics> for String {
    fn from(topics: Topics) -> String {
        match topics {
            Topics::Names(names) => names.join(","),
            Topics::Pattern(pattern) => pattern,
        }
    }
}
