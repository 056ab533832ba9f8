//! A folder, or one file, as objects of a store.

use std::cmp::Ordering;

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};
use redpoll_core::source::{Error, FileRef, Gone, OffsetRange, Offsets, Record, Source, Start, Taken, TopicPartition};

use super::held::held;
use super::is_record;
use super::object::{self, Place};

/// All `.avro` files below a path.
#[derive(Debug)]
pub(super) struct Folder {
    place: Place,
}

impl Folder {
    pub fn new(place: Place) -> Folder {
        Folder { place }
    }

    /// The files that `taken` does not hold, in order of time and name.
    async fn files(&self, start: Start, taken: &Taken) -> Result<Vec<FileRef>, Error> {
        let since = since(&self.place, start)?;
        let mut files = Vec::new();
        for object in object::list(&self.place).await? {
            let name = name(&self.place.path, &object.location);
            let fits = is_record(&name) && object.last_modified.timestamp_millis() >= since;
            if fits && !taken.contains(&self.place.location, &name) {
                files.push((name, object));
            }
        }
        files.sort_by(by_time_and_name);
        let file =
            |(name, object): (String, ObjectMeta)| FileRef { name, size: object.size, etag: object.e_tag, at: None };
        Ok(files.into_iter().map(file).collect())
    }
}

fn by_time_and_name(a: &(String, ObjectMeta), b: &(String, ObjectMeta)) -> Ordering {
    (a.1.last_modified, &a.0).cmp(&(b.1.last_modified, &b.0))
}

/// The earliest time of writing, in milliseconds since 1970-01-01 UTC.
fn since(place: &Place, start: Start) -> Result<i64, Error> {
    match start {
        Start::Earliest => Ok(i64::MIN),
        Start::Timestamp(time) => Ok(time),
        Start::Latest => Err(Error::Option {
            option: "start".into(),
            location: place.location.to_string(),
            reason: "'latest' is for topics; give 'earliest', or the time from which files count".into(),
        }),
    }
}

fn name(root: &Path, path: &Path) -> String {
    let below = path.as_ref().strip_prefix(root.as_ref()).unwrap_or(path.as_ref());
    below.trim_start_matches('/').into()
}

/// The next offset of a place's one topic partition.
pub(super) fn next(place: &Place, from: &Offsets) -> i64 {
    let partition = TopicPartition { topic: place.location.to_string(), partition: 0 };
    from.get(&partition).copied().unwrap_or(0)
}

#[async_trait]
impl Source for Folder {
    async fn available(&self, from: &Offsets, start: Start, max_bytes: u64) -> Result<Vec<OffsetRange>, Error> {
        let next = next(&self.place, from);
        let left = self.files(start, &Taken::default()).await?.into_iter().skip(usize::try_from(next).unwrap_or(0));
        Ok(object::range(&self.place, next, left, max_bytes))
    }

    async fn available_except(
        &self,
        from: &Offsets,
        start: Start,
        max_bytes: u64,
        taken: &Taken,
    ) -> Result<Vec<OffsetRange>, Error> {
        let (next, n_taken) = (next(&self.place, from), taken.len(&self.place.location));
        if u64::try_from(next) != Ok(n_taken) {
            let reason =
                format!("offset {next} is next, but {n_taken} files are known as taken; rebuild both from the log");
            return Err(self.place.error(reason));
        }
        Ok(object::range(&self.place, next, self.files(start, taken).await?, max_bytes))
    }

    async fn held(&self, ranges: Vec<OffsetRange>) -> Result<(Vec<OffsetRange>, Vec<Gone>), Error> {
        held(&self.place, ranges, below).await
    }

    fn read(&self, range: OffsetRange) -> BoxStream<'static, Result<Record, Error>> {
        self.place.read(range, below)
    }
}

/// The object of a folder's file.
fn below(place: &Place, file: &FileRef) -> Path {
    match place.path.is_root() {
        true => Path::from_iter(file.name.split('/')),
        // Not `from`: the name is encoded already, as the listing gave it.
        false => Path::parse(format!("{}/{}", place.path, file.name)).unwrap_or_else(|_| place.path.clone()),
    }
}

/// One `.avro` file.
#[derive(Debug)]
pub(super) struct File {
    place: Place,
}

impl File {
    pub fn new(place: Place) -> File {
        File { place }
    }
}

#[async_trait]
impl Source for File {
    async fn available(&self, from: &Offsets, start: Start, max_bytes: u64) -> Result<Vec<OffsetRange>, Error> {
        let since = since(&self.place, start)?;
        if next(&self.place, from) > 0 {
            return Ok(Vec::new());
        }
        let object = self.place.store.head(&self.place.path).await.map_err(|error| self.place.error(error))?;
        let name = self.place.path.filename().unwrap_or_default().to_string();
        let file = FileRef { name, size: object.size, etag: object.e_tag, at: None };
        let files = (object.last_modified.timestamp_millis() >= since).then_some(file);
        Ok(object::range(&self.place, 0, files, max_bytes))
    }

    async fn held(&self, ranges: Vec<OffsetRange>) -> Result<(Vec<OffsetRange>, Vec<Gone>), Error> {
        held(&self.place, ranges, |place, _| place.path.clone()).await
    }

    fn read(&self, range: OffsetRange) -> BoxStream<'static, Result<Record, Error>> {
        self.place.read(range, |place, _| place.path.clone())
    }
}
