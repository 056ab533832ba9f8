//! Alerts in files: a folder of `.avro` files, one such file, or a tarball of them.
//!
//! A file is a record of partition 0; the location is the topic. Whatever a name hides (`.x`, `_x`) is left alone, so a
//! file is best written as `.x` and then renamed.
//!
//! | location | records | offset |
//! |---|---|---|
//! | folder | its `.avro` files, at any depth | the order in which the job took them |
//! | `x.avro` | the file | 0 |
//! | `x.tar` | its `.avro` members | their order; each is read alone, by its place in the archive |
//! | `x.tar.gz`, `x.tgz` | its `.avro` members | their order; a reader unpacks from the beginning |
//!
//! **Every file once.** A folder is listed for each epoch, and files may appear while it is read: several in one
//! instant, or late with an early time (a rename keeps the time of writing). So neither a name nor a time can mark how
//! far a job has come. What was taken is what the job's log says was taken: each intent names its files, [`Taken`] is
//! all of them, and [`Source::available_except`] gives offsets to the files that are not among them, in order of time
//! and name. A restart reads the same log, so a file keeps its offset. The name is the identity: a file that is
//! replaced under its name is not read again, and a file that changes between its intent and its reading is an error.
//! [`Source::available`] alone takes the first `n` files as taken, which is right for a folder that no longer changes.

mod archive;
mod cursor;
mod held;
mod listing;
mod object;
mod plain;
mod tarball;

use std::sync::Arc;

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
#[cfg(doc)]
use redpoll_core::source::Taken;
use redpoll_core::source::{Error, Source};

use crate::widecolumn::nearest;
use object::Place;

/// Opens `path` of a store. `location` is how the user wrote it: messages and ranges name it.
///
/// A file, or a folder of the local disk, must be there; in an object store a folder without objects is empty.
pub async fn open(location: &str, store: Arc<dyn ObjectStore>, path: Path) -> Result<Arc<dyn Source>, Error> {
    let place = Place { location: location.into(), store, path };
    let name = place.path.filename().unwrap_or_default().to_ascii_lowercase();
    let (gzip, tar) = (name.ends_with(".tar.gz") || name.ends_with(".tgz"), name.ends_with(".tar"));
    if !(gzip || tar || name.ends_with(".avro")) {
        exists(&place).await?;
        return Ok(Arc::new(plain::Folder::new(place)));
    }
    match place.store.head(&place.path).await {
        Ok(_) if gzip || tar => Ok(Arc::new(tarball::Tarball::new(place, gzip))),
        Ok(_) => Ok(Arc::new(plain::File::new(place))),
        Err(object_store::Error::NotFound { .. }) => Err(missing(&place, "there is no such file").await),
        Err(error) => Err(place.error(error)),
    }
}

/// Refuses a folder of the local disk that is not there. Object stores have no folders, only names that share a start.
async fn exists(place: &Place) -> Result<(), Error> {
    let local = !place.location.contains("://") || place.location.starts_with("file://");
    if !local || place.path.is_root() {
        return Ok(());
    }
    let beside = place.beside().await?;
    match place.path.filename().is_some_and(|name| beside.folders.iter().any(|folder| folder == name)) {
        true => Ok(()),
        false => Err(missing(place, "there is no such folder").await),
    }
}

async fn missing(place: &Place, reason: &str) -> Error {
    let beside = place.beside().await.unwrap_or_default();
    let names = beside.folders.iter().chain(&beside.files).map(String::as_str);
    let remedy = nearest(place.path.filename().unwrap_or_default(), names);
    Error::Missing { location: place.location.to_string(), reason: reason.into(), remedy }
}

/// Whether a name, relative to the location, is one of a record.
fn is_record(name: &str) -> bool {
    let hidden = |part: &str| part.starts_with(['.', '_']);
    let parts = name.split('/').filter(|part| !matches!(*part, "" | "."));
    name.to_ascii_lowercase().ends_with(".avro") && !parts.into_iter().any(hidden)
}

#[cfg(test)]
mod tests;
