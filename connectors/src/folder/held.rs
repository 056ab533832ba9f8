//! Which files of ranges that were read before are still there as they were.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use redpoll_core::source::{Error, FileRef, Gone, OffsetRange};

use super::object::{CHANGED, Place};

/// Files that are asked for at a time.
const AHEAD: usize = 16;

/// Parts ranges into runs of files that are there and runs of files that are not. `path` gives the object of a file.
pub(super) async fn held(
    place: &Place,
    ranges: Vec<OffsetRange>,
    path: impl Fn(&Place, &FileRef) -> Path,
) -> Result<(Vec<OffsetRange>, Vec<Gone>), Error> {
    let (mut held, mut gone) = (Vec::new(), Vec::new());
    for range in ranges {
        let files: Vec<_> = range.files.iter().map(|file| (path(place, file), file.etag.clone())).collect();
        // All members of an archive are one object.
        let objects: BTreeSet<_> = files.iter().cloned().collect();
        let asked = stream::iter(objects).map(|object| async move {
            let reason = lost(place, &object).await?;
            Ok::<_, Error>((object, reason))
        });
        let answers: BTreeMap<_, Option<String>> = asked.buffered(AHEAD).try_collect().await?;
        let lost: Vec<&Option<String>> = files.iter().map(|file| &answers[file]).collect();
        let mut start = 0;
        while start < lost.len() {
            let run = lost[start..].iter().take_while(|reason| **reason == lost[start]).count();
            let part = range.slice(range.start + start as i64, range.start + (start + run) as i64);
            match lost[start] {
                None => held.push(part),
                Some(reason) => gone.push(Gone { range: part, reason: reason.clone() }),
            }
            start += run;
        }
    }
    Ok((held, gone))
}

/// Why a file cannot be read again as it was.
async fn lost(place: &Place, (path, etag): &(Path, Option<String>)) -> Result<Option<String>, Error> {
    match place.store.head(path).await {
        Ok(meta) if etag.is_some() && meta.e_tag != *etag => Ok(Some(CHANGED.to_owned())),
        Ok(_) => Ok(None),
        Err(object_store::Error::NotFound { .. }) => Ok(Some("the file is no longer there".to_owned())),
        Err(error) => Err(place.error(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;

    use super::*;

    #[tokio::test]
    async fn files_that_went_are_told_apart_from_those_that_are_there() {
        let store = Arc::new(InMemory::new());
        let place = Place { location: "night".into(), store: store.clone(), path: Path::from("night") };
        let mut files = Vec::new();
        for name in ["a", "b", "c", "d"] {
            let path = Path::from(format!("night/{name}"));
            store.put(&path, "alert".into()).await.unwrap();
            let etag = store.head(&path).await.unwrap().e_tag;
            files.push(FileRef { name: name.into(), size: 5, etag, at: None });
        }
        store.delete(&Path::from("night/b")).await.unwrap();
        store.put(&Path::from("night/d"), "other".into()).await.unwrap();
        let range = OffsetRange { topic: "night".into(), start: 10, end: 14, bytes: 20, files, ..Default::default() };
        let path = |place: &Place, file: &FileRef| place.path.clone().join(file.name.as_str());
        let (held, gone) = held(&place, vec![range], path).await.unwrap();
        let spans = |ranges: &[OffsetRange]| ranges.iter().map(|range| (range.start, range.end)).collect::<Vec<_>>();
        assert_eq!(spans(&held), [(10, 11), (12, 13)]);
        assert_eq!(spans(&gone.iter().map(|gone| gone.range.clone()).collect::<Vec<_>>()), [(11, 12), (13, 14)]);
    }
}
