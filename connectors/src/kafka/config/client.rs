//! A config as settings of librdkafka: one for consumers, one for producers, one for transactions.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;

use super::{Compression, Config, Isolation, SecurityProtocol};
use crate::kafka::Error;

/// Settings on which the epoch protocol rests; the prefix `kafka.` does not reach them.
const OURS: [&str; 15] = [
    "auto.offset.reset",
    "bootstrap.servers",
    // A follower that lags has an end of its own: what it lacks yet would count as absent.
    "client.rack",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "group.instance.id",
    "isolation.level",
    "message.max.bytes",
    "metadata.broker.list",
    "queue.buffering.max.kbytes",
    "transaction.timeout.ms",
    "transactional.id",
];

/// Settings of librdkafka that have another name among our options.
const OPTIONS: [(&str, &str); 5] = [
    ("batch.size", "batch.bytes"),
    ("delivery.timeout.ms", "delivery.timeout"),
    ("fetch.message.max.bytes", "prefetch.bytes"),
    ("linger.ms", "linger"),
    ("queued.max.messages.kbytes", "prefetch.bytes"),
];

impl Config {
    /// Refuses what librdkafka would, by the name that the user gave it.
    pub(super) fn check(&self, url: &str) -> Result<(), Error> {
        let refuse = |option: String, reason: String| Error::Option { option, location: url.into(), reason };
        if let Some(name) = self.client.keys().find(|name| OURS.contains(&name.as_str())) {
            return Err(refuse(format!("kafka.{name}"), "is set by redpoll, exactness rests on it".into()));
        }
        if self.transaction_timeout > Duration::from_secs(900) {
            return Err(refuse("transaction.timeout".into(), "is above the brokers' limit of 15m".into()));
        }
        if self.security_protocol.logs_in() && self.sasl_username.is_none() {
            return Err(refuse("sasl.username".into(), "is needed by this security.protocol".into()));
        }
        if self.ssl_certificate_location.is_some() != self.ssl_key_location.is_some() {
            let (here, lacks) = match self.ssl_key_location {
                None => ("ssl.certificate.location", "ssl.key.location"),
                Some(_) => ("ssl.key.location", "ssl.certificate.location"),
            };
            return Err(refuse(here.into(), format!("needs {lacks} beside it")));
        }
        if !self.security_protocol.encrypts() && self.ssl_ca_location.is_some() {
            let reason = "has no effect without security.protocol ssl or sasl_ssl";
            return Err(refuse("ssl.ca.location".into(), reason.into()));
        }
        // Files of passwords, keys and certificates may be on other machines only.
        let settings = Config {
            sasl_password_file: None,
            ssl_ca_location: None,
            ssl_certificate_location: None,
            ssl_key_location: None,
            ssl_key_password_file: None,
            ..self.clone()
        };
        for client in [settings.consumer("check")?, settings.transactional("check")?] {
            match client.create_native_config() {
                Err(KafkaError::ClientConfig(_, reason, name, value)) => {
                    let reason = format!("'{value}' is refused: {}", reason.trim().trim_end_matches('.'));
                    return Err(refuse(self.option_of(&name), reason));
                }
                Err(error) => return Err(refuse("location".into(), error.to_string())),
                Ok(_) => {}
            }
        }
        Ok(())
    }

    /// The option by which a setting of librdkafka was given.
    fn option_of(&self, setting: &str) -> String {
        let ours = OPTIONS.iter().find(|(name, _)| *name == setting).map(|(_, option)| *option);
        match self.client.contains_key(setting) {
            true => format!("kafka.{setting}"),
            false => ours.unwrap_or(setting).to_owned(),
        }
    }

    fn base(&self) -> Result<ClientConfig, Error> {
        let mut client = ClientConfig::new();
        client.set_log_level(RDKafkaLogLevel::Warning);
        client.set("bootstrap.servers", self.servers()).set("client.id", "redpoll");
        client.set("security.protocol", self.security_protocol.as_str());
        // The first reconnect after a broker's restart decides how long an epoch stands still.
        client.set("reconnect.backoff.ms", "50").set("reconnect.backoff.max.ms", "2000");
        if self.security_protocol.logs_in() {
            client.set("sasl.mechanism", &self.sasl_mechanism);
            client.set("sasl.username", self.sasl_username.as_deref().unwrap_or_default());
            client.set("sasl.password", self.password()?);
        }
        let files = [
            ("ssl.ca.location", &self.ssl_ca_location),
            ("ssl.certificate.location", &self.ssl_certificate_location),
            ("ssl.key.location", &self.ssl_key_location),
        ];
        for (option, path) in files {
            if let Some(path) = path {
                // librdkafka would say that a client cannot be started.
                std::fs::metadata(path).map_err(|error| self.unread(option, path, &error))?;
                client.set(option, path);
            }
        }
        if let Some(path) = &self.ssl_key_password_file {
            client.set("ssl.key.password", self.secret("ssl.key.password.file", path)?);
        }
        Ok(client)
    }

    fn password(&self) -> Result<String, Error> {
        match (&self.sasl_password, &self.sasl_password_file) {
            (Some(password), _) => Ok(password.clone()),
            (None, None) => Ok(String::new()),
            (None, Some(path)) => self.secret("sasl.password.file", path),
        }
    }

    /// The text of a file that an option names, without its line break.
    fn secret(&self, option: &str, path: &str) -> Result<String, Error> {
        let text = std::fs::read_to_string(path).map_err(|error| self.unread(option, path, &error))?;
        Ok(text.trim_end_matches(['\r', '\n']).to_owned())
    }

    fn unread(&self, option: &str, path: &str, error: &std::io::Error) -> Error {
        let location = format!("kafka://{}", self.servers());
        Error::Option { option: option.into(), location, reason: format!("{path}: {error}") }
    }

    /// Settings of a consumer that is assigned exact offsets: it commits nothing and never jumps.
    pub(in crate::kafka) fn consumer(&self, group: &str) -> Result<ClientConfig, Error> {
        let mut client = self.base()?;
        let isolation = match self.isolation {
            Isolation::ReadCommitted => "read_committed",
            Isolation::ReadUncommitted => "read_uncommitted",
        };
        client.set("group.id", group).set("isolation.level", isolation);
        client.set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
        client.set("enable.partition.eof", "true").set("auto.offset.reset", "error");
        client.set("queued.max.messages.kbytes", (self.prefetch_bytes / 1024).max(1).to_string());
        client.set("fetch.message.max.bytes", (self.prefetch_bytes / 2).clamp(64 << 10, 512 << 20).to_string());
        // A full queue is looked at again after this; librdkafka's own second would halt a reader of large records.
        client.set("fetch.queue.backoff.ms", "5");
        // Only what is already there is read, so waiting at an end has no use. A consumer that changes its assignment
        // waits this long for the answer to its previous fetch.
        client.set("fetch.wait.max.ms", "20").set("fetch.error.backoff.ms", "50");
        for (name, value) in &self.client {
            client.set(name, value);
        }
        Ok(client)
    }

    /// Settings of an idempotent producer.
    pub(in crate::kafka) fn producer(&self) -> Result<ClientConfig, Error> {
        let mut client = self.base()?;
        client.set("enable.idempotence", "true").set("compression.type", self.compression.as_str());
        client.set("linger.ms", self.linger.as_millis().to_string());
        client.set("batch.size", self.batch_bytes.to_string());
        client.set("message.max.bytes", self.message_max_bytes.to_string());
        client.set("delivery.timeout.ms", self.delivery_timeout.as_millis().to_string());
        // Above our own bound, so that a writer waits for us and never meets librdkafka's full queue.
        let queue = 2 * self.buffer_bytes.max(self.message_max_bytes) / 1024;
        client.set("queue.buffering.max.kbytes", queue.to_string());
        client.set("queue.buffering.max.messages", "1000000");
        // Fink's key is the schema, the same for all: hashed, it would send every record to one topic partition. A key
        // that says where a record goes is hashed before it comes here.
        client.set("partitioner", "random");
        for (name, value) in &self.client {
            client.set(name, value);
        }
        Ok(client)
    }

    /// Settings of a producer with transactions.
    pub(in crate::kafka) fn transactional(&self, id: &str) -> Result<ClientConfig, Error> {
        let mut client = self.producer()?;
        client.set("transactional.id", id);
        client.set("transaction.timeout.ms", self.transaction_timeout.as_millis().to_string());
        let delivery = self.delivery_timeout.min(self.transaction_timeout);
        client.set("delivery.timeout.ms", delivery.as_millis().to_string());
        Ok(client)
    }
}

impl Compression {
    fn as_str(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
            Compression::Snappy => "snappy",
            Compression::Gzip => "gzip",
        }
    }
}

impl SecurityProtocol {
    fn as_str(self) -> &'static str {
        match self {
            SecurityProtocol::Plaintext => "plaintext",
            SecurityProtocol::Ssl => "ssl",
            SecurityProtocol::SaslPlaintext => "sasl_plaintext",
            SecurityProtocol::SaslSsl => "sasl_ssl",
        }
    }

    fn encrypts(self) -> bool {
        matches!(self, SecurityProtocol::Ssl | SecurityProtocol::SaslSsl)
    }

    fn logs_in(self) -> bool {
        matches!(self, SecurityProtocol::SaslPlaintext | SecurityProtocol::SaslSsl)
    }
}
