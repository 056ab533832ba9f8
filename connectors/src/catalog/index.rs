//! An index: rows of a catalogue in the order of their cells, in Parquet files beside a list of those files.
//!
//! ```text
//! <index>/catalog.json                     what it is made of; put last
//! <index>/part-<lock>-00000.parquet        rows, cells first
//! ```
//!
//! A file's footer is read when a position first falls into the file, and kept.

use std::sync::Arc;

use arrow::datatypes::Schema;
use object_store::ObjectStoreExt;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::statistics::Statistics;
use redpoll_core::objects::Location;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;
use xxhash_rust::xxh3::xxh3_64;

use super::cells::Range;
use super::object::Object;
use super::{CELL, Error};

pub(super) const MANIFEST: &str = "catalog.json";
/// Of what is written here.
pub(super) const FORMAT: u32 = 1;

/// What an index is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub format: u32,
    /// Lock of the catalogue that it was made from.
    pub of: String,
    pub ra: String,
    pub dec: String,
    pub columns: Vec<String>,
    pub rows: u64,
    /// Rows of the catalogue that have no position.
    pub left_out: u64,
    /// At least one, perhaps without rows.
    pub parts: Vec<Part>,
}

/// A file of an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    pub file: String,
    pub bytes: u64,
    pub rows: u64,
    /// Its first and last cell.
    pub first: i64,
    pub last: i64,
}

impl Manifest {
    /// That of a folder, with its lock; none where there is no index.
    pub async fn read(at: &Location) -> Result<Option<(Self, String)>, Error> {
        let url = at.url.to_string();
        let bytes = match at.store.get(&at.path.clone().join(MANIFEST)).await {
            Ok(found) => found.bytes().await,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => Err(error),
        };
        let bytes = bytes.map_err(|source| Error::Objects { url: url.clone(), source })?;
        let manifest: Self = serde_json::from_slice(&bytes)
            .map_err(|error| Error::Index { url: url.clone(), reason: error.to_string() })?;
        match manifest.format == FORMAT {
            true => Ok(Some((manifest, format!("index {:016x}", xxh3_64(&bytes))))),
            false => Err(Error::Index { url, reason: format!("its format is {}, not {FORMAT}", manifest.format) }),
        }
    }

    /// The catalogue's columns as they are in the files.
    pub async fn schema(&self, at: &Location) -> Result<Schema, Error> {
        let index = Index::new(at.clone(), self.clone());
        let footer = index.footer(0).await?;
        let fields = footer.reader.schema().fields().iter().filter(|field| field.name() != CELL);
        Ok(Schema::new(fields.cloned().collect::<Vec<_>>()))
    }
}

/// An index to look positions up in.
pub(super) struct Index {
    at: Location,
    pub manifest: Manifest,
    footers: Vec<OnceCell<Arc<Footer>>>,
}

/// What is known of a file.
pub(super) struct Footer {
    pub reader: ArrowReaderMetadata,
    /// The first and last cell of each row group.
    pub groups: Vec<(i64, i64)>,
}

/// A row group: its file and its number in it.
pub(super) type GroupId = (usize, usize);

impl Index {
    pub fn new(at: Location, manifest: Manifest) -> Self {
        let footers = manifest.parts.iter().map(|_| OnceCell::new()).collect();
        Self { at, manifest, footers }
    }

    pub fn url(&self) -> String {
        self.at.url.to_string()
    }

    pub fn object(&self, part: usize) -> Object {
        let Part { file, bytes, .. } = &self.manifest.parts[part];
        Object { store: self.at.store.clone(), path: self.at.path.clone().join(file.as_str()), size: *bytes }
    }

    pub async fn footer(&self, part: usize) -> Result<&Arc<Footer>, Error> {
        let Some(cell) = self.footers.get(part) else {
            return Err(Error::Index { url: self.url(), reason: "it names no files".to_owned() });
        };
        cell.get_or_try_init(|| self.read_footer(part)).await
    }

    async fn read_footer(&self, part: usize) -> Result<Arc<Footer>, Error> {
        let mut object = self.object(part);
        let reader = ArrowReaderMetadata::load_async(&mut object, ArrowReaderOptions::new()).await;
        let reader = reader.map_err(|source| Error::Parquet { url: object.path.to_string(), source })?;
        let bounds = |group: &RowGroupMetaData| match group.column(0).statistics() {
            Some(Statistics::Int64(cells)) => Some((*cells.min_opt()?, *cells.max_opt()?)),
            _ => None,
        };
        let groups: Option<Vec<_>> = reader.metadata().row_groups().iter().map(bounds).collect();
        let groups = groups.ok_or_else(|| Error::Index {
            url: self.url(),
            reason: format!("{} has no statistics of its cells", object.path),
        })?;
        Ok(Arc::new(Footer { reader, groups }))
    }

    /// Row groups that may have rows in a range of cells.
    pub async fn overlapping(&self, (from, to): Range) -> Result<Vec<GroupId>, Error> {
        let mut found = Vec::new();
        let parts = &self.manifest.parts;
        let first = parts.partition_point(|part| part.last < from);
        for (i, _) in parts.iter().enumerate().skip(first).take_while(|(_, part)| part.first < to) {
            let groups = &self.footer(i).await?.groups;
            let first = groups.partition_point(|(_, last)| *last < from);
            let near = groups.iter().enumerate().skip(first).take_while(|(_, (start, _))| *start < to);
            found.extend(near.map(|(group, _)| (i, group)));
        }
        Ok(found)
    }
}
