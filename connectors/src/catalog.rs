//! Catalogues of the sky, and alerts looked up in them.
//!
//! A catalogue is a table of positions: Parquet files or a Delta table, in any order. It is read through an *index*: its
//! rows sorted by their HEALPix cell into Parquet files of small row groups, so that the rows near a position lie in
//! few groups, found by the statistics of the files. `redpoll catalog build` makes one beside the catalogue; of any
//! other catalogue an executor makes its own when it first looks an alert up, and keeps it in its cache.
//!
//! Cells only say where to look: what counts is the great-circle distance to each row of the cells that a cone touches.

mod build;
mod cells;
mod groups;
mod index;
mod kept;
mod look_up;
mod object;
mod source;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use datafusion::error::DataFusionError;
use parquet::errors::ParquetError;

pub use build::{Built, Limits, build};
pub use kept::{Catalogs, Config};
pub use source::{Source, open};

/// Name of the column of cells in an index.
const CELL: &str = "_healpix";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{url}: there is no catalogue: no Parquet file, no Delta table, no index of `redpoll catalog build`")]
    Missing { url: String },
    /// An option names a column that the catalogue does not have.
    #[error("{url}: its '{option}' is '{column}', which is no column of it; {near}")]
    Column { option: &'static str, url: String, column: String, near: String },
    #[error("{url}: '{column}' is {data_type}; '{option}' is a number, in degrees")]
    NotDegrees { option: &'static str, url: String, column: String, data_type: String },
    /// Matches have such a field of their own.
    #[error("{url}: it has a column '{column}', a name that matches use themselves; list others with 'columns'")]
    Reserved { url: String, column: String },
    #[error("{file}: its columns are not those of {first}; a catalogue has one set of columns")]
    Mixed { file: String, first: String },
    #[error("{url}: the catalogue is {found} here, the epoch was planned with {wanted}; run the job again")]
    Replaced { url: String, found: String, wanted: String },
    #[error("{url}: no index that this version reads: {reason}; build it again")]
    Index { url: String, reason: String },
    #[error("{url}: {source}")]
    Locate { url: String, source: redpoll_core::objects::Error },
    #[error("{url}: cannot be read: {source}")]
    Objects { url: String, source: object_store::Error },
    #[error("{url}: no Parquet: {source}")]
    Parquet { url: String, source: ParquetError },
    #[error("{url}: {source}")]
    Delta { url: String, source: Box<crate::delta::Error> },
    #[error("{url}: cannot be sorted by cells: {source}")]
    Sort { url: String, source: Box<DataFusionError> },
    #[error("{}: {source}", path.display())]
    Folder { path: PathBuf, source: std::io::Error },
    #[error("matches cannot be put together: {0}")]
    Arrow(#[from] arrow::error::ArrowError),
}

impl Error {
    /// The option of the table that is at fault.
    pub fn option(&self) -> Option<&'static str> {
        match self {
            Self::Column { option, .. } | Self::NotDegrees { option, .. } => Some(option),
            Self::Reserved { .. } => Some("columns"),
            _ => None,
        }
    }
}
