//! Wide-column tables: rows under a key, ordered by it, each a sparse set of cells `family:qualifier`.
//!
//! ```text
//! RecordBatch ── RowKey ──► key                           Provider (SQL) ── filters ──► KeyRanges
//!             └─ Families ─► columns ─ values ─► cells                   └─ Catalog ──► types
//!                     Table::put ──► Backend::put         ScanExec ──► Backend::scan ──► RecordBatch
//! ```
//! A [`Backend`] holds the rows: the embedded store ([`crate::local`]) is one. Everything above it is the same for all:
//! how a key is written ([`RowKey`]), which column goes into which family ([`Families`]), how a value becomes bytes
//! ([`value`]), and the [`Catalog`] that tells a reader what the bytes mean.

mod backend;
mod catalog;
mod columns;
mod error;
mod families;
mod key_range;
mod location;
mod provider;
mod row_key;
mod scan;
mod table;
pub mod value;

#[cfg(test)]
pub(crate) mod conformance;

pub use backend::{Backend, Batch, Cell, Column, Row, Scan};
pub use catalog::{CATALOG, Catalog, CatalogColumn};
pub use error::Error;
pub(crate) use error::nearest;
pub use families::Families;
pub use key_range::KeyRange;
pub(crate) use key_range::after;
pub(crate) use location::check_table;
pub use location::{Location, connect, register};
pub use provider::{Provider, ROW_KEY};
pub use row_key::{MAX_KEY, NoKey, RowKey};
pub use scan::ScanExec;
pub use table::{Options, Rejected, Table, Written};

#[cfg(test)]
mod tests;
