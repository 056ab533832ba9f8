//! What a wide-column store must do.

use std::fmt;

use async_trait::async_trait;
use futures::stream::BoxStream;
pub use redpoll_proto::store::{Batch, Cell, Column, Row};

use super::{Error, KeyRange};

/// What to read: a range of keys, and which cells of the rows in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scan {
    pub range: KeyRange,
    /// `None`: all cells. An empty list: keys alone.
    pub columns: Option<Vec<Column>>,
    /// Rows, the first in key order.
    pub limit: Option<u64>,
}

/// A store of wide-column tables. Implementations hold pooled clients and are shared behind an `Arc`.
#[async_trait]
pub trait Backend: fmt::Debug + Send + Sync {
    /// Makes a table with these families, unless it is there.
    async fn create(&self, table: &str, families: &[String]) -> Result<(), Error>;

    /// Writes cells, durably once this returns. Of one cell (key, family, qualifier) the newest timestamp wins, of
    /// equal timestamps the later put, so that repeating a put changes nothing. Rows are atomic, a batch is not: when
    /// this fails or is dropped, any of its rows may have been written, and the remedy is to put the batch again.
    async fn put(&self, table: &str, batch: Batch) -> Result<(), Error>;

    /// Rows in key order, in batches of about a megabyte. A row of the range comes back even if it has none of the
    /// columns asked for. Rows put meanwhile may or may not be seen, each whole or not at all.
    fn scan(&self, table: &str, scan: Scan) -> BoxStream<'static, Result<Batch, Error>>;

    /// The names of all tables, in order.
    async fn tables(&self) -> Result<Vec<String>, Error>;

    /// Cuts a range where the store itself is cut, so that parts can be read side by side; in key order.
    async fn parts(&self, _table: &str, range: KeyRange) -> Result<Vec<KeyRange>, Error> {
        Ok(vec![range])
    }
}

/// Columns print as `family:qualifier`.
pub(crate) fn column_name(column: &Column) -> String {
    format!("{}:{}", column.family, column.qualifier)
}
