use std::path::{Path, PathBuf};

use parquet::errors::ParquetError;
use rdkafka::error::KafkaError;

use crate::avro;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why alerts could not be made, replayed or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: {cause}", path = path.display())]
    File { path: PathBuf, cause: std::io::Error },
    /// A file of the replayed source does not hold what it should.
    #[error("{name}: {cause}")]
    Replayed { name: String, cause: avro::Error },
    #[error("{name}: {cause}")]
    Archive { name: String, cause: Box<ParquetError> },
    #[error("{path}: no alerts: give a folder of .avro or .parquet files, one such file, a .tar or a .tar.gz", path = path.display())]
    NoAlerts { path: PathBuf },
    #[error("{path}: neither a folder nor an .avro, .parquet, .tar, .tar.gz or .tgz file", path = path.display())]
    UnknownFormat { path: PathBuf },
    #[error("{name}: neither a ZTF nor an LSST alert: its schema has no candidate and no diaSource")]
    UnknownSurvey { name: String },
    /// A made alert does not fit its own schema.
    #[error("made alert: {0}")]
    Made(avro::Error),
    #[error("{share} = {value}: a share is a number from 0 to 1, and those of the kinds add up to at most 1")]
    Share { share: &'static str, value: f64 },
    #[error("kafka {servers}, topic {topic}: {cause}")]
    Kafka { servers: String, topic: String, cause: Box<KafkaError> },
    #[error("kafka {servers}, topic {topic}: {n_lost} records were not acknowledged, the first because of: {cause}")]
    NotDelivered { servers: String, topic: String, n_lost: u64, cause: Box<KafkaError> },
    #[error("kafka {servers}, topic {topic}: not created: {reason}")]
    NotCreated { servers: String, topic: String, reason: String },
}

impl Error {
    /// For `map_err`: an error of the file system at `path`.
    pub(crate) fn at(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_path_buf();
        |cause| Error::File { path, cause }
    }
}
