//! Local files that survive a power cut: what was put, and the name it has, are on the disk before the put is answered.
//!
//! The protocol rests on answers: a task starts after its intent, a table shows an epoch after `Prepared`. `object_store`
//! leaves it to the kernel when local files reach the disk, so a log entry could be empty after a power cut although what
//! follows from it is at the brokers. Here bytes are synced under a name that is no object's, then take their own name,
//! then the folder is synced: nobody ever finds a part of an object.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};
use tokio::task::spawn_blocking;

/// How often a folder is made again that a sweep removes, being empty, before the file is in it.
const FOLDER_TRIES: u32 = 8;

/// The files of this machine as an object store. Clones share one handle.
#[derive(Debug, Clone)]
pub struct Durable {
    files: Arc<LocalFileSystem>,
}

impl Default for Durable {
    fn default() -> Self {
        // A folder that is emptied goes with its last file: object stores have no empty folders, and listing must not
        // find those of a million epochs.
        Self { files: Arc::new(LocalFileSystem::new().with_automatic_cleanup(true)) }
    }
}

impl fmt::Display for Durable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Durable({})", self.files)
    }
}

#[async_trait]
impl ObjectStore for Durable {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let create = match options.mode {
            PutMode::Create => true,
            PutMode::Overwrite => false,
            PutMode::Update(_) => return self.files.put_opts(location, payload, options).await,
        };
        let path = self.files.path_to_filesystem(location)?;
        let put = blocking(move || put(&path, &payload, create)).await;
        put.map(|()| PutResult { e_tag: None, version: None }).map_err(|error| failed(location, error))
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let path = self.files.path_to_filesystem(location)?;
        let upload = self.files.put_multipart_opts(location, options).await?;
        Ok(Box::new(Upload { upload, location: location.clone(), path }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.files.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.files.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.files.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.files.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.files.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.files.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.files.copy_opts(from, to, options).await?;
        self.sync(to).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.files.rename_opts(from, to, options).await?;
        self.sync(to).await
    }
}

impl Durable {
    async fn sync(&self, location: &Path) -> Result<()> {
        let path = self.files.path_to_filesystem(location)?;
        blocking(move || sync(&path)).await.map_err(|error| failed(location, error))
    }
}

/// A file that grows by parts under a name that is no object's.
#[derive(Debug)]
struct Upload {
    upload: Box<dyn MultipartUpload>,
    location: Path,
    path: PathBuf,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.upload.put_part(data).boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let done = self.upload.complete().await?;
        let path = self.path.clone();
        blocking(move || sync(&path)).await.map_err(|error| failed(&self.location, error))?;
        Ok(done)
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}

fn put(path: &FilePath, payload: &PutPayload, create: bool) -> io::Result<()> {
    let (mut file, staged) = stage(path)?;
    let mut write = || {
        payload.iter().try_for_each(|part| file.write_all(part))?;
        file.sync_all()?;
        match create {
            true => fs::hard_link(&staged, path),
            false => fs::rename(&staged, path),
        }
    };
    let written = write();
    if create || written.is_err() {
        // What stays behind has no object's name, so nobody finds it.
        let _ = fs::remove_file(&staged);
    }
    written?;
    sync_folder(path)
}

/// A new file beside `path`, under a name that `object_store` neither lists nor opens: `#` and a number at the end.
fn stage(path: &FilePath) -> io::Result<(File, PathBuf)> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!("#{}", uuid::Uuid::new_v4().as_u128()));
    let staged = PathBuf::from(name);
    let mut tries = 0;
    loop {
        match OpenOptions::new().write(true).create_new(true).open(&staged) {
            Err(error) if error.kind() == ErrorKind::NotFound && tries < FOLDER_TRIES => {
                tries += 1;
                make_folders(path)?;
            }
            opened => return opened.map(|file| (file, staged)),
        }
    }
}

/// Makes the folders of `path` that are missing; each is on the disk as an entry of the one above it.
fn make_folders(path: &FilePath) -> io::Result<()> {
    let missing: Vec<_> = path.ancestors().skip(1).take_while(|folder| !folder.is_dir()).collect();
    for folder in missing.into_iter().rev() {
        match fs::create_dir(folder) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => sync_folder(folder)?,
        }
    }
    Ok(())
}

fn sync(path: &FilePath) -> io::Result<()> {
    File::open(path)?.sync_all()?;
    sync_folder(path)
}

/// Syncs the folder that holds `path`.
fn sync_folder(path: &FilePath) -> io::Result<()> {
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

fn failed(location: &Path, error: io::Error) -> Error {
    let path = location.to_string();
    match error.kind() {
        ErrorKind::AlreadyExists => Error::AlreadyExists { path, source: error.into() },
        ErrorKind::NotFound => Error::NotFound { path, source: error.into() },
        ErrorKind::PermissionDenied => Error::PermissionDenied { path, source: error.into() },
        _ => Error::Generic { store: "local files", source: format!("/{path}: {error}").into() },
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;
    use object_store::ObjectStoreExt;

    use super::*;

    fn at(folder: &tempfile::TempDir, name: &str) -> Path {
        Path::from_absolute_path(folder.path().join(name)).unwrap()
    }

    async fn names(folder: &tempfile::TempDir) -> Vec<String> {
        let listed: Vec<_> = Durable::default().list(Some(&at(folder, ""))).try_collect().await.unwrap();
        let mut names: Vec<_> = listed.iter().map(|o| o.location.filename().unwrap().to_owned()).collect();
        names.sort();
        names
    }

    async fn text(path: &Path) -> Bytes {
        Durable::default().get(path).await.unwrap().bytes().await.unwrap()
    }

    #[tokio::test]
    async fn of_two_puts_of_one_new_object_the_first_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (store, entry) = (Durable::default(), at(&folder, "log/deep/1.json"));
        store.put_opts(&entry, "first".into(), PutMode::Create.into()).await.unwrap();
        let second = store.put_opts(&entry, "second".into(), PutMode::Create.into()).await;
        assert!(matches!(second, Err(Error::AlreadyExists { .. })), "{second:?}");
        assert_eq!(text(&entry).await, "first");
        store.put(&entry, "third".into()).await.unwrap();
        assert_eq!(text(&entry).await, "third");
        assert_eq!(fs::read_dir(folder.path().join("log/deep")).unwrap().count(), 1, "a staged file stayed");
    }

    #[tokio::test]
    async fn an_object_is_there_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        // What a process leaves that dies while it writes.
        let (_, staged) = stage(&folder.path().join("1.json")).unwrap();
        assert!(staged.exists());
        assert_eq!(names(&folder).await, Vec::<String>::new());
        let mut upload = Durable::default().put_multipart(&at(&folder, "2.parquet")).await.unwrap();
        upload.put_part("part".into()).await.unwrap();
        assert_eq!(names(&folder).await, Vec::<String>::new());
        upload.complete().await.unwrap();
        assert_eq!(names(&folder).await, ["2.parquet"]);
    }

    #[tokio::test]
    async fn a_folder_that_is_swept_between_two_puts_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let (store, receipt) = (Durable::default(), at(&folder, "epochs/1/a.json"));
        for _ in 0..3 {
            store.put(&receipt, "{}".into()).await.unwrap();
            store.delete(&receipt).await.unwrap();
        }
        assert!(!folder.path().join("epochs").exists());
    }

    #[tokio::test]
    async fn a_file_in_the_way_of_a_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("log"), "").unwrap();
        let error = Durable::default().put(&at(&folder, "log/1.json"), "{}".into()).await.unwrap_err();
        assert!(error.to_string().contains("log/1.json"), "{error}");
    }
}
