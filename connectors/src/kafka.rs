//! Kafka: reads topics by offset, writes topics at least once or exactly once.
//!
//! Redpoll keeps its own account of offsets (the job's log), so nothing is subscribed or committed in consumer groups.
//! A range is read by a pooled consumer that is assigned one topic partition at an exact offset. A split's records are
//! written either by a shared idempotent producer ([`Sink`]) or in one transaction together with the mark of the lane
//! ([`Transaction`]).
//!
//! librdkafka does the talking. Its clients are costly to start (threads, connections, 0.1 to 0.6 s for a
//! transactional producer), so a process keeps them per cluster and settings; see `client`.

mod client;
mod config;
mod delivered;
mod lane;
mod limits;
mod marks;
mod offsets;
mod partitioner;
mod producer;
mod share;
mod sink;
mod source;
mod topic_ids;

#[cfg(test)]
mod tests;

pub use client::cluster_id;
pub(crate) use config::span;
pub use config::{Compression, Config, Isolation, SecurityProtocol, Topics};
pub use delivered::{Delivered, Deliveries};
pub use lane::{Opened, Transaction};
pub use limits::max_message_bytes;
pub use marks::{MARKS_TOPIC, METADATA_LIMIT, Mark, prepare};
pub use offsets::{PartitionOffsets, Topic, n_partitions, topics};
pub use partitioner::partition_of;
pub use producer::{Outgoing, Position, Written};
pub use sink::Sink;
pub use source::Source;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use redpoll_core::ids::{Epoch, Lane};
use redpoll_core::source::Error as SourceError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("option '{option}' of {location}: {reason}")]
    Option { option: String, location: String, reason: String },
    #[error("topic {topic} is missing at {brokers}; {remedy}")]
    Missing { topic: String, brokers: String, remedy: String },
    /// The cluster did not answer, or not as asked, after the retries that the config allows.
    #[error("{action} at {brokers} failed: {reason}")]
    Broker { action: String, brokers: String, reason: String },
    #[error("{topic}: {failed} of {sent} records were not delivered, the first because: {reason}")]
    Delivery { topic: String, failed: u64, sent: u64, reason: String },
    /// Another attempt has taken the lane. This one can write nothing more, and nothing that it wrote is visible.
    #[error("lane {lane} of job {job} was taken by another attempt while epoch {epoch} was written: {reason}")]
    Fenced { job: String, lane: Lane, epoch: Epoch, reason: String },
    /// The transaction was given up; nothing of it is visible. The split may be run again.
    #[error("transaction of job {job}, lane {lane}, epoch {epoch} was aborted: {reason}")]
    Aborted { job: String, lane: Lane, epoch: Epoch, reason: String },
    /// The broker refuses longer texts (`offset.metadata.max.bytes`, 4096 unless raised).
    #[error("mark of job {job}, lane {lane} has {bytes} bytes of metadata, the limit is {limit}")]
    Metadata { job: String, lane: Lane, bytes: usize, limit: usize },
}

impl From<Error> for SourceError {
    fn from(error: Error) -> Self {
        match error {
            Error::Option { option, location, reason } => SourceError::Option { option, location, reason },
            Error::Missing { topic, brokers, remedy } => SourceError::Missing {
                location: format!("kafka://{brokers}/{topic}"),
                reason: "the topic is missing".into(),
                remedy,
            },
            Error::Broker { action, brokers, reason } => {
                SourceError::Read { location: format!("kafka://{brokers}"), reason: format!("{action}: {reason}") }
            }
            other => SourceError::Read { location: "kafka".into(), reason: other.to_string() },
        }
    }
}

/// What the caller should do about an error of librdkafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Severity {
    /// librdkafka reconnects by itself, or the same call may succeed later.
    Transient,
    /// The broker knows no such topic or partition.
    Missing,
    /// Repeating cannot help: credentials, rights, settings.
    Permanent,
}

fn severity(error: &KafkaError) -> Severity {
    use RDKafkaErrorCode as Code;
    match code(error) {
        Some(Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicOrPartition) => Severity::Missing,
        Some(
            Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::UnsupportedSASLMechanism
            | Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::InvalidTopic
            | Code::InvalidArgument
            | Code::InvalidConfig
            | Code::PolicyViolation
            | Code::Fatal,
        ) => Severity::Permanent,
        None => Severity::Permanent,
        Some(_) => Severity::Transient,
    }
}

fn code(error: &KafkaError) -> Option<RDKafkaErrorCode> {
    match error {
        KafkaError::AdminOp(code) => Some(*code),
        other => other.rdkafka_error_code(),
    }
}
