//! Objects of a store, read whole or in part.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore};
use redpoll_core::source::{Error, FileRef, OffsetRange, Record};

/// Files that one reader has in memory or on the way.
const AHEAD: usize = 8;

/// A file or a folder.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// As the user wrote it.
    pub location: Arc<str>,
    pub store: Arc<dyn ObjectStore>,
    pub path: Path,
}

/// The names beside a place.
#[derive(Debug, Default)]
pub(super) struct Beside {
    pub folders: Vec<String>,
    pub files: Vec<String>,
}

impl Place {
    pub fn error(&self, error: impl std::fmt::Display) -> Error {
        Error::Read { location: self.location.to_string(), reason: error.to_string() }
    }

    /// What stands in the same folder.
    pub async fn beside(&self) -> Result<Beside, Error> {
        let parent = self.path.parent().filter(|parent| !parent.is_root());
        let listed = self.store.list_with_delimiter(parent.as_ref()).await.map_err(|error| self.error(error))?;
        let name = |path: &Path| path.filename().unwrap_or_default().to_string();
        Ok(Beside {
            folders: listed.common_prefixes.iter().map(name).collect(),
            files: listed.objects.iter().map(|object| name(&object.location)).collect(),
        })
    }

    /// A range whose files are objects, or parts of one. `path` gives the object of a file.
    pub fn read(
        &self,
        range: OffsetRange,
        path: impl Fn(&Place, &FileRef) -> Path + Send + 'static,
    ) -> BoxStream<'static, Result<Record, Error>> {
        let place = self.clone();
        let files = range.files.into_iter().zip(range.start..);
        let records = stream::iter(files).map(move |(file, offset)| {
            let path = path(&place, &file);
            record(place.clone(), path, file, offset)
        });
        records.buffered(AHEAD).boxed()
    }
}

async fn record(place: Place, path: Path, file: FileRef, offset: i64) -> Result<Record, Error> {
    let failed = |reason: String| Error::Read { location: format!("{}: {}", place.location, file.name), reason };
    let part = file.at.map(|at| GetRange::Bounded(at..at.saturating_add(file.size)));
    let got = place.store.get_opts(&path, GetOptions { range: part, ..GetOptions::default() }).await;
    let got = got.map_err(|error| failed(error.to_string()))?;
    let (meta, whole) = (got.meta.clone(), file.at.is_none());
    let value: Bytes = got.bytes().await.map_err(|error| failed(error.to_string()))?;
    if file.etag.is_some() && file.etag != meta.e_tag || value.len() as u64 != file.size {
        return Err(failed(CHANGED.into()));
    }
    Ok(Record {
        topic: file.name.as_str().into(),
        partition: 0,
        offset,
        timestamp: whole.then(|| meta.last_modified.timestamp_millis()),
        key: None,
        value,
    })
}

pub(super) const CHANGED: &str =
    "changed after its epoch was planned; put the old file back, or write it under a new name";

/// The ranges from offset `from` on: at most `max_bytes`, at least one file.
pub(super) fn range(
    place: &Place,
    from: i64,
    files: impl IntoIterator<Item = FileRef>,
    max_bytes: u64,
) -> Vec<OffsetRange> {
    let mut bytes: u64 = 0;
    let mut taken = Vec::new();
    for file in files {
        bytes = bytes.saturating_add(file.size);
        if bytes > max_bytes && !taken.is_empty() {
            bytes -= file.size;
            break;
        }
        taken.push(file);
    }
    if taken.is_empty() {
        return Vec::new();
    }
    let end = from + taken.len() as i64;
    let topic = place.location.to_string();
    vec![OffsetRange { topic, start: from, end, bytes, files: taken, ..Default::default() }]
}

/// All objects below a place, in any order.
pub(super) async fn list(place: &Place) -> Result<Vec<object_store::ObjectMeta>, Error> {
    let root = Some(&place.path).filter(|path| !path.is_root());
    place.store.list(root).try_collect().await.map_err(|error| place.error(error))
}
